import type { EventEmitter } from "node:events";
import type { IpcMainEvent, IpcMainInvokeEvent, WebFrameMain } from "electron";
import type { ConnectOptions, HearthEvent, LoadOptions, Memory, ModelInfo, SessionInfo, Status } from "../index.js";

/** What can be sent to another process. */
export type BrokerConnectOptions = Omit<ConnectOptions, "signal" | "onLog" | "transport"> & { transport?: "socket" | "loopback" };

export interface HearthMainOptions {
    /** Which pages may ask: their origins, as ["app://chat"], or a function of their frame. */
    allow: string[] | ((frame: WebFrameMain) => boolean);
    /** Frames inside pages too. Default: false. */
    subframes?: boolean;
    /** Names that pages say, and the files that they stand for. A page never says a path. Besides these it can name the
     * files in the folders of `connect.models`. */
    models?: Record<string, string>;
    /** For the broker's connection. `app` is by default the app's name. */
    connect?: BrokerConnectOptions;
    /** A utility process of the app's own, which calls `runBroker` of "hearth/electron/broker". */
    broker?: string | URL;
    /** For that process; anything that can be cloned. */
    data?: unknown;
    /** Variables for it, besides the process's own. */
    env?: Record<string, string>;
}

export interface HearthMainEvents {
    /** What `hearth.on` tells in Node, of the broker's connection. */
    event: [HearthEvent];
    /** A frame was not allowed. */
    refused: [{ url: string; why: string }];
    /** The broker ended by itself; it is started again. */
    exit: [code: number];
    /** What a broker of the app's own posted. */
    message: [unknown];
}

export interface HearthMain extends EventEmitter<HearthMainEvents> {
    /** The broker's. */
    readonly pid: number | undefined;
    /** Whether the sender of an event may ask: for handlers of the app's own. */
    allows(event: IpcMainEvent | IpcMainInvokeEvent): boolean;
    /** Makes a file known to pages under a name. */
    addModel(alias: string, path: string): Promise<string>;
    removeModel(alias: string): Promise<void>;
    request(method: "memory"): Promise<Memory>;
    request(method: "status"): Promise<Status>;
    request(method: "models"): Promise<ModelInfo[]>;
    request(method: "sessions"): Promise<SessionInfo[]>;
    request(method: "load", model: string, options?: Omit<LoadOptions, "signal" | "onProgress">): Promise<ModelInfo>;
    request(method: "unload", model: string, options?: { force?: boolean }): Promise<ModelInfo>;
    /** Ends the broker, the daemon and its workers. The app's quitting waits for it by itself. */
    close(): Promise<void>;
}

/** Starts the broker and lets allowed pages connect to it; once per app, after "ready". */
export function registerHearth(options: HearthMainOptions): HearthMain;

/** The path of the preload script, for `webPreferences.preload`. */
export const preloadPath: string;
