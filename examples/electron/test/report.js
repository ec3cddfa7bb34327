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
    #limits = [];
    #rows = [];
    #checks = [];
    #notes = [];

    constructor({ json, ...model }) {
        this.#model = model;
        this.#json = json;
    }

    /** What the machine allowed at some moment; the mean of all counts. */
    limit(limits) {
        this.#limits.push(limits);
    }

    get #allowed() {
        const mean = (key) => this.#limits.reduce((sum, one) => sum + one[key], 0) / this.#limits.length;
        return { readGbPerS: mean("readGbPerS"), tokensPerS: mean("tokensPerS") };
    }

    /** Seconds: less is better. What reads the file takes as long as memory and file say. */
    time(name, took, what) {
        const scaled = ({ readGbPerS }) => TARGETS[name] * (THEIRS.readGbPerS / readGbPerS) * (this.#model.fileBytes / THEIRS.fileBytes);
        this.#rows.push({ name, what, value: took, target: TARGETS[name], scaled, less: true, show: seconds });
    }

    speed(tokensPerS, what) {
        this.#rows.push({ name: "tokensPerS", what, value: tokensPerS, target: TARGETS.tokensPerS, scaled: (limits) => THEIRS.decodeFraction * limits.tokensPerS, less: false, show: (value) => `${value.toFixed(1)} tokens/s` });
    }

    memory(privateBytes, mappedBytes, what) {
        // the document's 2.6 GB are 0.6 GB more than the file
        const scaled = () => this.#model.fileBytes + TARGETS.memoryBytes - THEIRS.fileBytes;
        const parts = `${what}: private ${bytes(privateBytes)}, mapped from the file ${bytes(mappedBytes)}`;
        this.#rows.push({ name: "memory", what: parts, value: privateBytes + mappedBytes, target: TARGETS.memoryBytes, scaled, less: true, show: bytes, privateBytes, mappedBytes });
    }

    check(name, ok, what) {
        this.#checks.push({ name, ok, what });
    }

    note(name, what) {
        this.#notes.push({ name, what });
    }

    /** Prints it; whether all is met, as it is or scaled. */
    print() {
        const limits = this.#allowed;
        const rows = this.#rows.map(({ scaled, ...row }) => {
            const ours = scaled(limits);
            const met = (target) => (row.less ? row.value <= target : row.value >= target);
            return { ...row, scaled: ours, met: met(row.target), metScaled: met(ours) };
        });
        const ok = rows.every(({ met, metScaled }) => met || metScaled) && this.#checks.every((check) => check.ok);
        if (this.#json) console.log(JSON.stringify({ ...this.#model, limits, measured: rows.map(({ show: _show, ...row }) => row), notes: this.#notes, checks: this.#checks, ok }));
        else this.#printText(limits, rows);
        return ok;
    }

    #printText(limits, rows) {
        const { path, fileBytes } = this.#model;
        console.log(`${path}: ${bytes(fileBytes)}`);
        console.log(`This machine reads memory at ${limits.readGbPerS.toFixed(1)} GB/s: at most ${limits.tokensPerS.toFixed(1)} tokens/s of this file.\n`);
        const labels = { load: "load", context: "context", firstToken: "first token", tokensPerS: "speed", memory: "memory" };
        if (rows.length) console.log(line("", "measured", "the document", "", "scaled to this machine", ""));
        for (const { name, value, target, scaled, met, metScaled, less, show, what } of rows) {
            const sign = less ? "≤" : "≥";
            console.log(line(labels[name], show(value), `${sign} ${show(target)}`, verdict(met), `${sign} ${show(scaled)}`, verdict(metScaled)));
            console.log(`             ${what}${name === "tokensPerS" ? `; ${Math.round((100 * value) / limits.tokensPerS)} % of what this machine's memory allows` : ""}`);
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
