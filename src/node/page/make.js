// Elements, and numbers as text.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `make("p", {class: "soft"}, "text", child)`. What begins with `on` is a listener. */
export function make(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same of SVG. */
export function svg(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined));
  return element;
}

/** A table. `columns` are `[title, cell of a row, class]`; rows have a `key` to come back to. */
export function table(caption, columns, rows, empty) {
  if (rows.length === 0) return make("p", { class: "soft" }, empty);
  const head = columns.map(([title, , kind]) => make("th", { scope: "col", class: kind }, title));
  const body = rows.map((row) => make("tr", null, columns.map(([, cell, kind]) => make("td", { class: kind }, cell(row)))));
  return make("div", { class: "scroll" },
    make("table", { "aria-label": caption }, make("thead", null, make("tr", null, head)), make("tbody", null, body)));
}

/** Puts what `render` makes into `place` when `data` is not what it was there for; who had the focus has it again. */
export function refresh(place, data, render) {
  const text = JSON.stringify(data);
  if (place.shownData === text) return;
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  place.shownData = text;
  place.replaceChildren(...[render(data)].flat());
  if (focused) [...place.querySelectorAll("[data-key]")].find((element) => element.dataset.key === focused)?.focus();
}

/** A word in a pill, in the colour of how good it is. */
export function badge(word, kind) {
  return make("span", { class: `badge ${kind ?? kindOf(word)}` }, word);
}

function kindOf(word) {
  if (["healthy", "running", "well", "ready", "closed", "done"].includes(word)) return "well";
  if (["degraded", "starting", "stopping", "paused", "half-open", "recovering", "pending", "warning", "info"].includes(word)) return "warn";
  if (["unhealthy", "failed", "open", "firing", "critical", "error"].includes(word)) return "bad";
  return "soft";
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

export function count(number) {
  return number < 10000 ? whole.format(number) : short.format(number);
}

/** Events a second. */
export function rate(number) {
  return number > 0 && number < 10 ? number.toFixed(1) : count(number);
}

/** Nanoseconds, three digits of them. */
export function time(ns) {
  for (const [unit, size] of [["s", 1e9], ["ms", 1e6], ["µs", 1e3]]) {
    if (ns >= size) return `${Number((ns / size).toPrecision(3))} ${unit}`;
  }
  return `${Math.round(ns)} ns`;
}

/** The time of day of an RFC 3339 time. */
export function clock(text) {
  const at = new Date(text);
  return Number.isNaN(at.getTime()) ? "" : at.toLocaleTimeString("en-GB") + "." + String(at.getMilliseconds()).padStart(3, "0");
}
