// What the example uses of Electron's main process, over Node and the test's Chromium (desktop.js, which this
// process was started by). No more than that, and nothing of it is clever.
import { fork } from "node:child_process";
import { randomUUID } from "node:crypto";
import { EventEmitter } from "node:events";
import { homedir } from "node:os";

const say = (message) => process.connected && process.send(message);
const switches = new Map(process.argv.filter((one) => one.startsWith("--")).map((one) => one.slice(2).split(/=(.*)/s)));

/* ---- app ---- */

class App extends EventEmitter {
    #quitting = false;
    commandLine = { getSwitchValue: (name) => switches.get(name) ?? "" };

    whenReady() {
        return Promise.resolve();
    }

    requestSingleInstanceLock() {
        return true;
    }

    getName() {
        return "Hearth Chat";
    }

    getPath(name) {
        return name === "userData" ? switches.get("user-data-dir") : homedir();
    }

    getAppMetrics() {
        return [{ pid: process.pid, type: "Browser" }, ...[...utilities].map(({ pid }) => ({ pid, type: "Utility" }))];
    }

    quit() {
        if (this.#quitting) return;
        let prevented = false;
        const event = { preventDefault: () => (prevented = true) };
        this.emit("before-quit", event);
        this.emit("will-quit", event);
        if (prevented) return;
        this.#quitting = true;
        say({ type: "quit" });
        setTimeout(() => process.exit(0), 20);
    }
}

export const app = new App();
process.on("disconnect", () => process.exit(0));

/* ---- windows and their frame ---- */

const windows = new Map();

class WebContents extends EventEmitter {
    setWindowOpenHandler() {}

    get mainFrame() {
        return this.frame;
    }
}

export class BrowserWindow extends EventEmitter {
    static getAllWindows() {
        return [...windows.values()];
    }

    static fromWebContents(contents) {
        return contents.window;
    }

    constructor(options) {
        super();
        this.id = randomUUID();
        this.options = options;
        this.webContents = new WebContents();
        this.webContents.window = this;
        this.webContents.frame = { url: "", parent: null, postMessage: (channel, message, ports = []) => say({ type: "post", window: this.id, channel, message, ports: ports.map(({ id }) => id) }) };
        windows.set(this.id, this);
        app.emit("web-contents-created", {}, this.webContents);
    }

    loadURL(url) {
        this.webContents.frame.url = url;
        say({ type: "window", window: this.id, url, preload: this.options.webPreferences.preload });
    }

    show() {}
    focus() {}
    isMinimized() {
        return false;
    }
}

/* ---- ipcMain ---- */

class IpcMain extends EventEmitter {
    handlers = new Map();
    handle(channel, work) {
        this.handlers.set(channel, work);
    }
    removeHandler(channel) {
        this.handlers.delete(channel);
    }
}

export const ipcMain = new IpcMain();

/* ---- channels: main only hands ports on ---- */

export class MessageChannelMain {
    port1 = { id: randomUUID() };
    port2 = { id: this.port1.id };
}

/* ---- utility processes ---- */

const utilities = new Set();

export const utilityProcess = {
    fork(path, args, { env = process.env } = {}) {
        const child = fork(path, args, {
            env: { ...env, SHIM_HUB: process.env.SHIM_HUB },
            execArgv: ["--import", new URL("./utility.js", import.meta.url).href],
            serialization: "advanced",
        });
        utilities.add(child);
        const utility = new EventEmitter();
        Object.defineProperty(utility, "pid", { get: () => (child.exitCode === null && child.signalCode === null ? child.pid : undefined) });
        utility.postMessage = (message, ports = []) => child.connected && child.send({ message, ports: ports.map(({ id }) => id) });
        utility.kill = () => child.kill();
        child.on("message", ({ message }) => utility.emit("message", message));
        child.once("exit", (code) => {
            utilities.delete(child);
            utility.emit("exit", code ?? 1);
        });
        return utility;
    },
};

/* ---- the rest ---- */

const protocols = new Map();
export const protocol = {
    registerSchemesAsPrivileged() {},
    handle: (scheme, handler) => protocols.set(scheme, handler),
};
export const session = { defaultSession: { setPermissionRequestHandler() {} } };
export const shell = { openExternal: async () => {} };
export const dialog = { showOpenDialog: async () => ({ canceled: true, filePaths: [] }) };

/* ---- what the test and its page say ---- */

const electron = { app, BrowserWindow, ipcMain, MessageChannelMain, utilityProcess, protocol, session, shell, dialog };

async function answer(message) {
    const window = windows.get(message.window);
    switch (message.type) {
        case "send":
            return void ipcMain.emit(message.channel, { sender: window.webContents, senderFrame: window.webContents.frame }, ...message.args);
        case "invoke": {
            const work = ipcMain.handlers.get(message.channel);
            if (!work) throw new Error(`No handler registered for '${message.channel}'`);
            return await work({ sender: window.webContents, senderFrame: window.webContents.frame }, ...message.args);
        }
        case "fetch": {
            const response = await protocols.get(new URL(message.url).protocol.slice(0, -1))(new Request(message.url));
            return { status: response.status, headers: Object.fromEntries(response.headers), body: Buffer.from(await response.arrayBuffer()) };
        }
        case "evaluate":
            return await (0, eval)(`(${message.work})`)(electron, message.argument);
        case "navigated":
            return void window.webContents.emit("did-frame-navigate", {}, message.url, 200, "OK", true);
        case "ready-to-show":
            return void window.emit("ready-to-show");
        case "closed":
            windows.delete(message.window);
            window.webContents.emit("destroyed");
            if (windows.size === 0) app.emit("window-all-closed");
    }
}

process.on("message", async (message) => {
    try {
        say({ type: "answer", id: message.id, value: await answer(message) });
    } catch (error) {
        say({ type: "answer", id: message.id, error: String(error?.message ?? error) });
    }
});
export default electron;
