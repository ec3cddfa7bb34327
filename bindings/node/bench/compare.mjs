#!/usr/bin/env node
// Measures an app with this package beside the same app with node-llama-cpp, in turn, and prints a table.
//   compare.mjs MODEL.gguf --peers FOLDER [--rounds 2] [--context 2048] [--prompt 600] [--tokens 48]
// FOLDER is one in which `npm install node-llama-cpp` has run; without it this package is measured alone.
import { spawn } from "node:child_process";
import { mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
        peers: { type: "string" }, rounds: { type: "string", default: "2" }, context: { type: "string", default: "2048" },
        prompt: { type: "string", default: "600" }, tokens: { type: "string", default: "48" }, json: { type: "boolean" },
    },
});
const [model] = positionals;
if (!model) {
    console.error("usage: compare.mjs MODEL.gguf --peers FOLDER");
    process.exit(2);
}

/** So that nobody is the first to read it from the disk. */
function warm(path) {
    const fd = openSync(path, "r");
    const buffer = Buffer.alloc(1 << 24);
    while (readSync(fd, buffer) > 0);
}

const place = mkdtempSync(join(tmpdir(), "hearth-bench-"));
process.on("exit", () => rmSync(place, { recursive: true, force: true }));

function run(app) {
    const env = { ...process.env, XDG_STATE_HOME: place, MODEL: model, CONTEXT: values.context, PROMPT: values.prompt, TOKENS: values.tokens, PEERS: values.peers };
    const child = spawn(process.execPath, [fileURLToPath(new URL(`app-${app}.mjs`, import.meta.url))], { env, stdio: ["ignore", "pipe", "inherit"] });
    let output = "";
    child.stdout.on("data", (bytes) => (output += bytes));
    return new Promise((resolve, reject) => child.on("close", (code) => {
        const line = output.split("\n").find((one) => one.startsWith("RESULTS "));
        if (line)
            resolve(JSON.parse(line.slice(8)));
        else
            reject(new Error(`${app} ended with code ${code}: ${output.slice(-1000)}`));
    }));
}

const median = (list) => {
    const sorted = list.filter((value) => value !== undefined).sort((a, b) => a - b);
    return sorted.length ? (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2 : undefined;
};
const MB = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`;
const seconds = (ms) => (ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(2)} s`);
const rate = (value) => `${value.toFixed(1)} /s`;
const phasesOf = (names) => (result) => Math.max(...names.map((name) => result.phases[name]?.block ?? 0));
const memoryOf = (when) => (result) => result[when] && [result[when].private, result[when].mapped];

const rows = [
    ["start of the engine", (r) => r.phases.start.ms, seconds],
    ["load", (r) => r.phases.load.ms, seconds],
    ["context", (r) => r.phases.context.ms, seconds],
    ["memory with the context: private + mapped", memoryOf("loaded"), MB],
    ["first token of a short prompt", (r) => r.short.first, seconds],
    [`first token of a prompt of ${values.prompt} words`, (r) => r.long.first, seconds],
    ["its prompt, tokens", (r) => (1000 * r.long.prompt) / r.long.first, rate],
    ["its answer, tokens", (r) => r.long.rate, rate],
    ["memory then: private + mapped", memoryOf("answered"), MB],
    ["a second conversation: its first token", (r) => (r.second.error ? r.second.error : r.second.first), seconds],
    ["the first one again: its first token", (r) => r.again.first, seconds],
    ["abort in the middle of a prompt", (r) => r.abort, seconds],
    ["memory after some idle seconds", memoryOf("idle"), MB],
    ["event loop held: start and load", phasesOf(["start", "load", "context"]), seconds],
    ["event loop held: answers", phasesOf(["short", "long", "again", "second"]), seconds],
];

function cell(of, format, results) {
    const found = results.map(of).filter((value) => value !== undefined);
    if (typeof found[0] === "string")
        return `"${found[0]}"`;
    if (Array.isArray(found[0]))
        return [0, 1].map((at) => format(median(found.map((pair) => pair[at])))).join(" + ");
    return found.length ? format(median(found)) : "–";
}

warm(model);
const apps = values.peers ? ["hearth", "node-llama-cpp"] : ["hearth"];
const results = Object.fromEntries(apps.map((app) => [app, []]));
for (let round = 0; round < Number(values.rounds); round++) {
    for (const app of apps)
        results[app].push(await run(app));
}
if (values.json) {
    console.log(JSON.stringify(results));
} else {
    console.log(`| | ${apps.join(" | ")} |`);
    console.log(`|---|${apps.map(() => "---:|").join("")}`);
    for (const [name, of, format] of rows)
        console.log(`| ${name} | ${apps.map((app) => cell(of, format, results[app])).join(" | ")} |`);
}
