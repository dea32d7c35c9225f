// What is served: figures, bands, files, relations and patches.

import * as api from "../api.js";
import { bars, bytes, h, show, waiting } from "../dom.js";
import { address } from "../state.js";
import { term } from "../words.js";

const BANDS = [["syntax", 18], ["knowledge", 34], ["output", 24]];

export async function modelView(main) {
  show(main, waiting("Loading the figures"));
  const stats = await api.stats();
  const [{ relations = [] }, { patches }] = await Promise.all([stats.loaded.browse ? api.relations() : {}, api.patches()]);
  const largest = Math.max(...stats.files.map((file) => file.bytes), 1);
  const most = Math.max(...relations.map((relation) => relation.count), 1);
  show(main,
    h("h1", {}, stats.model),
    h("p", { class: "note" }, stats.loaded.browse ? ["A ", term("vindex"), ` of ${stats.model_name}, level ${stats.extract_level}`] : "A checkpoint, read as it is", `, family ${stats.family}`),
    h("div", { class: "figures" },
      figure(stats.layers, term("layer", "layers")), figure(stats.features.toLocaleString("en"), term("feature", "features")),
      figure(stats.hidden_size, "residual width"), figure(stats.vocab_size.toLocaleString("en"), term("token", "tokens")),
      figure(stats.context_length.toLocaleString("en"), term("context")), figure(bytes(stats.bytes), "on disk")),
    stats.layer_bands ? [h("h2", {}, term("band", "Bands")), strip(stats)] : null,
    h("h2", {}, "Files"),
    bars(stats.files.toSorted((a, b) => b.bytes - a.bytes).map((file) => [file.file, file.bytes / largest, bytes(file.bytes)])),
    stats.loaded.browse ? [
      h("h2", {}, term("relation", "Relations")),
      relations.length
        ? bars(relations.map((relation) => [h("span", { "data-tip": relation.examples?.slice(0, 3).join(", "), tabindex: "0" }, relation.name), relation.count / most, `${relation.count} · ${relation.source}`]))
        : h("p", { class: "empty" }, "None is known. ", h("code", {}, "larql probe model.vindex"), " finds out what the model knows."),
    ] : null,
    h("h2", {}, term("patch", "Patches")),
    patches.length ? h("p", {}, patches.map(({ name, operations }) => `${name} (${operations})`).join(", "), " · ", h("a", { href: address("edit") }, "edit"))
      : h("p", { class: "note" }, "None in this tab's session. ", h("a", { href: address("edit") }, "Teach it something")));
}

const figure = (value, name) => h("div", {}, h("b", {}, value), h("span", {}, name));

function strip(stats) {
  return h("div", { class: "strip" }, BANDS.map(([name, shade]) => {
    const [first, last] = stats.layer_bands[name];
    return last < first ? null : h("span", { style: { flexGrow: String(last - first + 1), background: `color-mix(in srgb, var(--accent) ${shade}%, var(--ground))` } },
      `${name} ${first === last ? first : `${first}–${last}`}`);
  }));
}
