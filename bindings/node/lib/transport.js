// The two ways to a daemon.

/** A socket's file says who may come; the host is one that resolves nowhere, so that a client that forgets to use our
 * `fetch` reaches nobody. */
export class SocketTransport {
    kind = "socket";
    origin = "http://hearth.invalid";

    constructor(path) {
        this.path = path;
    }

    requestOptions() {
        return { socketPath: this.path, headers: { host: "localhost" } };
    }

    toString() {
        return this.path;
    }
}

export class TcpTransport {
    kind = "loopback";

    constructor(url, key) {
        const { protocol, origin, hostname, port } = new URL(url);
        if (protocol !== "http:")
            throw new TypeError(`${url}: a daemon speaks http`);
        this.origin = origin;
        this.host = hostname.replace(/^\[|\]$/g, "");
        this.port = port ? Number(port) : 80;
        this.key = key;
    }

    requestOptions() {
        const headers = { host: new URL(this.origin).host };
        if (this.key)
            headers.authorization = `Bearer ${this.key}`;
        return { host: this.host, port: this.port, headers };
    }

    toString() {
        return this.origin;
    }
}
