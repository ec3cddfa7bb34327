// What the tests share: a place of their own on the disk, the model, processes.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";

import { connect } from "../index.js";

export { sleep };

export const modelPath = process.env.HEARTH_TEST_MODEL;
export const model = basename(modelPath ?? "none", ".gguf");

/** Everything that hearth writes goes there. */
export const place = mkdtempSync(join(tmpdir(), "hearth-test-"));
process.env.XDG_STATE_HOME = join(place, "state");
process.env.XDG_DATA_HOME = join(place, "data");
process.env.XDG_RUNTIME_DIR = join(place, "run");
mkdirSync(join(process.env.XDG_RUNTIME_DIR, "hearth"), { recursive: true, mode: 0o700 });

const open = new Set();
const children = new Set();
after(async () => {
    await Promise.all([...open].map((hearth) => hearth.close()));
    for (const child of children)
        child.kill("SIGKILL");
    rmSync(place, { recursive: true, force: true });
});

let apps = 0;

/** A connection with the model that is closed at the end. */
export async function start(options = {}) {
    const hearth = await connect({ app: `test-${++apps}`, files: [modelPath], ...options });
    open.add(hearth);
    return hearth;
}

export async function stop(hearth) {
    open.delete(hearth);
    await hearth.close();
}

export async function until(what, condition, ms = 5000) {
    const end = Date.now() + ms;
    for (let value; ; await sleep(10)) {
        if ((value = await condition()))
            return value;
        assert.ok(Date.now() < end, `${what} within ${ms} ms`);
    }
}

export function isAlive(pid) {
    try {
        process.kill(pid, 0);
        return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
    } catch {
        return false;
    }
}

/** The processes below one. */
export function childrenOf(pid) {
    const found = [];
    for (const entry of readdirSync("/proc")) {
        if (!/^\d+$/.test(entry))
            continue;
        try {
            const [, parent] = /\) \S (\d+)/.exec(readFileSync(`/proc/${entry}/stat`, "utf8"));
            if (Number(parent) === pid)
                found.push(Number(entry));
        } catch {
            // it ended meanwhile
        }
    }
    return found;
}

export async function workerOf(hearth) {
    return (await hearth.memory()).workers[0].pid;
}

/** Runs a program of test/apps. `lines` are what it prints, as JSON; `next()` waits for one. */
export function runApp(name, env = {}) {
    const child = spawn(process.execPath, [fileURLToPath(new URL(`apps/${name}`, import.meta.url))], {
        env: { ...process.env, ...env }, stdio: ["pipe", "pipe", "inherit"],
    });
    children.add(child);
    const lines = [];
    let rest = "";
    let wake = () => {};
    child.stdout.setEncoding("utf8").on("data", (text) => {
        const parts = (rest + text).split("\n");
        rest = parts.pop();
        lines.push(...parts.map((line) => JSON.parse(line)));
        wake();
    });
    const ended = new Promise((resolve) => child.on("exit", (code, signal) => {
        children.delete(child);
        resolve({ code, signal });
        wake();
    }));
    const next = async () => {
        while (lines.length === 0) {
            assert.equal(child.exitCode, null, `${name} ended`);
            await new Promise((resolve) => (wake = resolve));
        }
        return lines.shift();
    };
    return { child, lines, next, ended };
}

/** A daemon that nobody here started: `hearth serve` with these arguments. Resolves when `socket` is there. */
export async function runDaemon(socket, args = []) {
    const child = spawn(process.env.HEARTH_BINARY, ["serve", "--model", modelPath, "--no-store", "--socket", socket, ...args], { stdio: "ignore" });
    children.add(child);
    await until("a daemon", () => existsSync(socket));
    return child;
}

/** A package that scripts/clients.sh has installed; undefined where it has not. */
export async function installed(name) {
    try {
        const require = createRequire(join(process.env.HEARTH_TEST_PACKAGES, "x"));
        return await import(pathToFileURL(require.resolve(name)));
    } catch (error) {
        if (error.code === "MODULE_NOT_FOUND" || process.env.HEARTH_TEST_PACKAGES === undefined)
            return undefined;
        throw error;
    }
}

export async function rejects(promise, Class, words = /./) {
    const error = await promise.then(() => assert.fail("it was answered"), (cause) => cause);
    assert.ok(error instanceof Class, `${error.stack}\nis no ${Class.name}`);
    assert.match(error.message, words);
    return error;
}
