// An app that talks until it is told to stop, and notes what came of each prompt.
import { connect } from "../../index.js";

const hearth = await connect({ app: process.env.HEARTH_TEST_APP, files: [process.env.HEARTH_TEST_MODEL] });
const model = (await hearth.models())[0].name;
const chat = hearth.session({ key: process.env.HEARTH_TEST_KEY, model, overflow: "drop" });
let stopped = false;
process.stdin.on("data", () => (stopped = true));
console.log(JSON.stringify({ ready: true }));
for (let i = 0; !stopped; i++) {
    const said = `Number ${i}.`;
    const answer = chat.prompt(said, { maxTokens: 1 + (i % 7) });
    if (i % 5 === 4)
        setTimeout(() => answer.abort(), i % 90);
    const { text, stop, code } = await answer.catch((error) => error);
    console.log(JSON.stringify({ said, text, stop, code }));
}
console.log(JSON.stringify({ daemon: hearth.daemon, history: await chat.history() }));
await hearth.close();
process.stdin.destroy();
