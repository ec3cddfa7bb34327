export { connect } from "./lib/connect.js";
export { findBinary } from "./lib/binary.js";
export { Hearth } from "./lib/hearth.js";
export { Session } from "./lib/session.js";
export { Answer } from "./lib/answer.js";
export * from "./lib/errors.js";
