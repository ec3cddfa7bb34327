// Where the executable is.
import { accessSync, constants, statSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, dirname, join, resolve } from "node:path";

import { BinaryNotFoundError } from "./errors.js";

const file = process.platform === "win32" ? "hearth.exe" : "hearth";
export const platformPackage = `@hearth/${process.platform}-${process.arch}`;

/** Programs cannot be started out of an archive of Electron; what is unpacked lies beside it. */
export function unpacked(path) {
    return path.replace(/([\\/])app\.asar(?=[\\/])/g, "$1app.asar.unpacked");
}

function isFile(path) {
    try {
        return statSync(path).isFile();
    } catch {
        return false;
    }
}

function isExecutable(path) {
    try {
        accessSync(path, constants.X_OK);
        return true;
    } catch {
        return false;
    }
}

function inResources(folder) {
    if (!folder)
        return [];
    const modules = join(folder, "app.asar.unpacked", "node_modules", ...platformPackage.split("/"));
    // as extraResources or extraResource may have put it there; then where the package was unpacked
    const copied = [["hearth", "bin"], [`${process.platform}-${process.arch}`, "bin"], ["bin"], []];
    return [...copied.map((below) => join(folder, ...below, file)), join(modules, "bin", file)];
}

/** From this package, and from the program: bundlers put this file elsewhere. */
function inPackages() {
    const found = [];
    const bases = [import.meta.url, resolve(process.argv[1] ?? process.cwd(), "x")];
    for (const base of bases) {
        try {
            const manifest = createRequire(base).resolve(`${platformPackage}/package.json`);
            found.push(unpacked(join(dirname(manifest), "bin", file)));
        } catch {
            // not installed there
        }
    }
    return found;
}

function onPath(path = "") {
    return path.split(delimiter).filter(Boolean).map((folder) => join(folder, file));
}

function notFound(searched, bad) {
    const error = new BinaryNotFoundError(
        bad ? `${bad} cannot be executed` : "there is no hearth executable for this system", {
            hint: bad
                ? `make it executable (chmod +x ${bad}), or name another one by HEARTH_BINARY`
                : `install ${platformPackage} (npm leaves optional packages out with --omit=optional), or name an executable ` +
                  "by HEARTH_BINARY or the option `binary`; in a packaged Electron app unpack it from the archive " +
                  `(asarUnpack: "**/node_modules/@hearth/**") or copy it by extraResources`,
        });
    error.message += `: ${error.hint}`;
    error.searched = searched;
    return error;
}

/** What was named must be there; else the first place that has one. */
export function findBinary({ binary, env = process.env, resources = process.resourcesPath } = {}) {
    const named = env.HEARTH_BINARY || binary;
    const places = named
        ? [[unpacked(resolve(named)), env.HEARTH_BINARY ? "HEARTH_BINARY" : "option"]]
        : [
            ...inResources(resources).map((path) => [path, "resources"]),
            ...inPackages().map((path) => [path, "package"]),
            ...onPath(env.PATH).map((path) => [path, "PATH"]),
        ];
    let bad;
    for (const [path, from] of places) {
        if (isFile(path) && isExecutable(path))
            return { path, from };
        if (isFile(path))
            bad ??= path;
    }
    throw notFound(places.map(([path]) => path), bad);
}
