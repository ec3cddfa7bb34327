import type { ConnectOptions, Hearth, Session, SessionOptions } from "../index.js";

/** For a utility process of the app's own, which `registerHearth({ broker })` starts in the place of hearth's. */
export interface BrokerOptions {
    /** More for `connect`, as functions (`onLog`), which main cannot send. */
    connect?: ConnectOptions;
    /** May change what a page says of a conversation, or throw. */
    session?(options: SessionOptions): SessionOptions;
    /** When it is connected. */
    onStart?(hearth: Hearth): void;
    /** After each answer to a page. */
    onAnswer?(session: Session): void | Promise<void>;
}

/** Serves pages over the ports that main sends to this process. `options` may be a function of main's `data`. */
export function runBroker<Data = unknown>(options?: BrokerOptions | ((data: Data) => BrokerOptions | void)): {
    /** The connection that pages share. */
    readonly hearth: Promise<Hearth>;
};
