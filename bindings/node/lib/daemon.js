// A daemon of our own: a child process that ends when this one does, in whatever way.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { BinaryNotFoundError, DaemonError, throwIfAborted } from "./errors.js";
import { appFolder, defaultModels } from "./places.js";
import { cliDuration, cliSize } from "./units.js";

const LOG_LINES = 40;
const END_MS = 8_000;
const LIFELINE = 3; // a descriptor of the child's: the other end is ours, and closes when we end

/** What follows `hearth serve`, but for where it listens. */
export function serveArguments(options) {
    const args = ["--lifeline-fd", String(LIFELINE), "--drain", "1s"];
    const add = (name, value) => value !== undefined && args.push(name, String(value));
    let folders = options.models ?? [];
    if (folders.length === 0) {
        // without a folder the daemon would not start; files are named to it later
        folders = [defaultModels(options.env)];
        mkdirSync(folders[0], { recursive: true });
    }
    for (const folder of folders)
        add("--models", isAbsolute(folder) ? folder : resolve(folder));
    if (options.store === false)
        args.push("--no-store");
    else
        add("--store", options.store ? resolve(options.store) : join(appFolder(options.app, options.env), "store"));
    add("--upstreams", join(appFolder(options.app, options.env), "upstreams.json"));
    add("--memory", cliSize(options.memory));
    add("--idle", cliDuration(options.idle, "idle"));
    add("--ttl", cliDuration(options.ttl, "ttl"));
    add("--kv", options.kv?.replace("/", ":"));
    for (const name of ["context", "fit", "threads"])
        add(`--${name}`, options[name]);
    return [...args, ...(options.args ?? [])];
}

export class Daemon {
    log = [];
    #child;
    #onLog;
    #ended;
    #port;

    /** `ended` resolves with how it ended; `port` with what it printed. */
    constructor(binary, args, { env, onLog }) {
        this.#onLog = onLog;
        this.binary = binary;
        mkdirSync(tmpdir(), { recursive: true });
        this.#child = spawn(binary, ["serve", ...args], {
            stdio: ["ignore", "pipe", "pipe", "pipe"],
            env,
            detached: process.platform !== "win32", // Ctrl-C in a terminal is the app's to handle
            windowsHide: true,
        });
        this.#ended = new Promise((done) => {
            this.#child.on("error", (error) => done({ error }));
            this.#child.on("exit", (code, signal) => done({ code, signal }));
        });
        this.#port = this.#readPort();
        this.#readLog();
        for (const stream of [this.#child.stdout, this.#child.stderr, this.#child.stdio[LIFELINE]]) {
            stream.on("error", () => {});
            stream.unref?.();
        }
        this.#child.unref();
    }

    get pid() {
        return this.#child.pid;
    }

    get ended() {
        return this.#ended;
    }

    get port() {
        return this.#port;
    }

    get hasEnded() {
        return this.#child.exitCode !== null || this.#child.signalCode !== null || this.#child.pid === undefined;
    }

    #readPort() {
        return new Promise((done) => {
            let text = "";
            this.#child.stdout.on("data", (bytes) => {
                text += bytes;
                if (text.includes("\n"))
                    done(Number.parseInt(text, 10));
            });
        });
    }

    #readLog() {
        let rest = "";
        this.#child.stderr.setEncoding("utf8");
        this.#child.stderr.on("data", (text) => {
            const lines = (rest + text).split("\n");
            rest = lines.pop().slice(-10_000);
            for (const line of lines) {
                this.log.push(line);
                this.#onLog?.(line);
            }
            this.log.splice(0, this.log.length - LOG_LINES);
        });
    }

    /** Closes the lifeline; resolves when the process is gone. */
    async stop() {
        this.#child.stdio[LIFELINE].destroy();
        const late = setTimeout(() => this.#child.kill("SIGKILL"), END_MS);
        await this.#ended;
        clearTimeout(late);
    }

    kill() {
        this.#child.stdio[LIFELINE].destroy();
        this.#child.kill("SIGKILL");
    }

    /** Why it did not start. */
    async failure() {
        const { error, code, signal } = await this.#ended;
        await new Promise((done) => setImmediate(done)); // for the last lines of its log
        if (error?.code === "ENOENT" || error?.code === "EACCES") {
            const missing = new BinaryNotFoundError(`${this.binary} cannot be started: ${error.message}`, {
                cause: error, hint: "name an executable by HEARTH_BINARY or the option `binary`",
            });
            missing.searched = [this.binary];
            return missing;
        }
        const last = this.log.filter((line) => line.startsWith("hearth: ")).pop() ?? this.log.at(-1);
        const how = error ? error.message : signal ? `ended by ${signal}` : `ended with code ${code}`;
        const failed = new DaemonError(`the daemon did not start: ${last?.replace(/^hearth: /, "") ?? how}`, {
            cause: error,
            hint: error ? "is the executable one for this system?" : undefined,
        });
        failed.log = [...this.log];
        return failed;
    }
}

/** Resolves with what `answers()` gives, when it gives something; rejects when the daemon ended before, or took too long. */
export async function untilItAnswers(daemon, answers, { timeout, signal }) {
    const end = Date.now() + timeout;
    for (let wait = 5; ; wait = Math.min(wait * 1.5, 100)) {
        const answer = await answers();
        if (answer)
            return answer;
        throwIfAborted(signal);
        if (daemon.hasEnded)
            throw await daemon.failure();
        if (Date.now() > end) {
            daemon.kill();
            const failed = new DaemonError(`the daemon did not answer within ${timeout} ms`);
            failed.log = [...daemon.log];
            throw failed;
        }
        await sleep(wait);
    }
}

/** A random key in a file that only the user reads. `done` removes the file. */
export function makeKey() {
    const folder = mkdtempSync(join(tmpdir(), "hearth-key-"));
    const key = randomBytes(32).toString("hex");
    const path = join(folder, "key");
    writeFileSync(path, `${key}\n`, { mode: 0o600 });
    return { key, path, done: () => rmSync(folder, { recursive: true, force: true }) };
}
