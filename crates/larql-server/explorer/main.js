// The page: its tabs, its keys, and the view that the address names.

import * as api from "./api.js";
import { failure, h, show, waiting } from "./dom.js";
import { address, adjust, current, onChange } from "./state.js";
import { installTips } from "./words.js";
import { chatView } from "./views/chat.js";
import { editView } from "./views/edit.js";
import { entityView } from "./views/entity.js";
import { featuresView } from "./views/features.js";
import { modelView } from "./views/model.js";
import { promptView } from "./views/prompt.js";

const VIEWS = {
  entity: ["Entity", entityView],
  prompt: ["Prompt", promptView],
  features: ["Features", featuresView],
  edit: ["Edit", editView],
  chat: ["Chat", chatView],
  model: ["Model", modelView],
};

const KEYS = [
  ["/", "search"],
  ["1 … 6", "the views"],
  ["← → ↑ ↓", "walk around the edges of an entity"],
  ["Enter", "go to the chosen edge's target"],
  ["Alt ←", "back"],
  ["?", "this list"],
];

const main = document.getElementById("main");
let leave = () => {};

async function render({ view, values }) {
  const [title, draw] = VIEWS[view] ?? VIEWS.entity;
  document.title = `${values.q ? `${values.q} · ` : ""}${title} · LARQL explorer`;
  show(document.getElementById("tabs"), Object.entries(VIEWS).map(([name, [label]]) =>
    h("a", { href: address(name), "aria-current": name === (VIEWS[view] ? view : "entity") ? "page" : null }, label)));
  const select = document.getElementById("model");
  select.value = values.model ?? select.options[0]?.value ?? "";
  leave();
  leave = () => {};
  try {
    leave = (await draw(main, values)) ?? (() => {});
  } catch (error) {
    if (error.name !== "AbortError") show(main, failure(error));
  }
}

function installTheme() {
  const root = document.documentElement;
  const saved = localStorage.getItem("larql-theme");
  if (saved) root.dataset.theme = saved;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("larql-theme", root.dataset.theme);
  });
}

function installKeys() {
  const help = document.getElementById("help");
  show(help,
    h("h2", { id: "help-title" }, "Keys"),
    h("dl", { class: "keys" }, KEYS.map(([key, text]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)])),
    h("form", { method: "dialog" }, h("button", { class: "main" }, "Close")));
  document.getElementById("keys").addEventListener("click", () => help.showModal());
  addEventListener("keydown", (event) => {
    if (event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "?") help.showModal();
    else if (event.key === "/") {
      event.preventDefault();
      main.querySelector("[data-search]")?.focus();
    } else if (/^[1-6]$/.test(event.key) && !event.target.closest("dialog")) {
      location.hash = address(Object.keys(VIEWS)[Number(event.key) - 1]);
    }
  });
}

function installBanner() {
  const banner = document.getElementById("banner");
  api.onGone((gone) => {
    banner.hidden = !gone;
    banner.textContent = "The server does not answer. Start it again with `larql serve`; this page goes on by itself then.";
    if (!gone) render(current());
  });
}

async function installModels() {
  const { data } = await api.models();
  const select = document.getElementById("model");
  show(select, data.map(({ id }) => h("option", { value: id }, id)));
  select.hidden = data.length < 2;
  select.value = current().values.model ?? data[0].id;
  select.addEventListener("change", () => adjust({ model: select.value }));
}

installTheme();
installKeys();
installTips();
installBanner();
show(main, waiting("Loading"));
onChange(render);
installModels().catch(() => {});
render(current());
