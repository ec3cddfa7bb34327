// `fetch` for other packages, over the same way as all else.
import { Readable } from "node:stream";

import { AbortedError } from "./errors.js";

// What belongs to one connection, and what the way itself says.
const OWN = new Set(["connection", "content-length", "host", "keep-alive", "transfer-encoding", "upgrade"]);
const EMPTY = new Set([101, 204, 205, 304]);

/** `way()` has the connection: { origin, request }. URLs of another origin are for the global fetch. */
export function makeFetch(way) {
    return async function fetch(input, init) {
        const request = new Request(input, init);
        const { origin, link } = way();
        const url = new URL(request.url);
        if (url.origin !== origin)
            return globalThis.fetch(request);
        const body = request.body ? Buffer.from(await request.arrayBuffer()) : undefined;
        const headers = headersOf(request, body);
        const { signal, method } = request;
        let response;
        try {
            // what the daemon may have seen is for the package that calls to repeat, or not
            response = await link.request({ method, path: url.pathname + url.search, headers, body, signal });
        } catch (error) {
            if (error instanceof AbortedError)
                throw signal.reason ?? new DOMException("This operation was aborted", "AbortError");
            throw Object.assign(new TypeError("fetch failed"), { cause: error });
        }
        return responseOf(response, request);
    };
}

function headersOf(request, body) {
    const headers = {};
    for (const [name, value] of request.headers) {
        // a key for somebody else's server means nothing here, and the way has its own where it needs one
        if (!OWN.has(name) && name !== "authorization")
            headers[name] = value;
    }
    if (body || !["GET", "HEAD"].includes(request.method))
        headers["content-length"] = body?.length ?? 0;
    return headers;
}

function responseOf(response, { method, url }) {
    const headers = new Headers();
    for (let i = 0; i < response.rawHeaders.length; i += 2)
        headers.append(response.rawHeaders[i], response.rawHeaders[i + 1]);
    const { statusCode: status, statusMessage: statusText } = response;
    const empty = EMPTY.has(status) || method === "HEAD";
    if (empty)
        response.resume();
    const answer = new Response(empty ? null : Readable.toWeb(response), { status, statusText, headers });
    Object.defineProperty(answer, "url", { value: url });
    return answer;
}
