// The page's side: the API of "hearth" over a port to the broker. Without Node, without Electron's modules;
// what it needs of the preload script is `window.hearth.connect`.
import { AbortedError, ClosedError, ConnectionLostError, HearthError } from "../lib/errors.js";

export * from "../lib/errors.js";

const CONNECT_MS = 10_000;
const RETRY_MS = [100, 250, 500, 1000, 2000];
const [START, CALL, ADOPT, FORGET, HANDLE, KEYED, REOPEN, LOSE] = ["start", "call", "adopt", "forget", "handle", "keyed", "reopen", "lose"].map(Symbol);
const EVENTS = ["state", "load", "loaded", "unload", "failed", "restart", "memory"];

/** Connects this page. Resolves when the broker is there; models are loaded by what asks for them. */
export async function connect(options = {}) {
    const hearth = new Hearth(options);
    await hearth.connected;
    return hearth;
}

/** Asks main for a port, by way of the preload script. */
function requestPort(timeout = CONNECT_MS) {
    if (typeof globalThis.hearth?.connect !== "function")
        return Promise.reject(new ConnectionLostError("The window has no preload script of hearth.", { hint: 'Give it "hearth/electron/preload".' }));
    const ticket = crypto.randomUUID();
    return new Promise((resolve, reject) => {
        const end = (settle, value) => {
            clearTimeout(timer);
            window.removeEventListener("message", onMessage);
            settle(value);
        };
        const onMessage = (event) => {
            // of this window itself: its preload script, not another frame
            if (event.source !== window || event.data?.hearth !== ticket) return;
            if (event.ports[0]) end(resolve, event.ports[0]);
            else end(reject, new ConnectionLostError("The app does not let this page use hearth.", { hint: "`allow` of registerHearth names the origins that may." }));
        };
        const timer = setTimeout(
            () => end(reject, new ConnectionLostError("The app did not answer.", { hint: "Was registerHearth called?" })),
            timeout,
        );
        window.addEventListener("message", onMessage);
        globalThis.hearth.connect(ticket);
    });
}

class Hearth {
    #options;
    #port;
    #next = 1;
    #calls = new Map();
    #sessions = new Map();
    #keyed = new Map();
    #listeners = new Map(EVENTS.map((type) => [type, new Set()]));
    #closed = false;

    constructor(options) {
        this.#options = options;
        this.state = "reconnecting";
        this.connected = this.#connect();
    }

    async #connect() {
        const port = await requestPort(this.#options.timeout);
        if (this.#closed) return port.close();
        this.#port = port;
        port.onmessage = (event) => this.#onMessage(event.data);
        port.addEventListener("close", () => this.#onLost(port));
        for (const session of this.#sessions.values()) session[REOPEN](this);
        this.#setState("ready");
    }

    // the broker went: what ran is lost, conversations with a key go on with the next one
    async #onLost(port) {
        if (this.#port !== port || this.#closed) return;
        this.#port = undefined;
        this.#setState("reconnecting");
        const lost = new ConnectionLostError("The broker of the app ended; it is started again.");
        for (const call of [...this.#calls.values()]) call.fail(lost);
        this.#calls.clear();
        for (const session of [...this.#sessions.values()]) if (!session[KEYED]) session[LOSE](lost);
        this.connected = this.#reconnect();
        this.connected.catch(() => {});
    }

    async #reconnect() {
        for (let attempt = 0; ; attempt++) {
            await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)]));
            if (this.#closed) return;
            try {
                return await this.#connect();
            } catch (error) {
                if (attempt === RETRY_MS.length * 2) {
                    this.#setState("failed", error);
                    throw error;
                }
            }
        }
    }

    #setState(state, error) {
        if (this.state === state) return;
        this.state = state;
        this.#emit({ type: "state", state, ...(error ? { error } : {}) });
    }

    #onMessage({ batch }) {
        for (const entry of batch) {
            if (entry.event) this.#onEvent(entry.event);
            else this.#calls.get(entry.id)?.take(entry);
        }
    }

    #onEvent(event) {
        if (event.type !== "state") return this.#emit(event);
        this.#setState(event.state, event.error && HearthError.fromJSON(event.error));
    }

    #emit(event) {
        for (const listener of [...(this.#listeners.get(event.type) ?? [])]) listener(event);
    }

    /** Sends a call; `receiver` has `take(entry)` and `fail(error)`. */
    [START](call, args, receiver) {
        if (this.#closed) return receiver.fail(new ClosedError("The connection was closed."));
        const id = this.#next++;
        this.#calls.set(id, {
            take: (entry) => {
                if (entry.result !== undefined || "result" in entry || entry.error) this.#calls.delete(id);
                receiver.take(entry);
            },
            fail: (error) => receiver.fail(error),
        });
        const send = (message) => this.#calls.has(id) && this.#port?.postMessage({ id, ...message });
        this.#whenConnected(() => send({ call, args, window: this.#options.window }), (error) => {
            this.#calls.delete(id);
            receiver.fail(error);
        });
        return {
            abort: () => this.#whenConnected(() => send({ abort: true }), () => {}),
            credit: (count) => send({ credit: count }),
        };
    }

    #whenConnected(work, fail) {
        if (this.#port) return work();
        this.connected.then(work, fail);
    }

    [CALL](call, args, { signal, onProgress } = {}) {
        return new Promise((resolve, reject) => {
            if (signal?.aborted) return reject(aborted(signal));
            let handle;
            const onAbort = () => handle.abort();
            const end = (settle, value) => {
                signal?.removeEventListener("abort", onAbort);
                settle(value);
            };
            handle = this[START](call, args, {
                take: (entry) => {
                    if (entry.progress !== undefined) onProgress?.(entry.progress);
                    else if (entry.error) end(reject, HearthError.fromJSON(entry.error));
                    else end(resolve, entry.result);
                },
                fail: (error) => end(reject, error),
            });
            signal?.addEventListener("abort", onAbort);
        });
    }

    load(model, { signal, onProgress, ...options } = {}) {
        return this[CALL]("load", { model, options }, { signal, onProgress });
    }

    unload(model, { signal, force } = {}) {
        return this[CALL]("unload", { model, force }, { signal });
    }

    models(options) {
        return this[CALL]("models", {}, options);
    }

    estimate(model, { signal, ...options } = {}) {
        return this[CALL]("estimate", { model, options }, { signal });
    }

    inspect(model, options) {
        return this[CALL]("inspect", { model }, options);
    }

    embed(model, input, { signal, ...options } = {}) {
        return this[CALL]("embed", { model, input, options }, { signal });
    }

    countTokens(model, input, options) {
        return this[CALL]("countTokens", { model, input }, options);
    }

    memory(options) {
        return this[CALL]("memory", {}, options);
    }

    status(options) {
        return this[CALL]("status", {}, options);
    }

    sessions(options) {
        return this[CALL]("sessions", {}, options);
    }

    session(options = {}) {
        const known = options.key !== undefined && this.#keyed.get(options.key);
        if (known) return known;
        const session = new Session(this, options);
        this[ADOPT](session);
        return session;
    }

    [ADOPT](session) {
        this.#sessions.set(session[HANDLE], session);
        if (session[KEYED]) this.#keyed.set(session.key, session);
    }

    [FORGET](session) {
        this.#sessions.delete(session[HANDLE]);
        if (this.#keyed.get(session.key) === session) this.#keyed.delete(session.key);
    }

    on(type, listener) {
        this.#listeners.get(type)?.add(listener);
        return this;
    }

    once(type, listener) {
        const once = (event) => {
            this.off(type, once);
            listener(event);
        };
        return this.on(type, once);
    }

    off(type, listener) {
        this.#listeners.get(type)?.delete(listener);
        return this;
    }

    /** Ends this page's work; the app's connection stays. */
    async close() {
        if (this.#closed) return;
        this.#closed = true;
        const closed = new ClosedError("The connection was closed.");
        for (const call of [...this.#calls.values()]) call.fail(closed);
        this.#calls.clear();
        this.#port?.close();
        this.#port = undefined;
        this.#setState("closed");
    }
}

class Session {
    #hearth;
    #options;
    #closed;
    #opened;

    constructor(hearth, options, handle = crypto.randomUUID(), opened = false) {
        this.#hearth = hearth;
        this.#options = options;
        this[HANDLE] = handle;
        this[KEYED] = options.key !== undefined;
        this.key = options.key ?? handle;
        this.model = options.model;
        this.#opened = opened;
    }

    [REOPEN]() {
        this.#opened = false;
    }

    [LOSE](error) {
        this.#closed = error;
        this.#hearth[FORGET](this);
    }

    // messages of a port keep their order: what follows finds it opened
    #open() {
        if (this.#closed) throw this.#closed;
        if (this.#opened) return;
        this.#opened = true;
        this.#hearth[CALL]("session", { handle: this[HANDLE], options: this.#options }).catch(() => (this.#opened = false));
    }

    #call(call, args, options) {
        try {
            this.#open();
        } catch (error) {
            return Promise.reject(error);
        }
        return this.#hearth[CALL](call, { handle: this[HANDLE], ...args }, options);
    }

    #answer(call, args, { signal, throwOnAbort, ...options } = {}) {
        const begin = (receiver) => {
            this.#open();
            return this.#hearth[START](call, { handle: this[HANDLE], ...args, options }, receiver);
        };
        return new Answer(begin, signal, throwOnAbort);
    }

    prompt(message, options) {
        return this.#answer("prompt", { message }, options);
    }

    regenerate(options) {
        return this.#answer("regenerate", {}, options);
    }

    history(options) {
        return this.#call("history", {}, options);
    }

    info(options) {
        return this.#call("info", {}, options);
    }

    append(message, options) {
        return this.#call("append", { message }, options);
    }

    edit(index, message, options) {
        return this.#call("edit", { index, message }, options);
    }

    truncate(count, options) {
        return this.#call("truncate", { count }, options);
    }

    setHistory(messages, options) {
        return this.#call("setHistory", { messages }, options);
    }

    async fork({ key, count, signal } = {}) {
        const to = crypto.randomUUID();
        const made = await this.#call("fork", { to, key, count }, { signal });
        const fork = new Session(this.#hearth, { ...this.#options, key: key === undefined ? undefined : made.key }, to, true);
        this.#hearth[ADOPT](fork);
        return fork;
    }

    reset(options) {
        return this.#call("reset", {}, options);
    }

    release(options) {
        return this.#call("release", {}, options);
    }

    async remove(options) {
        await this.#call("remove", {}, options);
        this[LOSE](new ClosedError("The conversation was removed."));
    }

    async close() {
        if (this.#closed) return;
        const done = this.#opened ? this.#call("close", {}) : undefined;
        this[LOSE](new ClosedError("The conversation was closed."));
        await done;
    }
}

class Answer {
    #handle;
    #promise;
    #settle;
    #readers = new Set();
    #chunks = []; // what no iterator has seen yet; text is joined
    #read = 0;
    #acknowledged = 0;
    #signal;
    #throwOnAbort;

    constructor(begin, signal, throwOnAbort = false) {
        this.text = "";
        this.reasoning = "";
        this.done = false;
        this.#signal = signal;
        this.#throwOnAbort = throwOnAbort;
        this.#promise = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
        this.#promise.catch(() => {});
        try {
            this.#handle = begin({ take: (entry) => this.#take(entry), fail: (error) => this.#fail(error) });
        } catch (error) {
            this.#fail(error);
        }
        if (signal?.aborted) this.abort();
        else signal?.addEventListener("abort", this.abort);
    }

    abort = () => {
        if (!this.done) this.#handle?.abort();
    };

    #take({ chunk, result, error }) {
        if (chunk) return this.#grow(chunk);
        if (error) {
            if (error.partial) Object.assign(error.partial, { text: this.text, reasoning: this.reasoning });
            return this.#fail(HearthError.fromJSON(error));
        }
        Object.assign(result, { text: this.text, reasoning: this.reasoning });
        if (result.stop === "aborted" && this.#throwOnAbort) return this.#fail(aborted(this.#signal, result));
        this.#end({ type: "end", result });
        this.#settle.resolve(result);
    }

    #grow(chunk) {
        if (chunk.type === "text") this.text += chunk.text;
        if (chunk.type === "reasoning") this.reasoning += chunk.text;
        if (this.#readers.size === 0) {
            join(this.#chunks, chunk);
            this.#acknowledge(chunk.text?.length ?? 0); // nobody reads: nothing waits
        }
        for (const reader of this.#readers) reader.push(chunk);
    }

    #end(chunk) {
        this.done = true;
        this.#signal?.removeEventListener("abort", this.abort);
        if (chunk && this.#readers.size === 0) this.#chunks.push(chunk);
        for (const reader of this.#readers) reader.end(chunk);
    }

    #fail(error) {
        this.failure = error;
        this.done = true;
        this.#signal?.removeEventListener("abort", this.abort);
        for (const reader of this.#readers) reader.fail(error);
        this.#settle.reject(error);
    }

    // credits go back as the slowest reader takes its chunks
    #acknowledge(count) {
        this.#read += count;
        const owed = this.#read - this.#acknowledged;
        if (owed === 0) return;
        this.#acknowledged = this.#read;
        this.#handle?.credit(owed);
    }

    #onRead = () => {
        let least = Infinity;
        for (const reader of this.#readers) least = Math.min(least, reader.taken);
        if (least !== Infinity && least > this.#read) this.#acknowledge(least - this.#read);
    };

    then(resolved, rejected) {
        return this.#promise.then(resolved, rejected);
    }

    catch(rejected) {
        return this.#promise.catch(rejected);
    }

    finally(settled) {
        return this.#promise.finally(settled);
    }

    [Symbol.asyncIterator]() {
        const before = this.#readers.size === 0 ? this.#chunks : this.#past();
        const reader = new Reader(before, this.#read, this.#onRead, () => {
            this.#readers.delete(reader);
            if (this.#readers.size === 0) this.abort();
        });
        if (this.failure) reader.fail(this.failure);
        if (this.#readers.size === 0) this.#chunks = [];
        this.#readers.add(reader);
        return reader;
    }

    // what a second iterator has missed
    #past() {
        const past = [];
        if (this.reasoning) past.push({ type: "reasoning", text: this.reasoning });
        if (this.text) past.push({ type: "text", text: this.text });
        return past;
    }

    async *textStream() {
        for await (const chunk of this) if (chunk.type === "text") yield chunk.text;
    }
}

/** One iterator over an answer. */
class Reader {
    #queue;
    #waiting = [];
    #ended = false;
    #error;
    #onRead;
    #onLeft;

    constructor(before, granted, onRead, onLeft) {
        this.#queue = [...before];
        this.#ended = before.at(-1)?.type === "end";
        this.taken = granted; // characters, with those before
        this.#onRead = onRead;
        this.#onLeft = onLeft;
        // what came before it is acknowledged already
        this.old = before.reduce((sum, chunk) => sum + (chunk.text?.length ?? 0), 0);
    }

    push(chunk) {
        if (this.#waiting.length) return this.#waiting.shift().resolve({ done: false, value: this.#take(chunk) });
        join(this.#queue, chunk);
    }

    end(chunk) {
        if (chunk) this.push(chunk);
        this.#ended = true;
        for (const waiting of this.#waiting.splice(0)) waiting.resolve({ done: true, value: undefined });
    }

    fail(error) {
        this.#error = error;
        this.#ended = true;
        const [first, ...more] = this.#waiting.splice(0);
        if (first) {
            this.#error = undefined;
            first.reject(error);
        }
        for (const waiting of more) waiting.resolve({ done: true, value: undefined });
    }

    #take(chunk) {
        let length = chunk.text?.length ?? 0;
        const old = Math.min(this.old, length);
        this.old -= old;
        length -= old;
        this.taken += length;
        if (length) queueMicrotask(this.#onRead);
        return chunk;
    }

    next() {
        if (this.#queue.length) return Promise.resolve({ done: false, value: this.#take(this.#queue.shift()) });
        if (this.#error) {
            const error = this.#error;
            this.#error = undefined;
            return Promise.reject(error);
        }
        if (this.#ended) return Promise.resolve({ done: true, value: undefined });
        return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
    }

    return(value) {
        this.#queue = [];
        if (!this.#ended) {
            this.#ended = true;
            this.#onLeft();
        }
        return Promise.resolve({ done: true, value });
    }

    [Symbol.asyncIterator]() {
        return this;
    }
}

/** Adds a chunk to a queue: text to text, of progress the latest. */
function join(queue, chunk) {
    const last = queue.at(-1);
    if (last?.type !== chunk.type) queue.push(chunk);
    else if (typeof chunk.text === "string") queue[queue.length - 1] = { ...last, text: last.text + chunk.text };
    else queue[queue.length - 1] = chunk;
}

function aborted(signal, partial) {
    const reason = signal?.reason;
    return new AbortedError("The answer was aborted.", { partial, cause: reason });
}
