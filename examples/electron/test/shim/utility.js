// For `node --import`: a process that stands for a utility process. Ports go to the hub, past main.
import { EventEmitter } from "node:events";
import { connect } from "node:net";
import { receive, send } from "./wire.js";

const hub = connect(process.env.SHIM_HUB);
const ports = new Map();

class Port extends EventEmitter {
    constructor(id) {
        super();
        this.id = id;
        ports.set(id, this);
    }

    // until then messages wait, with the hub
    start() {
        send(hub, { id: this.id, open: true });
    }

    postMessage(data) {
        send(hub, { id: this.id, data });
    }

    close() {
        if (ports.delete(this.id)) send(hub, { id: this.id, close: true });
    }
}

receive(hub, ({ id, data, close }) => {
    const port = ports.get(id);
    if (close) {
        ports.delete(id);
        port?.emit("close");
    } else port?.emit("message", { data, ports: [] });
});

const parentPort = new EventEmitter();
parentPort.postMessage = (message) => process.send({ message });
const early = [];
const deliver = (event) => (parentPort.listenerCount("message") ? parentPort.emit("message", event) : early.push(event));
parentPort.on("newListener", (name) => name === "message" && queueMicrotask(() => early.splice(0).forEach(deliver)));
process.on("message", ({ message, ports: ids }) => deliver({ data: message, ports: ids.map((id) => new Port(id)) }));
// as Chromium's children do when the browser process has gone
process.on("disconnect", () => process.exit(0));
process.parentPort = parentPort;
