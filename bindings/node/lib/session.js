// A conversation.
import { Answer } from "./answer.js";
import { abortedBy, AbortedError, check, ClosedError, SessionNotFoundError, throwIfAborted } from "./errors.js";
import { Prompt } from "./prompt.js";
import { generationBody, sessionOf } from "./shapes.js";

const KEY_BYTES_MAX = 256;
const LEFT_MS = 5000;
const BEGINS = ["keep", "plain", "overflow"]; // how a conversation is, from its beginning

/** What is said, as an array. */
function messagesOf(message) {
    if (message === undefined || message === null)
        return [];
    if (typeof message === "string")
        return [{ role: "user", content: message }];
    const messages = Array.isArray(message) ? message : [message];
    for (const one of messages)
        check(typeof one?.role === "string", "message", "must be a text, or have a role and a content");
    return messages;
}

function oneMessage(message) {
    const messages = messagesOf(message);
    check(messages.length === 1, "message", "must be one message");
    return messages[0];
}

export function checkKey(key) {
    const size = typeof key === "string" ? Buffer.byteLength(key) : 0;
    check(size > 0 && size <= KEY_BYTES_MAX && !key.includes("\0"), "key", "must be a text of 1 to 256 bytes");
}

export class Session {
    #hearth;
    #link;
    #options;
    #own; // the key is ours: the conversation ends with this object
    #turn = Promise.resolve();
    #running = new Set();
    #left = -Infinity; // when an answer was last left in the middle
    #settled = false; // it begins with what `system` says
    #closed = false;

    /** Made by Hearth. */
    constructor(hearth, link, key, options, own) {
        this.#hearth = hearth;
        this.#link = link;
        this.key = key;
        this.#options = options;
        this.#own = own;
    }

    get model() {
        return this.#options.model;
    }

    /** What is said of it again: the latest counts. */
    configure(options) {
        for (const [name, value] of Object.entries(options)) {
            if (value !== undefined && name !== "key")
                this.#options[name] = value;
        }
        if (options.system !== undefined)
            this.#settled = false;
    }

    /** Its process ended: a conversation that is not on the disk is a new one. */
    unsettle() {
        this.#settled = false;
    }

    /* ---- asking ---- */

    prompt(message, options = {}) {
        return this.#answer(options, (signal) => this.#say(messagesOf(message), signal));
    }

    regenerate(options = {}) {
        return this.#answer(options, async (signal) => {
            const messages = await this.#messages({ signal });
            if (messages.at(-1)?.role === "assistant")
                await this.#change("POST", "truncate", { count: messages.length - 1 }, { signal });
            return {};
        });
    }

    /** `say` resolves with what the prompt says, when it is its turn. */
    #answer(options, say) {
        const settings = { ...this.#options.defaults, ...options };
        const stop = new AbortController();
        const follow = () => stop.abort(options.signal.reason);
        const answer = new Answer((io, aborted) => {
            aborted.addEventListener("abort", () => stop.abort(), { once: true });
            return this.#run(settings, say, io, stop.signal);
        });
        if (options.signal?.aborted)
            follow();
        options.signal?.addEventListener("abort", follow);
        this.#running.add(answer);
        const over = () => {
            options.signal?.removeEventListener("abort", follow);
            this.#running.delete(answer);
        };
        answer.then(over, over);
        return answer;
    }

    async #run(options, say, io, signal) {
        const prompt = new Prompt({ link: this.#link, key: this.key, signal }, io);
        const result = await this.#inTurn(async () => {
            if (signal.aborted)
                return prompt.nothing();
            let body;
            try {
                body = {
                    ...(await this.#model({ signal })), ...this.#beginning(), ...generationBody(options), ...(await say(signal)),
                };
            } catch (error) {
                if (error instanceof AbortedError && signal.aborted)
                    return prompt.nothing();
                throw error;
            }
            const patient = performance.now() - this.#left < LEFT_MS;
            return prompt.run({ ...body, progress: options.progress ?? true }, { timeout: options.timeout, patient });
        }, signal, () => prompt.nothing());
        if (prompt.left)
            this.#left = performance.now();
        if (result.stop === "aborted" && options.throwOnAbort)
            throw Object.assign(abortedBy(signal), { partial: result });
        if (result.stop !== "aborted" || result.text)
            this.#settled = true;
        return result;
    }

    /** One after the other; what is aborted while it waits leaves the queue at once. */
    async #inTurn(work, signal, onAbort) {
        this.#check();
        const before = this.#turn;
        let done;
        this.#turn = new Promise((resolve) => (done = resolve));
        const left = signal && (await raceAbort(before, signal));
        if (left === "aborted") {
            before.then(done);
            return onAbort();
        }
        try {
            await before;
            this.#check();
            return await work();
        } finally {
            done();
        }
    }

    #check() {
        if (this.#closed)
            throw new ClosedError("the session was closed");
    }

    /** The messages that are new, behind what the system says where that is not there yet. */
    async #say(messages, signal) {
        const { system } = this.#options;
        if (system === undefined || this.#settled)
            return messages.length ? { messages } : {};
        const first = { role: "system", content: system };
        const there = await this.#messages({ signal });
        if (there.length === 0)
            return { messages: messages[0]?.role === "system" ? messages : [first, ...messages] };
        const rest = there[0].role === "system" ? there.slice(1) : there;
        if (there[0].role !== "system" || there[0].content !== system)
            await this.#change("PUT", "messages", { messages: [first, ...rest] }, { signal });
        this.#settled = true;
        return messages.length ? { messages } : {};
    }

    #beginning() {
        return Object.fromEntries(BEGINS.filter((name) => this.#options[name] !== undefined).map((name) => [name, this.#options[name]]));
    }

    async #model({ signal } = {}) {
        const { model } = this.#options;
        return model === undefined ? {} : { model: await this.#hearth.nameOf(model, { signal }) };
    }

    /* ---- the messages ---- */

    get #path() {
        return `/hearth/v1/sessions/${encodeURIComponent(this.key)}`;
    }

    async #messages({ signal } = {}) {
        try {
            return (await this.#link.json("GET", `${this.#path}/history`, { signal, route: "sessions" })).messages;
        } catch (error) {
            if (error instanceof SessionNotFoundError)
                return [];
            throw error;
        }
    }

    async #change(method, what, body, { signal, repeatable } = {}) {
        const whole = { ...(await this.#model({ signal })), ...body };
        return sessionOf(await this.#link.json(method, `${this.#path}/${what}`, { body: whole, signal, repeatable, route: "sessions" }));
    }

    /** A change that waits for the answers before it. */
    #changeInTurn(method, what, body, options = {}) {
        throwIfAborted(options.signal);
        return this.#inTurn(() => this.#change(method, what, body, options), options.signal, () => {
            throw abortedBy(options.signal);
        });
    }

    async history({ signal } = {}) {
        this.#check();
        return this.#messages({ signal });
    }

    async info({ signal } = {}) {
        this.#check();
        try {
            return sessionOf(await this.#link.json("GET", this.#path, { signal, route: "sessions" }));
        } catch (error) {
            if (error instanceof SessionNotFoundError)
                return undefined;
            throw error;
        }
    }

    async append(message, { signal } = {}) {
        const said = oneMessage(message);
        return this.#inTurn(async () => {
            const { messages } = await this.#say([said], signal);
            return messages.length > 1
                ? this.#change("PUT", "messages", { messages }, { signal })
                : this.#change("POST", "append", { message: said }, { signal, repeatable: false });
        });
    }

    async edit(index, message, options) {
        const said = typeof message === "string" ? { text: message } : { message: oneMessage(message) };
        return this.#changeInTurn("POST", "edit", { index, ...said }, options);
    }

    async truncate(count, options) {
        return this.#changeInTurn("POST", "truncate", { count }, options);
    }

    async setHistory(messages, options) {
        this.#settled = false;
        return this.#changeInTurn("PUT", "messages", { messages: messagesOf(messages) }, options);
    }

    async reset(options) {
        return this.#changeInTurn("POST", "reset", {}, options);
    }

    async fork({ key, count, signal } = {}) {
        if (key !== undefined)
            checkKey(key);
        const to = key ?? this.#hearth.newKey();
        try {
            await this.#changeInTurn("POST", "fork", { to, count }, { signal, repeatable: false });
        } catch (error) {
            if (!(error instanceof SessionNotFoundError)) // one in which nothing was said yet is a new one
                throw error;
        }
        return this.#hearth.adopt(to, { ...this.#options }, key === undefined);
    }

    /* ---- the end ---- */

    async release({ signal } = {}) {
        this.#check();
        await this.#ask("POST", `${this.#path}/release`, signal);
    }

    async remove({ signal } = {}) {
        this.#check();
        await this.#end();
        await this.#ask("DELETE", this.#path, signal);
    }

    async close() {
        if (this.#closed)
            return;
        await this.#end();
        if (this.#own && this.#link.state !== "closed")
            await this.#ask("DELETE", this.#path);
    }

    async [Symbol.asyncDispose ?? Symbol.for("nodejs.asyncDispose")]() {
        await this.close();
    }

    async #end() {
        this.#closed = true;
        this.#hearth.forget(this);
        const running = [...this.#running];
        for (const answer of running)
            answer.abort();
        await Promise.allSettled(running);
    }

    /** What is not there need not be done. */
    async #ask(method, path, signal) {
        try {
            await this.#link.json(method, path, { signal, route: "sessions" });
        } catch (error) {
            if (!(error instanceof SessionNotFoundError))
                throw error;
        }
    }
}

/** "aborted" where that comes first. */
function raceAbort(promise, signal) {
    if (signal.aborted)
        return "aborted";
    return new Promise((resolve) => {
        const onAbort = () => resolve("aborted");
        signal.addEventListener("abort", onAbort, { once: true });
        promise.then(() => {
            signal.removeEventListener("abort", onAbort);
            resolve(undefined);
        });
    });
}
