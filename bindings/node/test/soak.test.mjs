// Apps talk while apps, daemons and workers are killed at random: whatever was answered is remembered, in order.
import assert from "node:assert/strict";
import test from "node:test";

import { childrenOf, isAlive, model, runApp, sleep, start, stop, until } from "./support.mjs";

const SECONDS = Number(process.env.HEARTH_TEST_SECONDS ?? 60);
const APPS = 4;
let seed = Number(process.env.HEARTH_TEST_SEED ?? 1);

function random(below) {
    seed = (seed * 48271) % 2147483647;
    return seed % below;
}

function kill(pid) {
    if (pid && isAlive(pid))
        process.kill(pid, "SIGKILL");
}

/** What an app noted must be what the conversation has: all that was answered, in order, and nothing that was not said. */
function compare(notes, history) {
    let at = 0;
    for (const { said, text, stop: how, code } of notes) {
        const found = history.findIndex(({ role, content }, index) => index >= at && role === "user" && content === said);
        if (how && text !== "")
            assert.ok(found >= 0, `${said} (${how}) is not in the history`);
        if (found < 0)
            continue;
        const next = history[found + 1];
        if (how && text !== "" && next)
            assert.equal(next.content.trim(), text.trim(), said);
        assert.ok(how || ["CONNECTION_LOST", "WORKER_CRASHED", "MODEL_FILE_CHANGED"].includes(code), `${said}: ${code}`);
        at = found + 1;
    }
    const said = new Set(notes.map((note) => note.said));
    for (const { role, content } of history)
        assert.ok(role !== "user" || said.has(content), `${content} was not said`);
}

test("nothing is forgotten, whatever is killed", async () => {
    const begin = (key) => ({ key, notes: [], app: runApp("talks.mjs", { HEARTH_TEST_APP: "soak", HEARTH_TEST_KEY: key }) });
    const apps = Array.from({ length: APPS }, (_, i) => begin(`talk-${i}`));
    await Promise.all(apps.map(({ app }) => app.next()));
    const end = Date.now() + SECONDS * 1000;
    const killed = { app: 0, daemon: 0, worker: 0 };
    while (Date.now() < end) {
        await sleep(200 + random(1500));
        const daemons = apps.flatMap(({ app }) => childrenOf(app.child.pid));
        const workers = daemons.flatMap(childrenOf);
        const what = ["worker", "worker", "daemon", "app"][random(4)];
        killed[what]++;
        if (what === "worker") {
            kill(workers[random(workers.length || 1)]);
        } else if (what === "daemon") {
            kill(daemons[random(daemons.length || 1)]);
        } else { // and begins again, with its conversation
            const one = apps[random(APPS)];
            one.app.child.kill("SIGKILL");
            await one.app.ended;
            one.app = runApp("talks.mjs", { HEARTH_TEST_APP: "soak", HEARTH_TEST_KEY: (one.key = `${one.key}+`) });
            one.app.lines.length = 0;
            await one.app.next();
        }
    }
    for (const { app } of apps)
        app.child.stdin.write("end\n");
    let answered = 0;
    for (const { app } of apps) {
        await app.ended;
        const last = app.lines.pop();
        const notes = app.lines.filter(({ said }) => said);
        answered += notes.filter(({ stop: how }) => how).length;
        assert.ok(last.history, JSON.stringify(last));
        compare(notes, last.history);
    }
    assert.ok(answered > SECONDS, `${answered} prompts were answered`);
    await until("the end of all processes", () => childrenOf(process.pid).length === 0, 3000);
    console.log(`# ${answered} prompts of those who lived to the end, after kills of ${JSON.stringify(killed)}`);
});

test("a reader that rests pauses the model itself", async () => {
    const hearth = await start();
    const chat = hearth.session({ model });
    const answer = chat.prompt("Tell a very long story.", { ignoreEos: true, temperature: 0 });
    const tokens = async () => (await hearth.models())[0].kvBytes;
    let rested = false;
    let text = "";
    for await (const chunk of answer) {
        text += chunk.text ?? "";
        if (chunk.type !== "text" || rested)
            continue;
        rested = true;
        let before = -1; // until all buffers on the way are full
        await until("a pause", async () => {
            const now = await tokens();
            await sleep(1000);
            const same = now === before;
            before = now;
            return same;
        }, 120_000);
        assert.equal(await tokens(), before);
        const { stop: how } = await hearth.session({ model }).prompt("Hello", { maxTokens: 4 }); // others are answered
        assert.ok(how);
        answer.abort();
    }
    assert.equal((await answer).stop, "aborted");
    assert.equal(text, answer.text); // what waited was read to its end
    assert.equal((await chat.history())[1].content, text);
    await stop(hearth);
});
