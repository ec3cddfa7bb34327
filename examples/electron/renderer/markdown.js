// Markdown that grows: blocks that are complete are made once and stay; only the last one is made anew, once
// a frame at most, and less often where making it takes long. The time a frame takes does not grow with
// the answer.
import DOMPurify from "dompurify";
import { lexer, parser } from "marked";

const CLEAN = {
    RETURN_DOM_FRAGMENT: true,
    ALLOWED_TAGS: ["p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "del", "code", "pre", "blockquote",
        "ul", "ol", "li", "input", "table", "thead", "tbody", "tr", "th", "td", "a"],
    ALLOWED_ATTR: ["href", "start", "type", "checked", "disabled", "align"],
    ALLOWED_URI_REGEXP: /^https:/i,
};
const FRAME_BUDGET_MS = 6;

export class GrowingMarkdown {
    #element;
    #source = "";
    #done = 0; // characters that are in finished blocks
    #last; // the block that may still grow
    #frame;
    #notBefore = 0;
    #onRender;

    constructor(element, onRender = () => {}) {
        this.#element = element;
        this.#onRender = onRender;
        element.classList.add("markdown");
    }

    append(text) {
        this.#source += text;
        this.#frame ??= requestAnimationFrame(this.#render);
    }

    /** A whole text at once. */
    show(text) {
        this.#source = text;
        this.finish();
    }

    /** The text is complete. */
    finish() {
        cancelAnimationFrame(this.#frame);
        this.#notBefore = 0;
        this.#render(performance.now());
    }

    #render = (now) => {
        this.#frame = undefined;
        if (now < this.#notBefore) {
            this.#frame = requestAnimationFrame(this.#render);
            return;
        }
        const begin = performance.now();
        const blocks = lexer(this.#source.slice(this.#done));
        const growing = blocks.findLastIndex((block) => block.type !== "space");
        blocks.forEach((block, index) => {
            if (index < growing) {
                if (block.type !== "space") this.#finishBlock(block, blocks.links);
                this.#done += block.raw.length;
            } else if (index === growing) this.#showLast(block, blocks.links);
        });
        const spent = performance.now() - begin;
        // a huge block (a long table) is not made anew in each frame
        this.#notBefore = spent > FRAME_BUDGET_MS ? now + spent * 8 : 0;
        this.#onRender();
    };

    #finishBlock(block, links) {
        this.#showLast(block, links);
        this.#last = undefined;
    }

    #showLast(block, links) {
        if (!this.#last) {
            this.#last = document.createElement("div");
            this.#element.append(this.#last);
        }
        if (block.type === "code") return this.#showCode(block);
        this.#last.replaceChildren(clean(block, links));
    }

    // code only ever gets longer: its text node grows, and a selection in it stays
    #showCode({ text }) {
        let code = this.#last.querySelector("pre > code");
        if (!code) {
            const pre = document.createElement("pre");
            pre.tabIndex = 0; // it scrolls sideways
            code = document.createElement("code");
            code.append("");
            pre.append(code);
            this.#last.replaceChildren(pre);
        }
        const shown = code.firstChild;
        if (text.startsWith(shown.data)) shown.appendData(text.slice(shown.data.length));
        else shown.data = text;
    }
}

function clean(block, links) {
    const tokens = Object.assign([block], { links });
    return DOMPurify.sanitize(parser(tokens), CLEAN);
}

/** The first use compiles much: better before the first answer than in the middle of it. */
export function warmUp(times = 20) {
    const sample = "# a\n\n**b** `c` [d](https://e.example)\n\n- f\n- g\n\n1. h\n\n> i\n\n| j | k |\n|---|---|\n| l | m |\n\n```n\no\n```\n";
    new GrowingMarkdown(document.createElement("div")).show(sample);
    if (times > 1) requestIdleCallback(() => warmUp(times - 1));
}

// a model's links lead out of the app; main decides whether they may
DOMPurify.addHook("afterSanitizeAttributes", (node) => {
    if (node.tagName !== "A") return;
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
});
