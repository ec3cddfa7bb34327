// The utility process that `registerHearth` starts where the app has no broker of its own.
import { runBroker } from "./broker.js";

runBroker();
