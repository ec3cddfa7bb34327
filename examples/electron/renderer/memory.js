// Memory, live: private (what only the models have) and mapped (files in the page cache, which the system can
// take back) apart.
import { $, bytes } from "./format.js";

const EVERY_MS = 1000;

export function showMemory(hearth) {
    const update = async () => {
        if (document.visibilityState !== "visible") return;
        const memory = await hearth.memory().catch(() => undefined);
        if (memory) show(memory);
    };
    setInterval(update, EVERY_MS);
    document.addEventListener("visibilitychange", update);
    update();
    return update;
}

function show({ privateBytes, mappedBytes, limitBytes }) {
    const percent = (part) => `${Math.min(100, (100 * part) / limitBytes)}%`;
    const texts = {
        "memory-private": bytes(privateBytes),
        "memory-mapped": bytes(mappedBytes),
        "memory-total": `${bytes(privateBytes + mappedBytes)} of ${bytes(limitBytes)}`,
        "memory-short": `${bytes(privateBytes)} private`,
    };
    for (const [id, text] of Object.entries(texts)) if ($(id).textContent !== text) $(id).textContent = text;
    const bar = $("memory-bar");
    bar.querySelector(".private").style.setProperty("width", percent(privateBytes));
    bar.querySelector(".mapped").style.setProperty("width", percent(mappedBytes));
    bar.ariaLabel = `${bytes(privateBytes)} private and ${bytes(mappedBytes)} mapped, of ${bytes(limitBytes)}`;
}
