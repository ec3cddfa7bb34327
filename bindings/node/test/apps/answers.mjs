// An app in the middle of an answer. It tells who is there, and ends as HEARTH_TEST_END says, when asked to.
import { connect } from "../../index.js";

const hearth = await connect({ app: process.env.HEARTH_TEST_APP, files: [process.env.HEARTH_TEST_MODEL] });
const model = (await hearth.models())[0].name;
await hearth.load(model);
const [worker] = (await hearth.memory()).workers;
const answer = hearth.session({ key: "long", model }).prompt("Tell a very long story.", { ignoreEos: true });
const loop = (async () => {
    let text = "";
    for await (const chunk of answer) {
        if (chunk.type !== "text")
            continue;
        if (text === "")
            console.log(JSON.stringify({ daemon: hearth.daemon, pid: (await hearth.status()).pid, worker: worker.pid }));
        text += chunk.text;
        if (process.env.HEARTH_TEST_END === "natural" && text.length > 50)
            break;
    }
})();
const ends = {
    exit: () => process.exit(0),
    throw: () => {
        throw new Error("as it was asked for");
    },
    abort: () => process.abort(),
    natural: () => process.stdin.destroy(), // and nothing is left to do
};
process.stdin.once("data", () => ends[process.env.HEARTH_TEST_END]());
await loop;
