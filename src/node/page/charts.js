// Charts of lines, in SVG.

import { make, svg } from "./make.js";

const WIDTH = 600, HEIGHT = 150, LEFT = 48, BOTTOM = 18;

/** Lines over the last seconds. `series`: `{name, points: [[seconds ago, value]]}`; `seconds` is what the width stands for, `least` what the
 * height does at the least. */
export function overTime(label, series, seconds, text, least) {
  const top = nice(Math.max(least, ...series.flatMap(({ points }) => points.map(([, value]) => value))));
  const x = (ago) => WIDTH - (ago / seconds) * (WIDTH - LEFT);
  const y = (value) => 6 + (1 - value / top) * (HEIGHT - BOTTOM - 6);
  const said = series.map(({ name, points }) => `${name}: ${text(points.at(-1)?.[1] ?? 0)}`).join(", ");
  return make("div", null,
    svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${label}; now ${said}` },
      [0, 0.5, 1].map((part) => [
        svg("line", { class: "axis", x1: LEFT, x2: WIDTH, y1: y(top * part), y2: y(top * part) }),
        svg("text", { x: LEFT - 6, y: y(top * part) + 4, "text-anchor": "end" }, text(top * part)),
      ]),
      [seconds, seconds / 2].map((ago) => svg("text", { x: x(ago), y: HEIGHT - 3 }, `${Math.round(ago / 60 * 10) / 10} min ago`)),
      svg("text", { x: WIDTH, y: HEIGHT - 3, "text-anchor": "end" }, "now"),
      series.map(({ points }, nth) => {
        const line = points.map(([ago, value]) => `${x(ago).toFixed(1)},${y(value).toFixed(1)}`);
        if (line.length < 2) return null;
        const base = `${x(points.at(-1)[0])},${y(0)} ${x(points[0][0])},${y(0)}`;
        return [
          svg("polygon", { class: `area f${nth + 1}`, points: `${line.join(" ")} ${base}` }),
          svg("polyline", { class: `line c${nth + 1}`, points: line.join(" ") }),
        ];
      })),
    legend(series.map(({ name }) => name)));
}

/** What part of latencies was at most how long, both axes by powers of ten. `series`: `{name, latency}` of an overview. */
export function quantiles(label, series, text) {
  const at = [["50 %", 0.5, "p50"], ["95 %", 0.95, "p95"], ["99 %", 0.99, "p99"], ["99.9 %", 0.999, "p999"], ["all", 0.99999, "max"]];
  const seen = series.filter(({ latency }) => latency.count > 0);
  if (seen.length === 0) return make("p", { class: "soft" }, "Nothing was measured yet.");
  const values = seen.flatMap(({ latency }) => at.map(([, , name]) => Math.max(1, latency[name])));
  const low = Math.floor(Math.log10(Math.min(...values))), high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))));
  const far = Math.log10(1 / (1 - 0.99999));
  const x = (quantile) => LEFT + 20 + (Math.log10(1 / (1 - quantile)) / far) * (WIDTH - LEFT - 60);
  const y = (ns) => 8 + (1 - (Math.log10(Math.max(1, ns)) - low) / (high - low)) * (HEIGHT + 40 - BOTTOM - 8);
  const powers = Array.from({ length: high - low + 1 }, (_, nth) => 10 ** (low + nth));
  const said = seen.map(({ name, latency }) => `${name}: half within ${text(latency.p50)}, 99 % within ${text(latency.p99)}`);
  return make("div", null,
    svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT + 40}`, role: "img", "aria-label": `${label}; ${said.join("; ")}` },
      powers.map((ns) => [
        svg("line", { class: "axis", x1: LEFT, x2: WIDTH, y1: y(ns), y2: y(ns) }),
        svg("text", { x: LEFT - 6, y: y(ns) + 4, "text-anchor": "end" }, text(ns)),
      ]),
      at.map(([name, quantile]) => svg("text", { x: x(quantile), y: HEIGHT + 37, "text-anchor": "middle" }, name)),
      series.map(({ latency }, nth) => latency.count === 0 ? null : [
        svg("polyline", { class: `line c${nth + 1}`, points: at.map(([, quantile, name]) => `${x(quantile).toFixed(1)},${y(latency[name]).toFixed(1)}`).join(" ") }),
        at.map(([word, quantile, name]) => svg("circle", { class: `f${nth + 1}`, cx: x(quantile), cy: y(latency[name]), r: 3 },
          svg("title", null, `${series[nth].name}, ${word}: ${text(latency[name])}`))),
      ])),
    legend(series.map(({ name, latency }) => latency.count === 0 ? `${name} (none)` : name)));
}

function legend(names) {
  return make("ul", { class: "legend" }, names.map((name, nth) => make("li", null,
    svg("svg", { viewBox: "0 0 14 6", "aria-hidden": "true" }, svg("line", { class: `c${nth + 1}`, x1: 0, x2: 14, y1: 3, y2: 3 })), name)));
}

/** The next number that is 1, 2 or 5 and noughts. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}
