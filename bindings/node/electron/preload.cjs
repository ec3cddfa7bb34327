"use strict";
// Lets a page ask for a connection, and hands it the port that main sends: nothing else crosses the
// bridge. One CommonJS file without other modules, as a sandboxed preload script must be. An app with
// a preload script of its own bundles this one into it (`require("hearth/electron/preload")`).
const { contextBridge, ipcRenderer } = require("electron");

const CONNECT = "hearth:connect";
const PORT = "hearth:port";

// a page without an origin (file:, data:) can be posted to by "*" alone; only this window receives it
const target = () => (window.location.origin === "null" || window.location.protocol === "file:" ? "*" : window.location.origin);

ipcRenderer.on(PORT, (event, ticket, refused) => {
    window.postMessage({ hearth: String(ticket), refused }, target(), event.ports);
});

contextBridge.exposeInMainWorld("hearth", {
    // the ticket comes back with the port, in a message of this window
    connect: (ticket) => ipcRenderer.send(CONNECT, String(ticket).slice(0, 64)),
});
