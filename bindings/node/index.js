export { connect } from "./lib/connect.js";
export { findBinary } from "./lib/binary.js";
export { Hearth } from "./lib/hearth.js";
export { Session } from "./lib/session.js";
export { Answer } from "./lib/answer.js";
export {
    AbortedError, BinaryNotFoundError, BusyError, ClosedError, ConnectionLostError, ContextFullError, DaemonError, HearthError,
    InvalidArgumentError, MemoryLimitError, ModelFileChangedError, ModelInvalidError, ModelNotFoundError, SessionNotFoundError,
    UnauthorizedError, UnsupportedError, UpstreamError, WorkerCrashedError,
} from "./lib/errors.js";
