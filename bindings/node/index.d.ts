/** hearth for Node and Electron: language models that run in processes of their own, beside the app.
 *
 * ```js
 * import { connect } from "hearth";
 * await using hearth = await connect({ app: "org.example.notes", models: ["/path/to/models"] });
 * const chat = hearth.session({ model: "SmolLM2-135M-Instruct.Q4_1", system: "Be brief." });
 * for await (const chunk of chat.prompt("Why is the sky blue?"))
 *     if (chunk.type === "text") process.stdout.write(chunk.text);
 * ```
 */

declare global {
    interface SymbolConstructor {
        readonly asyncDispose: unique symbol;
    }
}

/* ---- connecting ---- */

/** Seconds, or a text as "90s", "10m", "1h"; "never": no end. */
export type Duration = number | string;
/** Bytes, or a text as "500M", "2.6G" (powers of 1000), "2Gi" (of 1024). */
export type Size = number | string;
/** How keys and values of a context are stored. */
export type KvType = "f16" | "q8_0" | "q4_0" | "q8_0/q4_0";

export interface ConnectOptions {
    /** Who the app is, as "org.example.notes": names the private socket and the folder that its conversations are kept
     * in. Processes of one user that say the same id share one daemon. Default: the path of the program. */
    app?: string;

    /** The user's own daemon (`hearth serve`), if one runs: true: use it, else start one of our own; "only": use it,
     * else fail. Which models there are, and how much memory they may take, is then for it to decide. Default: false. */
    shared?: boolean | "only";
    /** A daemon at this Unix socket; none is started. */
    socket?: string;
    /** A daemon at this address, as "http://127.0.0.1:7878"; none is started. */
    url?: string;
    /** The key that the daemon at `url` wants. */
    key?: string;
    /** How a daemon of our own is reached: "socket", a Unix socket in a folder that is the user's alone; "loopback", a
     * free port of 127.0.0.1 and a random key. Default: "loopback" on Windows, else "socket". */
    transport?: "socket" | "loopback" | Transport;

    /** The hearth executable. HEARTH_BINARY in the environment counts more. Default: the app's resources, the platform's
     * package, PATH, in this order. */
    binary?: string;

    /** Folders with GGUF files: each can be named by its file's name without ".gguf". */
    models?: string[];
    /** GGUF files. More can be given later, to `load` and `session` by their path, or to `addModel`. */
    files?: string[];
    /** What weights and private memory of all models may take together. Default: half of what the machine has. */
    memory?: Size;
    /** How long a conversation may wait before its memory is given back; its text is kept. Default: 5 minutes. */
    idle?: Duration;
    /** How long a model stays loaded after its last use. Default: one hour. */
    ttl?: Duration;
    /** How many tokens a conversation can have. Memory is taken for those alone that it has. Default: the model's own. */
    context?: number;
    /** Default: "f16". */
    kv?: KvType;
    /** What happens with a context that does not fit the memory. Default: "refuse". */
    fit?: "refuse" | "shrink";
    /** Default: as many as there are cores to use. */
    threads?: number;
    /** Where conversations are kept: a folder that no other daemon uses, or false: in memory alone. Default: a folder
     * of the app's own below the user's state. */
    store?: string | false;
    /** Variables for the daemon, besides the process's own. */
    env?: Record<string, string | undefined>;
    /** More arguments for `hearth serve`. */
    args?: string[];

    /** Ends the attempt to connect. */
    signal?: AbortSignal;
    /** How long a daemon of our own may take to start, in milliseconds. Default: 10 000. */
    startTimeout?: number;
    /** Each line that the daemon logs. */
    onLog?: (line: string) => void;
}

/** The way to a daemon. There are two: a Unix socket, and a port with a key. */
export interface Transport {
    readonly kind: string;
    /** What URLs begin with. */
    readonly origin: string;
    /** Options for `request` of node:http. */
    requestOptions(): { socketPath?: string; host?: string; port?: number; headers?: Record<string, string> };
}

/** Connects to a daemon, or starts one that lives no longer than this process, however that ends. */
export function connect(options?: ConnectOptions): Promise<Hearth>;

/** The executable that `connect` would start, and where it was found. Throws BinaryNotFoundError. */
export function findBinary(options?: { binary?: string }): { path: string; from: string };

/* ---- the connection ---- */

export type State =
    /** Requests are answered. */
    | "ready"
    /** The daemon went; it is looked for, or started again. Requests wait. */
    | "reconnecting"
    /** It could not be started again. The next request tries once more. */
    | "failed"
    /** `close` was called. */
    | "closed";

export interface HearthEvents {
    /** The connection. */
    state: { state: State; error?: HearthError };
    /** A model is being loaded, by whomever: 0 to 1. */
    load: { model: string; progress: number };
    loaded: { model: string; seconds: number };
    /** A model is gone from memory: "ttl", "asked", "evicted", "pressure", "changed", … */
    unload: { model: string; why: string };
    /** A model cannot be loaded, or its worker not restarted. */
    failed: { model: string; error: string };
    /** A worker or the daemon crashed and is there again; conversations go on. */
    restart: { what: "worker" | "daemon"; model?: string; cause: string };
    /** The machine is short of memory, or no longer: conversations and models give back what they have. */
    memory: { level: "none" | "some" | "much"; available: number; shedBytes: number };
    /** Each event of the daemon, as it says it (`GET /hearth/v1/events`). */
    event: { type: string; time: number; [more: string]: unknown };
}

export type HearthEvent = {
    [Type in keyof HearthEvents]: { type: Type } & Omit<HearthEvents[Type], "type">;
}[Exclude<keyof HearthEvents, "event">];

export interface LoadOptions {
    /** Ends the wait, with AbortedError. A load that has begun goes on; `unload` with `force` ends it. */
    signal?: AbortSignal;
    /** 0 to 1. */
    onProgress?: (progress: number) => void;
    context?: number;
    kv?: KvType;
    fit?: "refuse" | "shrink";
    threads?: number;
    /** How many answers are computed at once; others wait. Default: 8. */
    answers?: number;
    ttl?: Duration;
    idle?: Duration;
    /** false: reads the file into private memory, in place of using it where it is. */
    mmap?: boolean;
    /** Keeps the file's pages in memory; an error where the system refuses it. */
    mlock?: boolean;
}

export interface CallOptions {
    signal?: AbortSignal;
}

export declare class Hearth {
    private constructor();

    readonly state: State;
    /** Who answers: "own", a daemon that we started; "app", one that another process of this app started; "shared", the
     * user's; "given", one at `socket` or `url`. */
    readonly daemon: "own" | "app" | "shared" | "given";
    /** The process of our own daemon, else undefined. */
    readonly pid: number | undefined;

    /* -- models; each is named by its file's name without ".gguf", or by the path of its file -- */

    /** Loads a model; at once where it is loaded so already. Not needed before a prompt, which loads what it needs. */
    load(model: string, options?: LoadOptions): Promise<ModelInfo>;
    /** Gives back all that a model takes. BusyError while it is used, unless `force`: then its answers end. */
    unload(model: string, options?: CallOptions & { force?: boolean }): Promise<ModelInfo>;
    /** All models, loaded or not. */
    models(options?: CallOptions): Promise<ModelInfo[]>;
    /** What loading a model would take, and whether it fits; nothing is loaded. */
    estimate(model: string, options?: CallOptions & Pick<LoadOptions, "context" | "kv" | "fit" | "threads" | "mmap">): Promise<Estimate>;
    /** A model, and what its file says of it; nothing is loaded. */
    inspect(model: string, options?: CallOptions): Promise<ModelDetails>;
    /** Makes a GGUF file known; its name. A daemon at a TCP `url` takes no paths. */
    addModel(path: string, options?: CallOptions): Promise<string>;

    /* -- conversations -- */

    /** A conversation. The same key is the same conversation, and the same object, also after a restart; without a key
     * it is a new one that ends with `close`. Nothing is asked or loaded before its first use. */
    session(options?: SessionOptions): Session;
    /** All conversations that have a key, the latest first. */
    sessions(options?: CallOptions): Promise<SessionInfo[]>;

    /* -- more -- */

    /** A vector for a text. */
    embed(model: string, text: string, options?: EmbedOptions): Promise<number[]>;
    embed(model: string, texts: string[], options?: EmbedOptions): Promise<number[][]>;
    /** How many tokens a text is, or messages are as the model's template writes them. */
    countTokens(model: string, input: string | Message[], options?: CallOptions): Promise<number>;
    /** What all processes of the daemon take. */
    memory(options?: CallOptions): Promise<Memory>;
    /** What the daemon is and does. */
    status(options?: CallOptions): Promise<Status>;

    on<Type extends keyof HearthEvents>(type: Type, listener: (event: HearthEvents[Type]) => void): this;
    once<Type extends keyof HearthEvents>(type: Type, listener: (event: HearthEvents[Type]) => void): this;
    off<Type extends keyof HearthEvents>(type: Type, listener: (event: HearthEvents[Type]) => void): this;
    /** All events but "event", one after the other, until `close`, a `break` or the signal. Who reads slowly gets the
     * latest 1024. */
    events(options?: CallOptions): AsyncIterableIterator<HearthEvent>;

    /* -- other packages -- */

    /** For `new Ollama({ host: hearth.origin, fetch: hearth.fetch })`. Behind a Unix socket a host that does not exist:
     * what forgets `fetch` fails, and reaches nobody. */
    readonly origin: string;
    /** `origin` + "/v1", for `new OpenAI({ baseURL: hearth.baseURL, fetch: hearth.fetch, apiKey: "none" })` and
     * `createOpenAICompatible({ name: "hearth", baseURL: hearth.baseURL, fetch: hearth.fetch })`. */
    readonly baseURL: string;
    /** The platform's `fetch` for URLs of `baseURL` and `origin`, over the same way as all else; other URLs go to the
     * global one. */
    readonly fetch: typeof fetch;

    /** Ends what runs, closes all connections, and ends a daemon of our own, which writes down its conversations.
     * Resolves when its process is gone. */
    close(): Promise<void>;
    [Symbol.asyncDispose](): Promise<void>;
}

/* ---- conversations ---- */

export interface Message {
    role: "system" | "user" | "assistant";
    content: string;
    /** Of an assistant: what it thought before. */
    reasoning?: string;
    [more: string]: unknown;
}

export interface SessionOptions {
    /** 1 to 256 bytes. The conversation is kept under it; without one it is forgotten by `close`. */
    key?: string;
    /** Its name or path. Default: the model that the conversation is of, or the only one that there is. */
    model?: string;
    /** What the conversation begins with. One that is kept and begins with another gets this one. */
    system?: string;
    /** "never": not written to the disk; it ends with its model's process. */
    keep?: "default" | "never";
    /** When the context is full: "error": ContextFullError; "stop": the answer ends; "drop": the oldest turns are left
     * out. Default: "error". */
    overflow?: "error" | "stop" | "drop";
    /** Texts as they are, without the model's template. */
    plain?: boolean;
    /** For all its prompts. */
    defaults?: GenerationOptions;
}

export interface GenerationOptions {
    maxTokens?: number;
    /** Texts that end the answer and are left out. */
    stop?: string | string[];
    /** The same seed gives the same answer. Default: another one each time. */
    seed?: number;
    /** 0: the most probable token each time. Default: 0.8, or what the daemon's settings say for the model. */
    temperature?: number;
    topK?: number;
    topP?: number;
    minP?: number;
    typicalP?: number;
    topNSigma?: number;
    xtcProbability?: number;
    xtcThreshold?: number;
    repeatPenalty?: number;
    repeatLastN?: number;
    frequencyPenalty?: number;
    presencePenalty?: number;
    dryMultiplier?: number;
    dryBase?: number;
    dryAllowedLength?: number;
    dryPenaltyLastN?: number;
    drySequenceBreakers?: string[];
    mirostat?: 0 | 2;
    mirostatTau?: number;
    mirostatEta?: number;
    minKeep?: number;
    /** Token id → what is added to its logit; false: never drawn. */
    logitBias?: Record<number, number | false>;
    ignoreEos?: boolean;
    /** More variables for the model's template, as { enable_thinking: false }. */
    variables?: Record<string, unknown>;
}

export interface PromptOptions extends GenerationOptions {
    /** Ends the answer, in a load and in the middle of a prompt too; see `Answer`. */
    signal?: AbortSignal;
    /** An aborted answer rejects with AbortedError, which has what there was as `partial`. Default: false. */
    throwOnAbort?: boolean;
    /** After so many milliseconds the answer ends, with `stop` "timeout". */
    timeout?: number;
    /** Chunks named "reading". Default: true. */
    progress?: boolean;
    /** Gives way to all that is not. */
    background?: boolean;
    /** The model's time to live after this. */
    ttl?: Duration;
}

export declare class Session {
    private constructor();

    /** Also where none was given: a random one. */
    readonly key: string;
    readonly model: string | undefined;

    /** Says something and gets an answer. Prompts of one session are answered one after the other. Without a message
     * what was said already is answered, or the last answer continued. */
    prompt(message?: string | Message | Message[], options?: PromptOptions): Answer;
    /** Takes the last answer back and gives another one. */
    regenerate(options?: PromptOptions): Answer;

    history(options?: CallOptions): Promise<Message[]>;
    /** What the daemon knows of it; undefined before its first use. */
    info(options?: CallOptions): Promise<SessionInfo | undefined>;
    /** One message more, without an answer. */
    append(message: string | Message, options?: CallOptions): Promise<SessionInfo>;
    /** Another message in the place of one; all that followed it goes. */
    edit(index: number, message: string | Message, options?: CallOptions): Promise<SessionInfo>;
    /** Keeps the first messages. */
    truncate(count: number, options?: CallOptions): Promise<SessionInfo>;
    /** Other messages in the place of all. What both begin with is not computed again. */
    setHistory(messages: Message[], options?: CallOptions): Promise<SessionInfo>;
    /** Another conversation with the first `count` messages of this one, or all; nothing is computed again. */
    fork(options?: CallOptions & { key?: string; count?: number }): Promise<Session>;
    /** Forgets all messages but the system's. */
    reset(options?: CallOptions): Promise<SessionInfo>;
    /** Gives back its memory; it goes on as before. */
    release(options?: CallOptions): Promise<void>;
    /** Forgets it, on the disk too. The object is closed. */
    remove(options?: CallOptions): Promise<void>;
    /** Ends a running answer. One without a key of its own is removed; one with a key is kept, and can be had again. */
    close(): Promise<void>;
    [Symbol.asyncDispose](): Promise<void>;
}

/** "end": the model ended it. "length": `maxTokens`. "string": one of `stop`. "context": it is full. "aborted": by
 * `abort`, a signal, `break`, or somebody else. "timeout". */
export type Stop = "end" | "length" | "string" | "context" | "aborted" | "timeout" | "error";

export interface Usage {
    promptTokens: number;
    /** Of the prompt's tokens: known already, and not computed. */
    cachedTokens: number;
    answerTokens: number;
    reasoningTokens: number;
    totalTokens: number;
}

export interface Timings {
    /** Waiting for others. */
    queuedMs: number;
    promptMs: number;
    promptTokensPerSecond: number;
    answerMs: number;
    answerTokensPerSecond: number;
    /** From the call to the first text or reasoning, as this process saw it. */
    firstTokenMs: number | undefined;
    /** From the call to the end, as this process saw it. */
    totalMs: number;
    /** Why the prompt was not known to its end: "nothing" (it was), "new", "edited", … */
    cacheMiss: string;
    /** Guessed tokens, and how many were right. */
    drafted: number;
    accepted: number;
}

export interface AnswerResult {
    text: string;
    /** What the model thought before. */
    reasoning: string;
    stop: Stop;
    /** The one of `stop` that ended it. */
    stopString: string | undefined;
    model: string;
    session: string;
    /** Undefined for what was aborted before it began. */
    usage: Usage | undefined;
    timings: Timings | undefined;
    /** Turns that a full context made room with. */
    droppedMessages: number;
    /** The conversation could not be written to the disk. */
    unsaved: boolean;
}

export type Chunk =
    /** The model is being loaded: 0 to 1. */
    | { type: "loading"; progress: number }
    | { type: "begin"; model: string; promptTokens: number; cachedTokens: number; queuedMs: number }
    /** Of the prompt's tokens `done` are read. */
    | { type: "reading"; done: number; total: number }
    | { type: "reasoning"; text: string }
    | { type: "text"; text: string }
    /** Always the last one. */
    | { type: "end"; result: AnswerResult };

/** An answer, as it comes: `await` it for the whole, or iterate over its chunks, or both. It begins at once.
 *
 * Chunks wait for who iterates: the model pauses when a slow reader is too far behind, and nothing is lost. Without an
 * iterator nothing waits. To leave the loop by `break` aborts the answer.
 *
 * An aborted answer resolves, to what there was of it, with `stop` "aborted" (`throwOnAbort` makes it reject); the
 * conversation keeps that text, and goes on from it. If there was none, what was said is taken back. */
export declare class Answer implements PromiseLike<AnswerResult>, AsyncIterable<Chunk> {
    private constructor();

    /** So far. */
    readonly text: string;
    readonly reasoning: string;
    readonly done: boolean;

    abort(): void;
    /** The pieces of text alone. */
    textStream(): AsyncIterableIterator<string>;

    then<Result = AnswerResult, Failure = never>(
        resolved?: ((result: AnswerResult) => Result | PromiseLike<Result>) | null,
        rejected?: ((error: HearthError) => Failure | PromiseLike<Failure>) | null,
    ): Promise<Result | Failure>;
    catch<Failure = never>(rejected?: ((error: HearthError) => Failure | PromiseLike<Failure>) | null): Promise<AnswerResult | Failure>;
    finally(settled?: (() => void) | null): Promise<AnswerResult>;
    [Symbol.asyncIterator](): AsyncIterableIterator<Chunk>;
}

export interface EmbedOptions extends CallOptions {
    /** The first so many numbers, normalized again. */
    dimensions?: number;
}

/* ---- what is told ---- */

export interface ModelInfo {
    name: string;
    state: "unloaded" | "loading" | "loaded";
    /** 0 to 1, of a load. */
    progress: number;
    /** Served by another server. */
    upstream: boolean;
    /** Of its file. */
    bytes: number;
    modified: Date;
    /** Tokens that a conversation can have; 0 where it is not loaded. */
    context: number;
    /** Until it goes if nobody uses it; undefined: it is used, stays for ever, or is not loaded. */
    expiresInSeconds: number | undefined;
    users: number;
    pid: number | undefined;
    restarts: number;
    /** Memory of its own, and the part of its file that is in memory, which the system can take back. */
    privateBytes: number;
    mappedBytes: number;
    peakBytes: number;
    kvBytes: number;
    sessions: number;
    /** Answers that are computed, and that wait. */
    answers: number;
    waiting: number;
    settings: {
        context: number;
        threads: number;
        answers: number;
        kv: KvType;
        fit: "refuse" | "shrink";
        mmap: boolean;
        mlock: boolean;
        /** Seconds; Infinity: for ever. */
        ttl: number;
        idle: number;
    };
    /** Of `load`: how long it took. */
    loadSeconds?: number;
}

export interface ModelDetails extends ModelInfo {
    about: {
        architecture: string;
        name: string;
        parameters: number;
        parameterSize: string;
        quantization: string;
        chatTemplate: string | undefined;
        contextTrain: number;
        embeddingLength: number;
        layers: number;
        vocabulary: number;
        kvBytesPerToken: number;
        /** As the file has it. */
        metadata: Record<string, unknown>;
        [more: string]: unknown;
    };
}

export interface Estimate {
    context: number;
    kv: KvType;
    weightsBytes: number;
    kvBytes: number;
    scratchBytes: number;
    fixedBytes: number;
    privateBytes: number;
    totalBytes: number;
    /** What all models may take together, and what they take now. */
    limitBytes: number;
    usedBytes: number;
    fits: boolean;
    /** Models that would go for it. */
    evict: string[];
    /** Why it does not fit, with the figures. */
    reason: string | undefined;
}

export interface Memory {
    limitBytes: number;
    /** All files that are in use. */
    weightsBytes: number;
    /** Of the daemon and all its workers. */
    privateBytes: number;
    mappedBytes: number;
    daemon: { pid: number; privateBytes: number; mappedBytes: number; peakBytes: number };
    workers: { model: string; pid: number; privateBytes: number; mappedBytes: number; kvBytes: number; sessions: number }[];
}

export interface Status {
    version: string;
    pid: number;
    uptimeSeconds: number;
    listeners: string[];
    models: number;
    modelsLoaded: number;
    running: number;
    waiting: number;
    sessions: number;
    memory: { limitBytes: number; weightsBytes: number; privateBytes: number; mappedBytes: number };
}

export interface SessionInfo {
    key: string;
    /** In memory. */
    loaded: boolean;
    model: string | undefined;
    messages: number;
    tokens: number;
    used: Date | undefined;
}

/* ---- errors ---- */

export type ErrorCode =
    | "BINARY_NOT_FOUND"
    | "DAEMON_FAILED"
    | "CONNECTION_LOST"
    | "UNAUTHORIZED"
    | "MODEL_NOT_FOUND"
    | "MODEL_INVALID"
    | "MODEL_FILE_CHANGED"
    | "WORKER_CRASHED"
    | "SESSION_NOT_FOUND"
    | "CONTEXT_FULL"
    | "MEMORY_LIMIT"
    | "BUSY"
    | "INVALID_ARGUMENT"
    | "UNSUPPORTED"
    | "UPSTREAM_FAILED"
    | "ABORTED"
    | "CLOSED"
    | "INTERNAL";

/** All that this package rejects with. */
export declare class HearthError extends Error {
    readonly code: ErrorCode;
    /** Of HTTP, where the daemon answered. */
    readonly status: number | undefined;
    /** The argument that is meant. */
    readonly param: string | undefined;
    /** What to do about it. */
    readonly hint: string | undefined;
    /** Of an answer that had begun: what there was of it. */
    readonly partial: AnswerResult | undefined;
    /** Plain data, for the way through a MessagePort or Electron's IPC. */
    toJSON(): ErrorJSON;
    /** The error again, as its class. */
    static fromJSON(json: ErrorJSON): HearthError;
}
export interface ErrorJSON {
    name: string;
    code: ErrorCode;
    message: string;
    status?: number;
    param?: string;
    hint?: string;
    partial?: AnswerResult;
}

/** There is no executable; `searched` are the places, `hint` says what to do. */
export declare class BinaryNotFoundError extends HearthError {
    readonly searched: string[];
}
/** A daemon of our own did not start, or again and again ended; `log` is the end of what it wrote. */
export declare class DaemonError extends HearthError {
    readonly log: string[];
}
/** The daemon went while it was at work on this. */
export declare class ConnectionLostError extends HearthError {}
export declare class UnauthorizedError extends HearthError {}
export declare class ModelNotFoundError extends HearthError {}
/** Its file is damaged, or of a kind that is not supported. */
export declare class ModelInvalidError extends HearthError {}
/** Its file was changed or cut short while it was in use. */
export declare class ModelFileChangedError extends HearthError {}
/** The model's process ended; it is started again, and the conversation goes on with its next prompt. */
export declare class WorkerCrashedError extends HearthError {}
export declare class SessionNotFoundError extends HearthError {}
export declare class ContextFullError extends HearthError {}
/** It does not fit the memory that models may take; the message has the figures. */
export declare class MemoryLimitError extends HearthError {}
/** It is in use, or too much waits. */
export declare class BusyError extends HearthError {}
export declare class InvalidArgumentError extends HearthError {}
export declare class UnsupportedError extends HearthError {}
/** The other server that a model is served by failed. */
export declare class UpstreamError extends HearthError {}
/** By a signal; `name` is "AbortError". */
export declare class AbortedError extends HearthError {}
/** The connection or the session was closed. */
export declare class ClosedError extends HearthError {}
