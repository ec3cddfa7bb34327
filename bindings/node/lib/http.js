// Requests to a daemon over node:http.
import { Agent, request } from "node:http";

import { abortedBy, ConnectionLostError, errorOf } from "./errors.js";
import { readEvents } from "./sse.js";

// The daemon keeps a connection for a minute between requests; we leave first, so that no request meets its leaving.
const IDLE_MS = 20_000;
const BODY_MAX = 256 * 1024 * 1024;
const unsent = new Set(["ECONNREFUSED", "ENOENT", "ENOTSOCK", "EACCES"]);

/** Connections that wait for work do not keep the program alive. */
export function makeAgent() {
    return new Agent({ keepAlive: true, timeout: IDLE_MS, scheduling: "lifo" });
}

/** Resolves with the answer's head; its body is the caller's to read. Rejects with an AbortedError, or with a
 * ConnectionLostError whose `sent` says whether the daemon may have seen the request. */
export function send({ transport, agent }, { method = "GET", path, headers, body, signal }) {
    const options = transport.requestOptions();
    return new Promise((resolve, reject) => {
        if (signal?.aborted) {
            reject(abortedBy(signal));
            return;
        }
        const outgoing = request({
            ...options, agent, method, path, headers: { ...headers, ...options.headers },
        });
        const onAbort = () => outgoing.destroy(abortedBy(signal));
        signal?.addEventListener("abort", onAbort, { once: true });
        const done = () => signal?.removeEventListener("abort", onAbort);
        outgoing.on("response", (response) => {
            response.on("close", done);
            response.on("error", () => {}); // is for whoever reads it, if anybody does
            resolve(response);
        });
        outgoing.on("error", (error) => {
            done();
            reject(signal?.aborted ? abortedBy(signal) : lostBy(error, outgoing));
        });
        outgoing.end(body);
    });
}

function lostBy(error, outgoing) {
    const lost = new ConnectionLostError(`the connection to the daemon was lost: ${error.message}`, { cause: error });
    // a connection that was closed between two requests has not been read from
    lost.sent = !unsent.has(error.code) && !(outgoing.reusedSocket && (error.code === "ECONNRESET" || error.code === "EPIPE"));
    return lost;
}

export async function readText(response) {
    const parts = [];
    let size = 0;
    try {
        for await (const part of response) {
            parts.push(part);
            size += part.length;
            if (size > BODY_MAX)
                throw new Error(`an answer of more than ${BODY_MAX} bytes`);
        }
    } catch (cause) {
        throw new ConnectionLostError("the connection to the daemon was lost in the middle of an answer", { cause });
    }
    return Buffer.concat(parts, size).toString("utf8");
}

/** The error that an answer is, to be thrown. */
export async function readError(response, route) {
    const text = await readText(response);
    let said;
    try {
        said = JSON.parse(text).error;
    } catch {
        said = text.slice(0, 500) || undefined;
    }
    return errorOf(response.statusCode, said, route);
}

/** The events of an answer, [name, data]. Who stops before their end closes the connection. */
export async function* eventsOf(response, route) {
    if (response.statusCode !== 200)
        throw await readError(response, route);
    const events = readEvents(response);
    try {
        for (let next; !(next = await nextOf(events)).done; )
            yield [next.value.event, JSON.parse(next.value.data)];
    } finally {
        await events.return();
    }
}

async function nextOf(events) {
    try {
        return await events.next();
    } catch (cause) {
        throw new ConnectionLostError("the daemon went while it answered", { cause });
    }
}
