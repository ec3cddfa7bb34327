#!/usr/bin/env node
// Measures a model without Electron, as an app's worker would use it, beside the targets of the document that
// this example answers. Needs no `npm install`.
//   node test-local-model.js MODEL.gguf [inference|load|context|memory|sessions|all] [--json]
// The executable is HEARTH_BINARY, else ../../build/hearth, else what the package finds.
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import { connect, findBinary, WorkerCrashedError } from "../../bindings/node/index.js";
import { bytes, Report, seconds } from "./test/report.js";

const MODES = ["inference", "load", "context", "memory", "sessions", "all"];
const IDLE_S = 2;
const CONVERSATIONS = 50;
const SYSTEM = "You are a helpful assistant.";
const QUESTION = "Explain in a few sentences why the sky is blue, and why it is red in the evening.";
const TEXT = "The lighthouse keeper wrote down the wind, the waves and the ships that passed, every day for thirty years. ".repeat(32);

const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { json: { type: "boolean" }, threads: { type: "string" }, help: { type: "boolean", short: "h" } },
});
const [path, mode = "inference"] = positionals;
if (values.help || !path || !MODES.includes(mode)) {
    console.error(`Usage: node test-local-model.js MODEL.gguf [${MODES.join("|")}] [--json] [--threads N]`);
    process.exit(values.help ? 0 : 2);
}
if (!existsSync(path)) {
    console.error(`There is no file ${path}.`);
    process.exit(2);
}
process.exitCode = await main();

async function main() {
    const built = fileURLToPath(new URL("../../build/hearth", import.meta.url));
    const binary = process.env.HEARTH_BINARY ?? (existsSync(built) ? built : findBinary().path);
    const report = new Report({ path, fileBytes: statSync(path).size, json: values.json });
    report.limit(await measureLimits(binary));
    const store = mkdtempSync(join(tmpdir(), "hearth-test-"));
    const hearth = await connect({
        app: `test-local-model ${store}`,
        binary,
        store,
        files: [path],
        context: 2048,
        idle: IDLE_S,
        ...(values.threads ? { threads: Number(values.threads) } : {}),
    });
    try {
        const model = await hearth.addModel(path);
        const wanted = (name) => mode === "all" || mode === name || (mode === "inference" && (name === "load" || name === "context" || name === "memory"));
        // each measurement stands on those before it, so they are made in any case, and shown where asked for
        await load(hearth, model, report, wanted("load"));
        await context(hearth, model, report, wanted("context"));
        if (wanted("inference") || wanted("memory")) await inference(hearth, model, report, { shown: wanted("inference"), memoryShown: wanted("memory") });
        report.limit(await measureLimits(binary)); // neighbours change what a machine can do: before and after
        if (mode === "inference" || mode === "memory" || mode === "all") await idle(hearth, model, report);
        if (mode === "inference" || mode === "sessions" || mode === "all") await conversations(hearth, model, report);
        if (mode === "inference" || mode === "sessions" || mode === "all") await crash(hearth, model, report);
    } finally {
        await hearth.close();
        rmSync(store, { recursive: true, force: true });
    }
    return report.print() ? 0 : 1;
}

/** What this machine allows: how fast it reads memory, and how many tokens a second that is for this file. */
async function measureLimits(binary) {
    const threads = values.threads ? ["-t", values.threads] : [];
    const { stdout } = await promisify(execFile)(binary, ["bench", path, "-p", "0", "-n", "8", "-r", "1", "--json", ...threads]);
    const { limits, decode } = JSON.parse(stdout);
    return { readGbPerS: limits.read_gb_per_s, tokensPerS: decode[0].limit_tokens_per_s };
}

async function load(hearth, model, report, shown) {
    const began = performance.now();
    let steps = 0;
    await hearth.load(model, { onProgress: () => steps++ });
    const took = (performance.now() - began) / 1000;
    if (shown) report.time("load", took, `loading, ${steps} steps of progress`);
}

async function context(hearth, model, report, shown) {
    const session = hearth.session({ model, system: SYSTEM });
    const began = performance.now();
    await session.prompt("Hi", { maxTokens: 1, temperature: 0 });
    const took = (performance.now() - began) / 1000;
    await session.close();
    if (shown) report.time("context", took, "context made by its first message, with that message’s first token");
}

async function inference(hearth, model, report, { shown, memoryShown }) {
    const session = hearth.session({ key: "inference", model, system: SYSTEM });
    const options = { maxTokens: 128, temperature: 0, ignoreEos: true };
    const first = await session.prompt(QUESTION, options);
    const second = await session.prompt("Say it shorter.", { ...options, maxTokens: 16 });
    const long = hearth.session({ key: "long", model, system: SYSTEM });
    const read = await long.prompt(`${TEXT}\n\nWhat did he write down?`, { maxTokens: 16, temperature: 0 });
    if (shown) {
        report.time("firstToken", first.timings.firstTokenMs / 1000, `first token of ${first.usage.promptTokens} tokens`);
        report.speed(first.timings.answerTokensPerSecond, `over ${first.usage.answerTokens} tokens`);
        report.note("second turn", `first token after ${seconds(second.timings.firstTokenMs / 1000)}; ${second.usage.cachedTokens} of ${second.usage.promptTokens} tokens were known`);
        report.note("long prompt", `first token of ${read.usage.promptTokens} tokens after ${seconds(read.timings.firstTokenMs / 1000)} (${Math.round(read.timings.promptTokensPerSecond)} tokens/s)`);
    }
    const memory = await hearth.memory();
    if (memoryShown) report.memory(memory.privateBytes, memory.mappedBytes, "after an answer and a long prompt, all of hearth’s processes");
}

/** Idle, a conversation gives its memory back; its text stays, and it goes on. */
async function idle(hearth, model, report) {
    const session = hearth.session({ key: "idle", model, system: SYSTEM });
    await session.prompt(TEXT, { maxTokens: 4, temperature: 0 });
    const before = await workerOf(hearth, model);
    const after = await until(IDLE_S * 1000 + 8000, async () => {
        const worker = await workerOf(hearth, model);
        return worker.kvBytes < before.kvBytes / 4 && worker;
    });
    const again = await session.prompt("And then?", { maxTokens: 4, temperature: 0 });
    report.check("idle clean-up", after !== undefined,
        `after ${IDLE_S} idle seconds: private ${bytes(before.privateBytes)} → ${bytes((after ?? before).privateBytes)}, model still loaded; ` +
        `the next message's first token after ${seconds(again.timings.firstTokenMs / 1000)}, ${again.usage.cachedTokens} of ${again.usage.promptTokens} tokens known`);
}

/** More than any number of "sequences", all at once, and each a second time. */
async function conversations(hearth, model, report) {
    const open = Array.from({ length: CONVERSATIONS }, (_, index) => hearth.session({ key: `many-${index}`, model, system: SYSTEM }));
    const began = performance.now();
    const ask = (text) => Promise.allSettled(open.map((session, index) => session.prompt(`${text} ${index}.`, { maxTokens: 8, temperature: 0 })));
    const answers = [...(await ask("Say something about the number")), ...(await ask("Now about twice"))];
    const failed = answers.filter(({ status }) => status === "rejected");
    const histories = await Promise.all(open.map((session) => session.history()));
    const whole = histories.every((history) => history.filter(({ role }) => role === "assistant").length === 2);
    const { privateBytes } = await hearth.memory();
    report.check(`${CONVERSATIONS} conversations`, failed.length === 0 && whole,
        `${answers.length - failed.length} of ${answers.length} answers in ${seconds((performance.now() - began) / 1000)}, all of them remembered, private ${bytes(privateBytes)}` +
        (failed.length ? `; ${failed[0].reason.message}` : ""));
}

/** kill -9 of the model's process in the middle of an answer. */
async function crash(hearth, model, report) {
    const session = hearth.session({ key: "crash", model, system: SYSTEM });
    await session.prompt("My name is Ada.", { maxTokens: 8, temperature: 0 });
    const { pid } = await workerOf(hearth, model);
    const answer = session.prompt("Tell me a long story.", { maxTokens: 1024, ignoreEos: true });
    let killedAt;
    let failure;
    try {
        for await (const _text of answer.textStream()) {
            if (killedAt !== undefined) continue;
            killedAt = performance.now();
            process.kill(pid, "SIGKILL");
        }
    } catch (error) {
        failure = error;
    }
    const told = performance.now() - killedAt;
    const again = await session.prompt("What is my name?", { maxTokens: 8, temperature: 0 });
    const history = await session.history();
    const remembers = history.some(({ content }) => content === "My name is Ada.");
    report.check("kill -9 of the worker", failure instanceof WorkerCrashedError && told < 1000 && remembers && again.usage.answerTokens > 0,
        `${failure?.name ?? "no error"} after ${seconds(told / 1000)}; the next message was answered ${seconds((performance.now() - killedAt) / 1000)} after the kill, ` +
        `and the conversation ${remembers ? "went on" : "was lost"}`);
}

async function workerOf(hearth, model) {
    const { workers } = await hearth.memory();
    return workers.find((worker) => worker.model === model);
}

async function until(limitMs, work) {
    for (const end = performance.now() + limitMs; performance.now() < end; ) {
        const value = await work();
        if (value) return value;
        await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return undefined;
}
