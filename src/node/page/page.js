// Which view is shown, and how the node is.

import { api, configuration, replays, services } from "./control.js";
import { causes, events, explain, letters } from "./events.js";
import { flow } from "./flow.js";
import { badge, count, make, rate, refresh, time } from "./make.js";
import { begin, watch } from "./node.js";
import { overview } from "./overview.js";

const VIEWS = [
  ["overview", "Overview", overview, (now) => now.alerts.length],
  ["events", "Live events", events],
  ["flow", "Flow", flow],
  ["letters", "Dead letters", letters, (now) => now.dead_letters.held],
  ["services", "Services", services],
  ["replays", "Replays", replays],
  ["explain", "Explain", explain],
  ["causes", "Causes", causes],
  ["configuration", "Configuration", configuration],
  ["api", "Interface", api],
];

const view = document.getElementById("view"), said = document.getElementById("said");
let end, timer;

/** Tells what was done, or why it was not. */
function say(text) {
  said.textContent = text;
  clearTimeout(timer);
  timer = setTimeout(() => { said.textContent = ""; }, 6000);
}

/** Asks before what cannot be undone. */
function sure(question) {
  const dialog = document.getElementById("sure");
  document.getElementById("sure-text").textContent = question;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((answer) => dialog.addEventListener("close", () => answer(dialog.returnValue === "yes"), { once: true }));
}

function show(isFirst) {
  const [, name, argument] = /^#\/([a-z]*)\/?(.*)$/.exec(location.hash) ?? [];
  const [key, title, build] = VIEWS.find(([key]) => key === name) ?? VIEWS[0];
  end?.();
  view.replaceChildren();
  document.title = `${title} – ringmain`;
  document.querySelectorAll("#views a").forEach((link) => {
    if (link.hash === `#/${key}`) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  });
  end = key === "letters" ? build(view, say, sure) : key === "overview" || key === "flow" ? build(view) : build(view, say, decodeURIComponent(argument ?? ""));
  if (!isFirst) view.focus();
}

document.getElementById("views").append(...VIEWS.map(([key, title]) =>
  make("li", null, make("a", { href: `#/${key}` }, title, make("span", { class: "many", "data-of": key })))));

watch((now, past, error) => {
  const state = document.getElementById("state"), pulse = document.getElementById("pulse");
  if (!now) {
    refresh(state, error.message, (text) => badge(text, "bad"));
    return;
  }
  const how = now.node === "running" ? now.health : now.node;
  refresh(state, [how, now.reason], ([word, reason]) => [badge(word), reason ? make("span", { class: "soft" }, ` ${reason}`) : ""]);
  const { count: measured, p99 } = now.latency.total;
  pulse.textContent = `${rate(now.rates.published)} events/s${measured ? `, 99 % within ${time(p99)}` : ""}, version ${now.version}`;
  for (const [key, , , many] of VIEWS) {
    const number = many?.(now) ?? 0;
    document.querySelector(`[data-of="${key}"]`).textContent = number > 0 ? count(number) : "";
  }
});
window.addEventListener("hashchange", () => show(false));
show(true);
begin();
