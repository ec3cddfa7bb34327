// What a user of the app relies on, one function each; each gives a sentence, or throws.
import { existsSync, readFileSync } from "node:fs";
import { THRESHOLDS, watchMain, watchPage } from "./watch.js";

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export async function until(limitMs, work) {
    for (const end = performance.now() + limitMs; ; await sleep(20)) {
        const value = await work();
        if (value) return value;
        if (performance.now() > end) throw new Error(`not within ${limitMs} ms: ${work}`);
    }
}

function expect(condition, text) {
    if (!condition) throw new Error(text);
}

export const longText = (tokens) => "The keeper wrote down the wind and the waves. ".repeat(Math.ceil(tokens / 10));

/** The package's page side once more, for the test's own connection beside the app's. */
export async function bundleForPage({ modules, load }) {
    const { build } = (await load("esbuild")).default;
    const { outputFiles } = await build({
        stdin: { contents: `export * from "hearth/electron/renderer";`, resolveDir: modules },
        nodePaths: [modules],
        bundle: true,
        format: "iife",
        globalName: "hearthRenderer",
        target: "es2022",
        write: false,
    });
    return outputFiles[0].text;
}

/** Waits for the app, and brings what measures it. */
export async function prepare(desktop, { inPage, model, axe }) {
    const { page } = desktop;
    const enter = async () => {
        await page.waitForSelector("html[data-ready]", { timeout: 30_000 });
        await page.evaluate(`${inPage}; window.hearthRenderer = hearthRenderer;`);
        await page.evaluate(async () => {
            window.__hearth = await window.hearthRenderer.connect();
        });
        await page.evaluate(watchPage);
    };
    await enter();
    await desktop.evaluate(watchMain);
    await page.evaluate((model) => window.__hearth.load(model), model);
    return Object.assign(desktop, { model, enter, axe });
}

/** A page has what the bridge gives it, and no more; a frame of another origin has nothing; no path is taken. */
async function walls({ page, evaluate, real, model, preload }) {
    const seen = await page.evaluate(() => ({
        require: typeof window.require,
        process: typeof window.process,
        bridge: Object.keys(window.hearth),
        secure: window.isSecureContext,
    }));
    expect(seen.require === "undefined" && seen.process === "undefined", `the page has ${JSON.stringify(seen)}`);
    expect(String(seen.bridge) === "connect", `the bridge has ${seen.bridge}`);
    const refusals = await page.evaluate(async (model) => {
        const names = ["/etc/passwd", "../../secret", "", `./${model}`, `..\\${model}`, null];
        return Promise.all(names.map((name) => window.__hearth.load(name).then(() => "loaded", (error) => error.name)));
    }, model);
    expect(refusals.every((name) => name === "ModelNotFoundError"), `paths were answered with ${refusals}`);
    if (!real) return "the page sees the bridge alone; paths are refused (sandbox and frames: with the real Electron)";
    const foreign = await evaluate(foreignPage, preload);
    expect(foreign.preferences.sandbox && foreign.preferences.contextIsolation && !foreign.preferences.nodeIntegration, JSON.stringify(foreign.preferences));
    expect(foreign.answered === "without a port", `a page of another origin was answered ${foreign.answered}`);
    return "sandboxed and isolated; the page sees the bridge alone; paths are refused, and a page of another origin gets no port";
}

/** In main: a window of another origin with the same preload script asks. */
async function foreignPage({ BrowserWindow }, preload) {
    const [window] = BrowserWindow.getAllWindows();
    const preferences = window.webContents.getLastWebPreferences();
    const other = new BrowserWindow({ show: false, webPreferences: { preload, sandbox: true } });
    await other.loadURL("data:text/html,<title>other</title>");
    const answered = await other.webContents.executeJavaScript(`new Promise((resolve) => {
        window.addEventListener("message", (event) => resolve(event.ports.length ? "with a port" : "without a port"));
        window.hearth.connect("ticket");
        setTimeout(() => resolve("not at all"), 2000);
    })`);
    other.destroy();
    return { preferences, answered };
}

/** The app as its user sees it. */
async function chat({ page }) {
    await page.click("#new-conversation");
    await page.fill("#composer-text", "Hello! Please tell me about the sea.");
    await page.press("#composer-text", "Enter");
    await page.waitForFunction(() => document.querySelector(".message.assistant .foot") || document.querySelector(".message.assistant .markdown")?.textContent.length > 40, undefined, { timeout: 30_000 });
    await page.keyboard.press("Escape"); // stops it, if it has not ended
    await page.waitForSelector(".message.assistant .foot", { timeout: 10_000 });
    const text = await page.textContent(".message.assistant .markdown");
    expect(text.trim().length > 0, "there is no text in the answer");
    await page.waitForFunction(() => document.getElementById("memory-private").textContent !== "–", undefined, { timeout: 5000 });
    await sleep(1200); // it is shown each second
    const memory = await page.textContent("#memory-private");
    const figures = await page.textContent(".message.assistant .figures");
    expect((await page.locator("#conversations li").count()) >= 1, "the conversation is not in the list");
    return `an answer was shown and stopped (${figures}); memory is shown (${memory} private)`;
}

/** What axe finds wrong for people with a screen reader, little sight or a keyboard alone: nothing. */
async function accessible({ page, axe }) {
    await page.evaluate(axe);
    const look = async (name) => {
        const found = await page.evaluate(() => window.axe.run().then(({ violations }) => violations.map(({ id, nodes }) => `${id}: ${nodes[0].target.join(" ")}`)));
        expect(found.length === 0, `${name}: ${found.join("; ")}`);
    };
    for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        await look(`a conversation, ${colorScheme}`);
    }
    await page.click("#picker");
    await look("the model picker");
    await page.keyboard.press("Escape");
    await page.click("#new-conversation");
    await look("an empty conversation");
    return "axe has nothing to say of a conversation (light and dark), the picker and an empty one";
}

/** A slow reader loses nothing: three answers at once, each read one chunk in 10 ms, are those that the conversations
 * keep. */
async function streams({ page, model }) {
    const answers = await page.evaluate(readSlowly, { model, pauseMs: 10 });
    for (const { read, text, kept } of answers) {
        expect(read.length > 0 && read === text && read === kept, `read ${read.length} characters of ${text.length}, kept were ${kept.length}`);
    }
    return `3 at once, one chunk in 10 ms: ${answers.map(({ read, chunks }) => `${read.length} characters in ${chunks} chunks`).join(", ")}; all of them`;
}

async function readSlowly({ model, pauseMs }) {
    const one = async (topic) => {
        const session = window.__hearth.session({ key: `slow-${topic}-${Math.random()}`, model, keep: "never" });
        const answer = session.prompt(`Write a long text about ${topic}.`, { maxTokens: 160, ignoreEos: true, seed: 1 });
        let read = "";
        let chunks = 0;
        for await (const chunk of answer) {
            if (chunk.type !== "text") continue;
            read += chunk.text;
            chunks++;
            await new Promise((resolve) => setTimeout(resolve, pauseMs));
        }
        const { text } = await answer;
        const history = await session.history();
        await session.remove();
        return { read, text, chunks, kept: history.at(-1).content };
    };
    return Promise.all(["rivers", "mountains", "islands"].map(one));
}

/** What waits in a page for a reader that has stopped is bounded, and then the rest comes. */
async function credits({ page, model }) {
    const seen = await page.evaluate(async (model) => {
        const narrow = await window.hearthRenderer.connect({ window: 256 });
        const session = narrow.session({ model });
        const answer = session.prompt("Count from one on, and never stop.", { maxTokens: 400, ignoreEos: true, seed: 2 });
        const reader = answer[Symbol.asyncIterator]();
        let read = (await firstText(reader)).length;
        await new Promise((resolve) => setTimeout(resolve, 3000));
        const waiting = answer.text.length - read;
        for (let next; !(next = await reader.next()).done; ) read += next.value.text?.length ?? 0;
        const whole = (await answer).text.length;
        await narrow.close();
        return { waiting, whole, read };

        async function firstText(reader) {
            for (;;) {
                const { value } = await reader.next();
                if (value.type === "text") return value.text;
            }
        }
    }, model);
    expect(seen.waiting > 0 && seen.waiting <= 256 + 64, `${seen.waiting} characters waited for a reader that had stopped`);
    expect(seen.read === seen.whole && seen.whole > 600, JSON.stringify(seen));
    return `${seen.waiting} characters waited for a reader that had stopped 3 s, within a window of 256; then it got the rest of ${seen.whole}`;
}

/** Abort reaches the reading of a prompt. The best of three counts: neighbours on the machine cost time too. */
async function abort({ page, model }) {
    let best = Infinity;
    for (let attempt = 0; attempt < 3 && best > THRESHOLDS.abortMs; attempt++) {
        const { stop, tookMs, running } = await page.evaluate(abortReading, { model, text: `${Math.random()} ${longText(1700)}` });
        expect(stop === "aborted", `it ended with "${stop}"`);
        expect(running === 0, `${running} answers were still computed`);
        best = Math.min(best, tookMs);
    }
    expect(best <= THRESHOLDS.abortMs, `it took ${best} ms`);
    return `in the middle of a prompt, after ${best.toFixed(0)} ms; nothing was computed any more`;
}

async function abortReading({ model, text }) {
    const session = window.__hearth.session({ model });
    const answer = session.prompt(text, { maxTokens: 8 });
    let asked;
    for await (const chunk of answer) {
        if (chunk.type !== "reading" || asked) continue;
        asked = performance.now();
        answer.abort();
    }
    const tookMs = performance.now() - asked;
    const { stop } = await answer;
    await new Promise((resolve) => setTimeout(resolve, 100));
    const { running } = await window.__hearth.status();
    await session.close();
    return { stop, tookMs, running };
}

/** A page that reloads ends its work. */
async function reload(desktop) {
    const { page, model } = desktop;
    const key = `reload-${Math.random()}`;
    await page.evaluate(({ model, key }) => {
        const session = window.__hearth.session({ key, model });
        session.prompt("Write a very long story.", { maxTokens: 1500, ignoreEos: true });
    }, { model, key });
    await until(10_000, async () => (await page.evaluate(() => window.__hearth.status())).running > 0);
    const began = performance.now();
    await page.reload();
    await desktop.enter();
    await until(2000, async () => (await page.evaluate(() => window.__hearth.status())).running === 0);
    const took = performance.now() - began;
    await page.evaluate((key) => window.__hearth.session({ key }).remove(), key);
    return `its answer ended within ${took.toFixed(0)} ms, the page's loading included`;
}

/** A window that closes ends its work, and nobody else's. */
async function closeWindow({ page, evaluate, real, preload }) {
    if (!real) return "with the real Electron alone";
    await evaluate(openAnother, preload);
    await until(10_000, async () => (await page.evaluate(() => window.__hearth.status())).running > 0);
    const began = performance.now();
    await evaluate(({ BrowserWindow }) => BrowserWindow.getAllWindows().find(({ id }) => id === globalThis.__another).destroy());
    await until(1000, async () => (await page.evaluate(() => window.__hearth.status())).running === 0);
    return `its answer ended within ${(performance.now() - began).toFixed(0)} ms`;
}

/** In main: another window of the app, in which its user has asked something. */
async function openAnother({ BrowserWindow }, preload) {
    const other = new BrowserWindow({ show: false, webPreferences: { preload, sandbox: true } });
    globalThis.__another = other.id;
    await other.loadURL("app://chat/index.html");
    await other.webContents.executeJavaScript(`new Promise((resolve) => {
        const timer = setInterval(() => {
            if (!document.documentElement.dataset.ready) return;
            clearInterval(timer);
            document.getElementById("new-conversation").click();
            document.getElementById("composer-text").value = "Write a very long story about a lighthouse, with many chapters.";
            document.getElementById("composer").requestSubmit();
            resolve();
        }, 20);
    })`);
}

/** kill -9 of the model's process. */
async function workerKill({ page, model }) {
    const session = `kill-${Math.random()}`;
    await page.evaluate(async ({ model, session }) => {
        const chat = window.__hearth.session({ key: session, model });
        await chat.prompt("My name is Ada.", { maxTokens: 4 });
        window.__doomed = chat.prompt("Tell me a long story.", { maxTokens: 1200, ignoreEos: true });
        window.__doomed.then(() => (window.__outcome = { name: "no error" }), (error) => (window.__outcome = { name: error.name, code: error.code, at: performance.now() }));
        const reader = window.__doomed[Symbol.asyncIterator]();
        while ((await reader.next()).value.type !== "text");
        (async () => { try { while (!(await reader.next()).done); } catch {} })();
    }, { model, session });
    const { workers } = await page.evaluate(() => window.__hearth.memory());
    const killed = performance.now();
    process.kill(workers[0].pid, "SIGKILL");
    const outcome = await until(3000, () => page.evaluate(() => window.__outcome));
    const told = performance.now() - killed;
    expect(outcome.name === "WorkerCrashedError", `it ended with ${outcome.name}`);
    expect(told < 1000, `the promise was rejected after ${told} ms`);
    const after = await page.evaluate(async (session) => {
        const chat = window.__hearth.session({ key: session });
        const result = await chat.prompt("What is my name?", { maxTokens: 8 });
        const history = await chat.history();
        await chat.remove();
        return { tokens: result.usage.answerTokens, first: history.find(({ role }) => role === "user")?.content };
    }, session);
    expect(after.tokens > 0 && after.first === "My name is Ada.", JSON.stringify(after));
    return `WorkerCrashedError after ${told.toFixed(0)} ms; the app lives, and the conversation went on after ${(performance.now() - killed).toFixed(0)} ms`;
}

/** kill -9 of the broker: the page is connected anew, and a conversation with a key goes on. */
async function brokerKill(desktop) {
    const { page, model } = desktop;
    const key = `broker-${Math.random()}`;
    await page.evaluate(async ({ key, model }) => {
        await window.__hearth.session({ key, model }).prompt("My name is Grace.", { maxTokens: 4 });
    }, { key, model });
    const before = await page.evaluate(() => window.__hearth.memory());
    const gone = [before.daemon.pid, ...before.workers.map(({ pid }) => pid)];
    const broker = parentOf(before.daemon.pid);
    const killed = performance.now();
    process.kill(broker, "SIGKILL");
    await until(10_000, () => page.evaluate(() => window.__hearth.state === "ready" && window.__hearth.memory().then(() => true, () => false)));
    const back = performance.now() - killed;
    const history = await page.evaluate((key) => window.__hearth.session({ key }).history(), key);
    expect(history.some(({ content }) => content === "My name is Grace."), "the conversation was lost");
    await until(2000, () => gone.every((pid) => !alive(pid)));
    await page.evaluate((key) => window.__hearth.session({ key }).remove(), key);
    return `another one after ${back.toFixed(0)} ms, with the conversation; the old daemon and its worker are gone`;
}

export const PARTS = { walls, chat, accessible, streams, credits, abort, reload, "close of a window": closeWindow, "kill -9 of the worker": workerKill, "kill -9 of the broker": brokerKill };

/** MODEL_CONFIG says something: with an idle time of a second and a half a conversation's memory comes back and the model
 * stays; with REUSE_SESSIONS false it comes back at once; in both cases the conversation goes on. */
export async function config(desktop, expected) {
    const { page, model } = desktop;
    const kept = () => page.evaluate(() => window.__hearth.memory().then(({ workers }) => workers[0].kvBytes));
    const told = await page.evaluate(() => window.localModel.config());
    for (const [key, value] of Object.entries(expected)) expect(told[key] === value, `${key} is ${told[key]}`);
    const key = `config-${Math.random()}`;
    const ask = (text) => page.evaluate(({ key, model, text }) => window.__hearth.session({ key, model, system: "Be brief." }).prompt(text, { maxTokens: 4 }), { key, model, text });
    await ask(`My name is Hedy. ${longText(300)}`);
    const began = performance.now();
    const before = await kept();
    expect(!told.REUSE_SESSIONS || before > 0, "no context was kept after an answer");
    // figures are some hundred milliseconds old
    await until(told.REUSE_SESSIONS ? told.MAX_IDLE_TIME + 5000 : 2000, async () => (await kept()) <= before / 4);
    const took = performance.now() - began;
    const second = await ask("What is my name?");
    expect(second.usage.answerTokens > 0 && second.usage.promptTokens > 300, JSON.stringify(second.usage));
    const models = await page.evaluate(() => window.__hearth.models());
    expect(models.find(({ name }) => name === model).state === "loaded", "the model was unloaded");
    const when = told.REUSE_SESSIONS ? `MAX_IDLE_TIME ${told.MAX_IDLE_TIME} ms: the context's ${Math.round(before / 1000)} kB were given back after ${took.toFixed(0)} ms` : "REUSE_SESSIONS false: the context was given back at once";
    return `${when}, and the conversation went on (${second.usage.cachedTokens} of ${second.usage.promptTokens} tokens known)`;
}

/** All processes of the app, hearth's too. */
async function everybody(desktop) {
    const memory = await desktop.page.evaluate((model) => window.__hearth.load(model).then(() => window.__hearth.memory()), desktop.model);
    const pids = [...(await desktop.processes()), parentOf(memory.daemon.pid), memory.daemon.pid, ...memory.workers.map(({ pid }) => pid)];
    return [...new Set(pids)];
}

async function ended(pids, began) {
    await until(2000, () => pids.every((pid) => !alive(pid))).catch(() => {
        throw new Error(`still there after 2 s: ${pids.filter(alive).map((pid) => `${pid} ${commandOf(pid)}`).join("; ")}`);
    });
    return `${pids.length} processes, none left after ${(performance.now() - began).toFixed(0)} ms`;
}

export async function quit(desktop) {
    const pids = await everybody(desktop);
    // an answer is being computed
    await desktop.page.evaluate((model) => void window.__hearth.session({ model }).prompt("Write a long story.", { ignoreEos: true, maxTokens: 1500 }), desktop.model);
    const began = performance.now();
    const quitting = desktop.quit();
    const text = await ended(pids, began);
    await quitting;
    return text;
}

export async function crash(desktop) {
    const pids = await everybody(desktop);
    await desktop.page.evaluate((model) => void window.__hearth.session({ model }).prompt("Write a long story.", { ignoreEos: true, maxTokens: 1500 }), desktop.model);
    const began = performance.now();
    const crashing = desktop.crash();
    const text = await ended(pids, began);
    await crashing;
    return text;
}

function alive(pid) {
    try {
        return readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1][0] !== "Z";
    } catch {
        return false;
    }
}

function parentOf(pid) {
    return Number(readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ")[1]);
}

function commandOf(pid) {
    return existsSync(`/proc/${pid}/cmdline`) ? readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").slice(0, 120) : "";
}
