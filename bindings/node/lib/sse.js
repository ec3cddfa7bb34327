// Server-sent events, as the HTML standard has them.

/** Yields {event, data}. Bytes are taken as they are wanted: who is slow slows the sender. */
export async function* readEvents(stream) {
    const decoder = new TextDecoder("utf-8"); // keeps what is left of a character
    const parser = new EventParser();
    for await (const bytes of stream)
        yield* parser.push(decoder.decode(bytes, { stream: true }));
}

export class EventParser {
    #line = "";
    #afterCr = false;
    #event = "";
    #data = undefined;

    *push(text) {
        let begin = 0;
        for (let at = 0; at < text.length; at++) {
            const c = text.charCodeAt(at);
            if (c === 10 && this.#afterCr && at === begin && this.#line === "") {
                this.#afterCr = false; // the second half of an end
                begin = at + 1;
                continue;
            }
            this.#afterCr = c === 13;
            if (c !== 10 && c !== 13)
                continue;
            const line = this.#line + text.slice(begin, at);
            this.#line = "";
            begin = at + 1;
            const event = this.#take(line);
            if (event)
                yield event;
        }
        this.#line += text.slice(begin);
    }

    #take(line) {
        if (line === "") {
            const event = this.#data === undefined ? undefined : { event: this.#event || "message", data: this.#data };
            this.#event = "";
            this.#data = undefined;
            return event;
        }
        const colon = line.indexOf(":");
        const name = colon < 0 ? line : line.slice(0, colon);
        let value = colon < 0 ? "" : line.slice(colon + 1);
        if (value.startsWith(" "))
            value = value.slice(1);
        if (name === "event")
            this.#event = value;
        else if (name === "data")
            this.#data = this.#data === undefined ? value : `${this.#data}\n${value}`;
        return undefined;
    }
}
