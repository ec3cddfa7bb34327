// One answer: a promise of the whole, and an iterable of its pieces.

// Pieces that wait for an iterator before the answer is read no further. Behind them the sockets are full after some
// tens of kilobytes, and the daemon pauses the model.
const QUEUE_MAX = 32;

export class Answer {
    #text = "";
    #reasoning = "";
    #queue = [];
    #wanted; // wakes the iterator
    #room; // wakes who reads
    #taken = false;
    #iterated = false; // chunks wait for an iterator
    #ended = false;
    #error;
    #abort = new AbortController();
    #result;

    /** `run(answer, signal)` resolves with the result; it calls `push` for each chunk. */
    constructor(run) {
        this.#result = run({ push: (chunk) => this.#push(chunk), room: () => this.#awaitRoom(), answer: () => this }, this.#abort.signal).then(
            (result) => {
                this.#queue.push({ type: "end", result });
                this.#end();
                return result;
            },
            (error) => {
                this.#error = error;
                this.#end();
                throw error;
            },
        );
        this.#result.catch(() => {}); // told to whoever iterates or awaits
    }

    get text() {
        return this.#text;
    }

    get reasoning() {
        return this.#reasoning;
    }

    get done() {
        return this.#ended;
    }

    abort() {
        this.#abort.abort();
        this.#iterated = false; // what is left need not wait for anybody
        this.#room?.();
    }

    then(resolved, rejected) {
        return this.#result.then(resolved, rejected);
    }

    catch(rejected) {
        return this.#result.catch(rejected);
    }

    finally(settled) {
        return this.#result.finally(settled);
    }

    get [Symbol.toStringTag]() {
        return "Answer";
    }

    #push(chunk) {
        if (chunk.type === "text")
            this.#text += chunk.text;
        else if (chunk.type === "reasoning")
            this.#reasoning += chunk.text;
        const last = this.#queue.at(-1);
        // until somebody iterates, and where it does not matter, chunks of a kind become one
        if (last?.type === chunk.type && !this.#iterated && chunk.text !== undefined)
            this.#queue[this.#queue.length - 1] = { ...chunk, text: last.text + chunk.text };
        else if (last?.type === chunk.type && chunk.text === undefined)
            this.#queue[this.#queue.length - 1] = chunk;
        else
            this.#queue.push(chunk);
        this.#wanted?.();
    }

    /** Resolves when there is room for another chunk. */
    async #awaitRoom() {
        while (this.#iterated && this.#queue.length >= QUEUE_MAX)
            await new Promise((resolve) => (this.#room = resolve));
        this.#room = undefined;
    }

    #end() {
        this.#ended = true;
        this.#wanted?.();
    }

    async #next() {
        while (this.#queue.length === 0 && !this.#ended)
            await new Promise((resolve) => (this.#wanted = resolve));
        this.#wanted = undefined;
        const chunk = this.#queue.shift();
        if (this.#queue.length < QUEUE_MAX)
            this.#room?.();
        if (!chunk && this.#error)
            throw this.#error;
        return chunk;
    }

    [Symbol.asyncIterator]() {
        if (this.#taken)
            throw new TypeError("the chunks of an answer can be had once; await it for the whole");
        this.#taken = true;
        this.#iterated = !this.#abort.signal.aborted;
        return this.#chunks();
    }

    async *#chunks() {
        let whole = false;
        try {
            for (let chunk; (chunk = await this.#next()); )
                yield chunk;
            whole = true;
        } finally {
            if (!whole && !this.#ended)
                this.abort();
        }
    }

    async *textStream() {
        for await (const chunk of this) {
            if (chunk.type === "text")
                yield chunk.text;
        }
    }
}
