// What `connect` gives.
import { randomBytes } from "node:crypto";
import { EventEmitter } from "node:events";
import { existsSync } from "node:fs";
import { isAbsolute, resolve } from "node:path";

import { abortedBy, check, ConnectionLostError, errorOf } from "./errors.js";
import { makeFetch } from "./fetch.js";
import { eventsOf } from "./http.js";
import { hashOf } from "./places.js";
import { checkKey, Session } from "./session.js";
import { detailsOf, estimateOf, eventOf, loadBody, memoryOf, modelOf, sessionOf, statusOf } from "./shapes.js";

const EVENTS = ["state", "load", "loaded", "unload", "failed", "restart", "memory"];
const EVENTS_MAX = 1024;
const LOADS_MAX = 3; // of one call, where daemons go meanwhile
const V1 = "/hearth/v1";

function looksLikePath(model) {
    return isAbsolute(model) || /^\.{1,2}[\\/]/.test(model) || (/\.gguf$/i.test(model) && existsSync(model));
}

export class Hearth {
    #link;
    #emitter = new EventEmitter();
    #sessions = new Map();
    #paths = new Map(); // a file's path → the promise of its name
    #keys;
    #count = 0;
    #fetch;

    /** Made by `connect`. */
    constructor(link, app) {
        this.#link = link;
        this.#emitter.setMaxListeners(0);
        this.#keys = `~${hashOf(app, 8)}/${process.pid}-${randomBytes(4).toString("hex")}/`;
        this.#fetch = makeFetch(() => ({ origin: this.origin, link }));
        link.on("state", (event) => this.#emit("state", event));
        link.on("event", (json) => this.#onEvent(json));
        link.on("restart", (event) => this.#emit("restart", event));
    }

    #onEvent(json) {
        this.#emit("event", json);
        const event = eventOf(json);
        if (event)
            this.#emit(...event);
    }

    #emit(type, event) {
        if (type === "restart") {
            for (const session of this.#sessions.values())
                session.unsettle();
        }
        this.#emitter.emit(type, event);
    }

    get state() {
        return this.#link.state;
    }

    get daemon() {
        return this.#link.kind;
    }

    get pid() {
        return this.#link.pid;
    }

    /* ---- models ---- */

    /** Files that are known are named to a daemon that is new. */
    async introduce(files) {
        for (const path of files) {
            if (!this.#paths.has(resolve(path)))
                this.#paths.set(resolve(path), undefined);
        }
        for (const [path, known] of this.#paths) {
            const name = this.#add(path, { now: true });
            this.#paths.set(path, name);
            if (known) // one that is gone meanwhile is an error where it is used
                await name.catch(() => this.#paths.delete(path));
            else
                await name;
        }
    }

    async #add(path, options) {
        const model = await this.#link.json("POST", `${V1}/models`, { body: { path }, route: "models", ...options });
        return model.name;
    }

    async addModel(path, { signal } = {}) {
        check(typeof path === "string" && path !== "", "path", "must be the path of a file");
        const whole = resolve(path);
        const name = await this.#add(whole, { signal });
        this.#paths.set(whole, Promise.resolve(name));
        return name;
    }

    /** The name of a model that is given by its name or its path. */
    async nameOf(model, { signal } = {}) {
        check(typeof model === "string" && model !== "", "model", "must be a model's name, or the path of its file");
        if (!looksLikePath(model))
            return model;
        return (await this.#paths.get(resolve(model))) ?? this.addModel(model, { signal });
    }

    async #model(model, { signal } = {}) {
        return `${V1}/models/${encodeURIComponent(await this.nameOf(model, { signal }))}`;
    }

    async load(model, { signal, onProgress, ...options } = {}) {
        const path = `${await this.#model(model, { signal })}/load`;
        const body = Buffer.from(JSON.stringify({ ...loadBody(options), stream: true }));
        const headers = { "content-type": "application/json", "content-length": body.length };
        for (let i = 1; ; i++) {
            const response = await this.#link.request({ method: "POST", path, headers, body, signal, repeatable: true });
            try {
                return await readLoad(response, onProgress);
            } catch (error) {
                if (signal?.aborted)
                    throw abortedBy(signal);
                if (!(error instanceof ConnectionLostError) || i === LOADS_MAX)
                    throw error;
                await this.#link.examine(error); // and another daemon is asked
            }
        }
    }

    async unload(model, { force, signal } = {}) {
        const path = `${await this.#model(model, { signal })}/unload`;
        return modelOf(await this.#link.json("POST", path, { body: { force: force ?? false }, signal, route: "models" }));
    }

    async models({ signal } = {}) {
        return (await this.#link.json("GET", `${V1}/models`, { signal })).models.map(modelOf);
    }

    async estimate(model, { signal, ...options } = {}) {
        const path = `${await this.#model(model, { signal })}/estimate`;
        return estimateOf(await this.#link.json("POST", path, { body: loadBody(options), signal, route: "models" }));
    }

    async inspect(model, { signal } = {}) {
        return detailsOf(await this.#link.json("GET", await this.#model(model, { signal }), { signal, route: "models" }));
    }

    /* ---- conversations ---- */

    session(options = {}) {
        const { key } = options;
        if (key === undefined)
            return this.adopt(this.newKey(), { ...options }, true);
        checkKey(key);
        const there = this.#sessions.get(key);
        if (!there)
            return this.adopt(key, { ...options }, false);
        there.configure(options);
        return there;
    }

    /** A key that nobody else has, of a conversation that ends with its object. */
    newKey() {
        return `${this.#keys}${++this.#count}`;
    }

    adopt(key, options, own) {
        const session = new Session(this, this.#link, key, options, own);
        this.#sessions.set(key, session);
        return session;
    }

    forget(session) {
        if (this.#sessions.get(session.key) === session)
            this.#sessions.delete(session.key);
    }

    async sessions({ signal } = {}) {
        const { sessions } = await this.#link.json("GET", `${V1}/sessions`, { signal });
        return sessions.filter(({ key }) => !key.startsWith("~")).map(sessionOf);
    }

    /** Conversations without a key whose process is gone. */
    async sweep() {
        const prefix = this.#keys.slice(0, this.#keys.indexOf("/") + 1);
        const { sessions } = await this.#link.json("GET", `${V1}/sessions`);
        for (const { key } of sessions) {
            const pid = key.startsWith(prefix) && Number.parseInt(key.slice(prefix.length), 10);
            if (pid && !key.startsWith(this.#keys) && !isAlive(pid))
                await this.#link.json("DELETE", `${V1}/sessions/${encodeURIComponent(key)}`).catch(() => {});
        }
    }

    /* ---- more ---- */

    async embed(model, input, { dimensions, signal } = {}) {
        check(dimensions === undefined || (Number.isInteger(dimensions) && dimensions > 0), "dimensions", "must be a whole number above 0");
        const body = { model: await this.nameOf(model, { signal }), input, encoding_format: "base64" };
        const { data } = await this.#link.json("POST", "/v1/embeddings", { body, signal });
        const vectors = data.sort((a, b) => a.index - b.index).map(({ embedding }) => vectorOf(embedding, dimensions));
        return Array.isArray(input) ? vectors : vectors[0];
    }

    async countTokens(model, input, { signal } = {}) {
        const body = { model: await this.nameOf(model, { signal }), [Array.isArray(input) ? "messages" : "text"]: input };
        return (await this.#link.json("POST", `${V1}/tokens`, { body, signal })).tokens;
    }

    async memory({ signal } = {}) {
        return memoryOf(await this.#link.json("GET", `${V1}/memory`, { signal }));
    }

    async status({ signal } = {}) {
        return statusOf(await this.#link.json("GET", `${V1}/status`, { signal }));
    }

    /* ---- events ---- */

    on(type, listener) {
        this.#emitter.on(type, listener);
        return this;
    }

    once(type, listener) {
        this.#emitter.once(type, listener);
        return this;
    }

    off(type, listener) {
        this.#emitter.off(type, listener);
        return this;
    }

    async *events({ signal } = {}) {
        const queue = [];
        let wake;
        const listeners = EVENTS.map((type) => [type, (event) => {
            queue.push({ type, ...event });
            if (queue.length > EVENTS_MAX)
                queue.shift();
            wake?.();
        }]);
        const onAbort = () => wake?.();
        const holds = setInterval(() => {}, 1 << 30); // who waits for events is at work
        listeners.forEach(([type, listener]) => this.#emitter.on(type, listener));
        signal?.addEventListener("abort", onAbort);
        try {
            while (!signal?.aborted) {
                const event = queue.shift();
                if (event)
                    yield event;
                if (event?.state === "closed" || (!event && this.state === "closed"))
                    return;
                if (queue.length === 0 && !signal?.aborted)
                    await new Promise((resolve) => (wake = resolve));
            }
        } finally {
            clearInterval(holds);
            signal?.removeEventListener("abort", onAbort);
            listeners.forEach(([type, listener]) => this.#emitter.off(type, listener));
        }
    }

    /* ---- other packages ---- */

    get origin() {
        return this.#link.transport.origin;
    }

    get baseURL() {
        return `${this.origin}/v1`;
    }

    get fetch() {
        return this.#fetch;
    }

    /* ---- the end ---- */

    async close() {
        if (this.state === "ready")
            await Promise.allSettled([...this.#sessions.values()].map((session) => session.close()));
        await this.#link.close();
    }

    async [Symbol.asyncDispose ?? Symbol.for("nodejs.asyncDispose")]() {
        await this.close();
    }
}

async function readLoad(response, onProgress) {
    let loaded;
    for await (const [event, data] of eventsOf(response, "models")) {
        if (event === "loading")
            onProgress?.(data.progress);
        else if (event === "loaded")
            loaded = modelOf(data);
        else if (event === "error")
            throw errorOf(data.error?.code, data.error, "models");
    }
    if (!loaded)
        throw new ConnectionLostError("the daemon went while it loaded a model");
    return loaded;
}

function isAlive(pid) {
    try {
        return process.kill(pid, 0);
    } catch (error) {
        return error.code === "EPERM";
    }
}

/** Vectors are of length 1, also shortened ones. */
function vectorOf(base64, dimensions) {
    const bytes = Buffer.from(base64, "base64");
    const vector = new Array(Math.min(bytes.length / 4, dimensions ?? Infinity));
    for (let i = 0; i < vector.length; i++)
        vector[i] = bytes.readFloatLE(4 * i);
    if (dimensions === undefined)
        return vector;
    const length = Math.hypot(...vector) || 1;
    return vector.map((value) => value / length);
}
