// The daemon at HEARTH_URL as npm's `ollama` sees it, with the model HEARTH_MODEL.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import test from "node:test";
import { Ollama } from "ollama";

const model = process.env.HEARTH_MODEL;
const client = new Ollama({ host: process.env.HEARTH_URL });
const user = (content) => ({ role: "user", content });
const messages = [user("Name three rivers.")];
const options = { temperature: 0, num_predict: 24 };
const long = "word ".repeat(100000);

async function joined(stream, text) {
    let all = "", last;
    for await (const part of stream) {
        all += text(part);
        last = part;
    }
    return { all, last };
}

async function refused(promise, status, words) {
    const error = await promise.then(() => assert.fail("it was answered"), (cause) => cause);
    assert.equal(error.status_code, status, String(error));
    assert.match(error.message, words);
}

test("models are listed and shown", async () => {
    const { models } = await client.list();
    const entry = models.find((one) => one.name === model);
    assert.ok(entry, JSON.stringify(models));
    assert.equal(entry.details.format, "gguf");
    assert.ok(entry.size > 0 && entry.details.family && entry.details.quantization_level);
    const shown = await client.show({ model });
    assert.ok(shown.template.length > 0 && shown.capabilities.includes("completion"));
    assert.equal(shown.details.family, shown.model_info["general.architecture"]);
    assert.match((await client.version()).version, /^\d+\.\d+\.\d+/);
});

test("a chat is whole", async () => {
    const answer = await client.chat({ model, messages, options });
    assert.equal(answer.message.role, "assistant");
    assert.ok(answer.message.content.length > 0 && answer.done);
    assert.ok(["stop", "length"].includes(answer.done_reason));
    assert.ok(answer.prompt_eval_count > 0 && answer.eval_count > 0 && answer.eval_count <= 24);
    assert.ok(answer.total_duration >= answer.eval_duration && answer.eval_duration > 0);
    assert.ok(Math.abs(Date.parse(answer.created_at) - Date.now()) < 60e3, answer.created_at);
});

test("a stream says what the whole says", async () => {
    const whole = await client.chat({ model, messages, options });
    const stream = await client.chat({ model, messages, options, stream: true });
    const { all, last } = await joined(stream, (part) => part.message.content);
    assert.equal(all, whole.message.content);
    assert.ok(last.done && last.eval_count === whole.eval_count);
});

test("a stream is aborted, and the next one answered", async () => {
    const stream = await client.chat({
        model, messages: [user("Tell me a very long story.")], stream: true,
        options: { temperature: 0, num_predict: 2000 },
    });
    let parts = 0;
    await assert.rejects(async () => {
        for await (const part of stream) {
            assert.ok(part.message);
            if (++parts === 3)
                client.abort();
        }
    }, { name: "AbortError" });
    assert.ok((await client.chat({ model, messages, options })).done);
});

test("a prompt goes on, also as it is", async () => {
    const answer = await client.generate({ model, prompt: messages[0].content, options });
    const chat = await client.chat({ model, messages, options });
    assert.equal(answer.response, chat.message.content);
    const asked = { model, prompt: "One, two, three,", raw: true, options };
    const raw = await client.generate(asked);
    assert.ok(raw.response.length > 0);
    const stream = await client.generate({ ...asked, stream: true });
    assert.equal((await joined(stream, (part) => part.response)).all, raw.response);
});

test("tokens have probabilities", async () => {
    const answer = await client.chat({ model, messages, options, logprobs: true, top_logprobs: 2 });
    assert.equal(answer.logprobs.map((one) => one.token).join(""), answer.message.content);
    for (const token of answer.logprobs) {
        assert.ok(token.logprob <= 0 && token.top_logprobs.length === 2);
        assert.ok(token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob);
    }
});

test("texts have vectors", async () => {
    const { embeddings } = await client.embed({ model, input: ["a river", "a stream", "a tax"] });
    const product = (a, b) => a.reduce((sum, value, at) => sum + value * b[at], 0);
    assert.equal(embeddings.length, 3);
    for (const vector of embeddings)
        assert.ok(Math.abs(product(vector, vector) - 1) < 1e-3);
    const short = await client.embed({ model, input: "a river", dimensions: 16 });
    assert.equal(short.embeddings[0].length, 16);
    const { embedding } = await client.embeddings({ model, prompt: "a river" });
    assert.deepEqual(embedding, embeddings[0]);
});

test("errors are told", async () => {
    const chat = (more) => client.chat({ model, messages, ...more });
    const generate = (more) => client.generate({ model, prompt: "x", ...more });
    await refused(chat({ model: "nobody" }), 404, /nobody/);
    await refused(client.show({ model: "nobody" }), 404, /nobody/);
    await refused(chat({ tools: [{ type: "function", function: { name: "f" } }] }), 400, /tools/);
    await refused(generate({ format: "json" }), 400, /format/);
    await refused(generate({ images: ["aGk="] }), 400, /images/);
    await refused(chat({ options: { temperature: -1 } }), 400, /temperature/);
    await refused(chat({ messages: [user(long)] }), 400, /context/);
    await refused(chat({ messages: [user(long)], stream: true }), 400, /context/);
    await refused(client.embed({ model, input: long }), 400, /context/);
    await refused(client.pull({ model: "nobody" }), 404, /downloaded/);
    await refused(client.delete({ model }), 404, /changed/);
    await refused(client.copy({ source: model, destination: "other" }), 404, /changed/);
    assert.equal((await client.pull({ model })).status, "success");
});

test("models are loaded and unloaded", async () => {
    await client.generate({ model, prompt: "", keep_alive: "10m" });
    const [loaded] = (await client.ps()).models;
    const left = Date.parse(loaded.expires_at) - Date.now();
    assert.equal(loaded.name, model);
    assert.ok(left > 8 * 60e3 && left < 11 * 60e3, loaded.expires_at);
    assert.ok(loaded.context_length > 0);
    const answer = await client.chat({ model, messages: [], keep_alive: 0 });
    assert.equal(answer.done_reason, "unload");
    for (let i = 0; (await client.ps()).models.length > 0; i++) {
        assert.ok(i < 100, "it is still loaded");
        await sleep(50);
    }
    const again = await client.chat({ model, messages, options, keep_alive: 0 });
    assert.ok(again.load_duration > 0 && again.total_duration >= again.load_duration);
});
