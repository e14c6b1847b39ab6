// What runs and can be changed: services, subscriptions, replays, configuration, the interface itself.

import { badge, clock, count, make, refresh, table } from "./make.js";
import { get, raw, send } from "./node.js";

/** Calls `load` now and every `ms`, as long as the page can be seen; returns what ends that. */
function every(ms, load, say) {
  const again = () => load().catch((error) => say(error.message));
  again();
  const timer = setInterval(() => { if (!document.hidden) again(); }, ms);
  return () => clearInterval(timer);
}

export function services(view, say) {
  const place = make("div"), instances = make("div"), subscriptions = make("div");
  view.append(make("h1", null, "Services"), place,
    make("h1", null, "Instances elsewhere"), instances, make("h1", null, "Subscriptions"), subscriptions);
  const done = (what, promise) => promise.then(() => { say(what); return load(); }, (error) => say(error.message));
  const button = (verb, path, name, may) => make("button", {
    type: "button", "data-key": `${verb} ${name}`, "aria-label": `${verb} ${name}`, disabled: !may,
    onclick: () => done(`${name}: ${verb} done`, send("POST", `${path}/${verb}`)),
  }, verb);

  async function load() {
    const [{ services, instances: leased }, { subscriptions: all }] = await Promise.all([get("/v1/services"), get("/v1/subscriptions")]);
    refresh(place, services, (rows) => table("Services", [
      ["Service", (one) => one.name],
      ["Kind", (one) => one.kind],
      ["State", (one) => badge(one.state)],
      ["Health", (one) => badge(one.health)],
      ["", (one) => make("span", { class: "long" }, one.failure ?? one.reason ?? "")],
      ["Since", (one) => clock(one.since)],
      ["", (one) => {
        const path = `/v1/services/${encodeURIComponent(one.name)}`, isUp = one.state === "running";
        return make("p", { class: "actions" }, button("start", path, one.name, !isUp), button("stop", path, one.name, isUp), button("restart", path, one.name, isUp));
      }],
    ], rows, "There are none."));
    refresh(instances, leased, (rows) => table("Instances elsewhere", [
      ["Service", (one) => one.name], ["Address", (one) => one.address], ["Lease", (one) => `${one.left_s} s left`, "number"],
    ], rows, "None has registered."));
    refresh(subscriptions, all, (rows) => table("Subscriptions", [
      ["Subscription", (one) => one.name],
      ["Pattern", (one) => make("code", null, one.pattern)],
      ["State", (one) => badge(one.paused ? "paused" : one.breaker && one.breaker.state !== "closed" ? one.breaker.state : "running")],
      ["Delivered", (one) => count(one.delivered), "number"],
      ["Failed", (one) => count(one.failed), "number"],
      ["Dead", (one) => count(one.dead_lettered), "number"],
      ["Dropped", (one) => count(one.dropped), "number"],
      ["Waiting", (one) => count(one.open), "number"],
      ["", (one) => one.handler === "journal" ? "" : button(one.paused ? "resume" : "pause", `/v1/subscriptions/${one.id}`, one.name, true)],
    ], rows, "There are none."));
  }
  return every(2000, load, say);
}

export function replays(view, say) {
  const field = (name, label, more) => make("label", null, label, make("input", { name, spellcheck: "false", autocomplete: "off", ...more }));
  const place = make("div"), estimate = make("p", { role: "status" });
  const form = make("form", { class: "panel" },
    make("div", { class: "tools" },
      field("type", "Types that match", { value: "**" }), field("source", "Source"), field("from", "From: a position or a time"), field("to", "To"),
      field("subscription", "Subscription"), field("rate", "Events a second", { type: "number", min: 1, size: 8 })),
    estimate,
    make("p", { class: "actions" }, make("button", { type: "button", onclick: () => begin(true) }, "What would it do?"), make("button", { class: "primary" }, "Replay")));
  form.addEventListener("submit", (event) => { event.preventDefault(); begin(false); });
  view.append(make("h1", null, "Replays"),
    make("p", { class: "soft" }, "Past events once more, to those subscriptions that take replays."), form, place);
  /** Events that each replay will publish, of those that were begun here. */
  const totals = new Map();

  async function begin(isDry) {
    const given = Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ""));
    if (given.rate) given.rate = Number(given.rate);
    try {
      const { events, subscriptions, seconds } = await send("POST", "/v1/replays", { ...given, dry_run: true });
      estimate.textContent = `${count(events)} events to ${subscriptions.length ? subscriptions.join(", ") : "nobody"}${seconds ? `, in ${Math.ceil(seconds)} s` : ""}.`;
      if (isDry) return;
      const { id } = await send("POST", "/v1/replays", given);
      totals.set(id, events);
      say(`Replay ${id} goes on`);
      await load();
    } catch (error) {
      estimate.textContent = error.message;
    }
  }

  async function load() {
    const { replays: all } = await get("/v1/replays");
    refresh(place, all, (rows) => table("Replays", [
      ["", (one) => one.id, "number"],
      ["What", (one) => Object.entries(one.asked).filter(([, value]) => value !== null).map(([name, value]) => `${name} ${value}`).join(", ")],
      ["State", (one) => badge(one.state, one.state === "running" ? "warn" : undefined)],
      ["Progress", (one) => {
        const done = one.published + one.expired, total = totals.get(one.id);
        const bar = total ? make("progress", { max: total, value: done, "aria-label": `${done} of ${total}` }) : null;
        return make("span", null, total ? `${count(done)} of ${count(total)} ` : `${count(done)} `, bar);
      }],
      ["", (one) => one.error ?? ""],
      ["", (one) => one.state === "running" ? make("button", {
        type: "button", "data-key": `cancel ${one.id}`,
        onclick: () => send("DELETE", `/v1/replays/${one.id}`).then(load, (error) => say(error.message)),
      }, "Cancel") : ""],
    ], rows.toReversed(), "There was none."));
  }
  return every(500, load, say);
}

export function configuration(view, say) {
  const place = make("div"), filter = make("input", { type: "search", name: "filter", autocomplete: "off" });
  view.append(make("h1", null, "Configuration"),
    make("form", { class: "tools", onsubmit: (event) => event.preventDefault() }, make("label", null, "Settings with", filter)), place);
  let all = [];
  const show = () => {
    const found = all.filter(({ name, help }) => `${name} ${help}`.toLowerCase().includes(filter.value.toLowerCase()));
    refresh(place, found, (rows) => table("Configuration", [
      ["Setting", (one) => make("code", null, one.name)],
      ["Value", (one) => make("code", { class: "long" }, one.value)],
      ["From", (one) => badge(one.origin, one.origin === "default" ? "soft" : "well")],
      ["Takes effect", (one) => one.live ? "at once" : "by a restart", "once"],
      ["", (one) => one.help],
    ], rows, "No setting has that."));
  };
  filter.addEventListener("input", show);
  return every(5000, async () => { all = (await get("/v1/config")).settings; show(); }, say);
}

/** Every operation of the interface, to try it. */
export function api(view, say) {
  const choice = make("select", { name: "operation" }), fields = make("div", { class: "tools" }), about = make("p", { class: "soft" });
  const body = make("textarea", { name: "body", "aria-label": "Body", spellcheck: "false" }), answer = make("pre", { role: "status" });
  const form = make("form", { class: "panel" }, make("p", { class: "tools" }, make("label", null, "Operation", choice)), about, fields, body,
    make("p", { class: "actions" }, make("button", { class: "primary" }, "Send")));
  view.append(make("h1", null, "Interface"),
    make("p", { class: "soft" }, "What ", make("a", { href: "/openapi.json" }, "/openapi.json"), " describes, to try it. Live streams are in ", make("a", { href: "/asyncapi.json" }, "/asyncapi.json"), "."),
    form, answer);
  let operations = [];

  function choose() {
    const { operation } = operations[choice.selectedIndex];
    about.textContent = operation.summary;
    fields.replaceChildren(...(operation.parameters ?? []).map((one) =>
      make("label", { title: one.description }, `${one.name}${one.required ? "" : " (optional)"}`, make("input", { name: one.name, required: one.required, autocomplete: "off" }))));
    body.hidden = !operation.requestBody;
    body.value = operation.operationId === "publishEvents" ? JSON.stringify({ type: "demo.hello", source: "/page", data: { to: "you" } }, null, 2) : "";
  }

  async function go() {
    const { method, path, operation } = operations[choice.selectedIndex], query = new URLSearchParams();
    let to = path;
    for (const one of operation.parameters ?? []) {
      const { value } = form.elements[one.name];
      if (one.in === "path") to = to.replace(`{${one.name}}`, encodeURIComponent(value));
      else if (value !== "") query.set(one.name, value);
    }
    const types = Object.keys(operation.requestBody?.content ?? {});
    const type = types.includes("application/json") ? "application/json" : types[0];
    const { status, text } = await raw(method, query.size ? `${to}?${query}` : to, body.hidden ? undefined : body.value, type);
    let said = text;
    try { said = JSON.stringify(JSON.parse(text), null, 2); } catch { /* It is another form. */ }
    answer.textContent = `${status}\n\n${said}`;
  }

  choice.addEventListener("change", choose);
  form.addEventListener("submit", (event) => { event.preventDefault(); go().catch((error) => say(error.message)); });
  get("/openapi.json").then(({ paths }) => {
    operations = Object.entries(paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })))
      // These do not end.
      .filter(({ path }) => !["/v1/events/live", "/v1/events/stream"].includes(path));
    choice.append(...operations.map(({ method, path }) => make("option", null, `${method} ${path}`)));
    choice.selectedIndex = operations.findIndex(({ operation }) => operation.operationId === "publishEvents");
    choose();
  }, (error) => say(error.message));
}
