// Not run: what test/types.test.mjs compiles.
import {
    Answer, BinaryNotFoundError, BusyError, connect, ContextFullError, findBinary, Hearth, HearthError, Session, WorkerCrashedError,
} from "hearth";
import type { AnswerResult, Chunk, ConnectOptions, ErrorJSON, HearthEvent, Message, ModelInfo, Transport } from "hearth";

const options: ConnectOptions = {
    app: "org.example.notes", models: ["/models"], files: ["/a.gguf"], memory: "2.6G", idle: "5m", ttl: 600, context: 2048, kv: "q8_0",
    fit: "shrink", threads: 2, store: false, env: { HEARTH_CPU: undefined }, args: ["--verbose"], startTimeout: 1000,
    onLog: (line) => console.log(line.length), shared: "only", transport: "loopback", signal: AbortSignal.timeout(1000),
};
const own: Transport = { kind: "mine", origin: "http://x", requestOptions: () => ({ socketPath: "/s" }) };

export async function all(): Promise<void> {
    const hearth: Hearth = await connect(options);
    await connect();
    await connect({ transport: own });
    const { path, from }: { path: string; from: string } = findBinary({ binary: "/x" });
    console.log(path, from, hearth.state, hearth.daemon, hearth.pid?.toFixed(), hearth.origin, hearth.baseURL);

    const model: ModelInfo = await hearth.load("m", { context: 4096, mmap: true, mlock: false, answers: 2, onProgress: (x) => x.toFixed() });
    console.log(model.settings.kv, model.modified.getTime(), (await hearth.unload("m", { force: true })).state);
    console.log((await hearth.models()).length, (await hearth.estimate("m", { context: 1 })).fits, (await hearth.inspect("m")).about.layers);
    const name: string = await hearth.addModel("/b.gguf");

    const session: Session = hearth.session({ key: "k", model: name, system: "s", keep: "never", overflow: "drop", defaults: { seed: 1 } });
    const answer: Answer = session.prompt("hello", { temperature: 0, stop: ["a"], logitBias: { 1: false }, variables: { a: 1 }, throwOnAbort: true });
    for await (const chunk of answer) {
        const one: Chunk = chunk;
        switch (one.type) {
        case "loading": console.log(one.progress.toFixed()); break;
        case "begin": console.log(one.promptTokens + one.cachedTokens); break;
        case "reading": console.log(one.done / one.total); break;
        case "text": case "reasoning": console.log(one.text.length); break;
        case "end": console.log(one.result.stop); break;
        default: one satisfies never;
        }
    }
    for await (const text of session.prompt({ role: "user", content: "x" }).textStream())
        console.log(text.length);
    const result: AnswerResult = await answer;
    console.log(result.usage?.cachedTokens, result.timings?.firstTokenMs, result.stopString?.length);
    answer.abort();
    await session.prompt([{ role: "user", content: "x" }]).catch((error: HearthError) => error.code).finally(() => {});
    await session.regenerate();

    const history: Message[] = await session.history();
    await session.append(history[0]!);
    await session.edit(0, "x");
    await session.truncate(1);
    await session.setHistory(history);
    await session.reset();
    await session.release();
    console.log((await session.info())?.used?.getTime());
    const fork: Session = await session.fork({ count: 2 });
    await fork.close();
    await session.remove();

    const one: number[] = await hearth.embed("m", "a");
    const many: number[][] = await hearth.embed("m", ["a"], { dimensions: 16 });
    console.log(one, many, await hearth.countTokens("m", history), (await hearth.memory()).workers[0]?.kvBytes, (await hearth.status()).pid);
    const onLoad = (event: { model: string; progress: number }): void => console.log(event.progress);
    hearth.on("load", onLoad).once("state", ({ state, error }) => console.log(state, error?.hint)).off("load", onLoad);
    for await (const event of hearth.events({ signal: AbortSignal.timeout(1) })) {
        const told: HearthEvent = event;
        if (told.type === "restart")
            console.log(told.what, told.cause);
    }
    const response: Response = await hearth.fetch(`${hearth.baseURL}/models`);
    console.log(response.ok);
    try {
        await session.prompt("x");
    } catch (error) {
        if (error instanceof WorkerCrashedError || error instanceof ContextFullError || error instanceof BusyError)
            console.log(error.code, error.partial?.text, error.status);
        if (error instanceof BinaryNotFoundError)
            console.log(error.searched.length);
        if (error instanceof HearthError) {
            const json: ErrorJSON = error.toJSON();
            throw HearthError.fromJSON(json);
        }
    }
    await hearth.close();
}
