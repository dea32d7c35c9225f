// The one way to the server: its public interface, with cancelling, this tab's session, and word of a server that is gone.

import { current } from "./state.js";

const running = new Map();
let isGone = false;
const watchers = [];

/** The name of this tab's session, under which its edits lie. */
export const session = (() => {
  let name = sessionStorage.getItem("larql-session");
  if (!name) {
    name = `explorer-${Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
    sessionStorage.setItem("larql-session", name);
  }
  return name;
})();

/** The model in use, or none for the server's first. */
export const model = () => current().values.model;

/** The path of a route that asks the model in use. */
const route = (path) => (model() ? path.replace("/v1/", `/v1/${encodeURIComponent(model())}/`) : path);

/** Calls `watcher` with true when the server does not answer, and with false when it does again. */
export const onGone = (watcher) => watchers.push(watcher);

function tell(gone) {
  if (gone === isGone) return;
  isGone = gone;
  watchers.forEach((watcher) => watcher(gone));
  if (gone) poll();
}

async function poll() {
  try {
    if ((await fetch("/v1/health")).ok) return tell(false);
  } catch {
    // It is still gone.
  }
  setTimeout(poll, 1000);
}

/** Asks a route. A later question under the same `slot` cancels an earlier one. */
export async function ask(path, { body, method, slot, raw } = {}) {
  const controller = new AbortController();
  if (slot) {
    running.get(slot)?.abort();
    running.set(slot, controller);
  }
  let response;
  try {
    response = await fetch(path, {
      method: method ?? (body === undefined ? "GET" : "POST"),
      headers: { "x-session-id": session, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: controller.signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    tell(true);
    throw new Error("The server does not answer. Start it again with `larql serve`; this page goes on by itself then.");
  }
  tell(false);
  if (!response.ok) {
    const text = await response.text();
    let message = text;
    try {
      const { error } = JSON.parse(text);
      message = error?.message ?? error ?? text;
    } catch {
      // The text is the message.
    }
    throw new Error(message || `The server answered ${response.status}.`);
  }
  return raw ? response : response.json();
}

const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== undefined && value !== "")).toString();

export const describe = (values) => ask(`${route("/v1/describe")}?${query(values)}`, { slot: "describe" });
export const stats = () => ask(route("/v1/stats"), { slot: "stats" });
export const relations = () => ask(route("/v1/relations"), { slot: "relations" });
export const encode = (text) => ask(`${route("/v1/token/encode")}?${query({ text, special: true })}`);
export const decode = (ids) => ask(`${route("/v1/token/decode")}?${query({ ids: ids.join(",") })}`);
export const explain = (body, slot) => ask(route("/v1/explain-infer"), { body, slot });
export const trace = (body, slot) => ask(route("/v1/trace"), { body, slot });
export const lql = (text, slot) => ask(route("/v1/lql"), { body: { query: text }, slot });
export const insert = (body) => ask(route("/v1/insert"), { body });
export const patches = () => ask(route("/v1/patches"));
export const patch = (name) => ask(route(`/v1/patches/${encodeURIComponent(name)}`), { raw: true }).then((response) => response.text());
export const applyPatch = (name, content) => ask(route("/v1/patches/apply"), { body: { name, patch: content } });
export const removePatch = (name) => ask(route(`/v1/patches/${encodeURIComponent(name)}`), { method: "DELETE" });
export const models = () => ask("/v1/models");
export const capabilities = () => ask("/v1/capabilities");

/** A text as LQL spells it. */
export const quote = (text) => `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;

/** Streams a chat: calls `onPiece` with each piece of text, and returns the numbers of tokens. `signal` stops it. */
export async function chat(body, onPiece, signal) {
  const response = await fetch("/v1/chat/completions", {
    method: "POST",
    headers: { "x-session-id": session, "content-type": "application/json" },
    body: JSON.stringify({ ...body, model: model(), stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  if (!response.ok) throw new Error((await response.json()).error?.message ?? `The server answered ${response.status}.`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let [rest, usage, reason] = ["", null, null];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return { usage, reason };
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim()).join("");
      if (!data || data === "[DONE]") continue;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      usage = chunk.usage ?? usage;
      reason = chunk.choices?.[0]?.finish_reason ?? reason;
      const piece = chunk.choices?.[0]?.delta?.content;
      if (piece) onPiece(piece);
    }
  }
}
