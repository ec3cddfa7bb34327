// Ends of every kind: of the app, of the daemon, of the worker; and what lives on.
import assert from "node:assert/strict";
import { copyFileSync, existsSync, mkdirSync, truncateSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { AbortedError, ConnectionLostError, ModelFileChangedError, WorkerCrashedError } from "../index.js";
import { childrenOf, isAlive, model, modelPath, place, rejects, runApp, runDaemon, sleep, start, stop, until, workerOf } from "./support.mjs";

const greedy = { temperature: 0, maxTokens: 8 };
const endless = { ignoreEos: true, temperature: 0 };

async function begun(session, prompt = "Tell a very long story.") {
    const answer = session.prompt(prompt, endless);
    await until("its beginning", () => answer.text.length > 10 || answer.done);
    return { answer }; // an answer itself would be awaited
}

async function rejectsWithin(answer, ms, Class, words) {
    const started = performance.now();
    const error = await rejects(answer, Class, words);
    const took = performance.now() - started;
    assert.ok(took < ms, `${took} ms`);
    return error;
}

/* ---- the app ---- */

for (const end of ["exit", "throw", "abort", "natural", "SIGKILL", "SIGTERM", "SIGINT"]) {
    test(`nothing is left of an app that ends by ${end}`, async () => {
        const app = runApp("answers.mjs", { HEARTH_TEST_APP: `ends-${end}`, HEARTH_TEST_END: end });
        const { daemon, pid, worker } = await app.next();
        assert.equal(daemon, "own");
        assert.ok(isAlive(pid) && isAlive(worker));
        if (end.startsWith("SIG"))
            app.child.kill(end);
        else
            app.child.stdin.write("end\n");
        await app.ended;
        await until("the end of daemon and worker", () => !isAlive(pid) && !isAlive(worker), 2000);
    });
}

test("an app goes on with its conversation where a killed one left it", async () => {
    const name = { HEARTH_TEST_APP: "again", HEARTH_TEST_END: "SIGKILL" };
    const app = runApp("answers.mjs", name);
    const { pid } = await app.next();
    app.child.kill("SIGKILL");
    await until("the daemon's end", () => !isAlive(pid), 2000);
    const hearth = await start({ app: "again" });
    const history = await hearth.session({ key: "long" }).history();
    assert.deepEqual(history.map(({ role }) => role).slice(0, 1), history.length ? ["user"] : []);
    const { stop: how } = await hearth.session({ key: "long", model }).prompt("Go on.", greedy);
    assert.ok(["length", "end"].includes(how));
    await stop(hearth);
});

test("an app that is started again at once waits for the end of its last daemon", async () => {
    const env = { HEARTH_TEST_APP: "at-once", HEARTH_TEST_END: "SIGKILL" };
    for (let i = 0; i < 3; i++) {
        const app = runApp("answers.mjs", env);
        assert.equal((await app.next()).daemon, "own");
        app.child.kill("SIGKILL");
        await app.ended;
    }
    const hearth = await start({ app: "at-once" });
    assert.equal(hearth.daemon, "own");
    assert.ok((await hearth.session({ key: "long", model }).prompt("Go on.", greedy)).text);
    await stop(hearth);
});

test("processes of an app share a daemon, and go on when the first one ends", async () => {
    const env = { HEARTH_TEST_APP: "shared" };
    const apps = [runApp("lives.mjs", env), runApp("lives.mjs", env)]; // at the same time
    const [a, b] = await Promise.all(apps.map((app) => app.next()));
    assert.equal(a.pid, b.pid);
    assert.deepEqual([a.daemon, b.daemon].sort(), ["app", "own"]);
    const [first, second] = a.daemon === "own" ? apps : [apps[1], apps[0]];
    first.child.stdin.write("Hello\n");
    assert.equal((await first.next()).messages, 2);
    first.child.kill("SIGKILL");
    await first.ended;
    second.child.stdin.write("And again\n");
    const answered = await second.next();
    assert.equal(answered.daemon, "own");
    assert.equal(answered.messages, 4);
    second.child.stdin.write("close\n");
    assert.deepEqual(await second.ended, { code: 0, signal: null });
});

/* ---- the worker ---- */

test("a worker is killed: its answer rejects, and the conversation goes on", async () => {
    const hearth = await start();
    const told = [];
    hearth.on("restart", (event) => told.push(event));
    const chat = hearth.session({ model, system: "Be brief." });
    await chat.prompt("Hello", greedy);
    const { answer } = await begun(chat);
    process.kill(await workerOf(hearth), "SIGKILL");
    const error = await rejectsWithin(answer, 1000, WorkerCrashedError, /killed/);
    assert.equal(error.code, "WORKER_CRASHED");
    assert.equal(error.partial.text, answer.text);
    assert.equal(error.partial.stop, "error");
    const next = await chat.prompt("And now?", greedy);
    assert.ok(next.text);
    const said = (await chat.history()).map(({ role, content }) => (role === "assistant" ? role : content));
    assert.deepEqual(said.slice(0, 3), ["Be brief.", "Hello", "assistant"]);
    assert.deepEqual(said.slice(-2), ["And now?", "assistant"]);
    assert.deepEqual(told.map(({ what, model: which }) => [what, which]), [["worker", model]]);
    assert.equal(hearth.state, "ready");

    // who iterates is told as well; what waits for its turn is asked again
    const iterated = chat.prompt("Tell a very long story.", endless);
    await assert.rejects(async () => {
        for await (const chunk of iterated) {
            if (chunk.type === "text")
                process.kill(await workerOf(hearth), "SIGKILL");
        }
    }, WorkerCrashedError);
    await stop(hearth);
});

test("a worker is killed while a prompt is read, and while it is idle", async () => {
    const hearth = await start();
    const chat = hearth.session({ model });
    const answer = chat.prompt("word ".repeat(6000), greedy);
    let reading = false;
    const rejected = assert.rejects(async () => {
        for await (const { type } of answer)
            reading ||= type === "reading";
    }, WorkerCrashedError);
    await until("its reading", () => reading);
    process.kill(await workerOf(hearth), "SIGKILL");
    await rejected;
    assert.ok((await chat.prompt("Hello", greedy)).text);
    assert.equal((await chat.history())[0].content, "Hello"); // what got no answer is taken back
    process.kill(await workerOf(hearth), "SIGKILL");
    assert.ok((await chat.prompt("Again", greedy)).text); // it was not begun: asked again
    assert.equal((await chat.history()).length, 4);
    await stop(hearth);
});

test("a model's file is cut short while it is in use", async () => {
    const folder = join(place, "cut");
    mkdirSync(folder);
    const file = join(folder, "cut.gguf");
    copyFileSync(modelPath, file);
    const hearth = await start({ files: [file] });
    const { answer } = await begun(hearth.session({ model: file }));
    truncateSync(file, 1_000_000);
    await rejectsWithin(answer, 5000, ModelFileChangedError, /changed/);
    copyFileSync(modelPath, file);
    assert.ok((await hearth.session({ model: file }).prompt("Hello", greedy)).text);
    await stop(hearth);
});

/* ---- the daemon ---- */

test("the daemon is killed: its answer rejects, the next prompt goes on", async () => {
    const hearth = await start();
    const told = [];
    const states = [];
    hearth.on("restart", ({ what }) => told.push(what)).on("state", ({ state }) => states.push(state));
    const chat = hearth.session({ model, system: "Be brief." });
    const kept = hearth.session({ key: "kept", model });
    const first = await chat.prompt("Hello", greedy);
    await kept.prompt("Hello", greedy);
    const { answer } = await begun(chat);
    const { pid } = hearth;
    const worker = await workerOf(hearth);
    process.kill(pid, "SIGKILL");
    const error = await rejectsWithin(answer, 1000, ConnectionLostError);
    assert.equal(error.partial.text, answer.text);
    const next = await chat.prompt("And now?", greedy); // waits for the new one
    assert.ok(next.text);
    assert.notEqual(hearth.pid, pid);
    assert.equal((await chat.history())[2].content, first.text);
    assert.equal((await chat.history()).at(-2).content, "And now?");
    assert.ok((await kept.prompt("And now?", greedy)).text);
    assert.deepEqual(told, ["daemon"]);
    assert.deepEqual(states, ["reconnecting", "ready"]);
    await until("the old worker's end", () => !isAlive(worker), 2000);
    await stop(hearth);
});

test("calls wait while the daemon is away, however many", async () => {
    const hearth = await start();
    await hearth.load(model);
    for (let i = 0; i < 3; i++) {
        process.kill(hearth.pid, "SIGKILL");
        const asked = [hearth.models(), hearth.memory(), hearth.countTokens(model, "hello"), hearth.embed(model, "a"), hearth.load(model),
            hearth.session({ model }).prompt("Hello", greedy), hearth.fetch(`${hearth.baseURL}/models`).then((response) => response.json())];
        const [models, , tokens] = await Promise.all(asked);
        assert.equal(models[0].name, model); // the file was named again
        assert.equal(tokens, 1);
    }
    await stop(hearth);
});

test("the daemon is killed while a model is loaded, and while a prompt is read", async () => {
    const hearth = await start();
    let killed = false;
    const loaded = await hearth.load(model, {
        onProgress: () => {
            if (!killed)
                process.kill(hearth.pid, "SIGKILL");
            killed = true;
        },
    });
    assert.ok(killed && loaded.state === "loaded");
    const chat = hearth.session({ model });
    const answer = chat.prompt("word ".repeat(6000), greedy);
    await assert.rejects(async () => {
        for await (const { type } of answer) {
            if (type === "reading" && isAlive(hearth.pid))
                process.kill(hearth.pid, "SIGKILL");
        }
    }, ConnectionLostError);
    assert.ok((await chat.prompt("Hello", greedy)).text);
    const history = await chat.history();
    assert.equal(history.length, 2, JSON.stringify(history.map(({ role, content }) => [role, content.slice(0, 20)])));
    await stop(hearth);
});

test("who waits for a daemon can leave", async () => {
    const hearth = await start();
    process.kill(hearth.pid, "SIGSTOP"); // it does not answer
    const stopped = new AbortController();
    const call = hearth.models({ signal: stopped.signal });
    const answer = hearth.session({ model }).prompt("Hello", { signal: stopped.signal });
    setTimeout(() => stopped.abort(), 100);
    await rejectsWithin(call, 1000, AbortedError);
    assert.equal((await answer).stop, "aborted");
    process.kill(hearth.pid, "SIGCONT");
    await stop(hearth);
});

test("a daemon that the user ends and starts is found again", async () => {
    const socket = join(place, "user.sock");
    const first = await runDaemon(socket, ["--no-tcp"]);
    const hearth = await start({ socket, files: [] });
    assert.equal(hearth.daemon, "given");
    assert.ok((await hearth.session({ model }).prompt("Hello", greedy)).text);
    first.kill("SIGTERM");
    await until("its end", () => !existsSync(socket) && !isAlive(first.pid));
    const waiting = hearth.session({ model }).prompt("Hello", greedy);
    await sleep(300);
    const second = await runDaemon(socket, ["--no-tcp"]);
    assert.ok((await waiting).text);
    await stop(hearth);
    assert.ok(isAlive(second.pid));
    second.kill();
});

test("when the user's daemon stays away the app has its own", async () => {
    const socket = join(process.env.XDG_RUNTIME_DIR, "hearth", "hearth.sock");
    const daemon = await runDaemon(socket, ["--no-tcp"]);
    const hearth = await start({ shared: true });
    assert.equal(hearth.daemon, "shared");
    assert.ok((await hearth.session({ model }).prompt("Hello", greedy)).text);
    daemon.kill("SIGKILL");
    assert.ok((await hearth.session({ model }).prompt("Hello", greedy)).text);
    assert.equal(hearth.daemon, "own");
    await stop(hearth);
});

test("a daemon that cannot be started again is an error, and tried again", async () => {
    const socket = join(place, "gone.sock");
    const daemon = await runDaemon(socket, ["--no-tcp"]);
    const hearth = await start({ socket, files: [] });
    daemon.kill("SIGKILL");
    await rejects(hearth.models(), ConnectionLostError, /gone\.sock/);
    assert.equal(hearth.state, "failed");
    const again = await runDaemon(socket, ["--no-tcp"]);
    assert.equal((await hearth.models()).length, 1);
    assert.equal(hearth.state, "ready");
    await stop(hearth);
    again.kill();
});

test("no process is left", async () => {
    await until("their end", () => childrenOf(process.pid).length === 0, 3000);
});
