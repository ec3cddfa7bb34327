// An app that answers again and again, and says how each ended.
import { connect } from "../../index.js";

const hearth = await connect({ app: process.env.HEARTH_TEST_APP, files: [process.env.HEARTH_TEST_MODEL] });
const model = (await hearth.models())[0].name;
const chat = hearth.session({ key: "talk", model });
console.log(JSON.stringify({ daemon: hearth.daemon, pid: (await hearth.status()).pid }));
process.stdin.setEncoding("utf8").on("data", async (text) => {
    for (const line of text.split("\n").filter(Boolean)) {
        if (line === "close")
            return hearth.close().then(() => process.stdin.destroy());
        const { stop, code } = await chat.prompt(line, { maxTokens: 4, temperature: 0 }).catch((error) => error);
        console.log(JSON.stringify({ stop, code, daemon: hearth.daemon, messages: (await chat.history()).length }));
    }
});
