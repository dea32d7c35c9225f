// Elements from plain values.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** An HTML element. */
export const h = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);

/** An SVG element. */
export const s = (tag, properties, ...children) => fill(document.createElementNS(SVG, tag), properties, children);

/** Puts elements in place of what an element holds. */
export function show(element, ...children) {
  element.replaceChildren();
  return fill(element, {}, children);
}

/** A line that says what is waited for. */
export const waiting = (text) => h("p", { class: "wait", role: "status" }, text);

/** An error, with what to do next. */
export const failure = (error) => h("p", { class: "error", role: "alert" }, error.message ?? String(error));

/** A share as a percentage. */
export function percent(share) {
  if (share === null || share === undefined) return "–";
  if (share > 0.999 && share < 1) return "> 99.9 %";
  return `${(share * 100).toFixed(share < 0.1 ? 2 : 1)} %`;
}

/** A number of bytes for people. */
export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${count.toFixed(count < 10 && unit > 0 ? 1 : 0)} ${units[unit]}`;
}

/** A token with its blanks made visible. */
export const visible = (token) => (token ?? "").replaceAll(" ", "␣").replaceAll("\n", "⏎");

/** Bars with their names and values; `rows` are `[name, share, text, isSoft]`. */
export const bars = (rows) =>
  h("div", { class: "bars" }, rows.map(([name, share, text, soft]) => [
    h("span", {}, name),
    h("div", { class: "track" }, h("div", { class: soft ? "fill soft" : "fill", style: { width: `${Math.max(0, Math.min(1, share)) * 100}%` } })),
    h("span", {}, text),
  ]));

/** Puts a text in a file of the person's own. */
export function download(name, text) {
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
