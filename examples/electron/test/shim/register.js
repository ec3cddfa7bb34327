// For `node --import`: in the process that stands for main, "electron" is electron.js beside this file.
import { register } from "node:module";

const electron = new URL("./electron.js", import.meta.url).href;
const hooks = `export async function resolve(name, context, next) {
    return name === "electron" ? { url: ${JSON.stringify(electron)}, shortCircuit: true } : next(name, context);
}`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
