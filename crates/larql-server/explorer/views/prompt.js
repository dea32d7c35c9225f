// A prompt's way through the layers: the logit lens as a heat map, an answer through the layers with what attention and
// feed-forward add to it, and the features behind it.

import * as api from "../api.js";
import { heat } from "../colors.js";
import { bars, failure, h, percent, s, show, visible, waiting } from "../dom.js";
import { adjust, go } from "../state.js";
import { term } from "../words.js";

/** Tokens that the heat map shows. */
const MOST_TOKENS = 24;
/** Tokens of a prompt that is traced at every position; of a longer one the last alone. */
const MOST_TRACED = 100;
const EXAMPLE = "The capital of France is";

export async function promptView(main, values) {
  const prompts = [values.q, values.q2].filter(Boolean);
  const columns = prompts.map(() => h("section", {}));
  show(main, form(values),
    prompts.length
      ? h("div", { class: prompts.length > 1 ? "two" : "" }, columns)
      : h("div", { class: "empty" }, h("h1", {}, "How does a prompt become an answer?"),
        h("p", {}, "The ", term("logit lens"), " shows what the model would say after each ", term("layer"), ". Try ",
          h("button", { class: "link", type: "button", onclick: () => go("prompt", { q: EXAMPLE }) }, EXAMPLE), ".")));
  let gone = false;
  prompts.forEach((prompt, index) => draw(columns[index], prompt, values, () => gone).catch((error) => {
    if (!gone && error.name !== "AbortError") show(columns[index], failure(error));
  }));
  return () => (gone = true);
}

function form(values) {
  const input = (value, label, search) => h("input", { class: "wide", type: "search", value: value ?? "", placeholder: EXAMPLE, "aria-label": label, "data-search": search, spellcheck: "false" });
  const [first, second] = [input(values.q, "Prompt", true), input(values.q2, "Second prompt to compare with", false)];
  const onsubmit = (event) => {
    event.preventDefault();
    go("prompt", { q: first.value, q2: second.value });
  };
  return h("form", { class: "row", onsubmit },
    h("label", { class: "grow" }, "Prompt", first), h("label", { class: "grow" }, "Compare with", second), h("button", { class: "main" }, "Read"));
}

async function draw(place, prompt, values, gone) {
  show(place, waiting(`Reading ${visible(prompt)}`));
  const [whole, { token_ids: ids }] = await Promise.all([api.explain({ prompt, answer: values.answer, per_layer: 8 }), api.encode(prompt)]);
  if (gone()) return;
  const everywhere = ids.length <= MOST_TRACED;
  const traced = await api.trace({ prompt, answer: whole.answer.token, positions: everywhere ? "all" : "last" });
  if (gone()) return;
  const last = ids.length - 1, first = Math.max(0, ids.length - MOST_TOKENS);
  const texts = traced.tokens.slice(first, ids.length);
  const of = (position) => traced.rows.filter((row) => row.position === position && row.layer >= 0);
  const grid = heatMap(whole, texts, (layer) => pick(layer));
  const features = h("div", {});
  const pick = (layer) => show(features, featuresOf(whole.trace[layer], whole.answer));
  show(place,
    h("h1", {}, visible(prompt).replaceAll("␣", " ")),
    h("p", { class: "note" }, `${ids.length} tokens, ${whole.trace.length} layers`, first ? `; the last ${MOST_TOKENS} tokens are shown` : "", everywhere ? "" : ", and the layers of the last one"),
    h("h2", {}, "What it says next"),
    answers(whole, values),
    h("h2", {}, term("logit lens", "Logit lens")),
    legend(), h("div", { class: "scroll" }, grid.table),
    h("h2", {}, `“${visible(whole.answer.token)}” through the layers`),
    line(whole.trace.map((layer) => layer.answer_probability), pick),
    contributions(of(last), pick),
    features);
  pick(strongest(whole.trace));
  for (let position = everywhere ? first : last; position <= last; position += 1) grid.set(position - first, of(position));
}

const strongest = (trace) => trace.reduce((best, layer, index) => (gain(trace, index) > gain(trace, best) ? index : best), 0);
const gain = (trace, index) => trace[index].answer_probability - (trace[index - 1]?.answer_probability ?? 0);

function answers(whole, values) {
  const chosen = whole.answer.token_id;
  return [
    bars(whole.predictions.map(({ token, probability }) => [visible(token), probability, percent(probability)])),
    h("div", { class: "chips", role: "group", "aria-label": "Answer to follow" }, "Follow ",
      whole.predictions.map(({ token, token_id: id }) =>
        h("button", { type: "button", "aria-pressed": String(id === chosen), onclick: () => adjust({ answer: token }) }, visible(token))),
      values.answer && !whole.predictions.some(({ token_id: id }) => id === chosen) ? h("button", { type: "button", "aria-pressed": "true" }, visible(whole.answer.token)) : null),
  ];
}

function heatMap(whole, texts, onPick) {
  const cells = whole.trace.map(() => texts.map(() => h("td", {}, h("button", { type: "button", disabled: true, "aria-label": "not read yet" }, "·"))));
  const rows = whole.trace.map((layer, index) =>
    h("tr", {}, h("th", { scope: "row" }, h("button", { class: "link", type: "button", onclick: () => onPick(index), "aria-label": `Features of layer ${layer.layer}` }, `L${layer.layer}`)), cells[index]));
  // The last layer is at the bottom, as text is read downwards.
  const table = h("table", { class: "heat" },
    h("caption", { class: "note" }, "Layers downwards, tokens across; in each cell the likeliest next token after that layer."),
    h("thead", {}, h("tr", {}, h("th", {}), texts.map((text) => h("th", { scope: "col" }, visible(text))))),
    h("tbody", {}, rows));
  const set = (column, rows) => rows.forEach(({ layer, top1_token: token, top1_prob: probability }, index) => {
    const { ground, ink } = heat(probability);
    const text = visible(token);
    const told = `After layer ${layer}: ${text}, ${percent(probability)}`;
    show(cells[index][column], h("button", { type: "button", style: { background: ground, color: ink }, "data-tip": told, "aria-label": told, onclick: () => onPick(index) }, text));
  });
  return { table, set };
}

function legend() {
  const steps = [0, 0.2, 0.4, 0.6, 0.8, 1];
  return h("div", { class: "legend" }, "unsure", h("span", {}, steps.map((step) => h("i", { style: { background: heat(step).ground } }))), "sure");
}

function line(shares, onPick) {
  const [width, height, pad] = [640, 160, 32];
  const x = (index) => pad + (index / Math.max(1, shares.length - 1)) * (width - 2 * pad);
  const y = (share) => height - pad - share * (height - 2 * pad);
  const points = shares.map((share, index) => `${index ? "L" : "M"}${x(index).toFixed(1)} ${y(share).toFixed(1)}`).join("");
  return s("svg", { class: "line", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Probability after each layer: ${shares.map(percent).join(", ")}` },
    s("line", { class: "axis", x1: pad, y1: y(0), x2: width - pad, y2: y(0) }),
    s("text", { x: 0, y: y(1) + 4 }, "100 %"), s("text", { x: 0, y: y(0) + 4 }, "0 %"),
    s("path", { d: points }),
    shares.map((share, index) => s("circle", { cx: x(index), cy: y(share), r: 4, "data-tip": `After layer ${index}: ${percent(share)}`, onclick: () => onPick(index) })));
}

/** What attention and feed-forward of each layer add to the answer's logit. With the norm's part they are its change. */
function contributions(rows, onPick) {
  const figures = rows.filter((row) => row.answer);
  if (!figures.length) return h("p", { class: "note" }, "An answer of several tokens is followed after the prompt. Choose a layer for the features behind it.");
  const parts = (row) => [row.answer.attn_logit, row.answer.ffn_logit];
  const greatest = Math.max(...figures.flatMap(parts).map(Math.abs), 1e-9);
  const signed = (value) => `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(2)}`;
  const bar = (value, name, layer) => h("td", { "data-tip": `Layer ${layer}: ${name} adds ${signed(value)}` },
    h("div", { class: "signed", role: "img", "aria-label": `${name} ${signed(value)}` },
      h("i", { class: value < 0 ? "down" : "up", style: { width: `${(Math.abs(value) / greatest) * 50}%` } })));
  return [
    h("div", { class: "scroll" }, h("table", { class: "contributions" },
      h("caption", { class: "note" }, "What each layer adds to the answer’s ", term("logit"), "; the two bars and the change of the norm add up to the change."),
      h("thead", {}, h("tr", {}, ["layer", "attention", "feed-forward", "norm", "change", "rank"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, figures.map((row) => {
        const [attention, feedForward] = parts(row), { norm_logit: norm, rank } = row.answer;
        return h("tr", {},
          h("th", { scope: "row" }, h("button", { class: "link", type: "button", onclick: () => onPick(row.layer) }, `L${row.layer}`)),
          bar(attention, "attention", row.layer), bar(feedForward, "feed-forward", row.layer),
          h("td", {}, signed(norm)), h("td", {}, signed(attention + feedForward + norm)), h("td", {}, rank));
      })))),
    h("p", { class: "note" }, "Choose a layer for the features behind it."),
  ];
}

function featuresOf(layer, answer) {
  const greatest = Math.max(...layer.features.map((feature) => Math.abs(feature.contribution ?? 0)), 1e-9);
  return [
    h("h2", {}, `Strongest `, term("feature", "features"), ` of layer ${layer.layer}`),
    h("p", { class: "note" }, "By their ", term("contribution"), ` to “${visible(answer.token)}”; grey bars push against it.`),
    bars(layer.features.map((feature) => [
      h("span", { "data-tip": `gate ${feature.gate_score?.toFixed(2)}, activation ${feature.activation?.toFixed(2)}`, tabindex: "0" },
        `F${feature.feature} `, feature.top_tokens.slice(0, 3).map((word) => h("span", { class: "word" }, visible(word))), feature.relation ? ` ${feature.relation}` : ""),
      Math.abs(feature.contribution ?? 0) / greatest, (feature.contribution ?? 0).toFixed(3), feature.contribution < 0,
    ])),
  ];
}
