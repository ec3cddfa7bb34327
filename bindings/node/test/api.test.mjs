// Every call, with the real model.
import assert from "node:assert/strict";
import { copyFileSync, existsSync, mkdirSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import test, { before } from "node:test";

import {
    AbortedError, BusyError, ClosedError, ConnectionLostError, ContextFullError, DaemonError, InvalidArgumentError, MemoryLimitError,
    ModelInvalidError, ModelNotFoundError, SessionNotFoundError, UnauthorizedError, UnsupportedError, connect,
} from "../index.js";
import { isAlive, model, modelPath, place, rejects, runDaemon, sleep, start, stop, until } from "./support.mjs";

const greedy = { temperature: 0, maxTokens: 12 };
let hearth;
before(async () => (hearth = await start()));

async function chunksOf(answer) {
    const chunks = [];
    for await (const chunk of answer)
        chunks.push(chunk);
    return chunks;
}

const textOf = (chunks) => chunks.filter(({ type }) => type === "text").map(({ text }) => text).join("");

/* ---- connecting ---- */

test("a daemon of our own is private", async () => {
    assert.equal(hearth.daemon, "own");
    assert.equal(hearth.state, "ready");
    assert.ok(isAlive(hearth.pid));
    const { pid, listeners } = await hearth.status();
    assert.equal(pid, hearth.pid);
    assert.equal(listeners.length, 1);
    const socket = listeners[0].replace("unix:", "");
    assert.ok(Buffer.byteLength(socket) < 104, socket);
    assert.equal(statSync(dirname(socket)).mode & 0o777, 0o700);
    assert.equal(statSync(socket).mode & 0o077, 0);
});

test("it ends with close, at once, and its socket goes", async () => {
    const own = await start();
    const { pid } = own;
    const [listener] = (await own.status()).listeners;
    await own.load(model);
    const started = Date.now();
    await stop(own);
    assert.ok(Date.now() - started < 2000);
    assert.ok(!isAlive(pid) && !existsSync(listener.replace("unix:", "")));
    assert.equal(own.state, "closed");
    await rejects(own.models(), ClosedError);
    await rejects(own.session({ model }).prompt("hello"), ClosedError);
    await own.close(); // again
});

test("using disposes", async () => {
    const own = await connect({ app: "using" });
    const { pid } = own;
    const dispose = Symbol.asyncDispose ?? Symbol.for("nodejs.asyncDispose");
    await own[dispose]();
    assert.ok(!isAlive(pid));
});

test("a loopback port with a key serves as well", async () => {
    const options = { app: "loopback", transport: "loopback" };
    const own = await start(options);
    assert.match(own.origin, /^http:\/\/127\.0\.0\.1:\d+$/);
    assert.equal(own.daemon, "own");
    assert.equal((await own.models())[0].name, model);
    assert.equal((await fetch(`${own.baseURL}/models`)).status, 401); // nobody else has the key
    assert.equal((await own.fetch(`${own.baseURL}/models`)).status, 200);
    const other = await start(options); // of the same app
    assert.equal(other.daemon, "app");
    assert.equal(other.origin, own.origin);
    await rejects(connect({ url: own.origin, key: "wrong" }), UnauthorizedError);
    assert.ok((await other.session({ model }).prompt("Hello", greedy)).text);
    await stop(other);
    await stop(own);
});

test("a daemon that runs is used: by its socket, its address, or as the user's", async () => {
    const socket = join(process.env.XDG_RUNTIME_DIR, "hearth", "hearth.sock");
    await rejects(connect({ shared: "only" }), ConnectionLostError, /does not run/);
    const user = await runDaemon(socket, ["--no-tcp"]);
    const shared = await start({ shared: true });
    assert.equal(shared.daemon, "shared");
    assert.equal(shared.pid, undefined);
    const given = await start({ socket });
    assert.equal(given.daemon, "given");
    assert.equal((await given.status()).pid, (await shared.status()).pid);
    await stop(shared);
    await stop(given);
    assert.ok(isAlive(user.pid)); // they have ended nobody
    user.kill();
    await until("its end", () => !isAlive(user.pid));
    const own = await start({ shared: true });
    assert.equal(own.daemon, "own");
    await stop(own);
    await rejects(connect({ socket: join(place, "nothing.sock") }), ConnectionLostError, /nothing\.sock/);
    await rejects(connect({ url: "http://127.0.0.1:9" }), ConnectionLostError, /127\.0\.0\.1:9/);
});

test("what keeps a daemon from starting is said", async () => {
    const error = await rejects(connect({ app: "bad", models: [join(place, "none")] }), DaemonError, /none/);
    assert.ok(error.log.length > 0);
    await rejects(connect({ app: "bad", args: ["--no-such-option"] }), DaemonError, /no-such-option/);
    const script = join(place, "script");
    writeFileSync(script, "not a program\n", { mode: 0o755 });
    const { HEARTH_BINARY } = process.env;
    delete process.env.HEARTH_BINARY;
    try {
        await rejects(connect({ app: "bad", binary: script }), DaemonError);
        writeFileSync(script, "#!/bin/sh\nsleep 60\n");
        await rejects(connect({ app: "bad", binary: script, startTimeout: 300 }), DaemonError, /300 ms/);
        const stopped = AbortSignal.timeout(200);
        await rejects(connect({ app: "bad", binary: script, signal: stopped }), AbortedError);
    } finally {
        process.env.HEARTH_BINARY = HEARTH_BINARY;
    }
});

test("the daemon's log is heard", async () => {
    const lines = [];
    const own = await start({ onLog: (line) => lines.push(line), args: ["--verbose"] });
    await own.load(model);
    await until("a line of it", () => lines.some((line) => /loaded/.test(line)));
    await stop(own);
});

/* ---- models ---- */

test("models are known by name and by path", async () => {
    const [entry] = await hearth.models();
    assert.equal(entry.name, model);
    assert.equal(entry.bytes, statSync(modelPath).size);
    assert.ok(entry.modified instanceof Date);
    assert.equal(await hearth.addModel(modelPath), model);
    const folder = join(place, "more");
    mkdirSync(folder);
    copyFileSync(modelPath, join(folder, "copy.gguf"));
    assert.equal((await hearth.inspect(join(folder, "copy.gguf"))).name, "copy");
    assert.deepEqual((await hearth.models()).map(({ name }) => name).sort(), [model, "copy"].sort());
    await rejects(hearth.load("nobody"), ModelNotFoundError, /nobody/);
    await rejects(hearth.load(join(folder, "nobody.gguf")), ModelNotFoundError, /nobody/);
    await rejects(hearth.session({ model: "nobody" }).prompt("hello"), ModelNotFoundError);
    writeFileSync(join(folder, "text.gguf"), "a text");
    await rejects(hearth.load(join(folder, "text.gguf")), ModelInvalidError);
    truncateSync(join(folder, "copy.gguf"), 100_000);
    await rejects(hearth.load("copy"), ModelInvalidError);
    await rejects(connect({ app: "files", files: [join(folder, "none.gguf")] }), ModelNotFoundError, /none/);
});

test("a model is inspected and estimated without being loaded", async () => {
    const own = await start();
    const { state, about } = await own.inspect(model);
    assert.equal(state, "unloaded");
    assert.equal(about.architecture, "llama");
    assert.equal(about.metadata["general.architecture"], "llama");
    assert.ok(about.chatTemplate.includes("<|im_start|>") && about.contextTrain === 8192 && about.layers === 30);
    const small = await own.estimate(model, { context: 2048 });
    const large = await own.estimate(model, { context: 8192, kv: "q8_0" });
    assert.ok(small.fits && small.weightsBytes === statSync(modelPath).size);
    assert.ok(large.kvBytes > small.kvBytes && large.kv === "q8_0" && large.context === 8192);
    assert.equal((await own.models())[0].state, "unloaded");
    await stop(own);
});

test("a model is loaded with progress, and unloaded", async () => {
    const own = await start();
    const seen = [];
    const told = [];
    for (const type of ["load", "loaded", "unload"])
        own.on(type, (event) => told.push([type, event.model]));
    const loaded = await own.load(model, { context: 1024, kv: "q8_0", ttl: "10m", onProgress: (progress) => seen.push(progress) });
    assert.equal(loaded.state, "loaded");
    assert.equal(loaded.context, 1024);
    assert.equal(loaded.settings.kv, "q8_0");
    assert.equal(loaded.settings.ttl, 600);
    assert.ok(loaded.loadSeconds > 0 && loaded.pid > 0);
    assert.ok(seen.length >= 2 && seen.at(-1) === 1 && seen.every((value, at) => at === 0 || value >= seen[at - 1]), String(seen));
    assert.equal((await own.load(model)).loadSeconds, 0);
    assert.equal((await own.unload(model)).state, "unloaded");
    await until("the worker's end", () => !isAlive(loaded.pid));
    await until("events", () => told.at(-1)?.[0] === "unload");
    assert.deepEqual([told[0], told.at(-1)], [["load", model], ["unload", model]]);
    const never = await own.load(model, { ttl: "never" });
    assert.equal(never.expiresInSeconds, undefined);
    await stop(own);
});

test("what does not fit the memory is refused with the figures", async () => {
    const own = await start({ memory: "150M" });
    const { fits, reason } = await own.estimate(model, { context: 8192 });
    assert.ok(!fits && reason);
    await rejects(own.load(model, { context: 8192, fit: "refuse" }), MemoryLimitError, /0\.15 GB|150/);
    await stop(own);
});

test("a model in use is not unloaded, but by force", async () => {
    const answer = hearth.session({ model }).prompt("Tell a very long story.");
    await until("its beginning", () => answer.text);
    await rejects(hearth.unload(model), BusyError);
    await hearth.unload(model, { force: true });
    const { stop: how, text } = await answer;
    assert.equal(how, "aborted");
    assert.equal(text, answer.text);
});

/* ---- answers ---- */

test("an answer is awaited, or iterated, or both", async () => {
    const whole = await hearth.session({ model }).prompt("Name three rivers.", greedy);
    assert.ok(whole.text.length > 0);
    assert.equal(whole.stop, "length");
    assert.equal(whole.reasoning, "");
    assert.equal(whole.model, model);
    assert.equal(whole.usage.answerTokens, 12);
    assert.equal(whole.usage.totalTokens, whole.usage.promptTokens + 12);
    assert.ok(whole.timings.answerTokensPerSecond > 0 && whole.timings.firstTokenMs > 0);
    assert.ok(whole.timings.totalMs >= whole.timings.firstTokenMs);

    const answer = hearth.session({ model }).prompt("Name three rivers.", greedy);
    const chunks = await chunksOf(answer);
    assert.equal(textOf(chunks), whole.text);
    const types = chunks.map(({ type }) => type);
    assert.equal(types[0], "begin");
    assert.equal(types.at(-1), "end");
    const reading = chunks.find(({ type }) => type === "reading");
    assert.equal(reading.done, reading.total);
    assert.deepEqual(chunks.at(-1).result, await answer);
    assert.equal(answer.text, whole.text);
    assert.ok(answer.done);
    assert.throws(() => answer[Symbol.asyncIterator](), TypeError);

    let text = "";
    for await (const part of hearth.session({ model }).prompt("Name three rivers.", greedy).textStream())
        text += part;
    assert.equal(text, whole.text);

    const late = hearth.session({ model }).prompt("Name three rivers.", greedy);
    await late;
    assert.equal(textOf(await chunksOf(late)), whole.text); // nothing of it was lost
});

test("a load is part of the answer", async () => {
    await hearth.unload(model, { force: true }).catch(() => {});
    await until("its end", async () => (await hearth.models()).find(({ name }) => name === model).state === "unloaded");
    const chunks = await chunksOf(hearth.session({ model }).prompt("Hello", greedy));
    assert.deepEqual([chunks[0].type, chunks.at(-1).type], ["loading", "end"]);
});

test("settings of an answer do what they say", async () => {
    const say = (options) => hearth.session({ model }).prompt("Count from one to ten, in words.", { maxTokens: 30, ...options });
    const seeded = await Promise.all([say({ seed: 7 }), say({ seed: 7 }), say({ seed: 8 })]);
    assert.equal(seeded[0].text, seeded[1].text);
    assert.notEqual(seeded[0].text, seeded[2].text);
    const plain = await say({ temperature: 0 });
    const word = plain.text.split(/\s+/)[2];
    const stopped = await say({ temperature: 0, stop: [word] });
    assert.equal(stopped.stop, "string");
    assert.equal(stopped.stopString, word);
    assert.ok(!stopped.text.includes(word));
    const biased = await say({ temperature: 0, logitBias: { 30: 100 }, maxTokens: 3 });
    assert.notEqual(biased.text, plain.text.slice(0, biased.text.length));
    assert.equal((await hearth.session({ model, defaults: { maxTokens: 2 } }).prompt("Hello")).usage.answerTokens, 2);
    const error = await rejects(say({ temperature: -1 }), InvalidArgumentError, /temperature/);
    assert.equal(error.param, "temperature");
});

test("an answer has a time limit where it is given one", async () => {
    const { stop: how, text, usage } = await hearth.session({ model }).prompt("Tell a very long story.", { timeout: 400 });
    assert.equal(how, "timeout");
    assert.ok(text.length > 0 && usage.answerTokens > 0);
});

/* ---- conversations ---- */

test("a conversation goes on, and reuses what is known of it", async () => {
    const chat = hearth.session({ key: "rivers", model, system: "You know rivers." });
    assert.equal(await chat.info(), undefined);
    assert.deepEqual(await chat.history(), []);
    const first = await chat.prompt("Name a river.", greedy);
    assert.equal(hearth.session({ key: "rivers" }), chat);
    const second = await chat.prompt("And another one.", greedy);
    assert.ok(second.usage.cachedTokens >= first.usage.totalTokens - 1, JSON.stringify(second.usage));
    const history = await chat.history();
    assert.deepEqual(history.map(({ role }) => role), ["system", "user", "assistant", "user", "assistant"]);
    assert.equal(history[2].content, first.text);
    assert.equal((await chat.info()).messages, 5);
    assert.ok((await hearth.sessions()).some(({ key, messages }) => key === "rivers" && messages === 5));
});

test("what the system says holds for a conversation that is kept", async () => {
    const app = { app: "kept" };
    let own = await start(app);
    await own.session({ key: "k", model, system: "Be brief." }).prompt("Hello", greedy);
    await stop(own);
    own = await start(app);
    const chat = own.session({ key: "k", system: "Be brief." }); // it knows its model
    await chat.prompt("Again", greedy);
    const said = (history) => history.map(({ role, content }) => (role === "assistant" ? role : content));
    assert.deepEqual(said(await chat.history()), ["Be brief.", "Hello", "assistant", "Again", "assistant"]);
    await own.session({ key: "k", system: "Be long." }).prompt("More", greedy);
    assert.deepEqual(said(await chat.history()).slice(0, 2), ["Be long.", "Hello"]);
    await chat.remove();
    assert.deepEqual(await own.sessions(), []);
    await stop(own);
});

test("messages are appended, edited, cut, replaced, forgotten", async () => {
    const chat = hearth.session({ model });
    await chat.append("One.");
    await chat.append({ role: "assistant", content: "Two." });
    assert.equal((await chat.append("Three.")).messages, 3);
    await chat.edit(2, "Four.");
    assert.deepEqual((await chat.history()).map(({ content }) => content), ["One.", "Two.", "Four."]);
    const { text } = await chat.prompt(undefined, greedy); // what was said is answered
    assert.equal((await chat.history())[3].content, text);
    const again = await chat.regenerate({ ...greedy, temperature: 0 });
    assert.equal(again.text, text);
    await chat.truncate(1);
    assert.deepEqual(await chat.history(), [{ role: "user", content: "One." }]);
    await chat.setHistory([{ role: "system", content: "S" }, { role: "user", content: "U" }]);
    await chat.reset();
    assert.deepEqual(await chat.history(), [{ role: "system", content: "S" }]);
    await chat.release();
    assert.deepEqual(await chat.history(), [{ role: "system", content: "S" }]);
    await rejects(chat.edit(9, "x"), InvalidArgumentError);
    await rejects(chat.append(7), InvalidArgumentError);
    await rejects(chat.append([{ role: "user", content: "a" }, { role: "user", content: "b" }]), InvalidArgumentError);
    await chat.remove();
    await rejects(chat.history(), ClosedError);
});

test("a fork goes its own way without being computed again", async () => {
    const chat = hearth.session({ model, system: "Be brief." });
    await chat.prompt("Name a river.", greedy);
    const fork = await chat.fork();
    const [a, b] = await Promise.all([chat.prompt("Why?", greedy), fork.prompt("How long is it?", greedy)]);
    assert.ok(a.usage.cachedTokens > 20 && b.usage.cachedTokens > 20);
    assert.equal((await fork.history())[3].content, "How long is it?");
    const named = await chat.fork({ key: "named", count: 3 });
    assert.equal(named.key, "named");
    assert.equal((await named.history()).length, 3);
    await rejects(chat.fork({ key: "named" }), BusyError);
    const empty = await hearth.session({ model, system: "S" }).fork();
    assert.ok((await empty.prompt("Hello", greedy)).text);
    await named.remove();
});

test("a full context is an error, an end, or makes room", async () => {
    const own = await start({ context: 256 });
    const words = "word ".repeat(60);
    const error = await rejects(own.session({ model }).prompt("word ".repeat(500)), ContextFullError, /256/);
    assert.equal(error.status, 400);
    const ends = await own.session({ model, overflow: "stop" }).prompt(words, { ignoreEos: true });
    assert.equal(ends.stop, "context");
    const drops = own.session({ model, overflow: "drop" });
    let dropped = 0;
    for (let i = 0; i < 4; i++)
        dropped += (await drops.prompt(words, greedy)).droppedMessages;
    assert.ok(dropped > 0);
    await stop(own);
});

test("prompts of a session take turns, those of others run beside them", async () => {
    const chat = hearth.session({ model });
    const order = [];
    const answers = ["One", "Two", "Three"].map((text) => {
        const answer = chat.prompt(text, greedy);
        answer.then(() => order.push(text));
        return answer;
    });
    await Promise.all(answers);
    assert.deepEqual(order, ["One", "Two", "Three"]);
    assert.deepEqual((await chat.history()).filter(({ role }) => role === "user").map(({ content }) => content), order);
});

test("a conversation without a key ends with close, one with a key stays", async () => {
    const chat = hearth.session({ model });
    const kept = hearth.session({ key: "stays", model });
    await chat.prompt("Hello", greedy);
    await kept.prompt("Hello", greedy);
    const { key } = chat;
    assert.ok(!(await hearth.sessions()).some((one) => one.key === key)); // nobody asks for it by its key
    await chat.close();
    await kept.close();
    assert.deepEqual(await hearth.session({ key }).history(), []);
    assert.equal((await hearth.session({ key: "stays" }).history()).length, 2);
    await rejects(chat.prompt("Hello"), ClosedError);
    for (const bad of ["", "x".repeat(257), "a\0b", 7])
        assert.throws(() => hearth.session({ key: bad }), InvalidArgumentError);
    const odd = hearth.session({ key: "a/b?c#d%20 ü", model });
    await odd.append("x");
    assert.equal((await odd.history()).length, 1);
    await odd.remove();
});

test("conversations whose process is gone are swept", async () => {
    const options = { app: "swept" };
    let own = await start(options);
    const chat = own.session({ model });
    await chat.prompt("Hello", greedy);
    const orphan = `${chat.key.slice(0, chat.key.indexOf("/"))}/999999999-dead/1`;
    await own.session({ key: orphan, model }).append("x");
    await stop(own);
    own = await start(options);
    await until("its removal", async () => (await own.session({ key: orphan }).history()).length === 0);
    await stop(own);
});

/* ---- more ---- */

test("texts have vectors and tokens", async () => {
    const vectors = await hearth.embed(model, ["a river", "a stream", "a tax"]);
    assert.equal(vectors.length, 3);
    const one = await hearth.embed(model, "a river");
    const product = (a, b) => a.reduce((sum, value, at) => sum + value * b[at], 0);
    assert.ok(Math.abs(product(one, vectors[0]) - 1) < 1e-3);
    assert.ok(product(vectors[0], vectors[1]) > product(vectors[0], vectors[2]));
    assert.equal((await hearth.embed(model, "a river", { dimensions: 16 })).length, 16);
    assert.equal(await hearth.countTokens(model, "hello"), 1);
    assert.ok((await hearth.countTokens(model, [{ role: "user", content: "hello" }])) > 10);
    await rejects(hearth.embed(model, "word ".repeat(20_000)), ContextFullError);
});

test("memory is told, private and mapped apart", async () => {
    await hearth.load(model);
    const memory = await hearth.memory();
    const worker = memory.workers.find((one) => one.model === model);
    assert.ok(memory.privateBytes >= worker.privateBytes + memory.daemon.privateBytes - (1 << 20));
    assert.ok(worker.mappedBytes > 50e6 && worker.privateBytes < 80e6, JSON.stringify(memory));
    assert.ok(memory.limitBytes > 1e9);
});

test("events can be iterated", async () => {
    const own = await start();
    const stopped = new AbortController();
    const seen = [];
    const all = (async () => {
        for await (const event of own.events({ signal: stopped.signal })) {
            seen.push(event.type);
            if (event.type === "unload")
                break;
        }
    })();
    await own.load(model);
    await own.unload(model);
    await all;
    assert.deepEqual([seen[0], seen.at(-1)], ["load", "unload"]);
    const rest = (async () => {
        for await (const event of own.events())
            seen.push(event.state);
    })();
    await sleep(10);
    await stop(own);
    await rest;
    assert.equal(seen.at(-1), "closed");
});

test("a call is ended by its signal", async () => {
    const signal = AbortSignal.abort();
    await rejects(hearth.models({ signal }), AbortedError);
    await rejects(hearth.load(model, { signal }), AbortedError);
    await rejects(hearth.session({ model }).history({ signal }), AbortedError);
    await rejects(hearth.session({ key: "none" }).truncate(1, { signal }), AbortedError);
    await rejects(hearth.session({ key: "none" }).truncate(1), SessionNotFoundError);
});

test("paths are not taken by daemons that strangers can reach", async () => {
    const socket = join(place, "tcp.sock");
    const user = await runDaemon(socket, ["--port", "17878"]);
    const given = await connect({ url: "http://127.0.0.1:17878" });
    await rejects(given.addModel(modelPath), UnsupportedError, /socket/);
    assert.ok((await given.session({ model }).prompt("Hello", greedy)).text);
    await given.close();
    user.kill();
});
