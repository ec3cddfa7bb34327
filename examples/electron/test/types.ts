// Not run: the page's side and the broker's, as an app in TypeScript uses them, for `npm run types`.
import { runBroker } from "hearth/electron/broker";
import { connect, HearthError, WorkerCrashedError } from "hearth/electron/renderer";
import type { AnswerResult, Memory } from "hearth/electron/renderer";

export async function page(signal: AbortSignal): Promise<string> {
    const hearth = await connect({ timeout: 5000, window: 4096 });
    hearth.on("load", ({ model, progress }) => console.log(model, progress.toFixed(2)));
    const memory: Memory = await hearth.memory();
    console.log(memory.privateBytes, window.hearth?.connect);
    const chat = hearth.session({ key: "notes", model: "small", system: "Be brief.", overflow: "drop" });
    try {
        const answer = chat.prompt("Hello", { signal, maxTokens: 64 });
        for await (const chunk of answer) {
            if (chunk.type === "text") console.log(chunk.text);
            else if (chunk.type === "reading") console.log(chunk.done / chunk.total);
        }
        const result: AnswerResult = await answer;
        return result.text;
    } catch (error) {
        if (error instanceof WorkerCrashedError) return error.partial?.text ?? "";
        if (error instanceof HearthError) return error.hint ?? error.code;
        throw error;
    }
}

// @ts-expect-error a page cannot name files
export const noPaths = async () => (await connect()).addModel("/path/of/a.gguf");

runBroker<{ idle: number }>(({ idle }) => ({ connect: { idle }, session: (options) => ({ ...options, keep: "never" }) }));
