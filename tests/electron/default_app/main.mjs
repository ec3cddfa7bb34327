// Starts the app whose folder is on the command line, as the default app of Electron's own builds does.
import { app } from "electron";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const folder = resolve(process.argv.slice(1).find((argument) => !argument.startsWith("-")) ?? ".");
const { productName, name, version, main } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
app.setName(productName ?? name);
app.setVersion(version ?? "0.0.0");
app.setAppPath(folder);
await import(pathToFileURL(join(folder, main ?? "index.js")).href);
