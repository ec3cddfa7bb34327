// What main does for local models: it starts the worker (a utility process), says which page may ask and
// which models there are. Messages between page and worker never pass through here, and so main never waits.
import { app, BrowserWindow, dialog, ipcMain } from "electron";
import type { IpcMainInvokeEvent } from "electron";
import { basename, join } from "node:path";
import { registerHearth } from "hearth/electron/main";
import type { BrokerConnectOptions, HearthMain } from "hearth/electron/main";
import { ORIGIN } from "./appProtocol.js";

export const MODEL_CONFIG = {
    /** Tokens that a conversation can have. Memory is taken for those alone that it has. */
    DEFAULT_CONTEXT_SIZE: 2048,
    /** Loading takes no context; the first message does. false: each load computes one token, so that the first message
     * finds everything warm. */
    LAZY_CONTEXT_CREATION: true,
    /** A conversation goes on where it was. false: its context is given back after each answer. */
    REUSE_SESSIONS: true,
    /** Idle conversations give their memory back; text and model stay. */
    MAX_IDLE_TIME: 5 * 60 * 1000,
    /** hearth cleans up by timers of its own, to the second; the worker looks this often whether it did. */
    CLEANUP_INTERVAL: 60 * 1000,
    /** Weights and private memory of all models together. */
    MEMORY_LIMIT: "2.6G",
};
export type ModelConfig = typeof MODEL_CONFIG;

/** Switches for trying things out: `electron . --models=DIR --threads=4 --config='{"MAX_IDLE_TIME": 3000}'`. */
function switches(): { config: ModelConfig; connect: BrokerConnectOptions } {
    const value = (name: string) => app.commandLine.getSwitchValue(name) || undefined;
    const config: ModelConfig = { ...MODEL_CONFIG, ...JSON.parse(value("config") ?? "{}") };
    const threads = value("threads");
    return {
        config,
        connect: {
            // one daemon for each profile of the app
            app: `hearth-chat ${app.getPath("userData")}`,
            store: join(app.getPath("userData"), "conversations"),
            models: [value("models") ?? join(app.getPath("userData"), "models")],
            context: config.DEFAULT_CONTEXT_SIZE,
            idle: config.MAX_IDLE_TIME / 1000,
            memory: config.MEMORY_LIMIT,
            ...(threads ? { threads: Number(threads) } : {}),
        },
    };
}

export function registerLocalModel(): HearthMain {
    const { config, connect } = switches();
    const hearth = registerHearth({
        allow: [ORIGIN],
        connect,
        broker: new URL("./localModelWorker.js", import.meta.url),
        data: config,
    });
    hearth.on("exit", (code) => console.error(`the worker ended (${code}); it is started again`));
    hearth.on("refused", ({ url, why }) => console.error(`refused ${url}: ${why}`));

    const handle = (channel: string, work: (event: IpcMainInvokeEvent) => unknown) =>
        ipcMain.handle(channel, (event) => {
            if (!hearth.allows(event)) throw new Error("this frame may not ask");
            return work(event);
        });
    handle("local-model:config", () => config);
    handle("local-model:choose", (event) => chooseModel(hearth, BrowserWindow.fromWebContents(event.sender)));
    return hearth;
}

/** The user picks a file; the page gets a name for it, never the path. */
async function chooseModel(hearth: HearthMain, window: BrowserWindow | null): Promise<string | null> {
    const options = { title: "Add a model", properties: ["openFile" as const], filters: [{ name: "GGUF models", extensions: ["gguf"] }] };
    const { canceled, filePaths } = window ? await dialog.showOpenDialog(window, options) : await dialog.showOpenDialog(options);
    const path = filePaths[0];
    if (canceled || !path) return null;
    const alias = basename(path, ".gguf").slice(0, 128);
    await hearth.addModel(alias, path);
    return alias;
}
