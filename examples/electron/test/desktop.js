// The app under test, one of two ways: the real Electron, or its parts (unmodified) in Node and Chromium over
// shim/. Both have: kind, page, evaluate(work, argument) in main, processes(), quit(), crash(), restartable.
import { fork, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { installShim } from "./shim/page.js";
import { receive, send } from "./shim/wire.js";
import { findChromium, findElectron } from "./stage.js";

/** Starts the app; `switches` go to it. */
export function launch(staged, { switches, shim = false, env = {} }) {
    const electron = shim ? undefined : findElectron(staged);
    return electron ? launchElectron(staged, electron, switches, env) : launchShim(staged, switches, env);
}

/* ---- the real one ---- */

async function launchElectron(staged, executablePath, switches, env) {
    const display = await ensureDisplay();
    const { _electron } = (await staged.load("playwright-core")).default;
    const app = await _electron.launch({
        executablePath,
        args: [staged.app, ...switches],
        env: { ...process.env, ...display.env, ...env },
        timeout: 30_000,
    });
    const child = app.process();
    const gone = new Promise((resolve) => child.once("exit", resolve));
    const versions = await app.evaluate(() => process.versions);
    const page = await app.firstWindow();
    return {
        kind: `Electron ${versions.electron} (Chromium ${versions.chrome}), the real one, driven by playwright`,
        real: true,
        preload: join(staged.app, "dist/electron/preload.cjs"),
        page,
        evaluate: (work, argument) => app.evaluate(work, argument),
        processes: async () => [child.pid, ...(await app.evaluate(({ app }) => app.getAppMetrics().map(({ pid }) => pid)))],
        quit: async () => {
            app.evaluate(({ app }) => app.quit()).catch(() => {});
            await gone;
            display.end();
        },
        crash: async () => {
            child.kill("SIGKILL");
            await gone;
            display.end();
        },
    };
}

/** An X server for this run, where there is no display. */
async function ensureDisplay() {
    if (process.platform !== "linux" || process.env.DISPLAY || process.env.WAYLAND_DISPLAY) return { env: {}, end() {} };
    const server = spawn("Xvfb", ["-displayfd", "3", "-screen", "0", "1280x1024x24", "-nolisten", "tcp"], { stdio: ["ignore", "ignore", "ignore", "pipe"] });
    const number = await new Promise((resolve, reject) => {
        server.once("error", () => reject(new Error("There is no display, and Xvfb is not installed.")));
        server.once("exit", () => reject(new Error("Xvfb ended.")));
        server.stdio[3].once("data", (data) => resolve(String(data).trim()));
    });
    process.once("exit", () => server.kill());
    return { env: { DISPLAY: `:${number}` }, end: () => server.kill() };
}

/* ---- over the shim ---- */

async function launchShim(staged, switches, env) {
    const executablePath = findChromium();
    if (!executablePath) throw new Error("There is neither Electron nor Chromium (apt-get install chromium).");
    const { chromium } = (await staged.load("playwright-core")).default;
    const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
    const desktop = new ShimDesktop(browser, staged, switches, env);
    await desktop.start();
    return desktop;
}

const WEB = "https://chat.invalid"; // stands for app://chat, which Chromium does not know; never asked of a network

class ShimDesktop {
    real = false;
    #browser;
    #staged;
    #switches;
    #env;
    #main;
    #calls = new Map();
    #next = 1;
    #window;
    #brokers = new Map(); // port id -> socket
    #pagePorts = new Set();
    #early = new Map();

    constructor(browser, staged, switches, env) {
        this.#browser = browser;
        this.#staged = staged;
        this.#switches = switches;
        this.#env = env;
        this.kind = `main, worker, preload and page (unmodified) in Node ${process.version} and Chromium ${browser.version()} over a shim: no Electron was found`;
    }

    async start() {
        this.folder = mkdtempSync(join(tmpdir(), "hearth-hub-"));
        const hub = join(this.folder, "socket");
        this.#hub = createServer((socket) => this.#onBroker(socket)).listen(hub);
        const { main } = JSON.parse(readFileSync(join(this.#staged.app, "package.json"), "utf8"));
        this.#main = fork(join(this.#staged.app, main), this.#switches, {
            execArgv: ["--import", new URL("./shim/register.js", import.meta.url).href],
            serialization: "advanced",
            env: { ...process.env, ...this.#env, SHIM_HUB: hub },
        });
        this.#gone = new Promise((resolve) => this.#main.once("exit", resolve));
        const opened = new Promise((resolve, reject) => {
            this.#main.on("message", (message) => this.#onMain(message).then((page) => page && resolve(page), reject));
            this.#main.once("exit", () => reject(new Error("main ended")));
        });
        await opened;
    }

    #hub;
    #gone;

    #ask(message) {
        const id = this.#next++;
        return new Promise((resolve, reject) => {
            this.#calls.set(id, { resolve, reject });
            if (this.#main.connected) this.#main.send({ id, window: this.#window, ...message });
            else reject(new Error("main is gone"));
        });
    }

    async #onMain(message) {
        if (message.type === "answer") {
            const call = this.#calls.get(message.id);
            this.#calls.delete(message.id);
            if (message.error) call?.reject(new Error(message.error));
            else call?.resolve(message.value);
        } else if (message.type === "window" && !this.#window) return this.#openWindow(message);
        else if (message.type === "post") await this.#deliver({ channel: message.channel, message: message.message, ports: message.ports });
        return undefined;
    }

    async #openWindow({ window, url, preload }) {
        this.#window = window;
        const context = await this.#browser.newContext({ viewport: { width: 1100, height: 760 } });
        const page = await context.newPage();
        this.page = page;
        await page.route(`${WEB}/**`, async (route) => {
            const asked = route.request().url().replace(WEB, new URL(url).origin === "null" ? url.split("/").slice(0, 3).join("/") : new URL(url).origin);
            await route.fulfill(await this.#ask({ type: "fetch", url: asked }));
        });
        await page.exposeBinding("__shim", (_source, message) => this.#onPage(message));
        const script = readFileSync(preload, "utf8");
        await page.addInitScript(`if (window === top) (${installShim})(function (require, module, exports) {${script}\n});`);
        page.on("framenavigated", (frame) => {
            if (frame !== page.mainFrame()) return;
            this.#closePagePorts();
            this.#ask({ type: "navigated", url }).catch(() => {});
        });
        await page.goto(url.replace(/^\w+:\/\/[^/]+/, WEB));
        return page;
    }

    async #onPage(message) {
        if (message.type !== "port") return this.#ask(message);
        if (message.open) {
            this.#pagePorts.add(message.id);
            for (const early of this.#early.get(message.id) ?? []) this.#deliver(early);
            this.#early.delete(message.id);
        } else this.#toBroker({ id: message.id, data: message.data });
        return undefined;
    }

    #toBroker(message) {
        const socket = this.#brokers.get(message.id);
        if (socket) send(socket, message);
        else this.#early.set(`broker ${message.id}`, [...(this.#early.get(`broker ${message.id}`) ?? []), message]);
    }

    #onBroker(socket) {
        const mine = new Set();
        receive(socket, (message) => {
            const { id } = message;
            if (message.open) {
                mine.add(id);
                this.#brokers.set(id, socket);
                for (const early of this.#early.get(`broker ${id}`) ?? []) send(socket, early);
                this.#early.delete(`broker ${id}`);
            } else if (this.#pagePorts.has(id)) this.#deliver(message);
            else this.#early.set(id, [...(this.#early.get(id) ?? []), message]);
        });
        socket.on("error", () => {});
        socket.on("close", () => {
            for (const id of mine) {
                this.#brokers.delete(id);
                if (this.#pagePorts.delete(id)) this.#deliver({ id, close: true });
            }
        });
    }

    #closePagePorts() {
        for (const id of this.#pagePorts) if (this.#brokers.has(id)) send(this.#brokers.get(id), { id, close: true });
        this.#pagePorts.clear();
    }

    // in order: one after the other
    #deliver(message) {
        this.#delivering = this.#delivering.then(() => this.page?.evaluate((message) => window.__shimDeliver?.(message), message)).catch(() => {});
        return this.#delivering;
    }

    #delivering = Promise.resolve();

    evaluate = (work, argument) => this.#ask({ type: "evaluate", work: String(work), argument });

    async processes() {
        return this.evaluate(({ app }) => app.getAppMetrics().map(({ pid }) => pid));
    }

    async quit() {
        this.evaluate(({ app }) => app.quit()).catch(() => {});
        await this.#gone;
        await this.#end();
    }

    async crash() {
        this.#main.kill("SIGKILL");
        await this.#gone;
        await this.#end();
    }

    async #end() {
        await this.#browser.close().catch(() => {});
        this.#hub.close();
        rmSync(this.folder, { recursive: true, force: true });
    }
}
