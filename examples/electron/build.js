// Builds the app into dist/: TypeScript to JavaScript, the preload script into one file (a sandboxed one
// cannot require others), the page's modules into one. What runs in Node imports "hearth" as it is.
//   node build.js [--out DIR] [--modules DIR]
import { cp, mkdir, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const here = fileURLToPath(new URL(".", import.meta.url));
const { values } = parseArgs({ options: { out: { type: "string" }, modules: { type: "string" } } });
await build({ out: values.out ?? join(here, "dist"), modules: values.modules ?? join(here, "node_modules") });

async function build({ out, modules }) {
    const require = createRequire(join(modules, "of-the-app.js"));
    const esbuild = (await import(pathToFileURL(require.resolve("esbuild")).href)).default;
    const common = { bundle: true, logLevel: "warning", nodePaths: [modules], absWorkingDir: here, target: "es2022" };

    await rm(out, { recursive: true, force: true });
    await mkdir(join(out, "renderer"), { recursive: true });
    await Promise.all([
        esbuild.build({
            ...common,
            entryPoints: ["electron/main.ts", "electron/localModelIpcHandlers.ts", "electron/appProtocol.ts", "electron/localModelWorker.js"],
            outdir: join(out, "electron"),
            bundle: false,
            format: "esm",
            platform: "node",
        }),
        esbuild.build({
            ...common,
            entryPoints: ["electron/preload.ts"],
            outfile: join(out, "electron/preload.cjs"),
            format: "cjs",
            platform: "browser",
            external: ["electron"],
        }),
        esbuild.build({
            ...common,
            entryPoints: ["renderer/app.js"],
            outfile: join(out, "renderer/app.js"),
            format: "esm",
            platform: "browser",
            sourcemap: true,
        }),
        cp(join(here, "renderer/index.html"), join(out, "renderer/index.html")),
        cp(join(here, "renderer/style.css"), join(out, "renderer/style.css")),
    ]);
}
