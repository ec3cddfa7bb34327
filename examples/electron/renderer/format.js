export function bytes(count) {
    if (!(count >= 0)) return "–";
    if (count < 1e6) return `${Math.round(count / 1e3)} kB`;
    if (count < 1e9) return `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} MB`;
    return `${(count / 1e9).toFixed(2)} GB`;
}

export function seconds(ms) {
    return ms < 995 ? `${Math.max(1, Math.round(ms))} ms` : `${(ms / 1000).toFixed(1)} s`;
}

export function count(number, unit) {
    return `${number.toLocaleString("en")} ${unit}${number === 1 ? "" : "s"}`;
}

/** An element with properties and children. */
export function element(name, properties = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
        if (key.startsWith("aria-") || key === "role" || key === "popovertarget") made.setAttribute(key, value);
        else made[key] = value;
    }
    made.append(...children);
    return made;
}

export function icon(name) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    svg.setAttribute("class", "icon");
    svg.setAttribute("aria-hidden", "true");
    use.setAttribute("href", `#icon-${name}`);
    svg.append(use);
    return svg;
}

export const $ = (id) => document.getElementById(id);
