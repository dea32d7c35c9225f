// A layer's features as a table that scrolls through all of them. Rows are fetched as they come into sight.

import * as api from "../api.js";
import { failure, h, show, visible, waiting } from "../dom.js";
import { adjust } from "../state.js";
import { term } from "../words.js";

const ROW = 36;
const PAGE = 100;

export async function featuresView(main, values) {
  show(main, waiting("Loading the layers"));
  const stats = await api.stats();
  if (!stats.loaded.browse) {
    return void show(main, h("p", { class: "empty" }, "A checkpoint has no table of features. Make a vindex of it: ", h("code", {}, "larql extract model.gguf -o model.vindex")));
  }
  const layer = Math.min(Number(values.layer ?? Math.floor(stats.layers / 2)), stats.layers - 1);
  const body = h("div", {});
  show(main, h("h1", {}, `Layer ${layer}`), controls(stats, layer, values), body);
  const filter = filterOf(values, layer);
  try {
    const total = values.q || values.label ? await count(filter) : stats.features_per_layer[layer];
    show(body, total ? table(filter, total) : h("p", { class: "empty" }, "No feature of this layer matches. Try another word or layer."));
  } catch (error) {
    if (error.name !== "AbortError") show(body, failure(error));
  }
}

function controls(stats, layer, values) {
  const layers = h("select", { onchange: (event) => adjust({ layer: event.target.value }) },
    Array.from({ length: stats.layers }, (_, index) => h("option", { value: index, selected: index === layer }, `${index}${bandOf(stats, index)}`)));
  const search = h("input", { type: "search", class: "wide", value: values.q ?? "", placeholder: "a word that it writes, or a number", "data-search": true, spellcheck: "false" });
  const label = h("input", { type: "search", value: values.label ?? "", placeholder: "capital" });
  const onsubmit = (event) => {
    event.preventDefault();
    adjust({ q: search.value.trim(), label: label.value.trim() });
  };
  return h("form", { class: "row", onsubmit },
    h("label", {}, term("layer", "Layer"), layers), h("label", { class: "grow" }, "Word or number", search), h("label", {}, term("label", "Label"), label), h("button", { class: "main" }, "Search"));
}

function bandOf(stats, layer) {
  const found = Object.entries(stats.layer_bands ?? {}).find(([, [first, last]]) => layer >= first && layer <= last);
  return found ? ` · ${found[0]}` : "";
}

function filterOf(values, layer) {
  const tests = [`layer = ${layer}`];
  if (values.q && /^\d+$/.test(values.q)) tests.push(`feature = ${values.q}`);
  else if (values.q) tests.push(`tokens LIKE ${api.quote(`%${values.q}%`)}`);
  if (values.label) tests.push(`label LIKE ${api.quote(`%${values.label}%`)}`);
  return tests.join(" AND ");
}

async function count(filter) {
  const { results } = await api.lql(`SELECT COUNT(*) FROM FEATURES WHERE ${filter};`, "count");
  return results[0].rows[0]?.count ?? 0;
}

function table(filter, total) {
  const pages = new Map();
  const inner = h("div", { class: "inner", style: { height: `${total * ROW}px` } });
  const box = h("div", { class: "virtual", tabindex: "0", role: "region", "aria-label": `${total} features` }, inner);
  const drawPage = async (page) => {
    if (pages.has(page)) return;
    pages.set(page, []);
    const { results } = await api.lql(`SELECT * FROM FEATURES WHERE ${filter} LIMIT ${PAGE} OFFSET ${page * PAGE};`, `page-${page}`);
    const rows = results[0].rows.map((row, index) => featureRow(row, (page * PAGE + index) * ROW));
    pages.set(page, rows);
    inner.append(...rows);
  };
  const draw = () => {
    const first = Math.floor(box.scrollTop / ROW / PAGE);
    const last = Math.min(Math.floor((box.scrollTop + box.clientHeight) / ROW / PAGE), Math.floor((total - 1) / PAGE));
    // What is far out of sight goes.
    for (const [page, rows] of pages) {
      if (page < first - 2 || page > last + 2) {
        rows.forEach((row) => row.remove());
        pages.delete(page);
      }
    }
    for (let page = first; page <= last; page += 1) drawPage(page).catch((error) => error.name !== "AbortError" && show(inner, failure(error)));
  };
  box.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  requestAnimationFrame(draw);
  return [h("p", { class: "note" }, `${total} features`), h("div", { class: "feature head" }, h("span", {}, "number"), h("span", {}, "score"), h("span", {}, "label"), h("span", {}, "words that it writes")), box];
}

function featureRow(row, top) {
  return h("div", { class: "feature", style: { top: `${top}px` } },
    h("span", {}, row.feature), h("span", {}, row.score?.toFixed(3) ?? "–"),
    h("span", { "data-tip": row.source ? `from ${row.source}` : null }, row.label ?? ""),
    h("span", {}, (row.tokens ?? []).map((word) => h("span", { class: "word" }, visible(word)))));
}
