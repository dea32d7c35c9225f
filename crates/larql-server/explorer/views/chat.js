// A conversation with the model, as edited in this tab's session.

import * as api from "../api.js";
import { failure, h, show } from "../dom.js";
import { address, current } from "../state.js";

const STORE = "larql-chat";
const load = () => JSON.parse(sessionStorage.getItem(STORE) ?? "[]");
const store = (turns) => sessionStorage.setItem(STORE, JSON.stringify(turns));

export async function chatView(main, values) {
  const stats = await api.stats();
  if (!stats.loaded.chat) {
    const next = stats.loaded.inference
      ? "This model has no chat template: it continues texts, and the prompt view shows how."
      : "This vindex has no weights to run. Extract the model at level inference or all to chat with it.";
    return void show(main, h("h1", {}, "Chat"), h("p", { class: "empty" }, next, " ", h("a", { href: address("prompt") }, "Go to the prompt view")));
  }
  const turns = load();
  let controller = null;
  const log = h("div", { class: "chat", role: "log", "aria-label": "Conversation" });
  const input = h("textarea", { rows: "2", placeholder: "Ask something", "aria-label": "Message", "data-search": true });
  const send = h("button", { class: "main" }, "Send");
  const stop = h("button", { type: "button", onclick: () => controller?.abort(), hidden: true }, "Stop");
  const clear = h("button", { type: "button", class: "quiet", onclick: () => { turns.length = 0; store(turns); draw(); } }, "New conversation");

  const draw = () => show(log, turns.length ? turns.map(turn) : h("p", { class: "empty" }, `Talk to ${stats.model}. Edits of this tab's session count.`));

  const turn = (message, index) => {
    const isLast = index === turns.length - 1;
    const copy = () => navigator.clipboard?.writeText(message.content);
    const edit = () => { input.value = message.content; turns.length = index; store(turns); draw(); input.focus(); };
    return h("div", { class: `turn ${message.role}` },
      h("div", { class: "who" }, message.role === "user" ? "You" : stats.model, message.note ? h("span", {}, message.note) : null,
        h("button", { class: "link", type: "button", onclick: copy }, "copy"),
        message.role === "user" ? h("button", { class: "link", type: "button", onclick: edit }, "edit") : null,
        message.role === "assistant" && isLast && !controller ? h("button", { class: "link", type: "button", onclick: () => { turns.length = index; answer(); } }, "regenerate") : null,
        message.role === "assistant" && message.content.trim() ? h("a", { href: address("prompt", { q: message.content.trim().slice(0, 200) }) }, "open in the prompt view") : null),
      h("div", { class: "says" }, message.content));
  };

  const answer = async () => {
    const settings = current().values;
    const message = { role: "assistant", content: "" };
    const system = settings.system ? [{ role: "system", content: settings.system }] : [];
    const messages = [...system, ...turns.map(({ role, content }) => ({ role, content }))];
    turns.push(message);
    controller = new AbortController();
    draw();
    [send.disabled, stop.hidden] = [true, false];
    const says = log.lastElementChild.querySelector(".says");
    const who = log.lastElementChild.querySelector(".who");
    const rate = h("span", {}, "");
    who.append(rate);
    let [started, count] = [null, 0];
    const number = (name, otherwise) => Number(settings[name] ?? otherwise);
    try {
      const body = { messages, temperature: number("temperature", 0.2), top_p: number("top_p", 0.9), max_tokens: number("max", 512), repetition_penalty: 1.1 };
      if (settings.seed) body.seed = Number(settings.seed);
      const { usage, reason } = await api.chat(body, (piece) => {
        started ??= performance.now();
        count += 1;
        message.content += piece;
        says.textContent = message.content;
        const seconds = (performance.now() - started) / 1000;
        if (seconds > 0.2) rate.textContent = `${(count / seconds).toFixed(0)} tokens/s`;
        scrollTo({ top: document.body.scrollHeight });
      }, controller.signal);
      const seconds = (performance.now() - (started ?? performance.now())) / 1000;
      const tokens = usage?.completion_tokens ?? count;
      message.note = `${tokens} tokens${seconds > 0.05 ? `, ${(tokens / seconds).toFixed(0)} tokens/s` : ""}${reason === "length" ? ", cut at the greatest number of tokens" : ""}`;
    } catch (error) {
      if (error.name !== "AbortError") {
        turns.pop();
        store(turns);
        controller = null;
        draw();
        log.append(failure(error));
        [send.disabled, stop.hidden] = [false, true];
        return;
      }
      message.note = "stopped";
    }
    controller = null;
    store(turns);
    [send.disabled, stop.hidden] = [false, true];
    draw();
  };

  const submit = (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!text || controller) return;
    input.value = "";
    turns.push({ role: "user", content: text });
    store(turns);
    answer();
  };
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) submit(event);
    if (event.key === "Escape") controller?.abort();
  });
  draw();
  show(main, h("div", { class: "chat" }, h("h1", {}, "Chat"), settingsDrawer(values)), log,
    h("form", { class: "chat composer", onsubmit: submit }, input, h("div", { class: "row" }, send, stop, clear)));
  return () => controller?.abort();
}

function settingsDrawer(values) {
  // The address keeps settings; the conversation is not drawn anew for them.
  const keep = (name) => (event) => {
    const { view, values: before } = current();
    history.replaceState(null, "", address(view, { ...before, [name]: event.target.value }));
  };
  const number = (name, label, attributes, otherwise) =>
    h("label", {}, label, h("input", { type: "number", value: values[name] ?? otherwise, onchange: keep(name), ...attributes }));
  return h("details", {}, h("summary", {}, "Settings"),
    h("div", { class: "row" },
      number("temperature", "Temperature", { min: 0, max: 2, step: 0.1 }, 0.2), number("top_p", "Top p", { min: 0.05, max: 1, step: 0.05 }, 0.9),
      number("max", "Most tokens", { min: 1, max: 8192 }, 512), number("seed", "Seed", { min: 0 }, "")),
    h("label", {}, "System message", h("textarea", { rows: "2", onchange: keep("system") }, values.system ?? "")));
}
