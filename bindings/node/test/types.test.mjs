// The declarations: a program that uses all of them is right, and ones that misuse them are not.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { after } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import * as hearth from "../index.js";

const packages = process.env.HEARTH_TEST_PACKAGES ?? "";
const tsc = join(packages, "node_modules", "typescript", "bin", "tsc");
const skip = existsSync(tsc) ? false : "typescript is not installed";
const place = mkdtempSync(join(tmpdir(), "hearth-types-"));
after(() => rmSync(place, { recursive: true, force: true }));
const root = fileURLToPath(new URL("..", import.meta.url));

async function compile(name, source, types = ["node"], lib = ["es2022"]) {
    const folder = join(place, name);
    mkdirSync(join(folder, "node_modules"), { recursive: true });
    symlinkSync(root, join(folder, "node_modules", "hearth"));
    symlinkSync(join(packages, "node_modules", "@types"), join(folder, "node_modules", "@types"));
    symlinkSync(join(packages, "node_modules", "undici-types"), join(folder, "node_modules", "undici-types"));
    writeFileSync(join(folder, "app.mts"), source);
    const compilerOptions = { strict: true, noEmit: true, target: "es2022", module: "nodenext", lib, types, skipLibCheck: false, preserveSymlinks: true };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["app.mts"] }));
    return promisify(execFile)(process.execPath, [tsc, "-p", folder]).then(() => "", ({ stdout, stderr }) => stdout + stderr);
}

test("a program that uses everything compiles", { skip }, async () => {
    assert.equal(await compile("sample", readFileSync(new URL("sample.mts", import.meta.url), "utf8")), "");
});

test("so it does in a browser's environment, and with disposal of newer libraries", { skip }, async () => {
    const source = `import { connect } from "hearth"; export const text = async () => (await (await connect()).session().prompt("a")).text.length;`;
    assert.equal(await compile("dom", source, [], ["es2022", "dom"]), "");
    const using = `import { connect } from "hearth"; export async function f() { await using h = await connect(); return h.state; }`;
    assert.equal(await compile("using", using, ["node"], ["esnext"]), "");
});

test("what is wrong does not compile", { skip }, async () => {
    const wrong = [
        `connect({ transport: "pigeon" })`, `connect({ models: "folder" })`, `h.session({ overflow: "burst" })`, `h.prompt("x")`,
        `h.session().prompt(7)`, `h.session().prompt("x", { topk: 1 })`, `h.on("nothing", () => {})`, `h.load("m", { kv: "f64" })`,
        `(await h.session().prompt("x")).stop === "never"`, `h.state = "ready"`, `new Hearth()`,
    ];
    const source = ['import { connect, Hearth } from "hearth"; declare const h: Hearth;', ...wrong.map((line) => `${line};`)].join("\n");
    const said = await compile("wrong", source);
    for (const [at, line] of wrong.entries())
        assert.match(said, new RegExp(`app\\.mts\\(${at + 2},`), `${line} compiles`);
});

test("what is declared is there, and the other way round", () => {
    const declared = [...readFileSync(join(root, "index.d.ts"), "utf8").matchAll(/^export (?:declare )?(?:class|function) (\w+)/gm)].map(([, name]) => name);
    assert.deepEqual([...new Set(declared)].sort(), Object.keys(hearth).sort());
});
