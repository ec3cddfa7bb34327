// In a page, before its own scripts: what a preload script uses of "electron", and the page's ends of ports. The
// text of this function is given to Chromium with the preload script's; `__shim` is a binding to desktop.js.
export function installShim(preload) {
    const listeners = new Map();
    const ends = new Map();
    const call = (message) => window.__shim(message);

    window.__shimDeliver = ({ channel, message, ports, id, data, close }) => {
        if (close) {
            ends.get(id)?.close();
            ends.delete(id);
        } else if (id !== undefined) ends.get(id)?.postMessage(data);
        else for (const listener of listeners.get(channel) ?? []) listener({ ports: ports.map(open) }, message);
    };

    function open(id) {
        const { port1, port2 } = new MessageChannel();
        ends.set(id, port1);
        port1.onmessage = ({ data }) => call({ type: "port", id, data });
        call({ type: "port", id, open: true });
        return port2;
    }

    const electron = {
        contextBridge: { exposeInMainWorld: (name, api) => Object.defineProperty(window, name, { value: Object.freeze(api) }) },
        ipcRenderer: {
            on: (channel, listener) => listeners.set(channel, [...(listeners.get(channel) ?? []), listener]),
            send: (channel, ...args) => void call({ type: "send", channel, args }),
            invoke: (channel, ...args) => call({ type: "invoke", channel, args }),
        },
    };
    const require = (name) => {
        if (name === "electron") return electron;
        throw new Error(`module not found: ${name}`); // as in a sandboxed preload script
    };
    preload(require, { exports: {} }, {});
}
