// Durations and sizes, as people write them, in the words of the command line and of the API.
import { check } from "./errors.js";

const SECONDS = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400 };
const SIZE = /^\d+(\.\d+)?([KMGT]i?)?B?$/;

/** Seconds; Infinity: for ever; undefined: what was given is no duration. */
function secondsOf(value) {
    if (value === "never" || value === Infinity || (typeof value === "number" && value < 0))
        return Infinity;
    if (Number.isFinite(value))
        return value;
    if (typeof value !== "string" || value.trim() === "")
        return undefined;
    let rest = value.trim();
    let sum = 0;
    for (let part; rest && (part = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*/.exec(rest)); rest = rest.slice(part[0].length)) {
        if (!part[2] && part[0] !== value.trim())
            return undefined;
        sum += Number(part[1]) * (SECONDS[part[2]] ?? 1);
    }
    return rest ? undefined : sum;
}

function duration(value, name) {
    const seconds = secondsOf(value);
    check(seconds !== undefined, name, `must be seconds, or a text as "10m" or "never"`);
    return seconds;
}

export function cliDuration(value, name) {
    if (value === undefined)
        return undefined;
    const seconds = duration(value, name);
    return seconds === Infinity ? "never" : seconds === 0 ? "0" : `${Math.max(1, Math.round(seconds * 1000))}ms`;
}

/** Of the API: seconds; negative: for ever. */
export function apiDuration(value, name) {
    if (value === undefined)
        return undefined;
    const seconds = duration(value, name);
    return seconds === Infinity ? -1 : seconds;
}

export function cliSize(value) {
    if (value === undefined)
        return undefined;
    check((Number.isFinite(value) && value >= 1) || (typeof value === "string" && SIZE.test(value)), "memory",
        `must be bytes, or a text as "500M" or "2.6G"`);
    return typeof value === "number" ? String(Math.floor(value)) : value;
}
