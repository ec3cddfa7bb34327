// The page comes from a scheme of the app's own, not from file:, whose pages could read every file.
import { protocol } from "electron";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

const SCHEME = "app";
export const ORIGIN = `${SCHEME}://chat`;

const TYPES: Record<string, string> = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "app.js.map": "application/json",
};

// no inline script or style, no network, no frames; what markup wants to be script has to be a TrustedType
const POLICY = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types dompurify",
].join("; ");

/** Before "ready". */
export function registerAppScheme(): void {
    protocol.registerSchemesAsPrivileged([{ scheme: SCHEME, privileges: { standard: true, secure: true, supportFetchAPI: true } }]);
}

/** Serves the files of TYPES in a folder, and nothing else. */
export function handleAppProtocol(folder: string): void {
    protocol.handle(SCHEME, async (request) => {
        const url = new URL(request.url);
        const name = url.pathname === "/" ? "index.html" : url.pathname.slice(1);
        const type = url.host === "chat" && Object.hasOwn(TYPES, name) ? TYPES[name] : undefined;
        if (!type) return new Response("Not found", { status: 404 });
        return new Response(new Uint8Array(await readFile(join(folder, name))), {
            headers: { "content-type": type, "content-security-policy": POLICY, "x-content-type-options": "nosniff" },
        });
    });
}
