// Electron's main process: it starts the broker (a utility process), says which frames may ask, and hands
// each of them one end of a channel to the broker. What is asked and answered never passes through here.
import { EventEmitter } from "node:events";
import { fileURLToPath } from "node:url";
import { app, ipcMain, MessageChannelMain, utilityProcess } from "electron";

const CONNECT = "hearth:connect";
const PORT = "hearth:port";
const CLIENTS_PER_PAGE_MAX = 8;
const RESTART_DELAYS_MS = [0, 250, 1000, 4000];
const HEALTHY_MS = 30_000;
const CLOSE_MS = 1_500;

/** The path of the preload script, for `webPreferences.preload`. */
export const preloadPath = fileURLToPath(new URL("./preload.cjs", import.meta.url));

let registered;

/** Registers the handlers; once per app, after "ready". */
export function registerHearth(options) {
    if (registered) throw new Error("registerHearth was called before; close that one first");
    registered = new HearthMain(options);
    return registered;
}

class HearthMain extends EventEmitter {
    #options;
    #broker;
    #spawned = 0;
    #failures = 0;
    #closing;
    #clients = new Map();
    #calls = new Map();
    #next = 1;
    #timer;

    constructor(options) {
        super();
        checkOptions(options);
        this.#options = { ...options, models: { ...options.models } };
        ipcMain.on(CONNECT, this.#onConnect);
        app.on("will-quit", this.#onWillQuit);
        this.#start();
    }

    get pid() {
        return this.#broker?.pid;
    }

    /** Whether the sender of an event of ipcMain may ask: for handlers of the app's own. */
    allows(event) {
        const frame = event.senderFrame;
        return frame !== null && (this.#options.subframes === true || !frame.parent) && isAllowed(this.#options.allow, frame);
    }

    /** Makes a file known to pages under a name. */
    async addModel(alias, path) {
        checkAlias(alias, path);
        const name = await this.#call({ type: "add", alias, path });
        this.#options.models[alias] = path;
        return name;
    }

    async removeModel(alias) {
        delete this.#options.models[alias];
        await this.#call({ type: "remove", alias });
    }

    /** A call of the broker's own connection, for menus, trays and windows of main: "memory", "models", "status",
     * "unload". */
    request(method, ...args) {
        return this.#call({ type: "request", method, args });
    }

    /** Ends the broker, and with it the daemon and all workers. */
    close() {
        this.#closing ??= this.#end();
        return this.#closing;
    }

    async #end() {
        clearTimeout(this.#timer);
        ipcMain.removeListener(CONNECT, this.#onConnect);
        for (const client of [...this.#clients.values()]) this.#forget(client);
        const broker = this.#broker;
        if (broker) {
            const gone = new Promise((resolve) => broker.once("exit", resolve));
            broker.postMessage({ type: "close" });
            const timer = setTimeout(() => broker.kill(), CLOSE_MS);
            await gone;
            clearTimeout(timer);
        }
        app.removeListener("will-quit", this.#onWillQuit);
        registered = undefined;
    }

    #start() {
        const { broker = new URL("./broker-process.js", import.meta.url), connect = {}, models, env, data } = this.#options;
        const path = broker instanceof URL || String(broker).startsWith("file:") ? fileURLToPath(broker) : broker;
        this.#broker = utilityProcess.fork(path, [], {
            serviceName: "hearth broker",
            stdio: "inherit",
            ...(env ? { env: { ...process.env, ...env } } : {}),
        });
        this.#spawned = performance.now();
        // pages of this app only: two apps must not meet in one daemon because both are called "electron"
        const settings = { app: appId(), ...connect };
        this.#broker.postMessage({ type: "start", connect: settings, models, folders: Boolean(connect.models?.length), data });
        this.#broker.on("message", this.#onBroker);
        this.#broker.once("exit", this.#onExit);
    }

    #onBroker = (message) => {
        switch (message?.type) {
            case "result": {
                const call = this.#calls.get(message.id);
                this.#calls.delete(message.id);
                if (message.error) call?.reject(Object.assign(new Error(message.error.message), message.error));
                else call?.resolve(message.value);
                break;
            }
            case "closed":
                this.#drop(this.#clients.get(message.client));
                break;
            case "event":
                this.emit("event", message.event);
                break;
            default: // an app's own broker may tell main what it likes
                this.emit("message", message);
        }
    };

    #onExit = (code) => {
        this.#broker = undefined;
        for (const client of [...this.#clients.values()]) this.#drop(client);
        for (const call of this.#calls.values()) call.reject(new Error("the broker ended"));
        this.#calls.clear();
        if (this.#closing) return;
        this.emit("exit", code);
        if (performance.now() - this.#spawned > HEALTHY_MS) this.#failures = 0;
        const delay = RESTART_DELAYS_MS[Math.min(this.#failures, RESTART_DELAYS_MS.length - 1)];
        this.#failures += 1;
        this.#timer = setTimeout(() => this.#start(), delay);
    };

    #onConnect = (event, ticket) => {
        // null once the frame has navigated or gone: there is nobody to answer
        const frame = event.senderFrame;
        if (!frame || typeof ticket !== "string") return;
        const why = this.#refusal(event);
        if (why) {
            this.emit("refused", { url: frame.url, why });
            post(frame, ticket, []); // without a port: the page is told no more than that
            return;
        }
        const { port1, port2 } = new MessageChannelMain();
        const client = { id: this.#next++, contents: event.sender };
        this.#clients.set(client.id, client);
        this.#watch(client);
        this.#broker.postMessage({ type: "client", client: client.id }, [port1]);
        post(frame, ticket, [port2]);
    };

    #refusal(event) {
        if (!this.allows(event)) return "it is not the top frame of an origin in `allow`";
        if (!this.#broker) return "there is no broker just now";
        let count = 0;
        for (const client of this.#clients.values()) count += client.contents === event.sender;
        if (count >= CLIENTS_PER_PAGE_MAX) return "the page has too many connections";
        return undefined;
    }

    // A document's port closes with it, which the broker sees. These say the same when a process died so that
    // nobody could close it.
    #watch(client) {
        const { contents } = client;
        const gone = () => this.#forget(client);
        const navigated = (_event, _url, _code, _status, isMainFrame) => isMainFrame && gone();
        contents.once("destroyed", gone);
        contents.on("render-process-gone", gone);
        contents.on("did-frame-navigate", navigated);
        client.unwatch = () => {
            contents.removeListener("destroyed", gone);
            contents.removeListener("render-process-gone", gone);
            contents.removeListener("did-frame-navigate", navigated);
        };
    }

    #drop(client) {
        client?.unwatch();
        return client !== undefined && this.#clients.delete(client.id);
    }

    #forget(client) {
        if (this.#drop(client)) this.#broker?.postMessage({ type: "gone", client: client.id });
    }

    #call(message) {
        if (!this.#broker || this.#closing) return Promise.reject(new Error("there is no broker"));
        const id = this.#next++;
        return new Promise((resolve, reject) => {
            this.#calls.set(id, { resolve, reject });
            this.#broker.postMessage({ ...message, id });
        });
    }

    // the daemon writes its conversations down before the app is gone
    #onWillQuit = (event) => {
        if (!this.#broker) return;
        event.preventDefault();
        this.close().finally(() => app.quit());
    };
}

function post(frame, ticket, ports) {
    try {
        frame.postMessage(PORT, ticket, ports);
    } catch {
        // the frame has gone meanwhile; the port goes with it, and the broker is told by that
    }
}

function isAllowed(allow, frame) {
    if (typeof allow === "function") return allow(frame) === true;
    return allow.includes(originOf(frame.url));
}

/** The origin of a URL, with custom schemes too, which `URL` gives "null" for. */
function originOf(url) {
    try {
        const { origin, protocol, host } = new URL(url);
        return origin !== "null" ? origin : `${protocol}//${host}`;
    } catch {
        return "null";
    }
}

function appId() {
    return `electron.${app.getName()}`.replace(/[^\w.-]+/g, "-").slice(0, 128);
}

function checkOptions(options) {
    const { allow, models = {} } = options ?? {};
    if (typeof allow !== "function" && !(Array.isArray(allow) && allow.length && allow.every((origin) => typeof origin === "string")))
        throw new TypeError('registerHearth: `allow` must name the origins of the pages that may ask, as ["app://chat"]');
    for (const [alias, path] of Object.entries(models)) checkAlias(alias, path);
}

function checkAlias(alias, path) {
    if (!/^[^/\\\0]{1,128}$/.test(alias) || typeof path !== "string" || !path)
        throw new TypeError(`"${alias}" cannot be the name of a model: it has a slash, is too long, or has no path`);
}
