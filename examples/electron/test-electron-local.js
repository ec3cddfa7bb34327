#!/usr/bin/env node
// The example app in whole: streams, aborts, reloads, crashes, its end, and whether anything ever freezes.
//   node test-electron-local.js [--shim] [--json] [--only PART,…] [--except PART,…] [--model PATH]
// With Electron (installed here, or ELECTRON_OVERRIDE_DIST_PATH) it drives the real app; without, or with --shim, its
// unmodified parts in Node and Chromium over test/shim. It says which. What it lacks is fetched into the cache.
import { mkdtempSync, mkdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { launch } from "./test/desktop.js";
import { frozen } from "./test/frozen.js";
import * as parts from "./test/parts.js";
import { checkTypes, findBinary, findModel, stage } from "./test/stage.js";

const { values } = parseArgs({
    options: {
        shim: { type: "boolean" },
        json: { type: "boolean" },
        only: { type: "string" },
        except: { type: "string" },
        model: { type: "string" },
        threads: { type: "string" },
    },
});
const only = values.only?.split(",");
const except = values.except?.split(",") ?? [];
const wanted = (name) => (!only || only.includes(name)) && !except.includes(name);
const results = [];
process.exitCode = await main();

async function main() {
    const staged = stage();
    const inPage = await parts.bundleForPage(staged);
    const axe = readFileSync(staged.resolve("axe-core/axe.min.js"), "utf8");
    const file = values.model ?? findModel();
    const model = basename(file, ".gguf");
    const profiles = mkdtempSync(join(tmpdir(), "hearth-app-"));
    const models = join(profiles, "models");
    mkdirSync(models);
    symlinkSync(file, join(models, basename(file)));
    const start = async (name, ...more) => {
        const switches = [`--user-data-dir=${join(profiles, name)}`, `--models=${models}`, ...more];
        const desktop = await launch(staged, { switches, shim: values.shim, env: { HEARTH_BINARY: findBinary() } });
        return parts.prepare(desktop, { inPage, model, axe });
    };
    try {
        if (wanted("types")) await check("types", () => types(staged));
        await runParts(start);
    } finally {
        rmSync(profiles, { recursive: true, force: true });
    }
    const failed = results.filter(({ ok }) => !ok);
    if (values.json) console.log(JSON.stringify({ results, ok: failed.length === 0 }));
    else console.log(failed.length ? `\n${failed.length} of ${results.length} failed` : `\nall ${results.length} passed`);
    return failed.length ? 1 : 0;
}

async function runParts(start) {
    let desktop = await start("profile");
    say(`Run with: ${desktop.kind}\n`);
    for (const [name, part] of Object.entries(parts.PARTS)) if (wanted(name)) await check(name, () => part(desktop));
    if (wanted("config")) {
        for (const other of [{ MAX_IDLE_TIME: 1500 }, { REUSE_SESSIONS: false, LAZY_CONTEXT_CREATION: false }]) {
            const changed = await start("config", `--config=${JSON.stringify(other)}`);
            await check(`config ${Object.keys(other)[0]}`, () => parts.config(changed, other));
            await changed.quit();
        }
    }
    if (wanted("frozen")) {
        const threads = availableParallelism();
        await check("frozen", () => frozen(desktop, say, "threads as hearth chooses them"));
        await check("quit", () => parts.quit(desktop));
        desktop = await start("all-cores", `--threads=${values.threads ?? threads}`);
        await check("frozen-all-cores", () => frozen(desktop, say, `the engine on all ${threads} cores`));
        await check("crash", () => parts.crash(desktop));
        return;
    }
    await check("quit", () => parts.quit(desktop));
    if (wanted("crash")) await check("crash", async () => parts.crash(await start("profile")));
}

function types(staged) {
    const wrong = checkTypes(staged);
    if (wrong) throw new Error(wrong);
    return "main, preload script, worker and page fit the declarations of electron's own package";
}

async function check(name, work) {
    const began = performance.now();
    let ok = true;
    let text;
    try {
        text = await work();
    } catch (error) {
        ok = false;
        text = error?.stack ?? String(error);
    }
    results.push({ name, ok, text, seconds: (performance.now() - began) / 1000 });
    say(`${ok ? "ok    " : "NOT OK"} ${name}: ${text}`);
}

function say(text) {
    if (!values.json) console.log(text);
}
