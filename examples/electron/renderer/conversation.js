// One conversation: its messages, and the answer that is being written.
import { count, element, icon, seconds } from "./format.js";
import { GrowingMarkdown } from "./markdown.js";

export class Conversation {
    #makeSession;
    #made;
    #view;
    #answer;
    #loaded;

    /** `makeSession` is called when the session is needed; `view` has `follow()`, `changed()` and `announce(text)`. */
    constructor(makeSession, view, isNew) {
        this.#makeSession = makeSession;
        this.#view = view;
        this.#loaded = isNew;
        this.element = element("div", {});
    }

    get #session() {
        return (this.#made ??= this.#makeSession());
    }

    get running() {
        return this.#answer !== undefined;
    }

    get empty() {
        return this.#loaded && this.element.childElementCount === 0;
    }

    /** Its messages, once. */
    async open() {
        if (this.#loaded) return;
        this.#loaded = true;
        const messages = await this.#session.history().catch(() => []);
        for (const message of messages) {
            if (message.role === "user") this.#addUser(message.content);
            else if (message.role === "assistant") this.#addPast(message);
        }
        this.#markLast();
    }

    async send(text) {
        this.#addUser(text);
        await this.#run(() => this.#session.prompt(text));
    }

    async regenerate() {
        this.element.querySelector(".message.assistant:last-child")?.remove();
        await this.#run(() => this.#session.regenerate());
    }

    stop() {
        this.#answer?.abort();
    }

    remove() {
        this.stop();
        return this.#session.remove().catch(() => {});
    }

    async #run(begin) {
        const message = new AssistantMessage(this.element, this.#view);
        const began = performance.now();
        this.#answer = begin();
        this.#view.changed();
        this.#view.follow(true);
        try {
            let firstAt;
            for await (const chunk of this.#answer) {
                if (chunk.type === "text" || chunk.type === "reasoning") firstAt ??= performance.now() - began;
                message.take(chunk, firstAt);
            }
        } catch (error) {
            message.fail(error);
        }
        this.#answer = undefined;
        this.#markLast();
        this.#view.changed();
    }

    #addUser(text) {
        this.element.append(element("div", { className: "message user" }, element("div", { className: "text" }, text)));
    }

    #addPast({ content, reasoning }) {
        const message = new AssistantMessage(this.element, this.#view);
        if (reasoning) message.take({ type: "reasoning", text: reasoning });
        message.take({ type: "text", text: content });
        message.finish();
    }

    // the last answer alone can be given anew
    #markLast() {
        for (const button of this.element.querySelectorAll(".again")) button.remove();
        const foot = this.element.querySelector(".message.assistant:last-child .foot");
        foot?.querySelector(".copy")?.after(
            element("button", { className: "icon-button again", title: "Answer again", "aria-label": "Answer again", onclick: () => this.regenerate() }, icon("again")),
        );
    }
}

class AssistantMessage {
    #element;
    #view;
    #body = element("div", {});
    #progress = element("div", { className: "progress-line" });
    #markdown;
    #text = "";
    #thoughts;

    constructor(parent, view) {
        this.#view = view;
        this.#element = element("article", { className: "message assistant running", "aria-label": "Answer", "aria-busy": "true" }, this.#body);
        this.#markdown = new GrowingMarkdown(this.#body, () => view.follow());
        this.#showProgress("Waiting");
        this.#element.prepend(this.#progress);
        parent.append(this.#element);
    }

    take(chunk, firstAt) {
        switch (chunk.type) {
            case "loading":
                return this.#showProgress("Loading the model", chunk.progress);
            case "reading":
                return this.#showProgress("Reading", chunk.total ? chunk.done / chunk.total : undefined);
            case "reasoning":
                return this.#think(chunk.text);
            case "text":
                this.#progress.remove();
                this.#text += chunk.text;
                return this.#markdown.append(chunk.text);
            case "end":
                return this.#end(chunk.result, firstAt);
        }
    }

    finish(figures = "") {
        this.#progress.remove();
        this.#markdown.finish();
        this.#element.classList.remove("running");
        this.#element.ariaBusy = "false";
        const copy = element("button", { className: "icon-button copy", title: "Copy", "aria-label": "Copy the answer", onclick: () => this.#copy() }, icon("copy"));
        this.#element.append(element("div", { className: "foot" }, copy, element("span", { className: "figures" }, figures)));
        this.#view.follow();
    }

    fail(error) {
        this.finish();
        const failure = element("div", { className: "failure", role: "alert" }, element("p", {}, error.message));
        if (error.hint) failure.append(element("p", {}, error.hint));
        this.#element.append(failure);
        this.#view.follow();
    }

    #end(result, firstAt) {
        const { timings, usage, stop } = result;
        const figures = [];
        if (usage?.answerTokens) figures.push(count(usage.answerTokens, "token"));
        if (timings?.answerTokensPerSecond) figures.push(`${timings.answerTokensPerSecond.toFixed(1)} tokens/s`);
        if (firstAt !== undefined) figures.push(`first after ${seconds(firstAt)}`);
        if (usage?.cachedTokens) figures.push(`${usage.cachedTokens.toLocaleString("en")} of ${usage.promptTokens.toLocaleString("en")} known`);
        const why = { aborted: "stopped", length: "cut at its limit", context: "the context is full", timeout: "took too long" }[stop];
        if (why) figures.push(why);
        this.finish(figures.join(" · "));
        if (!this.#text) this.#body.append(element("p", { className: "stopped" }, stop === "aborted" ? "Stopped before the first word." : "There is no answer."));
        this.#view.announce(stop === "aborted" ? "The answer was stopped." : `Answer: ${this.#text.slice(0, 400)}`);
    }

    #think(text) {
        if (!this.#thoughts) {
            this.#progress.remove();
            this.#thoughts = element("div", {});
            this.#body.before(element("details", { className: "thoughts" }, element("summary", {}, "Thoughts"), this.#thoughts));
        }
        this.#thoughts.append(text);
        this.#view.follow();
    }

    #showProgress(text, part) {
        this.#progress.replaceChildren(element("i", { className: "spin" }), text);
        if (part !== undefined) this.#progress.append(element("progress", { max: 1, value: part, "aria-label": text }));
    }

    async #copy() {
        await navigator.clipboard.writeText(this.#text).catch(() => {});
        this.#view.announce("Copied.");
    }
}
