// Who sends what to whom, as a graph: sources, types, subscriptions.

import { count, make, rate, refresh, svg } from "./make.js";
import { watch } from "./node.js";

const WIDTH = 1000, ROW = 40, BOX = 230, MAX = 24;

export function flow(view) {
  const place = make("div", { class: "scroll" }), left = make("p", { class: "soft" });
  view.append(make("h1", null, "Flow"),
    make("p", { class: "soft" }, "Who sends what to whom. Widths are rates over the last ten seconds; dashed where a filter takes only some; red where a breaker is open or events became dead letters just now, amber where it is paused."),
    place, left);
  return watch((now, past) => {
    if (!now) return;
    const before = past.find((seen) => seen.at >= now.at - 10.5) ?? now;
    const graph = drawn(now, before);
    refresh(place, graph, draw);
    left.textContent = graph.more;
  });
}

/** Nodes and edges with their rates. */
function drawn(now, before) {
  const seconds = Math.max(1, now.at - before.at);
  const was = (list, same) => list.find(same);
  const streams = now.flow.streams.map(({ source, type, count }) => {
    const then = was(before.flow.streams, (one) => one.source === source && one.type === type)?.count ?? (now === before ? count : 0);
    return { source, type, rate: (count - then) / seconds, count };
  });
  const sum = (key) => {
    const sums = new Map();
    for (const stream of streams) {
      const so = sums.get(stream[key]) ?? { name: stream[key], rate: 0, count: 0 };
      sums.set(stream[key], { ...so, rate: so.rate + stream.rate, count: so.count + stream.count });
    }
    return [...sums.values()].sort((one, other) => other.count - one.count);
  };
  const all = { sources: sum("source"), types: sum("type") };
  const sources = all.sources.slice(0, MAX), types = all.types.slice(0, MAX);
  const listening = now.flow.subscriptions.filter((one) => one.types.length > 0 || one.health !== "well");
  const subscriptions = listening.slice(0, MAX).map((one) => {
    const then = was(before.flow.subscriptions, (other) => other.id === one.id) ?? one;
    const isBad = one.health === "open" || one.dead_lettered > then.dead_lettered;
    return { ...one, kind: isBad ? "bad" : one.health === "well" ? "" : "warn", rate: (one.matched - then.matched) / seconds };
  });
  const has = (list, name) => list.some((one) => one.name === name);
  const rates = Object.fromEntries(types.map((type) => [type.name, type.rate]));
  const hidden = all.sources.length - sources.length + all.types.length - types.length + listening.length - subscriptions.length;
  const beyond = now.flow.left_out.streams + now.flow.left_out.subscriptions;
  return {
    columns: [sources, types, subscriptions],
    edges: [
      ...streams.filter((one) => has(sources, one.source) && has(types, one.type)).map((one) => ({ from: [0, one.source], to: [1, one.type], rate: one.rate, kind: "" })),
      ...subscriptions.flatMap((one) => one.types.filter((type) => has(types, type)).map((type) => ({
        from: [1, type], to: [2, one.id], rate: Math.min(rates[type], one.filtered ? one.rate : rates[type]), kind: one.kind, isFiltered: one.filtered,
      }))),
    ],
    more: hidden + beyond > 0 ? `${hidden + beyond} more are not shown: those with the fewest events.` : "",
  };
}

function draw({ columns, edges }) {
  if (columns[0].length === 0) return make("p", { class: "soft" }, "Nothing was published since the node started.");
  const rows = Math.max(...columns.map((column) => column.length));
  const height = (rows + 1) * ROW;
  const x = [0, (WIDTH - BOX) / 2, WIDTH - BOX];
  const place = new Map();
  columns.forEach((column, at) => column.forEach((node, nth) => {
    place.set(`${at} ${node.id ?? node.name}`, { x: x[at], y: ROW + (nth + 0.5) * ((height - ROW) / column.length) });
  }));
  const most = Math.max(1, ...edges.map((edge) => edge.rate));
  const paths = edges.map((edge) => {
    const from = place.get(edge.from.join(" ")), to = place.get(edge.to.join(" "));
    const [x1, x2] = [from.x + BOX, to.x], bend = (x1 + x2) / 2;
    const width = edge.rate > 0 ? 1.5 + 10 * Math.log1p(edge.rate) / Math.log1p(most) : 1.2;
    return svg("path", {
      class: `edge ${edge.kind} ${edge.rate > 0 ? "" : "still"} ${edge.isFiltered ? "filtered" : ""}`,
      d: `M${x1} ${from.y}C${bend} ${from.y} ${bend} ${to.y} ${x2} ${to.y}`, "stroke-width": width.toFixed(1),
    }, svg("title", null, `${rate(edge.rate)} a second`));
  });
  const boxes = columns.flatMap((column, at) => column.map((node) => {
    const { x, y } = place.get(`${at} ${node.id ?? node.name}`);
    const much = `${rate(node.rate)}/s, ${count(node.count ?? node.matched)}${node.kind ? `, ${node.kind === "bad" && node.health !== "open" ? "dead letters" : node.health}` : ""}`;
    return svg("g", { class: node.kind ?? "" },
      svg("title", null, `${node.name}: ${much}`),
      svg("rect", { x, y: y - 16, width: BOX, height: 32, rx: 6 }),
      svg("text", { x: x + 9, y: y - 2 }, node.name.length > 34 ? `${node.name.slice(0, 33)}…` : node.name),
      svg("text", { class: "much", x: x + 9, y: y + 11 }, much));
  }));
  const heads = ["Sources", "Types", "Subscriptions"].map((name, at) => svg("text", { class: "head", x: x[at], y: 16 }, name));
  const said = edges.map((edge) => `${edge.from[1]} to ${edge.to[0] === 2 ? columns[2].find((one) => one.id === edge.to[1]).name : edge.to[1]}, ${rate(edge.rate)} a second`);
  return svg("svg", { class: "flow", viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": `Flow: ${said.join("; ")}` }, paths, boxes, heads);
}
