// What goes to one page: at most one message in 16 ms, whatever the number of answers and the speed of
// their tokens. The first one after a pause goes at once.

const INTERVAL_MS = 16;

export class Outbox {
    #send;
    #batch = [];
    #last = new Map(); // id -> its latest entry in the batch
    #sent = -Infinity;
    #timer;
    #closed = false;

    constructor(send) {
        this.#send = send;
    }

    push(entry) {
        if (this.#closed) return;
        if (!this.#merge(entry)) {
            this.#batch.push(entry);
            if (entry.id !== undefined) this.#last.set(entry.id, entry);
        }
        if (this.#timer !== undefined) return;
        const wait = this.#sent + INTERVAL_MS - performance.now();
        // also "at once" lets what comes in the same turn of the loop go along
        this.#timer = setTimeout(() => this.#flush(), Math.max(0, wait));
    }

    close() {
        this.#closed = true;
        clearTimeout(this.#timer);
        this.#batch = [];
        this.#last.clear();
    }

    // text grows, of progress the latest counts
    #merge(entry) {
        const last = this.#last.get(entry.id);
        if (last === undefined) return false;
        if (entry.progress !== undefined && last.progress !== undefined) {
            last.progress = entry.progress;
            return true;
        }
        if (entry.chunk === undefined || last.chunk?.type !== entry.chunk.type) return false;
        if (typeof entry.chunk.text === "string") last.chunk = { ...last.chunk, text: last.chunk.text + entry.chunk.text };
        else last.chunk = entry.chunk;
        return true;
    }

    #flush() {
        this.#timer = undefined;
        const batch = this.#batch;
        this.#batch = [];
        this.#last.clear();
        this.#sent = performance.now();
        if (batch.length) this.#send(batch);
    }
}
