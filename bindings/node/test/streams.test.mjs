// Answers under way: aborted anywhere, many at once, read slowly.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import test, { before } from "node:test";

import { AbortedError, connect, ConnectionLostError } from "../index.js";
import { model, place, rejects, sleep, start, until } from "./support.mjs";

const greedy = { temperature: 0, maxTokens: 12 };
const endless = { temperature: 0, ignoreEos: true };
const story = "Tell a very long story.";
let hearth;
before(async () => {
    hearth = await start();
    await hearth.load(model);
});

async function isIdle() {
    const { running, waiting } = await hearth.status();
    return running + waiting === 0;
}

/* ---- aborted ---- */

test("an answer is aborted with the text so far, which the conversation keeps", async () => {
    const ways = {
        abort: (chat) => {
            const answer = chat.prompt(story, endless);
            return { answer, end: () => answer.abort() };
        },
        signal: (chat) => {
            const stop = new AbortController();
            return { answer: chat.prompt(story, { ...endless, signal: stop.signal }), end: () => stop.abort() };
        },
    };
    for (const [name, begin] of Object.entries(ways)) {
        const chat = hearth.session({ model });
        const { answer, end } = begin(chat);
        await until("its beginning", () => answer.text.length > 20);
        const asked = performance.now();
        end();
        const result = await answer;
        const took = performance.now() - asked;
        assert.equal(result.stop, "aborted", name);
        assert.ok(took < 500, `${name}: ${took} ms`);
        assert.ok(result.text.length > 20 && result.usage.answerTokens > 3);
        assert.equal((await chat.history())[1].content, result.text);
        const next = await chat.prompt("Go on.", greedy); // at once
        assert.ok(next.usage.cachedTokens > 20, JSON.stringify(next.usage));
        assert.equal((await chat.history())[1].content, result.text);
        await chat.close();
    }
    await until("an idle daemon", isIdle, 1000);
});

test("who leaves the loop aborts the answer", async () => {
    const chat = hearth.session({ model });
    const answer = chat.prompt(story, endless);
    let text = "";
    for await (const chunk of answer) {
        text += chunk.text ?? "";
        if (text.length > 20)
            break;
    }
    const result = await answer;
    assert.equal(result.stop, "aborted");
    assert.ok(result.text.startsWith(text));
    await until("an idle daemon", isIdle, 500);
});

test("an abort is an error where that is wanted", async () => {
    const chat = hearth.session({ model });
    const stop = new AbortController();
    const answer = chat.prompt(story, { ...endless, signal: stop.signal, throwOnAbort: true });
    await until("its beginning", () => answer.text.length > 20);
    stop.abort(new Error("enough"));
    const error = await rejects(answer, AbortedError);
    assert.equal(error.name, "AbortError");
    assert.equal(error.cause.message, "enough");
    assert.equal(error.partial.text, answer.text);
});

test("a prompt is aborted while it is read", async () => {
    const chat = hearth.session({ model });
    const answer = chat.prompt("word ".repeat(7000), greedy);
    let asked;
    for await (const chunk of answer) {
        if (chunk.type !== "reading" || asked)
            continue;
        assert.ok(chunk.done < chunk.total);
        asked = performance.now();
        answer.abort();
    }
    const took = performance.now() - asked;
    assert.ok(took < 500, `${took} ms`);
    const { stop, text } = await answer;
    assert.deepEqual([stop, text], ["aborted", ""]);
    await until("an idle daemon", isIdle, 500);
    assert.deepEqual(await chat.history(), []); // what got no answer is taken back
    assert.ok((await chat.prompt("Hello", greedy)).text);
});

test("a prompt is aborted before it is sent, while it waits, and while a model is loaded", async () => {
    const chat = hearth.session({ model });
    assert.equal((await chat.prompt("Hello", { signal: AbortSignal.abort() })).stop, "aborted");
    await rejects(chat.prompt("Hello", { signal: AbortSignal.abort(), throwOnAbort: true }), AbortedError);
    const first = chat.prompt(story, endless);
    const second = chat.prompt("Hello", greedy);
    const third = chat.prompt("And bye", greedy);
    await until("its beginning", () => first.text);
    second.abort();
    assert.equal((await second).stop, "aborted"); // while the first goes on
    assert.ok(!first.done);
    first.abort();
    assert.ok((await third).text);
    assert.deepEqual((await chat.history()).map(({ content }) => content), [story, first.text, "And bye", third.text]);

    const at = chat.prompt("At once", greedy);
    at.abort();
    assert.equal((await at).stop, "aborted");
    await hearth.unload(model);
    const loading = chat.prompt("With a load", greedy);
    for await (const { type } of loading) {
        if (type === "loading")
            loading.abort();
    }
    assert.equal((await loading).stop, "aborted");
    await until("an unloaded model", async () => {
        await hearth.unload(model, { force: true }).catch(() => {});
        return (await hearth.models())[0].state === "unloaded";
    });
    const stop = new AbortController();
    const load = hearth.load(model, { signal: stop.signal, onProgress: () => stop.abort() });
    await rejects(load, AbortedError);
    assert.ok((await chat.prompt("Go on", greedy)).text);
});

test("answers are aborted by the hundred, and nothing is left of them", async () => {
    const answers = [];
    for (let i = 0; i < 100; i++) {
        const answer = hearth.session({ model }).prompt(story, endless);
        setTimeout(() => answer.abort(), (i * 7) % 50);
        answers.push(answer);
    }
    for (const { stop } of await Promise.all(answers))
        assert.equal(stop, "aborted");
    await until("an idle daemon", isIdle, 2000);
});

/* ---- many ---- */

test("fifty conversations, all at once, each with its own memory", async () => {
    const delay = monitorEventLoopDelay({ resolution: 5 });
    delay.enable();
    const chats = Array.from({ length: 50 }, (_, i) => hearth.session({ model, system: `You are number ${i}.` }));
    const answers = await Promise.all(chats.map((chat, i) => chat.prompt(`Say ${i}.`, { temperature: 0, maxTokens: 4 })));
    for (const { usage } of answers)
        assert.ok(usage.answerTokens > 0);
    const again = await Promise.all(chats.map((chat) => chat.prompt("And again.", { temperature: 0, maxTokens: 4 })));
    delay.disable();
    for (const [i, chat] of chats.entries()) {
        const history = await chat.history();
        assert.equal(history.length, 5);
        assert.deepEqual([history[0].content, history[1].content], [`You are number ${i}.`, `Say ${i}.`]);
        assert.ok(again[i].usage.cachedTokens >= answers[i].usage.promptTokens - 1);
    }
    const { privateBytes } = await hearth.memory();
    assert.ok(privateBytes < 250e6, `${privateBytes} bytes`);
    assert.ok(delay.max < 200e6, `the event loop was held for ${delay.max / 1e6} ms`);
    await Promise.all(chats.map((chat) => chat.close()));
});

test("three answers at once, one chunk in ten milliseconds, lose no byte", async () => {
    const prompts = ["Tell of a river.", "Tell of a mountain.", "Tell of the sea. 🌊"];
    const options = { temperature: 0, maxTokens: 60, ignoreEos: true };
    const whole = [];
    for (const prompt of prompts)
        whole.push((await hearth.session({ model }).prompt(prompt, options)).text);
    const read = await Promise.all(prompts.map(async (prompt) => {
        let text = "";
        for await (const chunk of hearth.session({ model }).prompt(prompt, options)) {
            await sleep(10);
            text += chunk.text ?? "";
        }
        return text;
    }));
    assert.deepEqual(read, whole);
});

/* ---- over a daemon that is none ---- */

let servers = 0;

/** What `onPrompt` answers, over a real socket. */
async function fake(onPrompt) {
    const socket = join(place, `fake-${++servers}.sock`);
    const server = createServer((request, response) => {
        if (request.url.endsWith("/prompt"))
            return onPrompt(response, request);
        if (request.url.endsWith("/cancel"))
            server.emit("cancelled");
        if (request.url.endsWith("/events"))
            return response.write("event: events.begin\ndata: {}\n\n");
        response.end(JSON.stringify({ pid: 1, cancelled: true, sessions: [], messages: [] }));
    });
    await new Promise((resolve) => server.listen(socket, resolve));
    const client = await connect({ socket });
    const end = async () => {
        await client.close();
        server.closeAllConnections();
        server.close();
    };
    return { client, server, end };
}

const say = (event, data) => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
const ENDS = say("end", { session: "s", model: "m", stop: "end", timings: {}, usage: { prompt_tokens: 1, completion_tokens: 2 } });

test("a reader that stops stops the sender, and memory is bounded", async () => {
    let sent = 0;
    let over = false;
    const part = "x".repeat(100);
    const { client, end } = await fake((response) => {
        const more = () => {
            while (!over) {
                sent++;
                if (!response.write(say("text", { text: part })))
                    return response.once("drain", more);
            }
            response.end(ENDS);
        };
        more();
    });
    const answer = client.session().prompt("hello");
    let read = 0;
    for await (const chunk of answer) {
        if (chunk.type !== "text")
            continue;
        if (++read === 10) { // it rests
            await sleep(200);
            const before = sent;
            await sleep(300);
            assert.equal(sent, before);
            assert.ok(sent < 20_000, `${sent} were sent`);
        }
        if (read === 10_000)
            over = true;
    }
    assert.equal((await answer).text.length, sent * part.length);
    await end();
});

test("bytes may be cut anywhere", async () => {
    const text = "Größe: 10 €, 😀 — 你好\u2028";
    const { client, end } = await fake(async (response) => {
        response.socket.setNoDelay(true);
        for (const byte of Buffer.from(say("begin", { model: "m" }) + say("text", { text }).replace(/\n/g, "\r\n") + ENDS)) {
            response.write(Buffer.from([byte]));
            await sleep(0);
        }
        response.end();
    });
    assert.equal((await client.session().prompt("hello")).text, text);
    await end();
});

test("a prompt is sent again where nothing of it had begun, and only there", async () => {
    let count = 0;
    const { client, end } = await fake((response) => {
        if (++count === 1)
            return response.socket.destroy();
        if (count === 2)
            return response.write(say("loading", { progress: 0.5 }), () => response.socket.destroy());
        response.end(say("begin", { model: "m" }) + say("text", { text: "a" }) + ENDS);
    });
    assert.equal((await client.session().prompt("hello")).text, "a");
    assert.equal(count, 3);
    await end();
    const cut = await fake((response) => {
        count++;
        response.write(say("begin", { model: "m" }) + say("text", { text: "a" }), () => response.socket.destroy());
    });
    count = 0;
    const error = await rejects(cut.client.session().prompt("hello"), ConnectionLostError);
    assert.equal(error.partial.text, "a");
    assert.equal(count, 1);
    await cut.end();
    const short = await fake((response) => response.end(say("begin", { model: "m" }) + say("text", { text: "a" })));
    await rejects(short.client.session().prompt("hello"), ConnectionLostError, /before its end/);
    await short.end();
});

test("an answer that does not end when it is cancelled is left", async () => {
    const { client, end } = await fake((response) => response.write(say("begin", { model: "m" }) + say("text", { text: "a" })));
    const answer = client.session().prompt("hello");
    await until("its beginning", () => answer.text);
    const started = performance.now();
    answer.abort();
    const { stop, text } = await answer;
    assert.deepEqual([stop, text], ["aborted", "a"]);
    assert.ok(performance.now() - started < 2000);
    await end();
});

test("connections are reused, and one that was closed meanwhile is none", async () => {
    const sockets = new Set();
    const { client, end } = await fake((response) => {
        sockets.add(response.socket);
        response.end(say("begin", { model: "m" }) + ENDS);
    });
    for (let i = 0; i < 20; i++)
        await client.session().prompt("hello");
    assert.equal(sockets.size, 1);
    for (let i = 0; i < 10; i++) {
        for (const socket of sockets)
            socket.destroy(); // as a daemon closes what is idle
        assert.equal((await client.session().prompt("hello")).stop, "end");
    }
    await end();
});
