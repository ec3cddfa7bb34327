// The way of one prompt: sent, read event by event, cancelled in order, sent again where nothing of it had begun.
import { setTimeout as sleep } from "node:timers/promises";

import { AbortedError, BusyError, ClosedError, ConnectionLostError, errorOf, HearthError } from "./errors.js";
import { eventsOf } from "./http.js";
import { orAborted } from "./link.js";
import { timingsOf, usageOf } from "./shapes.js";

const TRIES = 3;
const CANCEL_MS = 1000; // in which an answer that is cancelled must end
const BUSY_MS = 2000; // in which an answer that was left must be over
const STOPS = { cancelled: "aborted" };

export class Prompt {
    #link;
    #path;
    #session;
    #io;
    #stop; // why it is ended from here: "aborted", "timeout"
    #begun = false;
    #over = false;
    #patient = false;
    left = false; // in the middle, without an orderly end
    #model = "";
    #end;
    #started = performance.now();
    #first;
    #hard = new AbortController();

    constructor({ link, key, signal }, io) {
        this.#link = link;
        this.#session = key;
        this.#path = `/hearth/v1/sessions/${encodeURIComponent(key)}`;
        this.#io = io;
        this.signal = signal;
    }

    /** The result of what was ended before it was sent. */
    nothing(stop = "aborted") {
        this.#stop = stop;
        return this.#result();
    }

    /** `patient`: the conversation may still be at an answer that was left. */
    async run(body, { timeout, patient } = {}) {
        this.#patient = patient;
        const onAbort = () => this.#cancel("aborted");
        const timer = timeout === undefined ? undefined : setTimeout(() => this.#cancel("timeout"), timeout);
        this.signal.addEventListener("abort", onAbort, { once: true });
        try {
            if (this.signal.aborted)
                return this.nothing();
            await this.#send(Buffer.from(JSON.stringify({ ...body, stream: true })));
            return this.#result();
        } catch (error) {
            // by us; or by somebody else, who cancelled it or unloaded the model
            if (error instanceof AbortedError || (this.#stop && error instanceof ConnectionLostError))
                return this.#result();
            throw this.#withPartial(error);
        } finally {
            this.#over = true;
            clearTimeout(timer);
            this.signal.removeEventListener("abort", onAbort);
        }
    }

    async #send(body) {
        const headers = { "content-type": "application/json", "content-length": body.length };
        const busyUntil = performance.now() + BUSY_MS;
        for (let i = 1; ; ) {
            try {
                await orAborted(this.#link.ready(), this.#hard.signal);
                const request = { method: "POST", path: `${this.#path}/prompt`, headers, body, signal: this.#hard.signal };
                await this.#read(await this.#link.request({ ...request, repeatable: true }));
                return;
            } catch (error) {
                const lost = error instanceof ConnectionLostError;
                if (this.#link.state === "closed")
                    throw this.#stop ? new AbortedError() : new ClosedError("the connection was closed");
                if (lost)
                    await this.#link.examine(error);
                // an answer whose connection was lost may still be about to end
                const left = this.#patient || i > 1;
                const waits = left && error instanceof BusyError && error.status === 409 && performance.now() < busyUntil;
                if (waits)
                    await sleep(20);
                else if (!lost || this.#begun || this.#stop || i++ === TRIES)
                    throw error;
            }
        }
    }

    async #read(response) {
        for await (const [event, data] of eventsOf(response, "sessions")) {
            this.#take(event, data);
            await this.#io.room();
        }
        if (!this.#end)
            throw new ConnectionLostError("the daemon's answer ended before its end");
    }

    #take(event, data) {
        const { push } = this.#io;
        switch (event) {
        case "loading":
            push({ type: "loading", progress: data.progress });
            break;
        case "begin":
            this.#begun = true;
            this.#model = data.model;
            push({
                type: "begin",
                model: data.model,
                promptTokens: data.prompt_tokens,
                cachedTokens: data.cached_tokens,
                queuedMs: data.queued_ms,
            });
            break;
        case "reading":
            push({ type: "reading", done: data.done, total: data.total });
            break;
        case "text":
        case "reasoning":
            this.#first ??= performance.now();
            push({ type: event, text: data.text });
            break;
        case "end":
            this.#end = data;
            break;
        case "error":
            throw errorOf(data.error?.code, data.error, "sessions");
        }
    }

    /** The daemon is told, and ends the answer in order, so that the conversation has what we have. */
    async #cancel(stop) {
        if (this.#stop || this.#over)
            return;
        this.#stop = stop;
        const last = performance.now() + CANCEL_MS;
        let told = false;
        while (!this.#over && performance.now() < last) {
            if (!told && this.#link.state === "ready") {
                const signal = AbortSignal.timeout(CANCEL_MS);
                const reply = await this.#link.json("POST", `${this.#path}/cancel`, { now: true, signal }).catch(() => undefined);
                told = reply?.cancelled === true; // else the prompt has not got there yet
            }
            await sleep(this.#link.state === "ready" ? 5 : 0);
            if (this.#link.state !== "ready")
                break;
        }
        if (this.#over)
            return;
        this.left = true;
        this.#hard.abort(new AbortedError());
    }

    #withPartial(error) {
        if (this.#begun && error instanceof HearthError && error.partial === undefined) {
            this.#stop = "error";
            error.partial = this.#result();
        }
        return error;
    }

    #result() {
        const { answer } = this.#io;
        const end = this.#end;
        const now = performance.now();
        const stop = end && end.stop !== "cancelled" ? (STOPS[end.stop] ?? end.stop) : (this.#stop ?? "aborted");
        const timings = end && {
            ...timingsOf(end.timings ?? {}),
            firstTokenMs: this.#first === undefined ? undefined : this.#first - this.#started,
            totalMs: now - this.#started,
        };
        return {
            text: answer().text,
            reasoning: answer().reasoning,
            stop,
            stopString: end?.stop_string || undefined,
            model: end?.model ?? this.#model,
            session: this.#session,
            usage: end?.usage && usageOf(end.usage),
            timings,
            droppedMessages: end?.dropped_messages ?? 0,
            unsaved: end?.unsaved ?? false,
        };
    }
}
