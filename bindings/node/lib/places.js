// Folders and sockets.
import { createHash } from "node:crypto";
import { lstatSync, mkdirSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { isAbsolute, join } from "node:path";

// macOS has the smallest sockaddr_un: 104 bytes with the NUL at the end
const SOCKET_BYTES_MAX = 103;

/** What names an app that did not say who it is. */
export function defaultApp() {
    return process.argv[1] ?? process.execPath;
}

export function hashOf(text, digits = 16) {
    return createHash("sha256").update(text).digest("hex").slice(0, digits);
}

/** A folder that is the user's alone; false where it is somebody else's, or open to others. */
export function makePrivateFolder(path) {
    try {
        mkdirSync(path, { recursive: true, mode: 0o700 });
        const status = lstatSync(path);
        if (process.platform === "win32")
            return status.isDirectory();
        return status.isDirectory() && status.uid === process.getuid() && (status.mode & 0o077) === 0;
    } catch {
        return false;
    }
}

/** The private socket of an app, short enough for every system. Undefined: there is no place for one. */
export function socketOf(app, env = process.env) {
    const name = `${hashOf(app)}.sock`;
    const user = process.getuid?.() ?? "user";
    const folders = [
        env.XDG_RUNTIME_DIR && isAbsolute(env.XDG_RUNTIME_DIR) && join(env.XDG_RUNTIME_DIR, "hearth"),
        join(tmpdir(), `hearth-${user}`),
        join("/tmp", `hearth-${user}`),
    ];
    for (const folder of folders) {
        if (folder && Buffer.byteLength(join(folder, name)) <= SOCKET_BYTES_MAX && makePrivateFolder(folder))
            return join(folder, name);
    }
    return undefined;
}

/** Where the user's own daemon listens. */
export function sharedSockets(env = process.env) {
    const sockets = [];
    if (env.XDG_RUNTIME_DIR && isAbsolute(env.XDG_RUNTIME_DIR))
        sockets.push(join(env.XDG_RUNTIME_DIR, "hearth", "hearth.sock"));
    sockets.push(join(stateFolder(env), "hearth.sock"));
    return sockets;
}

function xdgFolder(variable, belowHome, env) {
    const base = env[variable];
    return join(base && isAbsolute(base) ? base : join(homedir(), ...belowHome), "hearth");
}

function stateFolder(env) {
    if (process.platform === "win32")
        return join(env.LOCALAPPDATA ?? join(homedir(), "AppData", "Local"), "hearth");
    if (process.platform === "darwin" && !env.XDG_STATE_HOME)
        return join(homedir(), "Library", "Application Support", "hearth");
    return xdgFolder("XDG_STATE_HOME", [".local", "state"], env);
}

/** What is kept of an app. */
export function appFolder(app, env = process.env) {
    const words = app.split(/[\\/]/).pop().replace(/[^\w.-]/g, "_").slice(0, 40);
    return join(stateFolder(env), "apps", `${words}-${hashOf(app, 8)}`);
}

/** Where hearth looks for models that nobody named. */
export function defaultModels(env = process.env) {
    return join(process.platform === "linux" ? xdgFolder("XDG_DATA_HOME", [".local", "share"], env) : stateFolder(env), "models");
}
