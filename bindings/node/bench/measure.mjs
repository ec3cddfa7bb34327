// What both programs measure alike: time, memory of all processes that belong to the app, the event loop.
import { readdirSync, readFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";

const words = ("the river runs from its spring in the mountains to the sea and carries sand stones leaves boats and light past " +
    "towns fields mills bridges meadows gardens and people who look at it in the evening when work is done").split(" ");

/** About as many tokens as words. */
export function text(count, seed = 1) {
    const parts = [];
    for (let i = 0, state = seed; i < count; i++) {
        state = (state * 48271) % 2147483647;
        parts.push(words[state % words.length]);
    }
    return parts.join(" ");
}

/* ---- memory ---- */

function treeOf(root) {
    const children = new Map();
    for (const entry of readdirSync("/proc")) {
        try {
            const [, parent] = /\) \S (\d+)/.exec(readFileSync(`/proc/${entry}/stat`, "utf8"));
            children.set(Number(parent), [...(children.get(Number(parent)) ?? []), Number(entry)]);
        } catch {
            // no process, or one that ended
        }
    }
    const all = [root];
    for (const pid of all)
        all.push(...(children.get(pid) ?? []));
    return all;
}

/** Bytes of this process and of those that it started: what is theirs alone, and what is of files. */
export function memory() {
    const sum = { private: 0, mapped: 0 };
    for (const pid of treeOf(process.pid)) {
        const status = readFileSync(`/proc/${pid}/status`, "utf8");
        const of = (name) => 1024 * Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1] ?? 0);
        sum.private += of("RssAnon") + of("RssShmem") + of("VmSwap");
        sum.mapped += of("RssFile");
    }
    return sum;
}

/* ---- phases ---- */

const phases = {};
export const results = { phases };

/** Runs `work`; notes how long it took, and for how long the event loop stood still meanwhile. */
export async function phase(name, work) {
    const delay = monitorEventLoopDelay({ resolution: 1 });
    let gap = 0;
    let last = performance.now();
    const timer = setInterval(() => {
        const now = performance.now();
        gap = Math.max(gap, now - last - 1);
        last = now;
    }, 1);
    await sleep(20); // both run
    delay.enable();
    gap = 0;
    const begin = performance.now();
    const value = await work();
    const took = performance.now() - begin;
    await sleep(5); // what stood still until the end is seen after it
    delay.disable();
    clearInterval(timer);
    phases[name] = { ms: took, block: Math.max(gap, delay.max / 1e6 - 1), p99: delay.percentile(99) / 1e6 };
    return value;
}

/** Times of an answer: `began` is when it was asked, `at` when each piece came. */
export function pace(began, at, tokens) {
    const first = at[0] - began;
    return { first, tokens, rate: at.length > 1 ? (1000 * (tokens - 1)) / (at.at(-1) - at[0]) : undefined };
}

export function tell() {
    console.log(`RESULTS ${JSON.stringify(results)}`);
}
