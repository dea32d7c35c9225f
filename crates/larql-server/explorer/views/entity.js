// An entity in the middle, its edges around it, and the same edges as a list.

import * as api from "../api.js";
import { relationColors } from "../colors.js";
import { failure, h, percent, s, show, waiting } from "../dom.js";
import { address, adjust, go } from "../state.js";
import { term } from "../words.js";

const SIZE = 640;
const MOST = 60;
const MOST_UNNAMED = 24;
const EXAMPLES = ["France", "Japan", "Einstein", "gold"];

const strength = (edge, strongest) => edge.confidence ?? Math.max(0, edge.gate_score) / (strongest || 1);

const how = (edge) => ({
  embedding: "its embedding fires the feature",
  residual: "the feature fires when the model reads it",
  patch: "a patch states it",
  attribution: "the feature fires and pushes the word",
  asked: "the model says so when it is asked",
  probe: "a probe saw the feature carry it",
}[edge.via] ?? edge.via);

export async function entityView(main, values) {
  const content = h("div", {});
  show(main, search(values), crumbs(values), content);
  if (!values.q) {
    return void show(content, h("div", { class: "empty" },
      h("h1", {}, "What does the model know?"),
      h("p", {}, "Type a name. Its ", term("edge", "edges"), " are what the model's ", term("feature", "features"), " write when they see it."),
      h("p", {}, "For instance: ", EXAMPLES.map((name) => [h("a", { href: address("entity", { q: name }) }, name), " "]))));
  }
  show(content, waiting(`Describing ${values.q}`));
  let described;
  try {
    described = await api.describe({ entity: values.q, band: values.band, limit: 200, verbose: true });
  } catch (error) {
    if (error.name === "AbortError") return;
    return void show(content, failure(error));
  }
  const strongest = Math.max(0, ...described.edges.map((edge) => edge.gate_score));
  const edges = described.edges
    .map((edge) => ({ ...edge, strength: strength(edge, strongest) }))
    .filter((edge) => !values.relation || (edge.relation ?? "") === (values.relation === "none" ? "" : values.relation))
    .filter((edge) => !values.source || (edge.source ?? "none") === values.source)
    .filter((edge) => edge.strength >= Number(values.least ?? 0));
  const colors = relationColors(described.edges.map((edge) => edge.relation));
  // What is known has room in the graph; the list has everything.
  const named = edges.filter((edge) => edge.relation);
  const shown = [...named, ...edges.filter((edge) => !edge.relation).slice(0, MOST_UNNAMED)].slice(0, MOST);
  show(content,
    h("h1", {}, described.entity),
    h("p", { class: "note" },
      `${edges.length} of ${described.edges.length} edges in ${Math.round(described.latency_ms)} ms`,
      described.unlabelled ? [` · ${described.unlabelled} more `, term("feature", "features"), " fire without a known relation"] : "",
      described.next ? ` · ${described.next}` : ""),
    filters(values, described.edges, colors),
    shown.length
      ? h("div", { class: "two" }, graph(described.entity, shown, colors, values), list(described.entity, edges, colors, values))
      : h("p", { class: "empty" }, "No edge passes. Take a filter away, or choose another band."));
}

function search(values) {
  const input = h("input", { type: "search", class: "wide", value: values.q ?? "", placeholder: "An entity, for instance France", "aria-label": "Entity", "data-search": true, spellcheck: "false" });
  const submit = (event) => {
    event.preventDefault();
    if (input.value.trim()) go("entity", { q: input.value.trim(), band: values.band });
  };
  return h("form", { class: "row", role: "search", onsubmit: submit }, h("div", { class: "grow" }, input), h("button", { class: "main" }, "Describe"));
}

function crumbs(values) {
  const trail = (values.trail ?? "").split("\n").filter(Boolean);
  return h("div", { class: "crumbs", "aria-label": "Trail" }, trail.map((name, index) => [
    h("a", { href: address("entity", { q: name, band: values.band, trail: trail.slice(0, index).join("\n") }) }, name), h("span", { "aria-hidden": "true" }, "›"),
  ]));
}

const follow = (entity, edge, values) =>
  go("entity", { q: edge.target.trim(), band: values.band, trail: [...(values.trail ?? "").split("\n").filter(Boolean), entity].slice(-8).join("\n") });

function filters(values, edges, colors) {
  const option = (value, text) => h("option", { value, selected: (values[value] ?? "") === value }, text);
  const select = (name, label, options) => {
    const element = h("select", { onchange: (event) => adjust({ [name]: event.target.value }) }, options.map(([value, text]) => option(value, text)));
    element.value = values[name] ?? options[0][0];
    return h("label", {}, label, element);
  };
  const sources = [...new Set(edges.map((edge) => edge.source ?? "none"))];
  const least = h("input", { type: "range", min: "0", max: "1", step: "0.05", value: values.least ?? 0, onchange: (event) => adjust({ least: event.target.value === "0" ? "" : event.target.value }) });
  return h("div", { class: "row" },
    select("band", term("band", "Band"), [["knowledge", "knowledge"], ["syntax", "syntax"], ["output", "output"], ["all", "all layers"]]),
    select("relation", term("relation", "Relation"), [["", "any"], ...Object.keys(colors).map((name) => [name, name]), ["none", "none known"]]),
    select("source", "Source", [["", "any"], ...sources.map((name) => [name, name])]),
    h("label", {}, "Least strength", least));
}

function graph(entity, edges, colors, values) {
  const center = SIZE / 2;
  const ordered = [...edges].sort((a, b) => (a.relation ?? "~").localeCompare(b.relation ?? "~") || b.strength - a.strength);
  // Edges with a relation have three times the room of others.
  const room = (edge) => (edge.relation ? 3 : 1);
  const whole = ordered.reduce((sum, edge) => sum + room(edge), 0);
  let [chosen, before] = [-1, 0];
  const drawn = ordered.map((edge, index) => {
    const angle = ((before + room(edge) / 2) / whole) * 2 * Math.PI - Math.PI / 2;
    before += room(edge);
    // Strong edges are short. Neighbours take turns with two rings, so that their words keep apart.
    const radius = 150 + (1 - edge.strength) * 96 + (ordered.length > 12 && index % 2 ? 44 : 0);
    const [x, y] = [center + Math.cos(angle) * radius * 1.02, center + Math.sin(angle) * radius];
    const right = Math.cos(angle) >= 0;
    const color = colors[edge.relation] ?? "var(--soft)";
    return s("g", { class: "edge", "data-tip": tip(edge), onclick: () => follow(entity, edge, values) },
      s("line", { x1: center, y1: center, x2: x, y2: y, stroke: color, class: edge.relation ? null : "bare", "stroke-opacity": 0.35 + 0.65 * edge.strength }),
      s("circle", { cx: x, cy: y, r: 4, fill: color }),
      s("text", { x: x + (right ? 8 : -8), y: y + 4, "text-anchor": right ? "start" : "end" }, edge.target.trim()));
  });
  const choose = (index) => {
    drawn[chosen]?.classList.remove("chosen");
    chosen = (index + drawn.length) % drawn.length;
    drawn[chosen].classList.add("chosen");
    live.textContent = `${ordered[chosen].relation ?? "no relation"}: ${ordered[chosen].target}`;
  };
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  const onkeydown = (event) => {
    if (event.altKey) return;
    if (steps[event.key]) {
      event.preventDefault();
      choose(chosen + steps[event.key]);
    } else if (event.key === "Enter" && chosen >= 0) follow(entity, ordered[chosen], values);
  };
  const live = h("p", { class: "note", role: "status", "aria-live": "polite" }, "Arrow keys walk around, Enter follows an edge. The list has the same edges.");
  const width = Math.max(44, entity.length * 9 + 24);
  return h("div", {},
    s("svg", { class: "graph", viewBox: `-60 0 ${SIZE + 120} ${SIZE}`, role: "img", tabindex: "0", "aria-label": `${edges.length} edges of ${entity}; the list beside has them as text`, onkeydown },
      drawn,
      s("rect", { class: "center", x: center - width / 2, y: center - 18, width, height: 36, rx: 18 }),
      s("text", { class: "center-text", x: center, y: center + 5 }, entity)),
    live);
}

const layers = (edge) => (edge.layer === edge.layer_max ? `L${edge.layer}` : `L${edge.layer}–${edge.layer_max}`);

const tip = (edge) => `${edge.relation ?? "no known relation"} → ${edge.target.trim()}: ${how(edge)}. Feature ${edge.feature} of layer ${edge.layer}${edge.count > 1 ? ` and ${edge.count - 1} more` : ""}.`;

function list(entity, edges, colors, values) {
  const why = (edge) => address("prompt", { q: edge.relation ? `The ${edge.relation.replaceAll("-", " ")} of ${entity} is` : `${entity}`, answer: edge.relation ? edge.target.trim() : undefined });
  return h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {},
      h("th", { scope: "col" }, term("relation")), h("th", { scope: "col" }, "target"),
      h("th", { scope: "col", class: "number" }, term("confidence", "sure")), h("th", { scope: "col", class: "number" }, term("gate score", "gate")),
      h("th", { scope: "col" }, term("layer", "layers")), h("th", { scope: "col" }, "found"), h("th", {}))),
    h("tbody", {}, edges.map((edge) => h("tr", {},
      h("td", {}, h("span", { class: "swatch", style: { background: colors[edge.relation] ?? "var(--line)" } }), edge.relation ?? h("span", { class: "note" }, "none known")),
      h("td", {}, h("button", { class: "link", type: "button", onclick: () => follow(entity, edge, values), "data-tip": edge.also?.length ? `also: ${edge.also.join(", ")}` : null }, edge.target.trim() || "␣")),
      h("td", { class: "number" }, edge.confidence === undefined ? "–" : percent(edge.confidence)),
      h("td", { class: "number" }, edge.gate_score.toFixed(2)),
      h("td", {}, layers(edge)),
      h("td", {}, h("span", { "data-tip": how(edge), tabindex: "0" }, edge.source ?? edge.via)),
      h("td", {}, h("a", { href: why(edge) }, "why")))))));
}
