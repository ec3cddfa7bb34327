// The worker: a utility process between the pages and hearth. No model runs in it: models have processes of
// their own, so that neither a long prompt nor a crash of one is felt here, in main or in a page.
import { runBroker } from "hearth/electron/broker";

const broker = runBroker((config) => ({
    connect: { onLog: (line) => process.env.HEARTH_LOG && console.error(line) },
    session: (options) => ({ overflow: "drop", ...options }),
    onAnswer: config.REUSE_SESSIONS ? undefined : (session) => session.release(),
    onStart: (hearth) => {
        if (!config.LAZY_CONTEXT_CREATION) warmLoadedModels(hearth);
        scheduleMemoryCleanup(hearth, config);
    },
}));
broker.hearth.catch((error) => console.error(`${error.message}\n${error.hint ?? ""}`));

/** One token from each model that was loaded: its weights are read and its scratch memory is there. */
function warmLoadedModels(hearth) {
    hearth.on("loaded", async ({ model }) => {
        const session = hearth.session({ model, keep: "never" });
        await session.prompt("Hello", { maxTokens: 1, background: true }).catch(() => {});
        await session.close();
    });
}

/** hearth gives the memory of idle conversations back by itself. This looks after it, and says so if it was not done. */
function scheduleMemoryCleanup(hearth, { MAX_IDLE_TIME, CLEANUP_INTERVAL }) {
    const every = Math.min(CLEANUP_INTERVAL, Math.max(1000, MAX_IDLE_TIME));
    setInterval(async () => {
        const now = Date.now();
        const idle = (await hearth.sessions().catch(() => [])).filter((one) => one.loaded && one.used && now - one.used > MAX_IDLE_TIME + every);
        for (const { key } of idle) {
            console.error(`conversation ${key} still has its memory; it is released`);
            await hearth.session({ key }).release().catch(() => {});
        }
    }, every).unref();
}
