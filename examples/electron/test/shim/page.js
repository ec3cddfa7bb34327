// In a page, before its own scripts: what a preload script uses of "electron", and the page's ends of ports. The
// text of this function is given to Chromium with the preload script's; `__shim` is a binding to desktop.js.
export function installShim(preload) {
    const listeners = new Map();
    const ends = new Map();
    const call = (message) => window.__shim(message);

    window.__shimDeliver = ({ channel, message, ports, id, data, close }) => {
        if (close) {
            ends.get(id)?.port1.close();
            ends.get(id)?.given?.dispatchEvent(new Event("close")); // which Electron adds to the web's ports
            ends.delete(id);
        } else if (id !== undefined) ends.get(id)?.port1.postMessage(data);
        else for (const listener of listeners.get(channel) ?? []) listener({ ports: ports.map(open) }, message);
    };

    function open(id) {
        const { port1, port2 } = new MessageChannel();
        ends.set(id, { port1 });
        underWay.push(id);
        port1.onmessage = ({ data }) => call({ type: "port", id, data });
        call({ type: "port", id, open: true });
        return port2;
    }

    // a preload script transfers ports to the page, which makes other objects of them
    const underWay = [];
    window.addEventListener("message", (event) => {
        for (const given of event.ports) Object.assign(ends.get(underWay.shift()) ?? {}, { given });
    }, true);

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
