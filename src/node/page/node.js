// The node: what is asked of it, and how it was lately.

/** Seconds of the past that charts show. */
export const PAST = 300;
const KEY = "ringmain-token";

/** An answer that says no. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.title ?? `the node answered ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

async function asked(method, path, body, type, limit) {
  const headers = { accept: "application/json" };
  const token = sessionStorage.getItem(KEY);
  if (token) headers.authorization = `Bearer ${token}`;
  if (body !== undefined) headers["content-type"] = type;
  const answer = await fetch(path, { method, headers, body, signal: limit?.(), cache: "no-store" });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  if (answer.status === 401) {
    await tokenAsked();
    return asked(method, path, body, type, limit);
  }
  throw new Refused(answer.status, problem);
}

/** What is at a path. `limit` makes a signal that ends one try. */
export async function get(path, limit) {
  return (await asked("GET", path, undefined, undefined, limit)).json();
}

/** A page of a list, and the path of the next one. */
export async function page(path, signal) {
  const answer = await asked("GET", path, undefined, undefined, signal && (() => signal));
  const next = /<([^>]*)>; *rel="next"/.exec(answer.headers.get("link") ?? "");
  return { items: await answer.json(), next: next?.[1] };
}

/** Does something. */
export async function send(method, path, body) {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const answer = await asked(method, path, text, "application/json");
  const said = await answer.text();
  return said ? JSON.parse(said) : null;
}

/** An answer as it is, whatever it says. */
export async function raw(method, path, body, type) {
  const headers = {};
  const token = sessionStorage.getItem(KEY);
  if (token) headers.authorization = `Bearer ${token}`;
  if (body) headers["content-type"] = type;
  const answer = await fetch(path, { method, headers, body: body || undefined, cache: "no-store" });
  return { status: `${answer.status} ${answer.statusText}`, text: await answer.text() };
}

let asking;
function tokenAsked() {
  asking ??= new Promise((given) => {
    const dialog = document.getElementById("token");
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEY, dialog.querySelector("input").value.trim());
      dialog.querySelector("form").reset();
      asking = undefined;
      given();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

/** How the node was, each second: what counted up as rates. */
export const past = [];
const watchers = new Set();

/** Calls with each new look, and now with the last one; returns what ends that. */
export function watch(look) {
  watchers.add(look);
  if (past.length > 0) look(past.at(-1), past);
  return () => watchers.delete(look);
}

async function look() {
  try {
    const now = await get("/v1/overview", () => AbortSignal.timeout(5000));
    const seen = { at: performance.now() / 1000, ...now };
    const before = past.at(-1);
    // A node that was started again counts from nothing.
    if (before && before.published > seen.published) past.length = 0;
    seen.rates = rates(before, seen);
    past.push(seen);
    while (past[0].at < seen.at - PAST) past.shift();
    watchers.forEach((each) => each(seen, past));
  } catch (error) {
    if (!(error instanceof Refused)) error = new Error("the node does not answer");
    watchers.forEach((each) => each(null, past, error));
  }
}

function rates(before, now) {
  const seconds = before ? now.at - before.at : 0;
  const of = (name) => (seconds > 0 ? Math.max(0, now[name] - before[name]) / seconds : 0);
  return { published: of("published"), delivered: of("delivered"), failed: of("failed"), dropped: of("dropped") };
}

/** Looks each second, as long as somebody can see it. */
export async function begin() {
  for (;;) {
    if (!document.hidden) await look();
    await new Promise((done) => setTimeout(done, 1000));
  }
}
