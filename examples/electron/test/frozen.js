// The table "no frozen window": each phase of a model's life, measured in main and in the page, while the app's own
// interface shows it.
import { measure, table, THRESHOLDS } from "./watch.js";
import { longText, sleep, until } from "./parts.js";

const STORY = "Write a very long story about a lighthouse, with many paragraphs.";

export async function frozen(desktop, say, title) {
    const { page, evaluate, model } = desktop;
    await page.evaluate((model) => window.__hearth.load(model), model);
    const idle = await measure(desktop, "idle", () => sleep(1500));
    const results = [idle];
    const phase = async (name, work) => results.push(await measure(desktop, name, work, idle.page.gap));

    await phase("load", async () => {
        await page.evaluate((model) => window.__hearth.unload(model, { force: true }), model);
        await page.evaluate((model) => window.__hearth.load(model), model);
        await sleep(300);
    });
    await phase("prefill", async () => {
        await ask(page, `${Math.random()} ${longText(1400)}`);
        await page.waitForFunction(() => document.querySelector(".message.running .markdown > div, .message:last-child .foot"), undefined, { timeout: 60_000 });
        await endAnswer(page);
    });
    await phase("decode", async () => {
        await ask(page, STORY);
        await page.waitForFunction(() => document.querySelector(".message:last-child .foot"), undefined, { timeout: 4000 }).catch(() => {});
        await endAnswer(page);
    });
    await phase("abort", async () => {
        await ask(page, STORY);
        await page.waitForFunction(() => (document.querySelector(".message.running .markdown")?.textContent.length ?? 0) > 40, undefined, { timeout: 60_000 });
        return { abortMs: await page.evaluate(abortByButton) };
    });
    await phase("unload", async () => {
        await page.evaluate((model) => window.__hearth.load(model), model);
        await page.evaluate((model) => window.__hearth.unload(model, { force: true }), model);
        await sleep(300);
    });
    await page.evaluate((model) => window.__hearth.load(model), model);
    await phase("kill -9", async () => {
        await ask(page, STORY);
        await page.waitForFunction(() => (document.querySelector(".message.running .markdown")?.textContent.length ?? 0) > 40, undefined, { timeout: 60_000 });
        const { workers } = await page.evaluate(() => window.__hearth.memory());
        process.kill(workers[0].pid, "SIGKILL");
        await page.waitForSelector(".message:last-child .failure", { timeout: 5000 });
        await sleep(300);
    });

    // would it be seen?
    const control = await measure(desktop, "control: 300 ms block", async () => {
        await Promise.all([evaluate((_electron, ms) => globalThis.__watch.block(ms), THRESHOLDS.blockMs), page.evaluate((ms) => window.__watch.block(ms), THRESHOLDS.blockMs)]);
        await sleep(200);
    }, idle.page.gap, 1);
    control.ok = [control.main.max, control.main.timer, control.page.gap].every((seen) => seen > THRESHOLDS.blockMs * 0.8) && (control.page.long > THRESHOLDS.blockMs * 0.8 || control.page.longCount === 0);
    results.push(control);

    say(`\nNo frozen window, ${title}. Thresholds: main p99 ${THRESHOLDS.mainP99} ms and max ${THRESHOLDS.mainMax} ms by both timers; page: no gap ${THRESHOLDS.pageGapBeyondIdle} ms beyond idle's; abort ${THRESHOLDS.abortMs} ms.`);
    say(table(results));
    const broken = results.filter(({ ok }) => !ok);
    if (broken.length) throw new Error(`over a threshold: ${broken.map(({ name }) => name).join(", ")}`);
    return `${results.length - 1} phases within the thresholds, and a block of ${THRESHOLDS.blockMs} ms was seen`;
}

async function ask(page, text) {
    await page.click("#new-conversation");
    await page.fill("#composer-text", text);
    await page.press("#composer-text", "Enter");
    await page.waitForSelector(".message.running", { timeout: 5000 });
}

async function endAnswer(page) {
    await page.keyboard.press("Escape");
    await until(5000, () => page.evaluate(() => !document.querySelector(".message.running")));
}

/** In the page: the time from the click to the last change of the answer. */
async function abortByButton() {
    const answer = document.querySelector(".message.running");
    const clicked = performance.now();
    let last = clicked;
    const observer = new MutationObserver(() => (last = performance.now()));
    observer.observe(answer, { subtree: true, childList: true, characterData: true });
    document.getElementById("send").click();
    while (answer.classList.contains("running") && performance.now() - clicked < 5000) await new Promise((resolve) => setTimeout(resolve, 1));
    await new Promise((resolve) => setTimeout(resolve, 300));
    return last - clicked;
}
