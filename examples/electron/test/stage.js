// Lays the app out where it can run: here, if `npm install` was said; else in the user's cache, with what
// package-lock.json names. Also finds Electron and a browser.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

export const example = fileURLToPath(new URL("..", import.meta.url));
const repository = fileURLToPath(new URL("../../..", import.meta.url));
const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "hearth");

/** Builds the app; where it is, and `load(name)` for packages it needs. */
export function stage() {
    const folder = existsSync(join(example, "node_modules/playwright-core")) ? example : install();
    const modules = join(folder, "node_modules");
    execFileSync(process.execPath, [join(example, "build.js"), "--out", join(folder, "dist"), "--modules", modules], { stdio: "inherit" });
    const require = createRequire(join(folder, "package.json"));
    return {
        app: folder,
        modules,
        resolve: (name) => require.resolve(name),
        load: (name) => import(pathToFileURL(require.resolve(name)).href),
    };
}

/** Whether main, the preload script and a page in TypeScript fit the types of hearth and of Electron; what does not. */
export function checkTypes({ app, modules }) {
    if (app !== example) {
        copyFileSync(join(example, "tsconfig.json"), join(app, "tsconfig.json"));
        for (const folder of ["electron", "test"]) cpSync(join(example, folder), join(app, folder), { recursive: true, filter: (path) => !/\.js$/.test(path) });
    }
    try {
        execFileSync(process.execPath, [join(modules, "typescript/bin/tsc"), "--noEmit", "-p", app], { encoding: "utf8" });
        return "";
    } catch (error) {
        return error.stdout || String(error);
    }
}

// one folder for each clone, as the app uses the package of that clone
function install() {
    const root = join(cache, `electron-${createHash("sha256").update(repository).digest("hex").slice(0, 8)}`);
    const folder = join(root, "examples/electron");
    const lock = readFileSync(join(example, "package-lock.json"));
    const installed = join(root, "installed");
    if (existsSync(installed) && lock.equals(readFileSync(installed))) return folder;
    console.error("Fetching what the example needs from npm …");
    rmSync(root, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    mkdirSync(join(root, "bindings"));
    symlinkSync(join(repository, "bindings/node"), join(root, "bindings/node"), "dir");
    for (const file of ["package.json", "package-lock.json"]) copyFileSync(join(example, file), join(folder, file));
    execFileSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], { cwd: folder, stdio: ["ignore", "inherit", "inherit"] });
    writeFileSync(installed, lock);
    return folder;
}

/** An Electron that can be started; undefined where there is none. After `npm install` here it may still have to be
 * downloaded, which electron's package does at its first use. */
export function findElectron({ modules }) {
    const override = process.env.ELECTRON_OVERRIDE_DIST_PATH;
    const own = join(modules, "electron");
    if (!override && modules.startsWith(example) && existsSync(join(own, "install.js")) && !existsSync(join(own, "path.txt"))) {
        try {
            execFileSync(process.execPath, [join(own, "install.js")], { timeout: 300_000, stdio: "ignore" });
        } catch {
            // it cannot be downloaded from here
        }
    }
    const name = existsSync(join(own, "path.txt")) ? readFileSync(join(own, "path.txt"), "utf8") : "electron";
    const candidates = [override && join(override, name), override && join(override, "electron"), join(own, "dist", name)];
    return candidates.find((path) => path && existsSync(path));
}

export function findChromium() {
    const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    for (const folder of (process.env.PATH ?? "").split(delimiter))
        for (const name of names) if (existsSync(join(folder, name))) return join(folder, name);
    return process.env.CHROMIUM;
}

/** SmolLM2, fetched if it is not there yet. */
export function findModel() {
    const script = join(repository, "scripts/models.sh");
    const folder = process.env.HEARTH_MODELS || execFileSync(script, ["--dir"], { encoding: "utf8" }).trim();
    const path = join(folder, "SmolLM2-135M-Instruct.Q4_1.gguf");
    if (!existsSync(path)) execFileSync(script, ["smollm2"], { stdio: "inherit" });
    return path;
}

export function findBinary() {
    return process.env.HEARTH_BINARY || join(repository, "build/hearth");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) stage();
