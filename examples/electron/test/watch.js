// Whether anything freezes: in main the delay of the event loop, by two independent means, in the page the gaps
// between animation frames and the browser's own long animation frames.

/** In main; the text of this function is sent there. */
export function watchMain() {
    const load = (name) => (process.getBuiltinModule ?? globalThis.require)(name);
    const { monitorEventLoopDelay, performance } = load("node:perf_hooks");
    const delays = monitorEventLoopDelay({ resolution: 1 });
    const TICK_MS = 4;
    let last;
    let worst = 0;
    let timer;
    globalThis.__watch = {
        async start() {
            delays.enable();
            delays.reset();
            // a delay is between two ticks: without one after the reset what comes next would not be seen
            await new Promise((resolve) => setTimeout(resolve, 20));
            worst = 0;
            last = performance.now();
            timer = setInterval(() => {
                const now = performance.now();
                worst = Math.max(worst, now - last - TICK_MS);
                last = now;
            }, TICK_MS);
        },
        stop() {
            clearInterval(timer);
            delays.disable();
            return { p99: Math.max(0, delays.percentile(99) / 1e6 - 1), max: Math.max(0, delays.max / 1e6 - 1), timer: worst };
        },
        block(ms) {
            for (const end = performance.now() + ms; performance.now() < end; );
        },
    };
}

/** In the page. */
export function watchPage() {
    let last;
    let gaps = [];
    let long = [];
    let running = false;
    const frame = (now) => {
        if (last !== undefined) gaps.push(now - last);
        last = now;
        if (running) requestAnimationFrame(frame);
    };
    if (PerformanceObserver.supportedEntryTypes.includes("long-animation-frame"))
        new PerformanceObserver((list) => long.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: "long-animation-frame" });
    window.__watch = {
        start() {
            gaps = [];
            long = [];
            last = undefined;
            running = true;
            requestAnimationFrame(frame);
        },
        async stop() {
            running = false;
            await new Promise((resolve) => setTimeout(resolve, 60)); // observers are called a little later
            return { frames: gaps.length, gap: Math.max(0, ...gaps), long: Math.max(0, ...long), longCount: long.length };
        },
        block(ms) {
            for (const end = performance.now() + ms; performance.now() < end; );
        },
    };
}

export const THRESHOLDS = { mainP99: 10, mainMax: 50, pageGapBeyondIdle: 50, abortMs: 100, blockMs: 300 };

/** Measures a phase of `work`; again, twice at most, where it was over a threshold, as neighbours on the machine show
 * in it too: the best counts. */
export async function measure(desktop, name, work, idleGap, attempts = 3) {
    let best;
    for (let attempt = 1; attempt <= attempts; attempt++) {
        const result = await once(desktop, name, work);
        result.attempts = attempt;
        if (idleGap !== undefined) result.pageGapBeyondIdle = Math.max(0, result.page.gap - idleGap);
        result.ok = isOk(result);
        if (!best || score(result) < score(best)) best = result;
        if (best.ok) break;
    }
    return best;
}

async function once({ evaluate, page }, name, work) {
    await page.evaluate(() => window.__watch.start());
    await evaluate(() => globalThis.__watch.start());
    const began = performance.now();
    const extra = await work();
    const took = performance.now() - began;
    const main = await evaluate(() => globalThis.__watch.stop());
    return { name, took, main, page: await page.evaluate(() => window.__watch.stop()), ...extra };
}

function isOk({ main, pageGapBeyondIdle = 0, abortMs = 0 }) {
    const { mainP99, mainMax, pageGapBeyondIdle: gap, abortMs: abort } = THRESHOLDS;
    return main.p99 <= mainP99 && main.max <= mainMax && main.timer <= mainMax && pageGapBeyondIdle <= gap && abortMs <= abort;
}

// how far it is over, as a share of its threshold
function score({ main, pageGapBeyondIdle = 0, abortMs = 0 }) {
    const { mainP99, mainMax, pageGapBeyondIdle: gap, abortMs: abort } = THRESHOLDS;
    return Math.max(main.p99 / mainP99, main.max / mainMax, main.timer / mainMax, pageGapBeyondIdle / gap, abortMs / abort);
}

export function table(results) {
    const head = ["phase", "took", "main p99", "main max", "timer", "frames", "longest gap", "beyond idle", "long frames", "abort", ""];
    const ms = (value) => (value === undefined ? "" : `${value.toFixed(value < 10 ? 1 : 0)} ms`);
    const rows = results.map((one) => [
        one.name, `${(one.took / 1000).toFixed(2)} s`, ms(one.main.p99), ms(one.main.max), ms(one.main.timer), String(one.page.frames), ms(one.page.gap),
        ms(one.pageGapBeyondIdle), one.page.longCount ? `${one.page.longCount}, ${ms(one.page.long)}` : "0", ms(one.abortMs),
        (one.ok ? "ok" : "NOT OK") + (one.attempts > 1 ? ` (try ${one.attempts})` : ""),
    ]);
    const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column].length)));
    return [head, ...rows].map((row) => row.map((cell, column) => cell.padEnd(widths[column])).join("  ").trimEnd()).join("\n");
}
