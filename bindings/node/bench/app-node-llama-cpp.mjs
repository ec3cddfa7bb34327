// The same app with node-llama-cpp, from the folder PEERS.
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

import { memory, pace, phase, results, tell, text } from "./measure.mjs";

const { MODEL, CONTEXT, PROMPT, TOKENS, PEERS } = process.env;
const maxTokens = Number(TOKENS);
const entry = createRequire(join(PEERS, "x")).resolve("node-llama-cpp");
const { getLlama, LlamaChatSession } = await import(pathToFileURL(entry));

async function ask(session, prompt) {
    const at = [];
    const before = session.sequence.tokenMeter.getState();
    const began = performance.now();
    let tokens = 0;
    await session.prompt(prompt, {
        maxTokens, temperature: 0,
        onToken: (part) => {
            tokens += part.length;
            at.push(performance.now());
        },
    });
    const used = session.sequence.tokenMeter.diff(before);
    return { ...pace(began, at, tokens), prompt: used.usedInputTokens };
}

results.start = memory();
const llama = await phase("start", () => getLlama({ gpu: false, build: "never" }));
const model = await phase("load", () => llama.loadModel({ modelPath: MODEL }));
// its default is four threads at least, and on fewer cores they wait for each other
const threads = availableParallelism();
const context = await phase("context", () => model.createContext({ contextSize: Number(CONTEXT), threads }));
const session = new LlamaChatSession({ contextSequence: context.getSequence() });
results.loaded = memory();
results.short = await phase("short", () => ask(session, text(12)));
session.resetChatHistory();
results.long = await phase("long", () => ask(session, text(Number(PROMPT), 2)));
results.answered = memory();
try {
    const second = new LlamaChatSession({ contextSequence: context.getSequence() });
    results.second = await phase("second", () => ask(second, text(12, 3)));
} catch (error) {
    results.second = { error: error.message };
}
results.again = await phase("again", () => ask(session, text(12, 4)));

session.resetChatHistory();
const stop = new AbortController();
const stopped = session.prompt(text(Number(PROMPT), 5), { signal: stop.signal }).catch(() => {});
await sleep(1000);
const asked = performance.now();
stop.abort();
await stopped;
results.abort = performance.now() - asked;
await sleep(5000);
results.idle = memory();
tell();
process.exit(0);
