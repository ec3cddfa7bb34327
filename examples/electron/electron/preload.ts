// One file after bundling, as a sandboxed preload script must be.
import "hearth/electron/preload";
import { contextBridge, ipcRenderer } from "electron";

contextBridge.exposeInMainWorld("localModel", {
    config: () => ipcRenderer.invoke("local-model:config"),
    choose: () => ipcRenderer.invoke("local-model:choose"),
});
