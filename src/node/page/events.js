// Events: as they come, one in detail, where one would go, and what came of what.

import { badge, clock, make, refresh, table } from "./make.js";
import { get, page, send } from "./node.js";

/** Rows that are kept, and asked for at once. */
const ROWS = 200, PAGE = 100;
/** Between two questions, so that the page stays smooth however many events there are. */
const REST_MS = 300;

export function events(view, say) {
  const pattern = make("input", { value: "**", name: "pattern", size: 28, spellcheck: "false", autocomplete: "off", "data-key": "pattern" });
  const pause = make("button", { type: "button", "aria-pressed": "false" }, "Pause");
  const rows = make("tbody"), note = make("p", { class: "soft", role: "status" }), detail = make("div");
  let ending = new AbortController(), isPaused = false, shown = [];

  view.append(make("h1", null, "Live events"),
    make("form", { class: "tools", onsubmit: (event) => { event.preventDefault(); follow(); } },
      make("label", null, "Types that match", pattern), make("button", { class: "primary" }, "Follow"), pause),
    note,
    make("div", { class: "panel tail", tabindex: 0, role: "region", "aria-label": "Events, the newest first" },
      make("table", null, make("thead", null, make("tr", null, ["Time", "Type", "Source", "Data"].map((name) => make("th", { scope: "col" }, name)))), rows)),
    detail);
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", isPaused);
    pause.textContent = isPaused ? "Go on" : "Pause";
    if (isPaused) { ending.abort(); note.textContent = "Paused."; } else follow();
  });

  async function follow() {
    ending.abort();
    ending = new AbortController();
    const { signal } = ending, type = `type=${encodeURIComponent(pattern.value)}`;
    rows.replaceChildren();
    shown = [];
    try {
      let after = await newest(type, signal);
      while (!signal.aborted) {
        const began = performance.now();
        const { items, next } = await page(`/v1/events?${type}&after=${after}&limit=${PAGE}&wait=20`, signal);
        if (items.length > 0) {
          after = items.at(-1).position;
          note.textContent = "";
          add(items);
          if (items.length >= PAGE && next) {
            // More than anybody can read: on from the newest.
            const last = await newest(type, signal);
            note.textContent = `More come than can be shown; positions ${after} to ${last} had some that were left out.`;
            after = last;
          }
        }
        await new Promise((done) => setTimeout(done, Math.max(0, REST_MS - (performance.now() - began))));
      }
    } catch (error) {
      if (signal.aborted) return;
      note.textContent = `${error.message}. `;
      note.append(make("button", { type: "button", onclick: () => follow() }, "Try again"));
    }
  }

  /** Shows the newest there are; returns the position of the last one. */
  async function newest(type, signal) {
    const { items } = await page(`/v1/events?${type}&order=newest&limit=${PAGE}`, signal);
    add(items.reverse());
    if (items.length > 0) return items.at(-1).position;
    const { items: any } = await page("/v1/events?order=newest&limit=1", signal);
    note.textContent = "No event matches so far; those that come are shown here.";
    return any[0]?.position ?? 0;
  }

  function add(items) {
    rows.prepend(...items.map(row).reverse());
    shown.push(...items);
    shown.splice(0, shown.length - ROWS);
    while (rows.children.length > ROWS) rows.lastChild.remove();
  }

  function row(event) {
    const line = make("tr", null,
      make("td", { class: "mono" }, clock(event.time)),
      make("td", null, make("button", { class: "link", type: "button" }, event.type)),
      make("td", null, event.source),
      make("td", { class: "about mono" }, about(event)));
    line.addEventListener("click", () => {
      rows.querySelectorAll("[aria-selected]").forEach((other) => other.removeAttribute("aria-selected"));
      line.setAttribute("aria-selected", "true");
      showDetail(detail, event, say);
    });
    return line;
  }

  follow();
  return () => ending.abort();
}

function about(event) {
  const text = event.data === undefined ? event.data_base64 ?? "" : JSON.stringify(event.data);
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}

function showDetail(place, event, say) {
  const answer = make("div");
  const tree = event.correlationid ? make("a", { href: `#/causes/${event.correlationid}` }, "What came of it") : null;
  place.replaceChildren(make("section", { class: "panel", "aria-label": "The event" },
    make("h2", null, event.type), make("pre", null, JSON.stringify(event, null, 2)),
    make("p", { class: "actions" },
      make("button", { type: "button", onclick: () => explained(answer, event).catch((error) => say(error.message)) }, "Where does it go?"), tree),
    answer));
  place.scrollIntoView({ block: "nearest" });
}

/** Which rules and subscriptions an event meets. */
async function explained(place, event) {
  const { position, ...given } = event;
  const { rules, subscriptions } = await send("POST", "/v1/rules/explain", given);
  place.replaceChildren(make("h2", null, "Rules"),
    table("Rules", [
      ["Rule", (rule) => rule.name || rule.rule],
      ["", (rule) => badge(rule.matches ? "matches" : "does not", rule.matches ? "well" : "soft")],
      ["Why", (rule) => rule.reason],
    ], rules, "There are no rules."),
    make("h2", null, "Subscriptions"),
    table("Subscriptions", [["Subscription", (one) => one.name], ["Pattern", (one) => make("code", null, one.pattern)], ["What it says", (one) => one.says]],
      subscriptions, "There are no subscriptions."));
}

export function explain(view, say) {
  const text = make("textarea", { name: "event", "aria-label": "The event as JSON", spellcheck: "false" });
  text.value = JSON.stringify({ type: "orders.created", source: "/shop", data: { total: 120 } }, null, 2);
  const place = make("div");
  view.append(make("h1", null, "Where would an event go?"),
    make("p", { class: "soft" }, "Nothing is published. The event is a CloudEvent; of its attributes, only the type has to be there."),
    make("form", {
      class: "panel",
      onsubmit: (event) => {
        event.preventDefault();
        let given;
        try { given = JSON.parse(text.value); } catch (error) { say(`This is no JSON: ${error.message}`); return; }
        explained(place, given).catch((error) => say(error.message));
      },
    }, text, make("p", { class: "actions" }, make("button", { class: "primary" }, "Explain"))),
    place);
}

/** Events of a correlation as a tree. */
export function causes(view, say, id) {
  const input = make("input", { name: "correlation", value: id ?? "", size: 38, spellcheck: "false", autocomplete: "off", placeholder: "an id, as of an event's correlationid" });
  const place = make("div");
  view.append(make("h1", null, "What came of what"),
    make("form", { class: "tools", onsubmit: (event) => { event.preventDefault(); location.hash = `#/causes/${input.value.trim()}`; } },
      make("label", null, "Correlation id", input), make("button", { class: "primary" }, "Show")),
    place);
  if (id) tree(place, id).catch((error) => say(error.message));
}

async function tree(place, id) {
  const { items, next } = await page(`/v1/events?correlation=${encodeURIComponent(id)}&limit=500`);
  const known = new Set(items.map((event) => event.id)), children = new Map();
  for (const event of items) {
    const parent = known.has(event.causationid) && event.causationid !== event.id ? event.causationid : "";
    children.set(parent, [...(children.get(parent) ?? []), event]);
  }
  const detail = make("div");
  const branch = (event) => make("li", null,
    make("button", { type: "button", class: "link", onclick: () => detail.replaceChildren(make("pre", { class: "panel" }, JSON.stringify(event, null, 2))) }, event.type),
    " ", make("span", { class: "soft" }, `${clock(event.time)} from ${event.source}`),
    children.has(event.id) ? make("ul", null, children.get(event.id).map(branch)) : null);
  const roots = children.get("") ?? [];
  place.replaceChildren(
    roots.length ? make("ul", { class: "tree panel" }, roots.map(branch)) : make("p", { class: "soft" }, "No event has this correlation id."),
    next ? make("p", { class: "soft" }, "There are more than 500; those behind are not shown.") : "", detail);
}

/** Dead letters, and what can be done with them. */
export function letters(view, say, sure) {
  const filter = make("input", { name: "type", value: "**", size: 24, spellcheck: "false", autocomplete: "off" });
  const place = make("div"), more = make("p"), detail = make("div");
  const path = (name) => `/v1/dead-letters${name}?type=${encodeURIComponent(filter.value)}`;
  const done = (what, promise) => promise.then((answer) => { say(what(answer)); return load(); }, (error) => say(error.message));
  view.append(make("h1", null, "Dead letters"),
    make("form", { class: "tools", onsubmit: (event) => { event.preventDefault(); load(); } },
      make("label", null, "Types that match", filter), make("button", { class: "primary" }, "Show"),
      make("button", { type: "button", onclick: () => sure(`Redrive all dead letters of ${filter.value}?`).then((yes) => yes && done(({ redriven }) => `${redriven} redriven`, send("POST", path("/redrive")))) }, "Redrive all of these"),
      make("button", { type: "button", onclick: () => sure(`Remove all dead letters of ${filter.value}? They are gone then.`).then((yes) => yes && done(({ purged }) => `${purged} removed`, send("DELETE", path("")))) }, "Remove all of these")),
    place, more, detail);

  async function load() {
    const { dead_letters: found } = await get(`${path("")}&limit=100`);
    more.textContent = found.length === 100 ? "The oldest 100 are shown." : "";
    refresh(place, found, (rows) => table("Dead letters", [
      ["Died", (letter) => clock(letter.died)],
      ["Type", (letter) => make("button", { class: "link", type: "button", "data-key": `show ${letter.id}`, onclick: () => detail.replaceChildren(make("pre", { class: "panel" }, JSON.stringify(letter, null, 2))) }, letter.event.type)],
      ["Subscription", (letter) => letter.subscription],
      ["Attempts", (letter) => letter.attempts, "number"],
      ["Why", (letter) => make("span", { class: "long" }, [letter.reason, letter.error].filter(Boolean).join(": "))],
      ["", (letter) => make("p", { class: "actions" },
        make("button", { type: "button", "data-key": `redrive ${letter.id}`, onclick: () => done(() => `Dead letter ${letter.id} redriven`, send("POST", `/v1/dead-letters/${letter.id}/redrive`)) }, "Redrive"),
        make("button", { type: "button", "data-key": `purge ${letter.id}`, onclick: () => done(() => `Dead letter ${letter.id} removed`, send("DELETE", `/v1/dead-letters/${letter.id}`)) }, "Remove"))],
    ], rows, "There are none."));
  }

  const again = () => load().catch((error) => say(error.message));
  again();
  const timer = setInterval(() => { if (!document.hidden) again(); }, 3000);
  return () => clearInterval(timer);
}
