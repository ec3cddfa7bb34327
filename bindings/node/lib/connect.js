// The beginning.
import { check } from "./errors.js";
import { Hearth } from "./hearth.js";
import { Link, linkOptions } from "./link.js";
import { defaultApp } from "./places.js";

const TEXT = (value) => typeof value === "string" && value !== "";
const TEXTS = (value) => Array.isArray(value) && value.every(TEXT);

function checkOptions(options) {
    const of = (name, is, sentence) => check(options[name] === undefined || is(options[name]), name, sentence);
    for (const name of ["app", "socket", "url", "key", "binary"])
        of(name, TEXT, "must be a text");
    for (const name of ["models", "files", "args"])
        of(name, TEXTS, "must be an array of texts");
    of("store", (value) => value === false || TEXT(value), "must be a folder or false");
    of("shared", (value) => value === "only" || typeof value === "boolean", `must be true, false or "only"`);
    of("transport", (value) => value === "socket" || value === "loopback" || typeof value?.requestOptions === "function",
        `must be "socket", "loopback" or a transport`);
}

export async function connect(options = {}) {
    checkOptions(options);
    const app = options.app ?? defaultApp();
    let hearth;
    const link = new Link(linkOptions(options, app), () => hearth.introduce(options.files ?? []));
    hearth = new Hearth(link, app);
    await link.open(options.signal);
    if (link.kind === "own")
        hearth.sweep().catch(() => {}); // it is tried again by the next one
    return hearth;
}
