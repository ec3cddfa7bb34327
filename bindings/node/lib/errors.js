// What this package rejects with, and which of it an answer of the daemon stands for.

export class HearthError extends Error {
    static code = "INTERNAL";

    constructor(message, details = {}) {
        super(message, details.cause === undefined ? undefined : { cause: details.cause });
        this.name = new.target.name;
        this.code = new.target.code;
        for (const name of ["status", "param", "hint", "partial"])
            this[name] = details[name];
    }

    toJSON() {
        const { name, code, message, status, param, hint, partial, searched, log } = this;
        return { name, code, message, status, param, hint, partial, searched, log };
    }

    static fromJSON(json) {
        const Class = classes.find((one) => one.code === json?.code) ?? HearthError;
        const error = new Class(String(json?.message ?? "unknown error"), json ?? {});
        for (const name of ["searched", "log"]) {
            if (json?.[name])
                error[name] = json[name];
        }
        return error;
    }
}

export class BinaryNotFoundError extends HearthError {
    static code = "BINARY_NOT_FOUND";
    searched = [];
}
export class DaemonError extends HearthError {
    static code = "DAEMON_FAILED";
    log = [];
}
export class ConnectionLostError extends HearthError {
    static code = "CONNECTION_LOST";
}
export class UnauthorizedError extends HearthError {
    static code = "UNAUTHORIZED";
}
export class ModelNotFoundError extends HearthError {
    static code = "MODEL_NOT_FOUND";
}
export class ModelInvalidError extends HearthError {
    static code = "MODEL_INVALID";
}
export class ModelFileChangedError extends HearthError {
    static code = "MODEL_FILE_CHANGED";
}
export class WorkerCrashedError extends HearthError {
    static code = "WORKER_CRASHED";
}
export class SessionNotFoundError extends HearthError {
    static code = "SESSION_NOT_FOUND";
}
export class ContextFullError extends HearthError {
    static code = "CONTEXT_FULL";
}
export class MemoryLimitError extends HearthError {
    static code = "MEMORY_LIMIT";
}
export class BusyError extends HearthError {
    static code = "BUSY";
}
export class InvalidArgumentError extends HearthError {
    static code = "INVALID_ARGUMENT";
}
export class UnsupportedError extends HearthError {
    static code = "UNSUPPORTED";
}
export class UpstreamError extends HearthError {
    static code = "UPSTREAM_FAILED";
}
export class AbortedError extends HearthError {
    static code = "ABORTED";

    constructor(message = "the call was aborted", details) {
        super(message, details);
        this.name = "AbortError"; // as the platform's own calls have it
    }
}
export class ClosedError extends HearthError {
    static code = "CLOSED";
}

const classes = [
    BinaryNotFoundError, DaemonError, ConnectionLostError, UnauthorizedError, ModelNotFoundError, ModelInvalidError,
    ModelFileChangedError, WorkerCrashedError, SessionNotFoundError, ContextFullError, MemoryLimitError, BusyError,
    InvalidArgumentError, UnsupportedError, UpstreamError, AbortedError, ClosedError,
];

// The daemon's `reason`, where it says one.
const reasons = {
    argument: InvalidArgumentError,
    memory: MemoryLimitError,
    format: ModelInvalidError,
    unsupported: UnsupportedError,
    limit: ContextFullError,
    missing: SessionNotFoundError,
    cancelled: AbortedError,
    template: InvalidArgumentError,
    state: BusyError,
    crashed: WorkerCrashedError,
    changed: ModelFileChangedError,
};
const statuses = {
    400: InvalidArgumentError, 401: UnauthorizedError, 403: UnsupportedError, 404: SessionNotFoundError, 409: BusyError,
    413: InvalidArgumentError, 429: BusyError, 499: AbortedError, 502: UpstreamError, 503: BusyError, 504: UpstreamError,
    507: MemoryLimitError,
};

/** `said` is the daemon's error object; `route` "models" or "sessions". */
export function errorOf(status, said, route) {
    const { message = `the daemon answered ${status}`, param, reason } = typeof said === "object" && said ? said : { message: said };
    let Class = reasons[reason] ?? statuses[status] ?? HearthError;
    if (Class === SessionNotFoundError && (param === "model" || route === "models"))
        Class = ModelNotFoundError;
    return new Class(message, { status, param: param || undefined });
}

/** What a signal was aborted with, as an error of ours. */
export function abortedBy(signal) {
    const reason = signal?.reason;
    if (reason instanceof HearthError)
        return reason;
    return new AbortedError(undefined, { cause: reason });
}

export function throwIfAborted(signal) {
    if (signal?.aborted)
        throw abortedBy(signal);
}

export function check(condition, param, sentence) {
    if (!condition)
        throw new InvalidArgumentError(`${param} ${sentence}`, { param });
}
