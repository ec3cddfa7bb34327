import { app, BrowserWindow, session, shell } from "electron";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { handleAppProtocol, ORIGIN, registerAppScheme } from "./appProtocol.js";
import { registerLocalModel } from "./localModelIpcHandlers.js";

const dist = fileURLToPath(new URL("..", import.meta.url));

registerAppScheme();
if (!app.requestSingleInstanceLock()) app.quit();

app.whenReady().then(() => {
    session.defaultSession.setPermissionRequestHandler((_contents, permission, callback) => callback(permission === "clipboard-sanitized-write"));
    handleAppProtocol(join(dist, "renderer"));
    registerLocalModel();
    createWindow();
    app.on("activate", () => {
        if (BrowserWindow.getAllWindows().length === 0) createWindow();
    });
});

app.on("second-instance", () => {
    const [window] = BrowserWindow.getAllWindows();
    if (window?.isMinimized()) window.restore();
    window?.focus();
});

app.on("window-all-closed", () => {
    if (process.platform !== "darwin") app.quit();
});

// pages go nowhere, and open nothing but web pages in the user's browser
app.on("web-contents-created", (_event, contents) => {
    contents.on("will-navigate", (event) => event.preventDefault());
    contents.on("will-attach-webview", (event) => event.preventDefault());
    contents.setWindowOpenHandler(({ url }) => {
        if (URL.canParse(url) && new URL(url).protocol === "https:") setImmediate(() => shell.openExternal(url));
        return { action: "deny" };
    });
});

function createWindow(): void {
    const window = new BrowserWindow({
        width: 1100,
        height: 760,
        minWidth: 360,
        minHeight: 420,
        show: false,
        title: "Hearth Chat",
        autoHideMenuBar: true,
        webPreferences: {
            preload: join(dist, "electron/preload.cjs"),
            sandbox: true,
            contextIsolation: true,
            nodeIntegration: false,
        },
    });
    window.once("ready-to-show", () => window.show());
    window.loadURL(`${ORIGIN}/index.html`);
}
