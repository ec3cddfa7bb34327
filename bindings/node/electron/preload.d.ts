/** The preload script of a window whose page uses `hearth/electron/renderer`. It works sandboxed, exposes
 * `window.hearth.connect` and forwards ports to the page. Give its path to the window:
 *
 * ```js
 * new BrowserWindow({ webPreferences: { preload: preloadPath } });   // preloadPath of "hearth/electron/main"
 * ```
 *
 * or bundle it into a preload script of your own: `require("hearth/electron/preload")`. */
export {};

declare global {
    interface Window {
        readonly hearth?: { connect(ticket: string): void };
    }
}
