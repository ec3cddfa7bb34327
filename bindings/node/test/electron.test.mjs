// What of the Electron side needs no Electron; the rest is tested with the example app.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Outbox } from "../electron/outbox.js";

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

test("one message in 16 ms, whatever the number of answers, and nothing is lost", async () => {
    const sent = [];
    const outbox = new Outbox((batch) => sent.push({ at: performance.now(), batch }));
    const told = { 1: "", 2: "", 3: "" };
    for (let step = 0; step < 300; step++) {
        for (const id of [1, 2, 3]) {
            told[id] += `${step},`;
            outbox.push({ id, chunk: { type: "text", text: `${step},` } });
        }
        if (step % 3 === 0) await sleep(1);
    }
    await sleep(40);
    const heard = { 1: "", 2: "", 3: "" };
    for (const { batch } of sent) for (const { id, chunk } of batch) heard[id] += chunk.text;
    assert.deepEqual(heard, told);
    for (let i = 1; i < sent.length; i++) assert.ok(sent[i].at - sent[i - 1].at >= 14, `${sent[i].at - sent[i - 1].at} ms apart`);
    assert.ok(sent.every(({ batch }) => batch.length <= 3), "pieces of one answer are one piece");
    assert.ok(sent.length > 3);
});

test("of progress the latest is told; what comes after a piece of another kind stays after it", async () => {
    const batches = [];
    const outbox = new Outbox((batch) => batches.push(batch));
    outbox.push({ id: 1, chunk: { type: "reading", done: 1, total: 3 } });
    outbox.push({ id: 1, chunk: { type: "reading", done: 2, total: 3 } });
    outbox.push({ id: 1, chunk: { type: "reasoning", text: "a" } });
    outbox.push({ id: 1, chunk: { type: "text", text: "b" } });
    outbox.push({ id: 1, chunk: { type: "text", text: "c" } });
    outbox.push({ id: 1, result: { stop: "end" } });
    await sleep(30);
    assert.deepEqual(batches, [[
        { id: 1, chunk: { type: "reading", done: 2, total: 3 } },
        { id: 1, chunk: { type: "reasoning", text: "a" } },
        { id: 1, chunk: { type: "text", text: "bc" } },
        { id: 1, result: { stop: "end" } },
    ]]);
});

test("a page that has gone is told nothing", async () => {
    const batches = [];
    const outbox = new Outbox((batch) => batches.push(batch));
    outbox.push({ id: 1, result: 1 });
    outbox.close();
    outbox.push({ id: 2, result: 2 });
    await sleep(30);
    assert.equal(batches.length, 0);
});
