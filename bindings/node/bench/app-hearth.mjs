// The app with this package.
import { setTimeout as sleep } from "node:timers/promises";

import { connect } from "../index.js";
import { memory, pace, phase, results, tell, text } from "./measure.mjs";

const { MODEL, CONTEXT, PROMPT, TOKENS } = process.env;
const maxTokens = Number(TOKENS);

async function ask(chat, prompt) {
    const at = [];
    const began = performance.now();
    const answer = chat.prompt(prompt, { maxTokens, temperature: 0, ignoreEos: true });
    for await (const { type } of answer) {
        if (type === "text" || type === "reasoning")
            at.push(performance.now());
    }
    const { usage } = await answer;
    return { ...pace(began, at, usage.answerTokens), prompt: usage.promptTokens, cached: usage.cachedTokens };
}

results.start = memory();
const options = { app: "bench", context: Number(CONTEXT), files: [MODEL] };
let hearth = await phase("start", () => connect(options));
const { name } = await phase("load", () => hearth.load(MODEL));
const chat = await phase("context", async () => hearth.session({ model: name }));
results.loaded = memory();
results.short = await phase("short", () => ask(chat, text(12)));
results.long = await phase("long", () => ask(hearth.session({ model: name }), text(Number(PROMPT), 2)));
results.answered = memory();
results.second = await phase("second", () => ask(hearth.session({ model: name }), text(12, 3)));
results.again = await phase("again", () => ask(chat, text(12, 4)));

const stopped = hearth.session({ model: name }).prompt(text(Number(PROMPT), 5));
await sleep(1000);
const asked = performance.now();
stopped.abort();
await stopped;
results.abort = performance.now() - asked;
await hearth.close();

// once more, with less patience than five minutes
hearth = await connect({ ...options, idle: "1s" });
await hearth.session({ model: MODEL }).prompt(text(12), { maxTokens: 4 });
await sleep(3000);
results.idle = memory();
tell();
await hearth.close();
