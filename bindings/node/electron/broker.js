// The broker: a utility process that holds the app's connection to hearth and serves pages over the ports
// that main sends. Whatever a page says is checked here.
import { connect, HearthError, InvalidArgumentError, ModelNotFoundError } from "../index.js";
import { Outbox } from "./outbox.js";

const STREAMS_MAX = 64;
const SESSIONS_MAX = 1024;
/** Characters of an answer that may be under way to a page which has not taken them, if it wants no less. */
const WINDOW_MAX = 32 * 1024;
const CLOSE_MS = 1_200;
const FORWARDED = ["state", "load", "loaded", "unload", "failed", "restart", "memory"];

/** Runs the broker on `process.parentPort`. `options`, or what a function makes of main's `data`, may have `connect`,
 * more of what `connect` takes, and `session(options)`, which may change what a page says of a conversation. */
export function runBroker(options = {}) {
    const broker = new Broker(options, process.parentPort);
    process.parentPort.on("message", (event) => broker.onMain(event.data, event.ports ?? []));
    return broker;
}

class Broker {
    #options;
    #parent;
    #names = new Names();
    #clients = new Map();
    #hearth;
    #started;
    #settle;

    constructor(options, parent) {
        this.#options = options;
        this.#parent = parent;
        /** The connection. */
        this.hearth = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
        this.hearth.catch(() => {});
    }

    get names() {
        return this.#names;
    }

    get options() {
        return this.#options;
    }

    onMain(message, ports) {
        switch (message?.type) {
            case "start":
                this.#started ??= this.#start(message);
                break;
            case "client": {
                const client = new Client(this, ports[0], () => {
                    if (this.#clients.delete(message.client)) this.#parent.postMessage({ type: "closed", client: message.client });
                });
                this.#clients.set(message.client, client);
                break;
            }
            case "gone":
                this.#clients.get(message.client)?.close();
                break;
            case "add":
                this.#reply(message.id, async () => this.#names.add(await this.hearth, message.alias, message.path));
                break;
            case "remove":
                this.#reply(message.id, async () => this.#names.remove(message.alias));
                break;
            case "request":
                this.#reply(message.id, () => this.#request(message.method, message.args));
                break;
            case "close":
                this.#close();
        }
    }

    async #start({ connect: settings, models, folders, data }) {
        try {
            if (typeof this.#options === "function") this.#options = this.#options(data) ?? {};
            this.#names.folders = folders;
            const hearth = await connect({ ...settings, ...this.#options.connect });
            this.#hearth = hearth;
            for (const [alias, path] of Object.entries(models ?? {}))
                await this.#names.add(hearth, alias, path).catch((error) => this.#tell({ type: "failed", model: alias, error: error.message }));
            for (const type of FORWARDED) hearth.on(type, (event) => this.#tell({ type, ...event }));
            this.#options.onStart?.(hearth);
            this.#settle.resolve(hearth);
        } catch (error) {
            this.#settle.reject(error);
            this.#tell({ type: "state", state: "failed", error: plain(error) });
        }
    }

    // one event for main and for all pages; models under the names that pages know
    #tell(event) {
        const told = { ...event, ...(event.model === undefined ? {} : { model: this.#names.alias(event.model) }) };
        if (event.error instanceof Error) told.error = plain(event.error);
        if (told.model === null) return; // one that pages may not know of
        this.#parent.postMessage({ type: "event", event: told });
        for (const client of this.#clients.values()) client.event(told);
    }

    async #request(method, args) {
        const allowed = ["memory", "status", "models", "unload", "load", "sessions"];
        if (!allowed.includes(method)) throw new InvalidArgumentError(`main cannot ask the broker for ${method}`);
        const hearth = await this.hearth;
        if (method === "unload" || method === "load") args[0] = this.#names.path(args[0]);
        return this.#names.rename(await hearth[method](...args));
    }

    #reply(id, work) {
        work().then(
            (value) => this.#parent.postMessage({ type: "result", id, value }),
            (error) => this.#parent.postMessage({ type: "result", id, error: plain(error) }),
        );
    }

    async #close() {
        for (const client of [...this.#clients.values()]) client.close();
        // the daemon ends with this process in any case; a moment lets it write its conversations down
        const limit = setTimeout(() => process.exit(0), CLOSE_MS);
        await this.#hearth?.close().catch(() => {});
        clearTimeout(limit);
        process.exit(0);
    }
}

/** Names that pages may say, and what they stand for. */
class Names {
    folders = false;
    #byAlias = new Map();
    #byName = new Map();

    async add(hearth, alias, path) {
        const name = await hearth.addModel(path);
        this.#byAlias.set(alias, name);
        this.#byName.set(name, alias);
        return name;
    }

    remove(alias) {
        this.#byName.delete(this.#byAlias.get(alias));
        this.#byAlias.delete(alias);
    }

    /** The daemon's name for what a page calls a model. Paths are never taken from a page. */
    path(alias) {
        const name = this.#byAlias.get(alias);
        if (name !== undefined) return name;
        if (this.folders && typeof alias === "string" && /^[^/\\\0]{1,256}$/.test(alias)) return alias;
        throw new ModelNotFoundError(`There is no model ${JSON.stringify(String(alias).slice(0, 64))}.`);
    }

    /** What pages call a model; null for one that they may not know. */
    alias(name) {
        return this.#byName.get(name) ?? (this.folders ? name : null);
    }

    /** The same value with names that pages know, and without models that they may not. */
    rename(value) {
        if (Array.isArray(value)) return value.map((one) => this.rename(one)).filter((one) => one?.name !== null && one?.model !== null);
        if (value === null || typeof value !== "object" || value instanceof Date) return value;
        const copy = { ...value };
        if (typeof copy.name === "string" && "state" in copy) copy.name = this.alias(copy.name);
        if (typeof copy.model === "string") copy.model = this.alias(copy.model);
        if (Array.isArray(copy.workers)) copy.workers = this.rename(copy.workers);
        return copy;
    }
}

/** One page. */
class Client {
    #broker;
    #port;
    #outbox;
    #onClosed;
    #sessions = new Map();
    #running = new Map();
    #closed = false;

    constructor(broker, port, onClosed) {
        this.#broker = broker;
        this.#port = port;
        this.#onClosed = onClosed;
        this.#outbox = new Outbox((batch) => port.postMessage({ batch }));
        port.on("message", (event) => this.#onMessage(event.data));
        port.on("close", () => this.close());
        port.start();
        broker.hearth.then(
            (hearth) => this.event({ type: "state", state: hearth.state }),
            (error) => this.event({ type: "state", state: "failed", error: plain(error) }),
        );
    }

    event(event) {
        this.#outbox.push({ event });
    }

    /** Its page has reloaded, navigated or closed: all its work ends, and conversations without a key go. */
    close() {
        if (this.#closed) return;
        this.#closed = true;
        this.#outbox.close();
        for (const work of this.#running.values()) work.abort();
        for (const { session, keyed } of this.#sessions.values()) if (!keyed) session.close().catch(() => {});
        this.#port.close();
        this.#onClosed();
    }

    #onMessage(message) {
        if (this.#closed || message === null || typeof message !== "object") return;
        const { id } = message;
        if (message.abort === true) this.#running.get(id)?.abort();
        else if (message.credit !== undefined) this.#running.get(id)?.credit?.(Number(message.credit));
        else if (Number.isSafeInteger(id) && typeof message.call === "string") this.#run(message);
    }

    async #run({ id, call, args, window }) {
        if (this.#running.has(id)) return;
        const stop = new AbortController();
        const work = { abort: () => stop.abort(), window: window > 0 && window < WINDOW_MAX ? window : WINDOW_MAX };
        try {
            if (!Object.hasOwn(CALLS, call)) throw new InvalidArgumentError(`There is no call ${JSON.stringify(call.slice(0, 64))}.`);
            if (this.#running.size >= STREAMS_MAX) throw new InvalidArgumentError(`A page can wait for ${STREAMS_MAX} answers at once.`);
            this.#running.set(id, work);
            const hearth = await this.#broker.hearth;
            const context = { hearth, client: this, names: this.#broker.names, id, work, signal: stop.signal };
            const value = await CALLS[call](context, Object(args));
            this.#outbox.push({ id, result: this.#broker.names.rename(value) });
        } catch (error) {
            this.#outbox.push({ id, error: plain(error) });
        } finally {
            this.#running.delete(id);
        }
    }

    progress(id, value) {
        this.#outbox.push({ id, progress: value });
    }

    open(hearth, handle, options) {
        if (this.#sessions.size >= SESSIONS_MAX) throw new InvalidArgumentError(`A page can hold ${SESSIONS_MAX} conversations.`);
        const { key, model, system, keep, overflow, plain: raw, defaults } = Object(options);
        const wanted = { key, system, keep, overflow, plain: raw, defaults };
        if (model !== undefined) wanted.model = this.#broker.names.path(model);
        for (const name of Object.keys(wanted)) if (wanted[name] === undefined) delete wanted[name];
        const session = hearth.session(this.#broker.options.session?.(wanted) ?? wanted);
        this.#sessions.set(handle, { session, keyed: key !== undefined });
        return { key: session.key };
    }

    adopt(handle, session, keyed) {
        this.#sessions.set(handle, { session, keyed });
    }

    session(handle) {
        const found = this.#sessions.get(handle);
        if (!found) throw new InvalidArgumentError("There is no such conversation in this page.");
        return found.session;
    }

    forget(handle) {
        this.#sessions.delete(handle);
    }

    async answer(context, handle, begin) {
        const session = this.session(handle);
        try {
            return await this.#stream(context, begin(session));
        } finally {
            await this.#broker.options.onAnswer?.(session);
        }
    }

    /** Sends an answer no faster than its page takes it: the reader stops, and by that the model. */
    async #stream({ id, work, names, signal }, answer) {
        let credit = work.window;
        let wake;
        work.credit = (count) => {
            if (!(count > 0)) return;
            credit = Math.min(credit + count, work.window);
            wake?.();
        };
        work.abort = () => {
            answer.abort();
            wake?.();
        };
        if (signal.aborted) answer.abort();
        for await (const chunk of answer) {
            if (this.#closed) break;
            if (chunk.type === "end") return withoutText(chunk.result);
            credit -= chunk.text?.length ?? 0;
            this.#outbox.push({ id, chunk: chunk.type === "begin" ? { ...chunk, model: names.alias(chunk.model) } : chunk });
            while (credit <= 0 && !this.#closed) {
                await new Promise((resolve) => (wake = resolve));
                wake = undefined;
            }
        }
        return withoutText(await answer);
    }
}

const signalled = (args, signal) => ({ ...Object(args), signal });

/** What pages may ask. */
const CALLS = {
    async load({ hearth, client, names, id, signal }, { model, options }) {
        return hearth.load(names.path(model), { ...Object(options), signal, onProgress: (progress) => client.progress(id, progress) });
    },
    unload: ({ hearth, names, signal }, { model, force }) => hearth.unload(names.path(model), { force: force === true, signal }),
    models: ({ hearth, signal }) => hearth.models({ signal }),
    estimate: ({ hearth, names, signal }, { model, options }) => hearth.estimate(names.path(model), signalled(options, signal)),
    inspect: ({ hearth, names, signal }, { model }) => hearth.inspect(names.path(model), { signal }),
    embed: ({ hearth, names, signal }, { model, input, options }) => hearth.embed(names.path(model), input, signalled(options, signal)),
    countTokens: ({ hearth, names, signal }, { model, input }) => hearth.countTokens(names.path(model), input, { signal }),
    memory: ({ hearth, signal }) => hearth.memory({ signal }),
    status: ({ hearth, signal }) => hearth.status({ signal }),
    sessions: ({ hearth, signal }) => hearth.sessions({ signal }),

    session: async ({ hearth, client }, { handle, options }) => client.open(hearth, handle, options),
    prompt: (context, { handle, message, options }) =>
        context.client.answer(context, handle, (session) => session.prompt(message, promptOptions(options))),
    regenerate: (context, { handle, options }) =>
        context.client.answer(context, handle, (session) => session.regenerate(promptOptions(options))),
    history: ({ client, signal }, { handle }) => client.session(handle).history({ signal }),
    info: ({ client, signal }, { handle }) => client.session(handle).info({ signal }),
    append: ({ client, signal }, { handle, message }) => client.session(handle).append(message, { signal }),
    edit: ({ client, signal }, { handle, index, message }) => client.session(handle).edit(index, message, { signal }),
    truncate: ({ client, signal }, { handle, count }) => client.session(handle).truncate(count, { signal }),
    setHistory: ({ client, signal }, { handle, messages }) => client.session(handle).setHistory(messages, { signal }),
    async fork({ client, signal }, { handle, to, key, count }) {
        const fork = await client.session(handle).fork({ key, count, signal });
        client.adopt(to, fork, key !== undefined);
        return { key: fork.key };
    },
    reset: ({ client, signal }, { handle }) => client.session(handle).reset({ signal }),
    release: ({ client, signal }, { handle }) => client.session(handle).release({ signal }),
    async remove({ client, signal }, { handle }) {
        await client.session(handle).remove({ signal });
        client.forget(handle);
    },
    async close({ client }, { handle }) {
        await client.session(handle).close();
        client.forget(handle);
    },
};

function promptOptions(options) {
    // the page ends an answer by a message, and decides itself what an aborted one becomes
    const { signal: _signal, throwOnAbort: _throw, ...rest } = Object(options);
    return rest;
}

/** The page has the text already. */
function withoutText(result) {
    return { ...result, text: undefined, reasoning: undefined };
}

function plain(error) {
    const json = error instanceof HearthError ? error.toJSON() : { name: "HearthError", code: "INTERNAL", message: String(error?.message ?? error) };
    if (json.partial) json.partial = withoutText(json.partial);
    return json;
}
