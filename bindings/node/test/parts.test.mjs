// What needs no daemon: finding the executable, units, events, errors.
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import test, { after } from "node:test";

import * as hearth from "../index.js";
import { findBinary, platformPackage } from "../lib/binary.js";
import { errorOf } from "../lib/errors.js";
import { makePrivateFolder, socketOf } from "../lib/places.js";
import { EventParser, readEvents } from "../lib/sse.js";
import { apiDuration, cliDuration, cliSize } from "../lib/units.js";

const place = mkdtempSync(join(tmpdir(), "hearth-parts-"));
after(() => rmSync(place, { recursive: true, force: true }));

function program(...path) {
    const file = join(place, ...path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, "#!/bin/sh\n", { mode: 0o755 });
    return file;
}

/* ---- the executable ---- */

test("an executable is found in the order that is documented", () => {
    const env = { PATH: join(place, "path") };
    const resources = join(place, "resources");
    const onPath = program("path", "hearth");
    assert.deepEqual(findBinary({ env, resources }), { path: onPath, from: "PATH" });
    const inArchive = program("resources", "app.asar.unpacked", "node_modules", ...platformPackage.split("/"), "bin", "hearth");
    assert.deepEqual(findBinary({ env, resources }), { path: inArchive, from: "resources" });
    const extra = program("resources", "hearth", "bin", "hearth");
    assert.deepEqual(findBinary({ env, resources }), { path: extra, from: "resources" });
    const option = program("option");
    assert.deepEqual(findBinary({ env, resources, binary: option }), { path: option, from: "option" });
    const named = program("named");
    const all = { env: { ...env, HEARTH_BINARY: named }, resources, binary: option };
    assert.deepEqual(findBinary(all), { path: named, from: "HEARTH_BINARY" });
});

test("the platform's package is found from the program", () => {
    const app = join(place, "app", "main.js");
    const inPackage = program("app", "node_modules", ...platformPackage.split("/"), "bin", "hearth");
    writeFileSync(join(dirname(dirname(inPackage)), "package.json"), JSON.stringify({ name: platformPackage }));
    const before = process.argv[1];
    process.argv[1] = app;
    try {
        assert.deepEqual(findBinary({ env: {} }), { path: inPackage, from: "package" });
    } finally {
        process.argv[1] = before;
    }
});

test("a path in Electron's archive is that of the unpacked file", () => {
    const file = program("x", "app.asar.unpacked", "node_modules", "hearth");
    const packed = file.replace("app.asar.unpacked", "app.asar");
    assert.equal(findBinary({ env: {}, binary: packed }).path, file);
    assert.equal(findBinary({ env: {}, binary: file }).path, file);
});

test("without an executable it is said what to do", () => {
    const missing = () => findBinary({ env: { PATH: place, HEARTH_BINARY: join(place, "nothing") } });
    assert.throws(missing, (error) => {
        assert.ok(error instanceof hearth.BinaryNotFoundError && error instanceof hearth.HearthError);
        assert.equal(error.code, "BINARY_NOT_FOUND");
        assert.deepEqual(error.searched, [join(place, "nothing")]);
        assert.match(error.hint, /HEARTH_BINARY/);
        assert.match(error.message, /@hearth\//);
        return true;
    });
    const file = program("plain");
    chmodSync(file, 0o644);
    assert.throws(() => findBinary({ env: {}, binary: file }), { code: "BINARY_NOT_FOUND", message: /chmod \+x/ });
});

/* ---- places ---- */

test("a socket's path is short, private, and the app's own", () => {
    const runtime = join(place, "run");
    const paths = ["a", "b", "org.example.".padEnd(4000, "x"), "/a/path with spaces/main.js"]
        .map((app) => socketOf(app, { XDG_RUNTIME_DIR: runtime }));
    assert.equal(new Set(paths).size, paths.length);
    assert.equal(socketOf("a", { XDG_RUNTIME_DIR: runtime }), paths[0]);
    for (const path of paths)
        assert.ok(path.startsWith(runtime) && Buffer.byteLength(path) < 104, path);
    assert.equal(statSync(dirname(paths[0])).mode & 0o777, 0o700);
    const long = socketOf("a", { XDG_RUNTIME_DIR: join(place, "ü".repeat(60)) });
    assert.ok(Buffer.byteLength(long) < 104 && !long.includes("ü"), long);
});

test("a folder that is open to others is not private", () => {
    const folder = join(place, "open");
    mkdirSync(folder);
    chmodSync(folder, 0o777);
    assert.equal(makePrivateFolder(folder), false);
    assert.equal(makePrivateFolder(join(place, "closed")), true);
    writeFileSync(join(place, "file"), "");
    assert.equal(makePrivateFolder(join(place, "file")), false);
});

/* ---- units ---- */

test("durations and sizes are taken as people write them", () => {
    const durations = [[90, "90000ms", 90], [0, "0", 0], ["10m", "600000ms", 600], ["1h30m", "5400000ms", 5400], ["250ms", "250ms", 0.25],
        ["never", "never", -1], [Infinity, "never", -1], [-1, "never", -1], ["1.5h", "5400000ms", 5400], ["45", "45000ms", 45]];
    for (const [value, cli, api] of durations) {
        assert.equal(cliDuration(value, "ttl"), cli);
        assert.equal(apiDuration(value, "ttl"), api);
    }
    for (const value of ["", "soon", "10 apples", "5m3", NaN, {}, null])
        assert.throws(() => cliDuration(value, "ttl"), { code: "INVALID_ARGUMENT", param: "ttl" });
    assert.equal(cliSize(2.6e9), "2600000000");
    assert.equal(cliSize("2.6G"), "2.6G");
    for (const value of [0, -1, NaN, "much", "2,6G", ""])
        assert.throws(() => cliSize(value), { code: "INVALID_ARGUMENT", param: "memory" });
});

/* ---- events ---- */

const stream = 'event: text\r\ndata: {"text":"a"}\r\n\r\n:\n\n: a comment\ndata: one\rdata:two\r\revent:x\n\nid: 1\ndata:  €😀\n\nevent: last\ndata\n\n';
const events = [
    { event: "text", data: '{"text":"a"}' },
    { event: "message", data: "one\ntwo" },
    { event: "message", data: " €😀" },
    { event: "last", data: "" },
];

test("events are the same however the bytes are cut", async () => {
    const bytes = Buffer.from(stream);
    for (let size = 1; size <= bytes.length; size++) {
        const parts = [];
        for (let at = 0; at < bytes.length; at += size)
            parts.push(bytes.subarray(at, at + size));
        const got = [];
        for await (const event of readEvents(Readable.from(parts)))
            got.push(event);
        assert.deepEqual(got, events, `parts of ${size} bytes`);
    }
});

test("bytes are read as they are wanted", async () => {
    let made = 0;
    const source = new Readable({
        highWaterMark: 1000,
        read() {
            this.push(++made <= 1000 ? `data: ${"x".repeat(92)}\n\n` : null);
        },
    });
    let count = 0;
    for await (const { data } of readEvents(source)) {
        assert.equal(data.length, 92);
        assert.ok(made <= ++count + 20, `${made} were made for ${count}`);
    }
    assert.equal(count, 1000);
});

test("an event without its end is none", () => {
    const parser = new EventParser();
    assert.deepEqual([...parser.push("data: a\n")], []);
    assert.deepEqual([...parser.push("\ndata: b")], [{ event: "message", data: "a" }]);
});

/* ---- errors ---- */

test("errors are what the daemon says", () => {
    const cases = [
        [400, { reason: "limit" }, "sessions", hearth.ContextFullError], [507, { reason: "memory" }, "models", hearth.MemoryLimitError],
        [404, { reason: "missing" }, "sessions", hearth.SessionNotFoundError], [404, { reason: "missing", param: "model" }, "sessions", hearth.ModelNotFoundError],
        [404, { reason: "missing" }, "models", hearth.ModelNotFoundError], [409, { reason: "state" }, "sessions", hearth.BusyError],
        [500, { reason: "crashed" }, "sessions", hearth.WorkerCrashedError], [500, { reason: "changed" }, "sessions", hearth.ModelFileChangedError],
        [400, { reason: "format" }, "models", hearth.ModelInvalidError], [400, { reason: "argument", param: "temperature" }, "sessions", hearth.InvalidArgumentError],
        [401, "a key is needed", undefined, hearth.UnauthorizedError], [503, undefined, undefined, hearth.BusyError],
        [502, { reason: "io" }, undefined, hearth.UpstreamError], [500, { reason: "numeric" }, undefined, hearth.HearthError],
        [499, { reason: "cancelled" }, undefined, hearth.AbortedError],
    ];
    for (const [status, said, route, Class] of cases) {
        const error = errorOf(status, said, route);
        assert.equal(error.constructor, Class, JSON.stringify(said));
        assert.equal(error.status, status);
        const again = hearth.HearthError.fromJSON(JSON.parse(JSON.stringify(error)));
        assert.equal(again.constructor, Class);
        assert.deepEqual(again.toJSON(), error.toJSON());
    }
    assert.equal(new hearth.AbortedError().name, "AbortError");
});

test("options are checked before anything is started", async () => {
    const bad = [{ app: 1 }, { models: "folder" }, { transport: "pigeon" }, { shared: "maybe" }, { url: "https://x" }, { url: "nowhere" },
        { socket: "/a", url: "http://127.0.0.1:1" }, { store: true }, { memory: "much", binary: process.execPath }, { ttl: "soon", binary: process.execPath }];
    for (const options of bad)
        await assert.rejects(hearth.connect(options), { code: "INVALID_ARGUMENT" }, JSON.stringify(options));
});
