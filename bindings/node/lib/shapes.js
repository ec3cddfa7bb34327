// What the daemon says, in the words of this package.
import { apiDuration } from "./units.js";

const forEver = (seconds) => (seconds < 0 ? Infinity : seconds);

export function modelOf(json) {
    const { settings = {} } = json;
    return {
        name: json.name,
        state: json.state,
        progress: json.progress,
        upstream: json.upstream,
        bytes: json.bytes,
        modified: new Date(json.modified_unix * 1000),
        context: json.context,
        expiresInSeconds: json.expires_in_s ?? undefined,
        users: json.users,
        pid: json.pid || undefined,
        restarts: json.restarts,
        privateBytes: json.private_bytes,
        mappedBytes: json.mapped_bytes,
        peakBytes: json.peak_bytes,
        kvBytes: json.kv_bytes,
        sessions: json.sessions,
        answers: json.answers,
        waiting: json.waiting,
        settings: {
            context: settings.context,
            threads: settings.threads,
            answers: settings.answers,
            kv: settings.kv,
            fit: settings.fit,
            mmap: settings.no_mmap === undefined ? undefined : !settings.no_mmap,
            mlock: settings.mlock,
            ttl: forEver(settings.ttl),
            idle: forEver(settings.idle),
        },
        ...(json.load_time_s === undefined ? {} : { loadSeconds: json.load_time_s }),
    };
}

const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

export function detailsOf(json) {
    const about = {};
    for (const [name, value] of Object.entries(json.about ?? {}))
        about[camel(name)] = value;
    if (about.estimate)
        about.estimate = estimateOf(about.estimate);
    return { ...modelOf(json), about };
}

export function estimateOf(json) {
    return {
        context: json.context,
        kv: json.kv_type,
        weightsBytes: json.weights_bytes,
        kvBytes: json.kv_bytes,
        scratchBytes: json.scratch_bytes,
        fixedBytes: json.fixed_bytes,
        privateBytes: json.private_bytes,
        totalBytes: json.total_bytes,
        ...(json.limit_bytes === undefined ? {} : {
            limitBytes: json.limit_bytes,
            usedBytes: json.used_bytes,
            fits: json.fits,
            evict: json.evict ?? [],
            reason: json.reason,
        }),
    };
}

const totalsOf = (json) => ({
    limitBytes: json.limit_bytes,
    weightsBytes: json.weights_bytes,
    privateBytes: json.private_bytes,
    mappedBytes: json.mapped_bytes,
});

export function memoryOf(json) {
    const { daemon = {}, workers = [] } = json;
    return {
        ...totalsOf(json),
        daemon: {
            pid: daemon.pid,
            privateBytes: daemon.private_bytes,
            mappedBytes: daemon.mapped_bytes,
            peakBytes: daemon.peak_bytes,
        },
        workers: workers.map(({ model, pid, use = {} }) => ({
            model,
            pid,
            privateBytes: use.private_bytes,
            mappedBytes: use.mapped_bytes,
            kvBytes: use.kv_bytes,
            sessions: use.sessions,
        })),
    };
}

export function statusOf(json) {
    return {
        version: json.version,
        pid: json.pid,
        uptimeSeconds: json.uptime_s,
        listeners: json.listeners,
        models: json.models,
        modelsLoaded: json.models_loaded,
        running: json.running,
        waiting: json.waiting,
        sessions: json.sessions,
        memory: totalsOf(json.memory ?? {}),
    };
}

export function sessionOf(json) {
    return {
        key: json.key,
        loaded: json.loaded,
        model: json.model ?? undefined,
        messages: json.messages,
        tokens: json.tokens,
        used: json.used_unix ? new Date(json.used_unix * 1000) : undefined,
    };
}

/** An event of the daemon as one of ours: [type, event]; undefined for what has no name here. */
export function eventOf(json) {
    const { type, model } = json;
    switch (type) {
    case "model.loading":
        return ["load", { model, progress: json.fraction }];
    case "model.loaded":
        return ["loaded", { model, seconds: json.seconds }];
    case "model.unloaded":
        return ["unload", { model, why: json.why }];
    case "model.failed":
        return ["failed", { model, error: json.error }];
    case "worker.restarted":
        return ["restart", { what: "worker", model, cause: json.error }];
    case "memory.pressure":
        return ["memory", { level: json.level, available: json.available, shedBytes: json.shed_bytes }];
    default:
        return undefined;
    }
}

/* ---- the other way ---- */

const LOAD = ["context", "kv", "fit", "threads", "answers", "mlock"];

export function loadBody(options) {
    const body = {};
    for (const name of LOAD) {
        if (options[name] !== undefined)
            body[name] = options[name];
    }
    if (options.mmap !== undefined)
        body.no_mmap = !options.mmap;
    for (const name of ["ttl", "idle"]) {
        if (options[name] !== undefined)
            body[name] = apiDuration(options[name], name);
    }
    return body;
}

const GENERATION = [
    "maxTokens", "stop", "seed", "temperature", "topK", "topP", "minP", "typicalP", "topNSigma", "xtcProbability",
    "xtcThreshold", "repeatPenalty", "repeatLastN", "frequencyPenalty", "presencePenalty", "dryMultiplier", "dryBase",
    "dryAllowedLength", "dryPenaltyLastN", "drySequenceBreakers", "mirostat", "mirostatTau", "mirostatEta", "minKeep",
    "logitBias", "ignoreEos", "variables", "background",
];
const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const WIRE = new Map(GENERATION.map((name) => [name, snake(name)]));

export function generationBody(options) {
    const body = {};
    for (const [name, wire] of WIRE) {
        if (options[name] !== undefined)
            body[wire] = options[name];
    }
    if (options.ttl !== undefined)
        body.ttl = apiDuration(options.ttl, "ttl");
    return body;
}

export const usageOf = (json) => ({
    promptTokens: json.prompt_tokens,
    cachedTokens: json.prompt_tokens_details?.cached_tokens ?? 0,
    answerTokens: json.completion_tokens,
    reasoningTokens: json.completion_tokens_details?.reasoning_tokens ?? 0,
    totalTokens: json.total_tokens,
});

export const timingsOf = (json) => ({
    queuedMs: json.queued_ms,
    promptMs: json.prompt_ms,
    promptTokensPerSecond: json.prompt_per_second,
    answerMs: json.predicted_ms,
    answerTokensPerSecond: json.predicted_per_second,
    cacheMiss: json.cache_miss,
    drafted: json.draft_n ?? 0,
    accepted: json.draft_n_accepted ?? 0,
});
