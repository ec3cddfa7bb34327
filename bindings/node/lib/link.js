// The connection: which daemon answers, one of our own where none does, again when it is gone.
import { EventEmitter } from "node:events";
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { findBinary } from "./binary.js";
import { Daemon, makeKey, serveArguments, untilItAnswers } from "./daemon.js";
import {
    abortedBy, BinaryNotFoundError, ClosedError, ConnectionLostError, DaemonError, HearthError, InvalidArgumentError,
    throwIfAborted, UnauthorizedError,
} from "./errors.js";
import { eventsOf, makeAgent, readError, readText, send } from "./http.js";
import { appFolder, sharedSockets, socketOf } from "./places.js";
import { SocketTransport, TcpTransport } from "./transport.js";

const TRIES = 3; // of one request
const PAUSES_MS = [0, 50, 200, 1000, 2000, 4000]; // between attempts to have a daemon again
const HELD = /is used by process|process \d+ listens at/; // what a daemon says of another one
const HELD_MS = 50;
const SHARED_TRIES = 4;
const FOLLOW_MS = 500; // until events are followed again, where their stream has ended by itself
const LOOK_MS = 5000; // in which one that listens must answer

/** Emits "state" and "event", the daemon's own. */
export class Link extends EventEmitter {
    state = "connecting";
    kind = undefined;
    #options;
    #agent = makeAgent();
    #transport;
    #daemon;
    #ready; // a promise while there is no daemon that answers, and for ever when closed
    #events; // an AbortController of the stream that is followed
    #onReady; // is asked for more before requests go on

    constructor(options, onReady) {
        super();
        this.setMaxListeners(0);
        this.#options = options;
        this.#onReady = onReady;
    }

    get transport() {
        return this.#transport;
    }

    get pid() {
        return this.#daemon?.pid;
    }

    async open(signal) {
        try {
            await this.#establishFirst(signal);
            await this.#onReady();
        } catch (error) {
            await this.close();
            throw error;
        }
        this.#setState("ready");
        await this.#follow();
    }

    async close() {
        if (this.state === "closed")
            return;
        const closed = Promise.reject(new ClosedError("the connection was closed"));
        closed.catch(() => {});
        this.#ready = closed;
        this.#setState("closed");
        this.#events?.abort();
        this.#agent.destroy();
        await this.#daemon?.stop();
    }

    #setState(state, error) {
        if (this.state === state || this.state === "closed")
            return;
        this.state = state;
        this.emit("state", error ? { state, error } : { state });
    }

    /* ---- which daemon ---- */

    /** The daemon of an app that ended a moment ago may still be writing its conversations down. */
    async #establishFirst(signal) {
        const end = Date.now() + this.#options.startTimeout;
        for (;;) {
            try {
                return await this.#establish(signal);
            } catch (error) {
                if (!(error instanceof DaemonError) || !HELD.test(error.message) || Date.now() > end)
                    throw error;
            }
            await sleep(HELD_MS);
            throwIfAborted(signal);
        }
    }

    /** In this order: the one that was named, the user's, the app's, a new one. */
    async #establish(signal, attempt = 0) {
        const { given, shared, transport } = this.#options;
        if (given) {
            await this.#look(given, signal, true);
            return this.#use("given", given);
        }
        for (const path of shared ? sharedSockets(this.#options.env) : []) {
            const socket = new SocketTransport(path);
            if (await this.#look(socket, signal))
                return this.#use("shared", socket);
        }
        // the user's daemon, once it was used, is given time to come back
        if (shared === "only" || (this.kind === "shared" && attempt < SHARED_TRIES))
            throw new ConnectionLostError("the user's daemon does not run", { hint: "hearth serve starts it" });
        return transport === "loopback" ? this.#establishLoopback(signal) : this.#establishSocket(signal);
    }

    #use(kind, transport, daemon) {
        this.kind = kind;
        this.#transport = transport;
        this.#daemon = daemon;
        daemon?.ended.then(() => this.#lost(daemon));
    }

    /** Whether a daemon answers there. */
    async #look(transport, signal, must = false) {
        const limit = AbortSignal.timeout(LOOK_MS);
        const look = { path: "/hearth/v1/status", signal: anyOf(limit, signal) };
        try {
            const response = await send({ transport, agent: this.#agent }, look);
            if (response.statusCode === 200)
                return JSON.parse(await readText(response));
            const error = await readError(response);
            if (must || error instanceof UnauthorizedError)
                throw error;
        } catch (error) {
            throwIfAborted(signal);
            if (must && error instanceof ConnectionLostError)
                throw new ConnectionLostError(`no daemon answers at ${transport}`, { cause: error });
            if (must || error instanceof UnauthorizedError)
                throw error;
        }
        return undefined;
    }

    async #establishSocket(signal) {
        const { app, env } = this.#options;
        const path = socketOf(app, env);
        if (!path)
            throw new DaemonError("there is no folder for a private socket", { hint: `transport: "loopback" does without` });
        const transport = new SocketTransport(path);
        if (await this.#look(transport, signal))
            return this.#use("app", transport);
        const daemon = this.#start(["--no-tcp", "--socket", path]);
        const answers = () => this.#look(transport, signal);
        return this.#awaitStart(daemon, () => transport, answers, signal);
    }

    /** The port and the key of a daemon that another process of the app started lie in a file. */
    async #establishLoopback(signal) {
        const folder = appFolder(this.#options.app, this.#options.env);
        const file = join(folder, "loopback.json");
        const other = readEndpoint(file);
        if (other && (await this.#look(other, signal).catch(() => undefined)))
            return this.#use("app", other);
        const key = makeKey();
        try {
            const daemon = this.#start([
                "--no-socket", "--host", "127.0.0.1", "--port", "0", "--key-file", key.path, "--allow-paths",
            ]);
            let transport;
            daemon.port.then((port) => (transport = new TcpTransport(`http://127.0.0.1:${port}`, key.key)));
            const answers = async () => transport && this.#look(transport, signal);
            await this.#awaitStart(daemon, () => transport, answers, signal);
        } finally {
            key.done();
        }
        mkdirSync(folder, { recursive: true, mode: 0o700 });
        writeEndpoint(file, this.#transport);
    }

    #start(args) {
        const { binary, env, onLog } = this.#options;
        return new Daemon(findBinary({ binary, env }).path, [...args, ...serveArguments(this.#options)], { env, onLog });
    }

    /** Of two processes of an app that began at once one is the first, and its daemon answers both. */
    async #awaitStart(daemon, transport, answers, signal) {
        let status;
        try {
            status = await untilItAnswers(daemon, answers, { timeout: this.#options.startTimeout, signal });
        } catch (error) {
            daemon.kill();
            status = error instanceof DaemonError && (await answers().catch(() => undefined));
            if (!status)
                throw error;
        }
        if (status.pid === daemon.pid)
            return this.#use("own", transport(), daemon);
        daemon.kill();
        return this.#use("app", transport());
    }

    /* ---- when it is gone ---- */

    /** `which`: the daemon or the transport that somebody has found gone. */
    #lost(which, cause) {
        const current = which === this.#daemon || which === this.#transport;
        if (this.state !== "ready" || !current)
            return;
        this.#setState("reconnecting", cause instanceof HearthError ? cause : undefined);
        this.#events?.abort();
        this.#ready = this.#reconnect();
        this.#ready.catch(() => {});
    }

    async #reconnect() {
        const was = this.#daemon;
        was?.kill(); // one that is there but does not answer
        for (let i = 0; ; i++) {
            await sleep(PAUSES_MS[i]);
            if (this.state === "closed")
                throw new ClosedError("the connection was closed");
            try {
                await this.#establish(undefined, i);
                await this.#onReady();
                break;
            } catch (error) {
                if (i + 1 < PAUSES_MS.length && !(error instanceof BinaryNotFoundError))
                    continue;
                this.#ready = undefined;
                this.#setState("failed", error);
                throw error;
            }
        }
        if (this.state === "closed") {
            await this.#daemon?.stop();
            throw new ClosedError("the connection was closed");
        }
        this.#ready = undefined;
        this.#setState("ready");
        this.emit("restart", { what: "daemon", cause: was?.log.at(-1) ?? "the daemon was gone" });
        await this.#follow();
    }

    /** Resolves when requests can be sent. */
    async ready(signal) {
        throwIfAborted(signal);
        if (this.state === "failed") {
            this.#setState("reconnecting");
            this.#ready = this.#reconnect();
            this.#ready.catch(() => {});
        }
        if (this.#ready)
            await (signal ? orAborted(this.#ready, signal) : this.#ready);
    }

    /* ---- requests ---- */

    /** The answer's head. What the daemon has not seen is sent again; with `repeatable` also what it may have. */
    async request(options) {
        for (let i = 1; ; i++) {
            if (!options.now) // as what is asked before it is ready
                await this.ready(options.signal);
            const transport = this.#transport;
            try {
                return await send({ transport, agent: this.#agent }, options);
            } catch (error) {
                if (!(error instanceof ConnectionLostError))
                    throw error;
                if (this.state === "closed")
                    throw new ClosedError("the connection was closed");
                if (options.now)
                    throw error;
                await this.#examine(transport, error);
                if (i === TRIES || (error.sent && !options.repeatable))
                    throw error;
            }
        }
    }

    /** A request failed: is the daemon gone? */
    async examine(cause) {
        await this.#examine(this.#transport, cause);
    }

    async #examine(transport, cause) {
        if (this.state === "ready" && this.#transport === transport && !(await this.#look(transport).catch(() => true)))
            this.#lost(transport, cause);
    }

    /** Sends JSON, and answers what comes back as JSON. */
    async json(method, path, { body, signal, route, now, repeatable = true } = {}) {
        const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
        const headers = bytes ? { "content-type": "application/json", "content-length": bytes.length } : {};
        if (!bytes && method !== "GET")
            headers["content-length"] = 0;
        for (let i = 1; ; i++) {
            const response = await this.request({ method, path, headers, body: bytes, signal, repeatable, now });
            if (response.statusCode >= 400)
                throw await readError(response, route);
            try {
                return JSON.parse(await readText(response));
            } catch (error) {
                if (signal?.aborted)
                    throw abortedBy(signal);
                if (i === TRIES || !repeatable)
                    throw error;
                await this.examine(error);
            }
        }
    }

    /* ---- events ---- */

    /** Resolves when nothing is missed any more. */
    #follow() {
        const events = (this.#events = new AbortController());
        return new Promise((begun) => {
            this.#readEvents(events, begun).then(begun).then(() => this.#followAgain(events));
        });
    }

    async #readEvents({ signal }, begun) {
        const way = { transport: this.#transport, agent: false };
        try {
            const response = await send(way, { path: "/hearth/v1/events", signal });
            for await (const [event, data] of eventsOf(response)) {
                if (event === "events.begin") {
                    response.socket.unref(); // who listens need not live for it
                    begun();
                } else {
                    this.emit("event", data);
                }
            }
        } catch {
            // whatever it was, the stream is over
        }
    }

    async #followAgain(events) {
        const isOver = () => this.#events !== events || events.signal.aborted || this.state !== "ready";
        if (isOver())
            return;
        await this.#examine(this.#transport);
        if (!isOver())
            setTimeout(() => isOver() || this.#follow(), FOLLOW_MS).unref();
    }
}

function anyOf(one, other) {
    if (!other)
        return one;
    const controller = new AbortController();
    for (const signal of [one, other]) {
        if (signal.aborted)
            controller.abort(signal.reason);
        signal.addEventListener("abort", () => controller.abort(signal.reason), { once: true });
    }
    return controller.signal;
}

export function orAborted(promise, signal) {
    return new Promise((resolve, reject) => {
        const onAbort = () => reject(abortedBy(signal));
        signal.addEventListener("abort", onAbort, { once: true });
        promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
    });
}

function readEndpoint(file) {
    try {
        const { url, key } = JSON.parse(readFileSync(file, "utf8"));
        return new TcpTransport(url, key);
    } catch {
        return undefined;
    }
}

function writeEndpoint(file, { origin, key }) {
    rmSync(`${file}.new`, { force: true });
    writeFileSync(`${file}.new`, JSON.stringify({ url: origin, key }), { mode: 0o600 });
    renameSync(`${file}.new`, file);
}

/** Options of `connect`, checked, as this file wants them. */
export function linkOptions(options, app) {
    const { socket, url, key, transport, startTimeout = 10_000 } = options;
    const env = { ...process.env, ...options.env };
    for (const name of Object.keys(env)) {
        if (env[name] === undefined)
            delete env[name];
    }
    if (socket && url)
        throw new InvalidArgumentError("only one of socket and url can be given", { param: "url" });
    let given = typeof transport === "object" ? transport : undefined;
    try {
        if (socket || url)
            given = socket ? new SocketTransport(socket) : new TcpTransport(url, key);
    } catch (cause) {
        throw new InvalidArgumentError(`${url} is no address of a daemon`, { param: "url", cause });
    }
    const kind = typeof transport === "string" ? transport : process.platform === "win32" ? "loopback" : "socket";
    return { ...options, app, env, given, transport: kind, startTimeout };
}
