// Other packages over `fetch`: they find the daemon, stream, abort, and open no port.
import assert from "node:assert/strict";
import { readFileSync, readlinkSync, readdirSync } from "node:fs";
import test, { before } from "node:test";

import { installed, model, start, until } from "./support.mjs";

const messages = [{ role: "user", content: "Name three rivers." }];
const skip = async (name) => ((await installed(name)) ? false : `${name} is not installed`);
let hearth;
before(async () => (hearth = await start()));

/** What a descriptor is of; "" where it was closed since it was listed. */
function target(link) {
    try {
        return readlinkSync(link);
    } catch (error) {
        if (error.code === "ENOENT") return "";
        throw error;
    }
}

/** TCP sockets of a process that listen. */
function listening(pid) {
    const inodes = new Set();
    for (const fd of readdirSync(`/proc/${pid}/fd`)) {
        const [, inode] = /^socket:\[(\d+)\]$/.exec(target(`/proc/${pid}/fd/${fd}`)) ?? [];
        inodes.add(inode);
    }
    const tables = ["tcp", "tcp6"].map((name) => readFileSync(`/proc/${pid}/net/${name}`, "utf8").split("\n").slice(1));
    return tables.flat().map((line) => line.trim().split(/\s+/)).filter((row) => row[3] === "0A" && inodes.has(row[9])).length;
}

test("fetch is the platform's", async () => {
    const { fetch, baseURL, origin } = hearth;
    const response = await fetch(`${baseURL}/models`);
    assert.ok(response instanceof Response && response.ok && response.url === `${baseURL}/models`);
    assert.equal(response.headers.get("content-type"), "application/json");
    assert.equal((await response.json()).data[0].id, model);
    const missing = await fetch(new URL("/v1/nothing", origin));
    assert.equal(missing.status, 404);
    assert.equal(missing.statusText, "Not Found");
    assert.match((await missing.json()).error.message, /./);
    const head = await fetch(new Request(`${baseURL}/models`, { method: "HEAD" }));
    assert.equal(await head.text(), "");
    await assert.rejects(fetch(`${baseURL}/models`, { signal: AbortSignal.abort() }), { name: "AbortError" });
    await assert.rejects(fetch("http://hearth.invalid:1/v1/models")); // another origin, that there is not
    await assert.rejects(globalThis.fetch(`${baseURL}/models`)); // which is nobody's
    assert.equal(listening(hearth.pid), 0);
});

test("fetch streams with back pressure, and ends what is aborted", async () => {
    const body = JSON.stringify({ model, messages: [{ role: "user", content: "Tell a long story." }], stream: true, ignore_eos: true });
    const stop = new AbortController();
    const response = await hearth.fetch(`${hearth.baseURL}/chat/completions`, {
        method: "POST", headers: { "content-type": "application/json" }, body: new Blob([body]), signal: stop.signal,
    });
    assert.equal(response.status, 200);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    assert.match((await reader.read()).value, /^data: /);
    stop.abort();
    await assert.rejects(async () => {
        while (!(await reader.read()).done);
    });
    await until("an idle daemon", async () => (await hearth.status()).running === 0, 1000);
    const left = await hearth.fetch(`${hearth.baseURL}/chat/completions`, {
        method: "POST", headers: { "content-type": "application/json" }, body,
    });
    await left.body.cancel();
    await until("an idle daemon", async () => (await hearth.status()).running === 0, 1000);
});

test("openai", { skip: await skip("openai") }, async () => {
    const { default: OpenAI } = await installed("openai");
    const client = new OpenAI({ baseURL: hearth.baseURL, fetch: hearth.fetch, apiKey: "none" });
    const whole = await client.chat.completions.create({ model, messages, temperature: 0, max_tokens: 16 });
    const stream = await client.chat.completions.create({ model, messages, temperature: 0, max_tokens: 16, stream: true });
    let text = "";
    for await (const part of stream)
        text += part.choices[0]?.delta?.content ?? "";
    assert.ok(text.length > 0);
    assert.equal(text, whole.choices[0].message.content);
    const { data } = await client.embeddings.create({ model, input: "a river" });
    assert.ok(data[0].embedding.length > 100);
    await assert.rejects(client.chat.completions.create({ model: "nobody", messages }), OpenAI.NotFoundError);
    const long = await client.chat.completions.create({ model, messages, stream: true });
    for await (const part of long) {
        assert.ok(part.choices);
        break; // which aborts it
    }
    await until("an idle daemon", async () => (await hearth.status()).running === 0, 1000);
});

test("ollama", { skip: await skip("ollama") }, async () => {
    const { Ollama } = await installed("ollama");
    const client = new Ollama({ host: hearth.origin, fetch: hearth.fetch });
    const options = { temperature: 0, num_predict: 16 };
    assert.equal((await client.list()).models[0].name, model);
    const whole = await client.chat({ model, messages, options });
    let text = "";
    for await (const part of await client.chat({ model, messages, options, stream: true }))
        text += part.message.content;
    assert.ok(text.length > 0);
    assert.equal(text, whole.message.content);
    assert.equal((await client.embed({ model, input: ["a", "b"] })).embeddings.length, 2);
});

test("the AI SDK", { skip: await skip("ai") }, async () => {
    const { generateText, streamText, embed } = await installed("ai");
    const { createOpenAICompatible } = await installed("@ai-sdk/openai-compatible");
    const provider = createOpenAICompatible({ name: "hearth", baseURL: hearth.baseURL, fetch: hearth.fetch });
    const settings = { model: provider(model), prompt: "Name three rivers.", temperature: 0, maxOutputTokens: 16 };
    const { text, usage } = await generateText(settings);
    assert.ok(text.length > 0 && usage.outputTokens > 0);
    let streamed = "";
    for await (const part of streamText(settings).textStream)
        streamed += part;
    assert.equal(streamed, text);
    const { embedding } = await embed({ model: provider.textEmbeddingModel(model), value: "a river" });
    assert.ok(embedding.length > 100);
});

test("they go on when the daemon was killed", { skip: await skip("openai") }, async () => {
    const { default: OpenAI } = await installed("openai");
    const client = new OpenAI({ baseURL: hearth.baseURL, fetch: hearth.fetch, apiKey: "none" });
    process.kill(hearth.pid, "SIGKILL");
    const { choices } = await client.chat.completions.create({ model, messages, max_tokens: 4 });
    assert.ok(choices[0].message.content);
});
