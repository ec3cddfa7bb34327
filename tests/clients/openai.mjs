// The daemon at HEARTH_URL as npm's `openai` sees it, with the model HEARTH_MODEL.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import test from "node:test";
import OpenAI from "openai";

const url = process.env.HEARTH_URL;
const model = process.env.HEARTH_MODEL;
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const user = (content) => ({ role: "user", content });
const asked = { model, messages: [user("Name three rivers.")], temperature: 0, max_tokens: 24 };

async function all(stream) {
    const chunks = [];
    for await (const chunk of stream)
        chunks.push(chunk);
    return chunks;
}

async function text() {
    return (await client.chat.completions.create(asked)).choices[0].message.content;
}

async function refused(promise, status, param, words) {
    const error = await promise.then(() => assert.fail("it was answered"), (cause) => cause);
    assert.ok(error instanceof OpenAI.APIError, String(error));
    assert.equal(error.status, status);
    assert.equal(error.param ?? null, param);
    assert.match(error.message, words);
    return error;
}

test("a chat", async () => {
    const answer = await client.chat.completions.create(asked);
    assert.match(answer.id, /^chatcmpl-[A-Za-z0-9]{24}$/);
    assert.equal(answer.object, "chat.completion");
    assert.equal(answer.choices.length, 1);
    assert.equal(answer.choices[0].message.role, "assistant");
    assert.ok(answer.choices[0].message.content.length > 0);
    assert.ok(["stop", "length"].includes(answer.choices[0].finish_reason));
    assert.ok(answer.usage.prompt_tokens > 5);
    assert.ok(answer.usage.completion_tokens > 1 && answer.usage.completion_tokens <= 24);
    assert.equal(answer.usage.total_tokens,
                 answer.usage.prompt_tokens + answer.usage.completion_tokens);
    assert.ok(Math.abs(answer.created - Date.now() / 1000) < 600);
});

test("what was said before is known", async () => {
    await client.chat.completions.create(asked);
    const again = await client.chat.completions.create(asked);
    const { prompt_tokens: prompt, prompt_tokens_details: details } = again.usage;
    assert.ok(details.cached_tokens > prompt / 2, `${details.cached_tokens} of ${prompt}`);
});

test("a stream says the same", async () => {
    const chunks = await all(await client.chat.completions.create(
        { ...asked, stream: true, stream_options: { include_usage: true } }));
    assert.equal(chunks[0].choices[0].delta.role, "assistant");
    const said = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
    assert.equal(said, await text());
    assert.ok(chunks.length > 5);
    const last = chunks.at(-1);
    assert.deepEqual(last.choices, []);
    assert.ok(last.usage.completion_tokens > 1);
    assert.ok(["stop", "length"].includes(chunks.at(-2).choices[0].finish_reason));
    assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
});

test("the client's own stream helper puts it together", async () => {
    const runner = client.chat.completions.stream({ ...asked, logprobs: true, top_logprobs: 2 });
    let deltas = "";
    runner.on("content", (delta) => { deltas += delta; });
    const final = await runner.finalChatCompletion();
    assert.equal(deltas, final.choices[0].message.content);
    assert.equal(deltas, await text());
    assert.ok(final.choices[0].logprobs.content.length > 1);
});

test("a stream that is broken off, and one that is aborted", async () => {
    const long = { ...asked, max_tokens: 2000, ignore_eos: true, stream: true };
    for await (const chunk of await client.chat.completions.create(long)) {
        if (chunk.choices[0].delta.content)
            break;
    }
    const controller = new AbortController();
    const waiting = client.chat.completions.create({ ...long, stream: false },
                                                   { signal: controller.signal });
    await sleep(200);
    controller.abort();
    await assert.rejects(waiting, OpenAI.APIUserAbortError);
    const begun = Date.now();
    assert.ok((await text()).length > 0);
    assert.ok(Date.now() - begun < 20000, "what was left goes on");
});

test("several choices", async () => {
    const answer = await client.chat.completions.create(
        { ...asked, n: 3, temperature: 1.5, seed: 5, max_tokens: 12 });
    assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1, 2]);
    const texts = new Set(answer.choices.map((choice) => choice.message.content));
    assert.ok(texts.size > 1, [...texts].join(" | "));
    const second = await client.chat.completions.create(
        { ...asked, temperature: 1.5, seed: 6, max_tokens: 12 });
    assert.equal(second.choices[0].message.content, answer.choices[1].message.content);
    const chunks = await all(await client.chat.completions.create(
        { ...asked, n: 2, temperature: 1.5, seed: 5, max_tokens: 12, stream: true }));
    const streamed = ["", ""];
    for (const { choices: [choice] } of chunks)
        streamed[choice.index] += choice.delta.content ?? "";
    assert.deepEqual(streamed, answer.choices.slice(0, 2).map(({ message }) => message.content));
});

test("probabilities", async () => {
    const answer = await client.chat.completions.create(
        { ...asked, max_tokens: 6, logprobs: true, top_logprobs: 3 });
    const tokens = answer.choices[0].logprobs.content;
    assert.ok(tokens.length >= 1 && tokens.length <= 6);
    for (const token of tokens) {
        assert.equal(token.top_logprobs.length, 3);
        assert.ok(token.logprob <= 0 && token.logprob <= token.top_logprobs[0].logprob);
        assert.equal(token.top_logprobs[0].token, token.token, "temperature 0 takes the best");
    }
    const bytes = Uint8Array.from(tokens.flatMap((token) => token.bytes));
    assert.equal(new TextDecoder().decode(bytes).trim(),
                 answer.choices[0].message.content.trim());
});

test("stop strings", async () => {
    const whole = await text();
    const word = whole.split(" ").find((candidate, i) => i > 1 && candidate.length > 2);
    const answer = await client.chat.completions.create({ ...asked, stop: [word, "\u0001"] });
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.equal(answer.choices[0].message.content, whole.slice(0, whole.indexOf(word)));
});

test("the same seed says the same", async () => {
    const request = { ...asked, temperature: 1.2, seed: 42 };
    const [one, two] = [await client.chat.completions.create(request),
                        await client.chat.completions.create(request)];
    assert.equal(one.choices[0].message.content, two.choices[0].message.content);
});

test("ten at once say what each says alone", async () => {
    const requests = Array.from({ length: 10 }, (_, i) => (
        { ...asked, messages: [user(`Tell me about the number ${i}.`)], max_tokens: 12 }));
    const alone = [];
    for (const request of requests)
        alone.push((await client.chat.completions.create(request)).choices[0].message.content);
    const together = await Promise.all(
        requests.map((request) => client.chat.completions.create(request)));
    assert.deepEqual(together.map((answer) => answer.choices[0].message.content), alone);
});

test("completions", async () => {
    const answer = await client.completions.create(
        { model, prompt: ["The capital of France is", "Two and two make"], max_tokens: 5,
          temperature: 0, logprobs: 2 });
    assert.equal(answer.object, "text_completion");
    assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1]);
    assert.match(answer.choices[0].text, /Paris/);
    assert.equal(answer.choices[0].logprobs.tokens.length,
                 answer.choices[0].logprobs.token_logprobs.length);
    const chunks = await all(await client.completions.create(
        { model, prompt: "The capital of France is", max_tokens: 5, temperature: 0,
          stream: true }));
    assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(""), answer.choices[0].text);
});

test("embeddings, as floats and as base64", async () => {
    const input = ["a cat sleeps", "a kitten is asleep", "tax law of 1986"];
    const floats = await client.embeddings.create({ model, input, encoding_format: "float" });
    const base64 = await client.embeddings.create({ model, input }); // the client's own default
    assert.equal(floats.data.length, 3);
    assert.deepEqual(floats.data.map((entry) => entry.index), [0, 1, 2]);
    for (let i = 0; i < 3; i++) {
        const [a, b] = [floats.data[i].embedding, base64.data[i].embedding];
        assert.equal(a.length, b.length);
        assert.ok(a.every((value, k) => Math.abs(value - b[k]) < 1e-7));
        assert.ok(Math.abs(a.reduce((sum, value) => sum + value * value, 0) - 1) < 1e-3);
    }
    assert.ok(floats.usage.prompt_tokens > 6);
});

test("models", async () => {
    const list = await client.models.list();
    assert.ok(list.data.some((entry) => entry.id === model));
    assert.equal((await client.models.retrieve(model)).id, model);
    await refused(client.models.retrieve("absent"), 404, "model", /absent/);
});

test("what is refused", async () => {
    const create = (more) => client.chat.completions.create({ ...asked, ...more });
    const error = await refused(create({ model: "absent" }), 404, "model", /absent/);
    assert.ok(error instanceof OpenAI.NotFoundError);
    await refused(create({ temperature: -1 }), 400, "temperature", /from 0/);
    await refused(create({ tools: [{ type: "function", function: { name: "f" } }] }), 400, "tools",
                  /not supported/);
    await refused(create({ response_format: { type: "json_object" } }), 400, "response_format",
                  /not supported/);
    await refused(create({ messages: [user([{ type: "image_url", image_url: { url: "x" } }])] }),
                  400, "messages[0].content[0]", /image_url/);
    await refused(create({ messages: [user("word ".repeat(100000))] }), 400, null, /context|token/);
    await refused(client.embeddings.create({ model, input: [] }), 400, "input", /input/);
});

test("conversations that are kept", async () => {
    const say = (content) => client.chat.completions.create(
        { ...asked, messages: [user(content)], session: "clients-openai", max_tokens: 8 });
    const first = await say("My name is Ada.");
    const second = await say("What is my name?");
    assert.ok(second.usage.prompt_tokens > first.usage.prompt_tokens + 8);
    assert.ok(second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens);
    assert.equal(second.session, "clients-openai");
});
