/** The page's side: `connect()` of "hearth" over a port to the app's broker. Sessions and answers are the same; what only
 * makes sense beside the daemon's process (paths, `fetch`, its pid) is not there. */
import type {
    Answer, CallOptions, EmbedOptions, Estimate, GenerationOptions, HearthEvents, LoadOptions, Memory, Message, ModelDetails,
    ModelInfo, PromptOptions, Session, SessionInfo, SessionOptions, State, Status,
} from "../index.js";

export {
    AbortedError, BinaryNotFoundError, BusyError, ClosedError, ConnectionLostError, ContextFullError, DaemonError, HearthError,
    InvalidArgumentError, MemoryLimitError, ModelFileChangedError, ModelInvalidError, ModelNotFoundError, SessionNotFoundError,
    UnauthorizedError, UnsupportedError, UpstreamError, WorkerCrashedError,
} from "../index.js";
export type {
    Answer, AnswerResult, Chunk, Estimate, GenerationOptions, Memory, Message, ModelInfo, PromptOptions, Session, SessionInfo,
    SessionOptions, State, Status, Stop, Timings, Usage,
} from "../index.js";

export interface PageConnectOptions {
    /** How long main may take to answer, in milliseconds. Default: 10 000. */
    timeout?: number;
    /** How many characters of an answer may wait in the page for who reads it; then the model pauses. Default, and the
     * most: 32 768. */
    window?: number;
}

export type PageEvents = Pick<HearthEvents, "state" | "load" | "loaded" | "unload" | "failed" | "restart" | "memory">;

export interface PageHearth {
    readonly state: State;
    load(model: string, options?: LoadOptions): Promise<ModelInfo>;
    unload(model: string, options?: CallOptions & { force?: boolean }): Promise<ModelInfo>;
    models(options?: CallOptions): Promise<ModelInfo[]>;
    estimate(model: string, options?: CallOptions & Pick<LoadOptions, "context" | "kv" | "fit" | "threads" | "mmap">): Promise<Estimate>;
    inspect(model: string, options?: CallOptions): Promise<ModelDetails>;
    embed(model: string, text: string, options?: EmbedOptions): Promise<number[]>;
    embed(model: string, texts: string[], options?: EmbedOptions): Promise<number[][]>;
    countTokens(model: string, input: string | Message[], options?: CallOptions): Promise<number>;
    memory(options?: CallOptions): Promise<Memory>;
    status(options?: CallOptions): Promise<Status>;
    sessions(options?: CallOptions): Promise<SessionInfo[]>;
    session(options?: SessionOptions): Session;
    on<Type extends keyof PageEvents>(type: Type, listener: (event: PageEvents[Type]) => void): this;
    once<Type extends keyof PageEvents>(type: Type, listener: (event: PageEvents[Type]) => void): this;
    off<Type extends keyof PageEvents>(type: Type, listener: (event: PageEvents[Type]) => void): this;
    /** Ends this page's work; the app's connection stays. */
    close(): Promise<void>;
}

/** Connects this page. Where the broker ends and is started again, so is the connection, and conversations with a key go
 * on; what ran rejects with ConnectionLostError. */
export function connect(options?: PageConnectOptions): Promise<PageHearth>;
