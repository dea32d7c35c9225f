// Teaching the model an edge: what it says before and after, and the patches of this tab's session.

import * as api from "../api.js";
import { bars, download, failure, h, percent, show, visible, waiting } from "../dom.js";
import { address } from "../state.js";
import { term } from "../words.js";

export async function editView(main, values) {
  const [result, list] = [h("div", { "aria-live": "polite" }), h("div", {})];
  show(main,
    h("h1", {}, "Teach it something"),
    h("p", { class: "note" }, "An inserted ", term("edge"), " becomes features of the model. Edits belong to this browser tab's session: nobody else sees them, nothing on the server's disk changes, and they end after an hour without use. Save the ", term("patch"), " to keep it."),
    form(values, result, () => refresh(list)), result, h("h2", {}, "Patches of this session"), list);
  await refresh(list);
}

function form(values, result, refreshed) {
  const field = (name, label, placeholder) => {
    const input = h("input", { name, class: "wide", value: values[name] ?? "", placeholder, required: true, spellcheck: "false", "data-search": name === "entity", list: name === "relation" ? "relations" : null });
    return [input, h("label", { class: "grow" }, label, input)];
  };
  const [entity, entityLabel] = field("entity", "Entity", "Atlantis");
  const [relation, relationLabel] = field("relation", term("relation", "Relation"), "capital");
  const [target, targetLabel] = field("target", "Target", "Poseidonis");
  const mode = h("select", {}, h("option", { value: "" }, "best that the model allows"), h("option", { value: "compose" }, "features in the weights"), h("option", { value: "knn" }, "a key beside the weights"));
  const names = h("datalist", { id: "relations" });
  api.relations().then(({ relations }) => show(names, relations.map(({ name }) => h("option", { value: name })))).catch(() => {});
  const button = h("button", { class: "main" }, "Insert");
  const onsubmit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    show(result, waiting("Writing the edge; the first one measures the model and takes longer"));
    try {
      const edge = { entity: entity.value.trim(), relation: relation.value.trim(), target: target.value.trim(), mode: mode.value || undefined };
      show(result, outcome(await api.insert(edge), edge));
      refreshed();
    } catch (error) {
      show(result, failure(error));
    }
    button.disabled = false;
  };
  return h("form", { class: "row", onsubmit }, entityLabel, relationLabel, targetLabel, h("label", {}, "Stored as", mode), button, names);
}

function outcome(inserted, edge) {
  const effects = inserted.effects ?? [];
  const changed = inserted.neighbours?.changed ?? [];
  return [
    h("h2", {}, `${edge.entity}: ${edge.relation} → ${edge.target}`),
    effects.map((effect) => [
      bars([["before", effect.before, percent(effect.before), true], ["after", effect.after, percent(effect.after)]]),
      h("p", { class: "note" }, `Probability of “${effect.target}” when it is asked. It says “${visible(effect.says)}” now. `,
        h("a", { href: address("entity", { q: edge.entity }) }, "See the entity"), " · ",
        h("a", { href: address("prompt", { q: `The ${edge.relation.replaceAll("-", " ")} of ${edge.entity} is` }) }, "see the prompt")),
    ]),
    inserted.neighbours ? [
      h("p", {}, `${inserted.neighbours.asked} neighbouring questions were asked, and ${changed.length ? `${changed.length} answers changed:` : "no answer changed."}`),
      changed.length ? h("table", {}, h("thead", {}, h("tr", {}, ["question", "before", "after"].map((text) => h("th", { scope: "col" }, text)))),
        h("tbody", {}, changed.map((row) => h("tr", {}, h("td", {}, row.prompt), h("td", {}, visible(row.before)), h("td", {}, visible(row.after)))))) : null,
    ] : null,
  ];
}

async function refresh(list) {
  const { patches } = await api.patches();
  const act = (work) => async () => {
    try {
      await work();
      await refresh(list);
    } catch (error) {
      list.prepend(failure(error));
    }
  };
  const file = h("input", { type: "file", accept: ".vlp,.json", "aria-label": "Patch file to apply", onchange: (event) => act(async () => {
    const chosen = event.target.files[0];
    if (!chosen) return;
    let content;
    try {
      content = JSON.parse(await chosen.text());
    } catch {
      throw new Error(`${chosen.name} is no patch file; choose one that ends in .vlp`);
    }
    await api.applyPatch(chosen.name, content);
  })() });
  const save = (name) => async () => download(name.endsWith(".vlp") ? name : `${name}.vlp`, await api.patch(name));
  show(list,
    patches.length ? h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "patch"), h("th", { scope: "col", class: "number" }, "operations"), h("th", {}))),
      h("tbody", {}, patches.map(({ name, operations }) => h("tr", {}, h("td", {}, name), h("td", { class: "number" }, operations),
        h("td", {}, h("button", { type: "button", onclick: save(name), disabled: !operations }, "Save"), " ", h("button", { type: "button", onclick: act(() => api.removePatch(name)) }, "Take off")))))) 
      : h("p", { class: "empty" }, "None yet. Insert an edge, or apply a patch file."),
    h("div", { class: "row" }, h("button", { type: "button", disabled: !patches.length, onclick: act(() => api.lql("UNDO;")) }, "Undo the last edit"), h("label", {}, "Apply a patch file", file)));
}
