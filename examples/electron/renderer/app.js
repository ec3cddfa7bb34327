import { connect } from "hearth/electron/renderer";
import { Conversation } from "./conversation.js";
import { $, element, icon } from "./format.js";
import { warmUp } from "./markdown.js";
import { showMemory } from "./memory.js";
import { Models } from "./models.js";

const TITLES = "titles";
const SYSTEM = "You are a helpful assistant. Answer briefly and clearly.";
const SUGGESTIONS = ["Explain how a hearth keeps a house warm", "Write a Python function that reverses a list", "Give me three ideas for a rainy Sunday"];
const FOLLOW_PX = 80;

class App {
    #hearth;
    #models;
    #open = new Map();
    #titles = JSON.parse(localStorage.getItem(TITLES) ?? "{}");
    #keys = [];
    #current;
    #following = true;

    async start() {
        this.#listen();
        requestIdleCallback(() => warmUp());
        try {
            this.#hearth = await connect();
        } catch (error) {
            return this.#showError(error);
        }
        this.#hearth.on("state", ({ state, error }) => this.#showState(state, error));
        this.#models = new Models(this.#hearth, (error) => this.#showError(error));
        await this.#models.refresh();
        showMemory(this.#hearth);
        await this.#listConversations();
        this.#show(this.#keys[0] ?? this.#newKey());
        if (this.#models.chosen) this.#models.load(this.#models.chosen);
        document.documentElement.dataset.ready = "true";
    }

    #listen() {
        $("composer").addEventListener("submit", (event) => {
            event.preventDefault();
            if (this.#conversation?.running) this.#conversation.stop();
            else this.#send($("composer-text").value);
        });
        $("composer-text").addEventListener("keydown", (event) => {
            if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            if (!this.#conversation?.running) this.#send($("composer-text").value);
        });
        $("composer-text").addEventListener("input", () => this.#showSend());
        $("new-conversation").addEventListener("click", () => this.#new());
        $("open-sidebar").addEventListener("click", () => this.#sidebar(true));
        $("scrim").addEventListener("click", () => this.#sidebar(false));
        $("scroll").addEventListener("scroll", () => (this.#following = this.#atEnd), { passive: true });
        document.addEventListener("keydown", (event) => this.#shortcut(event));
        $("suggestions").append(...SUGGESTIONS.map((text) => element("li", {}, element("button", { type: "button", onclick: () => this.#send(text) }, text))));
    }

    #shortcut(event) {
        const control = event.ctrlKey || event.metaKey;
        if (event.key === "Escape" && $("sidebar").classList.contains("open")) this.#sidebar(false);
        else if (event.key === "Escape" && !document.querySelector(":popover-open")) this.#conversation?.stop();
        else if (control && event.key.toLowerCase() === "n") this.#new();
        else if (control && event.key.toLowerCase() === "k") $("models").togglePopover();
        else if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) this.#step(event.key === "ArrowDown" ? 1 : -1);
        else return;
        event.preventDefault();
    }

    get #conversation() {
        return this.#open.get(this.#current);
    }

    /* conversations */

    async #listConversations() {
        const kept = await this.#hearth.sessions().catch(() => []);
        this.#keys = kept.filter(({ messages }) => messages > 1).map(({ key }) => key);
        this.#renderList();
    }

    #newKey() {
        return `chat-${crypto.randomUUID()}`;
    }

    #new() {
        this.#sidebar(false);
        if (!this.#conversation?.empty) this.#show(this.#newKey());
        $("composer-text").focus();
    }

    #step(by) {
        const at = this.#keys.indexOf(this.#current);
        const next = this.#keys[Math.max(0, Math.min(this.#keys.length - 1, at + by))];
        if (next) this.#show(next);
    }

    async #show(key) {
        this.#current = key;
        const isNew = !this.#keys.includes(key);
        if (!this.#open.has(key)) {
            // one that is kept goes on with the model that it is of
            const make = () => this.#hearth.session({ key, system: SYSTEM, ...(isNew ? { model: this.#models.chosen } : {}) });
            this.#open.set(key, new Conversation(make, this.#view(key), isNew));
        }
        const conversation = this.#open.get(key);
        $("messages").replaceChildren(conversation.element);
        await conversation.open();
        if (this.#current !== key) return;
        this.#following = true;
        this.#changed();
        this.#follow(true);
    }

    #view(key) {
        return {
            follow: (force) => key === this.#current && this.#follow(force),
            changed: () => this.#changed(),
            announce: (text) => key === this.#current && ($("announce").textContent = text),
        };
    }

    async #send(text) {
        if (!text.trim() || !this.#hearth || this.#conversation?.running) return;
        $("composer-text").value = "";
        this.#hideError();
        if (!this.#keys.includes(this.#current)) {
            this.#keys.unshift(this.#current);
            this.#titles[this.#current] = text.trim().replace(/\s+/g, " ").slice(0, 60);
            localStorage.setItem(TITLES, JSON.stringify(this.#titles));
        }
        await this.#conversation.send(text.trim());
    }

    async #remove(key) {
        const conversation = this.#open.get(key);
        this.#open.delete(key);
        this.#keys = this.#keys.filter((one) => one !== key);
        delete this.#titles[key];
        localStorage.setItem(TITLES, JSON.stringify(this.#titles));
        if (key === this.#current) this.#show(this.#keys[0] ?? this.#newKey());
        else this.#renderList();
        await (conversation?.remove() ?? this.#hearth.session({ key }).remove().catch(() => {}));
    }

    #renderList() {
        $("conversations").replaceChildren(
            ...this.#keys.map((key) => {
                const title = this.#titles[key] ?? "Conversation";
                const open = element("button", {
                    className: `conversation${this.#open.get(key)?.running ? " busy" : ""}`,
                    "aria-current": String(key === this.#current),
                    title,
                    onclick: () => (this.#sidebar(false), this.#show(key)),
                }, title);
                const remove = element("button", { className: "icon-button", title: "Delete", "aria-label": `Delete “${title}”`, onclick: () => this.#remove(key) }, icon("trash"));
                return element("li", {}, open, remove);
            }),
        );
    }

    /* what is seen */

    #changed() {
        const { running, empty } = this.#conversation;
        $("send-icon").setAttribute("href", running ? "#icon-stop" : "#icon-send");
        $("send").ariaLabel = running ? "Stop the answer" : "Send";
        $("empty").hidden = !empty;
        $("messages").hidden = empty;
        this.#showSend();
        this.#renderList();
    }

    #showSend() {
        $("send").disabled = !this.#conversation?.running && !$("composer-text").value.trim();
    }

    get #atEnd() {
        const { scrollTop, scrollHeight, clientHeight } = $("scroll");
        return scrollHeight - clientHeight - scrollTop < FOLLOW_PX;
    }

    // who has scrolled up to read is left there
    #follow(force = false) {
        if (!force && !this.#following) return;
        $("scroll").scrollTop = $("scroll").scrollHeight;
    }

    #sidebar(open) {
        $("sidebar").classList.toggle("open", open);
        $("open-sidebar").ariaExpanded = String(open);
        if (open) $("sidebar").querySelector("button").focus();
    }

    #showState(state, error) {
        if (state === "ready") this.#hideError();
        else if (state === "reconnecting") this.#showError({ message: "The model’s process ended. It is started again; conversations go on." });
        else if (error) this.#showError(error);
    }

    #showError({ message, hint }) {
        $("banner").replaceChildren(element("div", {}, element("p", {}, message), ...(hint ? [element("p", {}, hint)] : [])));
        $("banner").hidden = false;
    }

    #hideError() {
        $("banner").hidden = true;
    }
}

new App().start();
