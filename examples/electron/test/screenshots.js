// node test/screenshots.js: the pictures of README.md, of the real app with the real model, in Chromium. What the
// conversations say is written here.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { launch } from "./desktop.js";
import { bundleForPage, prepare, sleep } from "./parts.js";
import { example, findBinary, findModel, stage } from "./stage.js";

const WIDTHS = [{ width: 1280, height: 800 }, { width: 900, height: 700 }, { width: 420, height: 760 }];
const TALKS = {
    "Reversing a list in Python": [
        ["user", "How do I reverse a list in Python, and what does it cost?"],
        ["assistant", `There are two ways, and they differ in what they leave behind.

**In place**, without a second list:

\`\`\`python
items = [3, 1, 2]
items.reverse()          # items is now [2, 1, 3]
\`\`\`

**As a new list**, when the old one is still needed:

\`\`\`python
backwards = items[::-1]
for item in reversed(items):   # no copy, one after the other
    print(item)
\`\`\`

| | time | memory |
|---|---|---|
| \`reverse()\` | linear | none |
| \`[::-1]\` | linear | a copy |
| \`reversed()\` | linear | none |

Prefer \`reversed()\` where you only walk through it once.`],
        ["user", "And a string?"],
        ["assistant", "Strings cannot be changed, so `text[::-1]` makes a new one. Mind that it reverses *code points*: letters with combining marks come apart."],
    ],
    "Three ideas for a rainy Sunday": [["user", "Three ideas for a rainy Sunday?"], ["assistant", "1. Bake bread.\n2. Sort old photographs.\n3. Read in the bath."]],
    "How a hearth keeps a house warm": [["user", "How does a hearth keep a house warm?"], ["assistant", "Stones take up heat slowly and give it back for hours."]],
};

const staged = stage();
const profile = mkdtempSync(join(tmpdir(), "hearth-pictures-"));
const models = join(profile, "models");
mkdirSync(models);
const file = findModel();
symlinkSync(file, join(models, basename(file)));
const desktop = await launch(staged, { shim: true, switches: [`--user-data-dir=${profile}`, `--models=${models}`], env: { HEARTH_BINARY: findBinary() } });
await prepare(desktop, { inPage: await bundleForPage(staged), model: basename(file, ".gguf") });
const { page } = desktop;
try {
    await fill();
    mkdirSync(join(example, "screenshots"), { recursive: true });
    for (const colorScheme of ["light", "dark"]) for (const size of WIDTHS) await take(colorScheme, size);
    await takeMore();
} finally {
    await desktop.quit();
    rmSync(profile, { recursive: true, force: true });
}

async function fill() {
    await page.evaluate(async (talks) => {
        const titles = {};
        for (const [title, messages] of Object.entries(talks).reverse()) {
            const key = `chat-${crypto.randomUUID()}`;
            titles[key] = title;
            const session = window.__hearth.session({ key, system: "Be brief." });
            await session.setHistory([{ role: "system", content: "Be brief." }, ...messages.map(([role, content]) => ({ role, content }))]);
            await session.prompt("Thanks.", { maxTokens: 2 }).then(() => session.truncate(messages.length + 1));
            await new Promise((resolve) => setTimeout(resolve, 1100)); // the list is by seconds
        }
        localStorage.setItem("titles", JSON.stringify(titles));
    }, TALKS);
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    await sleep(1500);
}

async function take(colorScheme, { width, height }) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height });
    await page.evaluate(() => document.getElementById("scroll").scrollTo(0, 0));
    await sleep(400);
    await save(`${width}-${colorScheme}`);
}

async function takeMore() {
    await page.emulateMedia({ colorScheme: "light" });
    await page.setViewportSize(WIDTHS[1]);
    await page.click("#picker");
    await sleep(300);
    await save("models-light");
    await page.keyboard.press("Escape");
    await page.emulateMedia({ colorScheme: "dark" });
    await page.setViewportSize(WIDTHS[2]);
    await page.click("#open-sidebar");
    await sleep(400);
    await save("sidebar-dark");
    await page.keyboard.press("Escape");
    await page.click("#open-sidebar");
    await page.click("#new-conversation");
    await sleep(300);
    await save("empty-dark");
}

/** Small, where pngquant is installed. */
async function save(name) {
    const path = join(example, "screenshots", `${name}.png`);
    await page.screenshot({ path });
    try {
        execFileSync("pngquant", ["--force", "--ext", ".png", "--strip", "64", path], { stdio: "ignore" });
    } catch {
        // they are larger
    }
}
