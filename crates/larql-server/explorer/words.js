// Terms, each with its explanation on hover and focus.

import { h } from "./dom.js";

const MEANINGS = {
  feature: "One unit of a feed-forward branch: a gate row that says when it fires, and a down vector that it writes.",
  relation: "What an edge says of its entity, such as capital or language.",
  edge: "Entity, relation and target: what the model associates with an entity.",
  band: "Layers that are shown together: syntax (early), knowledge (middle), output (late).",
  "gate score": "Gate row times the input of the feed-forward branch: how strongly a feature fires.",
  confidence: "How likely the edge is true, as measured on questions with known answers.",
  "logit lens": "What the model would say next if it stopped after this layer.",
  logit: "The model's score of a token before scores become probabilities.",
  layer: "One step of the model. Each reads what the ones before it wrote.",
  contribution: "How much a feature adds to the score (logit) of the answer.",
  patch: "Edits that lie over the model and can be taken off again.",
  token: "A piece of text that the model reads or writes at once.",
  vindex: "A model on disk whose features are records that can be queried.",
  context: "The number of tokens that prompt and answer may have together.",
  label: "The relation that a feature was found to carry.",
};

/** A term with its explanation. */
export const term = (name, shown = name) =>
  h("abbr", { class: "term", tabindex: "0", "data-tip": MEANINGS[name] ?? "" }, shown);

/** Shows the `data-tip` of whatever is under the pointer or has the focus. */
export function installTips() {
  const tip = document.getElementById("tip");
  const place = (element) => {
    const box = element.getBoundingClientRect();
    tip.textContent = element.dataset.tip;
    tip.hidden = !element.dataset.tip;
    const left = Math.min(box.left, innerWidth - tip.offsetWidth - 8);
    const below = box.bottom + 8 + tip.offsetHeight < innerHeight;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${below ? box.bottom + 8 : box.top - tip.offsetHeight - 8}px`;
  };
  const of = (event) => event.target.closest?.("[data-tip]");
  addEventListener("mouseover", (event) => (of(event) ? place(of(event)) : (tip.hidden = true)));
  addEventListener("focusin", (event) => (of(event) ? place(of(event)) : (tip.hidden = true)));
  addEventListener("keydown", (event) => event.key === "Escape" && (tip.hidden = true));
}
