// The model picker: what there is, what is loaded, how far a load is.
import { $, bytes, element, icon } from "./format.js";

const CHOSEN = "model";

export class Models {
    #hearth;
    #onError;
    #list = [];
    #progress = new Map();

    constructor(hearth, onError) {
        this.#hearth = hearth;
        this.#onError = onError;
        this.chosen = localStorage.getItem(CHOSEN) ?? undefined;
        $("models").addEventListener("beforetoggle", (event) => {
            $("picker").ariaExpanded = String(event.newState === "open");
            if (event.newState === "open") this.refresh();
        });
        $("models").addEventListener("keydown", moveFocus);
        $("add-model").addEventListener("click", () => this.#add());
        hearth.on("load", ({ model, progress }) => this.#setProgress(model, progress));
        hearth.on("loaded", ({ model }) => this.#setProgress(model, undefined));
        hearth.on("failed", ({ model }) => this.#setProgress(model, undefined));
        hearth.on("unload", () => this.refresh());
    }

    async refresh() {
        const list = await this.#hearth.models().catch(() => undefined);
        if (!list) return;
        this.#list = list.sort((a, b) => a.name.localeCompare(b.name));
        if (!this.#list.some(({ name }) => name === this.chosen)) this.chosen = this.#list[0]?.name;
        this.#render();
    }

    get none() {
        return this.#list.length === 0;
    }

    choose(name) {
        this.chosen = name;
        localStorage.setItem(CHOSEN, name);
        this.#render();
    }

    /** Loads the chosen model, so that the first message need not wait for it. */
    async load(name) {
        this.choose(name);
        try {
            await this.#hearth.load(name, { onProgress: (progress) => this.#setProgress(name, progress) });
        } catch (error) {
            this.#onError(error);
        }
        this.#setProgress(name, undefined);
    }

    async #unload(name) {
        try {
            await this.#hearth.unload(name);
        } catch (error) {
            this.#onError(error);
        }
        this.refresh();
    }

    async #add() {
        $("models").hidePopover();
        try {
            const name = await window.localModel.choose();
            if (!name) return;
            await this.refresh();
            await this.load(name);
        } catch (error) {
            this.#onError(error);
        }
    }

    #setProgress(name, progress) {
        const was = this.#progress.get(name);
        if (progress === undefined) this.#progress.delete(name);
        else this.#progress.set(name, progress);
        if (name === this.chosen) this.#showProgress();
        if ((was === undefined) !== (progress === undefined)) this.refresh();
    }

    #showProgress() {
        const progress = this.#progress.get(this.chosen);
        const bar = $("load-progress");
        bar.hidden = progress === undefined;
        if (progress !== undefined) bar.value = progress;
    }

    #render() {
        const current = this.#list.find(({ name }) => name === this.chosen);
        $("picker-name").textContent = current?.name ?? "No model";
        $("picker-state").className = `state ${this.#stateOf(current)}`;
        $("picker").title = current ? `${current.name}: ${this.#stateOf(current)}` : "";
        this.#showProgress();
        $("model-list").replaceChildren(...(this.none ? [noModels()] : this.#list.map((model) => this.#item(model))));
    }

    #stateOf(model) {
        if (!model) return "unloaded";
        return this.#progress.has(model.name) ? "loading" : model.state;
    }

    #item(model) {
        const state = this.#stateOf(model);
        const about = [bytes(model.bytes)];
        if (state === "loaded") about.push(`loaded, ${bytes(model.privateBytes)} private`);
        if (state === "loading") about.push("loading…");
        const pick = element(
            "button",
            { onclick: () => ($("models").hidePopover(), this.load(model.name)) },
            element("i", { className: `state ${state}` }),
            element("strong", {}, model.name),
            element("small", {}, about.join(" · ")),
        );
        const item = element("li", { className: "model", "aria-current": String(model.name === this.chosen) }, pick);
        if (state === "loaded") {
            const label = `Unload ${model.name}`;
            item.append(element("button", { className: "icon-button", title: "Unload", "aria-label": label, onclick: () => this.#unload(model.name) }, icon("eject")));
        }
        return item;
    }
}

function noModels() {
    return element("li", { className: "none" }, "There are no models yet. Add a GGUF file, or put some into the app’s models folder.");
}

function moveFocus(event) {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    const buttons = [...$("models").querySelectorAll("button")];
    const step = event.key === "ArrowDown" ? 1 : -1;
    const at = buttons.indexOf(document.activeElement);
    buttons[(at + step + buttons.length) % buttons.length].focus();
}
