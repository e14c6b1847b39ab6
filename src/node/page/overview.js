// How the node is: rates, latencies, lanes, alerts.

import { overTime, quantiles } from "./charts.js";
import { badge, count, make, rate, refresh, table, time } from "./make.js";
import { PAST, watch } from "./node.js";

const STAGES = ["queue", "route", "handler", "ack", "total"];

export function overview(view) {
  const places = Object.fromEntries(["tiles", "rates", "delays", "lanes", "plot", "alerts"].map((name) => [name, make("div")]));
  const choice = make("select", { onchange: () => plot() }, ["all", "critical", "high", "normal", "low"].map((name) => make("option", null, name)));
  let last;
  const plot = () => {
    if (!last) return;
    const latency = choice.value === "all" ? last.latency : last.lanes.find((lane) => lane.priority === choice.value).latency;
    refresh(places.plot, latency, () => quantiles("Latency by stage", STAGES.map((name) => ({ name, latency: latency[name] })), time));
  };
  const panel = (title, ...inside) => make("section", { class: "panel" }, make("h2", null, title), ...inside);
  view.append(
    make("h1", null, "Overview"), places.tiles,
    make("div", { class: "grid" }, panel("Events a second", places.rates), panel("Delivery latency since the start", places.delays)),
    make("div", { class: "grid" },
      panel("Latency by stage", make("p", { class: "tools" }, make("label", null, "Priority", choice)), places.plot),
      panel("Lanes", places.lanes)),
    panel("Alerts", places.alerts));
  return watch((now, past) => {
    if (!now) return;
    last = now;
    tiles(places.tiles, now);
    const points = (of) => past.map((seen) => [now.at - seen.at, of(seen)]);
    const series = ["published", "delivered"].map((name) => ({ name, points: points((seen) => seen.rates[name]) }));
    places.rates.replaceChildren(overTime("Events a second", series, PAST, rate, 1));
    const delays = [["p50", "half"], ["p99", "99 %"]].map(([part, name]) => ({ name, points: points((seen) => seen.latency.total[part]) }));
    places.delays.replaceChildren(overTime("Delivery latency", delays, PAST, time, 1000));
    refresh(places.lanes, now.lanes.map((lane) => [lane.priority, lane.depth, now.queue_limit]), lanes);
    plot();
    refresh(places.alerts, now.alerts, alerts);
  });
}

function tiles(place, now) {
  const total = now.latency.total;
  const depth = now.lanes.reduce((sum, lane) => sum + lane.depth, 0);
  const shown = [
    ["Published", rate(now.rates.published), `a second, ${count(now.published)} so far`],
    ["Delivered", rate(now.rates.delivered), `a second, ${count(now.delivered)} so far`],
    ["Latency", total.count ? time(total.p50) : "–", total.count ? `half of them; 99 % within ${time(total.p99)}` : ""],
    ["Waiting", count(depth), "in the lanes"],
    ["Dead letters", count(now.dead_letters.held), "held"],
    ["Failed", count(now.failed), `${count(now.retried)} tried again`],
    ["Dropped", count(now.dropped), `${count(now.refused)} refused`],
    ["Clients", count(now.clients), "of live streams"],
  ];
  refresh(place, shown, () => make("dl", { class: "tiles" }, shown.map(([name, value, more]) =>
    make("div", { class: "tile" }, make("dt", null, name), make("dd", null, value, " ", make("small", null, more))))));
}

function lanes(rows) {
  return make("div", { class: "lanes" }, rows.flatMap(([name, depth, limit]) => [
    make("span", null, name),
    make("meter", { min: 0, max: limit, value: depth, high: limit * 0.8, optimum: 0, "aria-label": `${name}: ${depth} of ${limit}` }),
    make("span", null, `${count(depth)} of ${count(limit)}`),
  ]));
}

export function alerts(rows) {
  return table("Alerts", [
    ["", (alert) => badge(alert.severity)],
    ["Rule", (alert) => alert.rule],
    ["Of", (alert) => alert.subject],
    ["State", (alert) => badge(alert.state)],
    ["How it is", (alert) => alert.value],
  ], rows, "None: everything is as it should be.");
}
