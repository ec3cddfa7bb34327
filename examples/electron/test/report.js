// The table of test-local-model.js: what was measured, the document's targets, and whether they are met, as they
// are and scaled by what this machine allows.

// The document names neither its model nor its machine. 2.6 GB in use with a context of 2048 tokens are those of
// a 3B model in Q4_K_M (2.0 GB); 29 tokens/s of it read 58 GB/s. The least machine that does so is taken for its
// machine: 68 GB/s (85 % of which a decode loop reaches). That is the scale.
const THEIRS = { readGbPerS: 68, fileBytes: 2.0e9, decodeFraction: 29 / (68 / 2.0) };
const TARGETS = { load: 1.4, context: 0.8, firstToken: 2, tokensPerS: 29, memoryBytes: 2.6e9 };

export class Report {
    #model;
    #json;
    #rows = [];
    #checks = [];
    #notes = [];

    constructor({ json, ...model }) {
        this.#model = model;
        this.#json = json;
    }

    /** Seconds: less is better. Loading reads the file; the others read it once a token. */
    time(name, took, what) {
        const { limits, fileBytes } = this.#model;
        const scale = (THEIRS.readGbPerS / limits.readGbPerS) * (fileBytes / THEIRS.fileBytes);
        const target = TARGETS[name];
        this.#add(name, what, took, target, target * scale, took <= target, took <= target * scale, seconds);
    }

    speed(tokensPerS, what) {
        const { tokensPerS: limit } = this.#model.limits;
        const scaled = THEIRS.decodeFraction * limit;
        this.#add("tokensPerS", `${what}; ${Math.round((100 * tokensPerS) / limit)} % of what this machine's memory allows (${limit.toFixed(1)})`,
            tokensPerS, TARGETS.tokensPerS, scaled, tokensPerS >= TARGETS.tokensPerS, tokensPerS >= scaled, (value) => `${value.toFixed(1)} tokens/s`);
    }

    memory(privateBytes, mappedBytes, what) {
        const total = privateBytes + mappedBytes;
        // the document's 2.6 GB are 0.6 GB more than the file
        const scaled = this.#model.fileBytes + TARGETS.memoryBytes - THEIRS.fileBytes;
        this.#add("memory", `${what}: private ${bytes(privateBytes)}, mapped from the file ${bytes(mappedBytes)}`,
            total, TARGETS.memoryBytes, scaled, total <= TARGETS.memoryBytes, total <= scaled, bytes);
        Object.assign(this.#rows.at(-1), { privateBytes, mappedBytes });
    }

    #add(name, what, value, target, scaled, met, metScaled, show) {
        this.#rows.push({ name, what, value, target, scaled, met, metScaled, show });
    }

    check(name, ok, what) {
        this.#checks.push({ name, ok, what });
    }

    note(name, what) {
        this.#notes.push({ name, what });
    }

    /** Prints it; whether all is met, as it is or scaled. */
    print() {
        const ok = this.#rows.every(({ met, metScaled }) => met || metScaled) && this.#checks.every((check) => check.ok);
        if (this.#json) console.log(JSON.stringify({ ...this.#model, measured: this.#rows.map(({ show: _show, ...row }) => row), notes: this.#notes, checks: this.#checks, ok }));
        else this.#printText();
        return ok;
    }

    #printText() {
        const { path, fileBytes, limits } = this.#model;
        console.log(`${path}: ${bytes(fileBytes)}`);
        console.log(`This machine reads memory at ${limits.readGbPerS.toFixed(1)} GB/s: at most ${limits.tokensPerS.toFixed(1)} tokens/s of this file.\n`);
        const labels = { load: "load", context: "context", firstToken: "first token", tokensPerS: "speed", memory: "memory" };
        const signs = { load: "≤", context: "≤", firstToken: "≤", tokensPerS: "≥", memory: "≤" };
        if (this.#rows.length) console.log(line("", "measured", "the document", "", "scaled to this machine", ""));
        for (const { name, value, target, scaled, met, metScaled, show, what } of this.#rows) {
            console.log(line(labels[name], show(value), `${signs[name]} ${show(target)}`, verdict(met), `${signs[name]} ${show(scaled)}`, verdict(metScaled)));
            console.log(`               ${what}`);
        }
        if (this.#notes.length || this.#checks.length) console.log("");
        for (const { name, what } of this.#notes) console.log(`${name}: ${what}`);
        for (const { name, ok, what } of this.#checks) console.log(`${ok ? "ok    " : "NOT OK"} ${name}: ${what}`);
    }
}

const verdict = (met) => (met ? "met" : "NOT MET");

function line(name, measured, target, met, scaled, metScaled) {
    return `${name.padEnd(12)} ${measured.padEnd(16)} ${target.padEnd(18)} ${met.padEnd(9)} ${scaled.padEnd(24)} ${metScaled}`.trimEnd();
}

export function seconds(value) {
    return value < 0.0995 ? `${(value * 1000).toFixed(value < 0.00995 ? 1 : 0)} ms` : `${value.toFixed(2)} s`;
}

export function bytes(count) {
    return count < 1e9 ? `${(count / 1e6).toFixed(1)} MB` : `${(count / 1e9).toFixed(2)} GB`;
}
