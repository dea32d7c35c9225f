"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const svg = document.getElementById("graph");
const details = document.getElementById("details");
const pinned = new Set();
/** Groups of nodes that are shown as one: members by the number of the group, which follows those of the nodes. */
const groups = new Map();

const COLUMN = 150, ROW = 70, LEFT = 60, TOP = 40;

const color = (weight) => (weight < 0 ? "#b3432f" : "#145a96");
const signed = (value) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(2);

function make(name, attributes, parent) {
  const element = document.createElementNS(svg.namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

/** The nodes that are shown: single ones, and groups in the place of their first member. */
function shown() {
  const member = new Map();
  for (const [id, members] of groups) for (const node of members) member.set(node, id);
  const nodes = new Map();
  for (const node of data.nodes) {
    const group = member.get(node.id);
    if (group === undefined) {
      nodes.set(node.id, { ...node, members: [node.id] });
    } else if (!nodes.has(group)) {
      const members = groups.get(group);
      nodes.set(group, { ...node, id: group, kind: "group", name: `group of ${members.length}`, members,
        writes: members.flatMap((id) => data.nodes[id].writes.slice(0, 1)), label: null, activation: null,
        influence: 0 });
    }
  }
  const edges = new Map();
  for (const edge of data.edges) {
    const source = member.get(edge.source) ?? edge.source, target = member.get(edge.target) ?? edge.target;
    if (source === target) continue;
    const key = `${source} ${target}`, sum = edges.get(key) ?? { source, target, weight: 0 };
    sum.weight += edge.weight;
    edges.set(key, sum);
  }
  // What goes through a group is what leaves it.
  for (const edge of edges.values()) {
    const from = nodes.get(edge.source);
    if (from.kind === "group") from.influence += edge.weight;
  }
  return { nodes, edges: [...edges.values()] };
}

function place(nodes) {
  const layers = [...new Set([...nodes.values()].filter((node) => node.layer !== null).map((node) => node.layer))];
  layers.sort((a, b) => a - b);
  const top = layers.length + 1, columns = Math.max(data.tokens.length, 1), taken = new Map();
  for (const node of nodes.values()) {
    const row = node.kind === "answer" ? top : node.layer === null ? 0 : 1 + layers.indexOf(node.layer);
    const column = node.kind === "answer" ? columns - 1 : node.position ?? columns;
    const cell = `${row} ${column}`, count = taken.get(cell) ?? 0;
    taken.set(cell, count + 1);
    node.x = LEFT + column * COLUMN + 20 + (count % 4) * 34;
    node.y = TOP + (top - row) * ROW + Math.floor(count / 4) * 16;
  }
  return { layers, top, width: LEFT + (columns + 1) * COLUMN, height: TOP * 2 + top * ROW };
}

function draw() {
  const { nodes, edges } = shown(), { layers, top, width, height } = place(nodes);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  layers.forEach((layer, index) => {
    make("text", { class: "axis", x: 8, y: TOP + (top - 1 - index) * ROW + 4 }, svg).textContent = `L${layer}`;
  });
  const widest = Math.max(...edges.map((edge) => Math.abs(edge.weight)), 1e-9);
  for (const edge of edges) {
    const from = nodes.get(edge.source), to = nodes.get(edge.target), middle = (from.y + to.y) / 2;
    make("path", { class: "edge", "data-source": edge.source, "data-target": edge.target, stroke: color(edge.weight),
      "stroke-width": 0.5 + 7 * Math.abs(edge.weight) / widest,
      d: `M${from.x},${from.y} C${from.x},${middle} ${to.x},${middle} ${to.x},${to.y}` }, svg);
  }
  const largest = Math.max(...[...nodes.values()].map((node) => Math.abs(node.influence)), 1e-9);
  for (const node of nodes.values()) {
    const group = make("g", { class: "node", tabindex: 0, role: "button", "data-id": node.id,
      transform: `translate(${node.x},${node.y})`, "aria-label": `${node.name}, ${signed(node.influence)}` }, svg);
    make("title", {}, group).textContent = [node.name, ...node.writes].join("  ");
    if (pinned.has(node.id)) group.classList.add("pinned");
    const size = 5 + 9 * Math.sqrt(Math.abs(node.influence) / largest), fill = color(node.influence);
    if (node.kind === "head" || node.kind === "group") {
      make("rect", { x: -size, y: -size, width: 2 * size, height: 2 * size, fill }, group);
    } else {
      make("circle", { r: size, fill: node.kind === "rest" ? "#8a96a3" : fill }, group);
    }
    if (["token", "answer", "rest", "group"].includes(node.kind)) {
      const below = node.kind !== "answer";
      make("text", { "text-anchor": "middle", y: below ? size + 13 : -size - 5 }, group).textContent = node.name;
    }
    const show = () => follow(node.id, nodes, edges);
    group.addEventListener("mouseenter", show);
    group.addEventListener("focus", show);
    group.addEventListener("mouseleave", () => follow(null, nodes, edges));
    const pin = () => { pinned.delete(node.id) || pinned.add(node.id); draw(); focusOn(node.id); };
    group.addEventListener("click", pin);
    group.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      pin();
    });
  }
  follow(null, nodes, edges);
}

function focusOn(id) {
  svg.querySelector(`.node[data-id="${id}"]`)?.focus();
}

/** Shows what goes in and out of a node and of the pinned ones; everything where there are none. */
function follow(id, nodes, edges) {
  const chosen = new Set([...pinned].filter((node) => nodes.has(node)));
  if (id !== null) chosen.add(id);
  const touches = (edge) => chosen.size === 0 || chosen.has(edge.source) || chosen.has(edge.target);
  const seen = new Set(chosen);
  edges.filter(touches).forEach((edge) => seen.add(edge.source).add(edge.target));
  for (const path of svg.querySelectorAll(".edge")) {
    path.classList.toggle("faded", !touches({ source: Number(path.dataset.source), target: Number(path.dataset.target) }));
  }
  for (const group of svg.querySelectorAll(".node")) {
    group.classList.toggle("faded", chosen.size > 0 && !seen.has(Number(group.dataset.id)));
  }
  const last = id ?? [...chosen].pop();
  details.replaceChildren();
  if (last !== undefined && nodes.has(last)) describe(nodes.get(last), nodes, edges);
}

function describe(node, nodes, edges) {
  const heading = (text) => { const h = document.createElement("h2"); h.textContent = text; details.append(h); };
  const line = (text) => { const p = document.createElement("p"); p.textContent = text; details.append(p); };
  heading(node.name);
  line(`influence ${signed(node.influence)}`);
  if (node.activation !== null) line(`activation ${node.activation.toFixed(2)}`);
  if (node.label) line(`relation ${node.label}`);
  if (node.writes.length) line(`writes ${node.writes.join("  ")}`);
  for (const [title, end, other] of [["goes in", "target", "source"], ["goes out", "source", "target"]]) {
    const own = edges.filter((edge) => edge[end] === node.id);
    if (!own.length) continue;
    heading(title);
    const list = document.createElement("ul");
    own.sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight));
    for (const edge of own.slice(0, 12)) {
      const item = document.createElement("li"), button = document.createElement("button");
      const neighbour = nodes.get(edge[other]);
      button.textContent = `${signed(edge.weight)}  ${neighbour.name}  ${neighbour.writes[0] ?? ""}`;
      button.addEventListener("click", () => focusOn(neighbour.id));
      item.append(button);
      list.append(item);
    }
    details.append(list);
  }
}

document.getElementById("group").addEventListener("click", () => {
  const kinds = new Set(["token", "rest", "answer"]);
  const members = [...pinned].flatMap((id) => groups.get(id) ?? [id]).filter((id) => !kinds.has(data.nodes[id].kind));
  if (members.length < 2) return;
  for (const id of pinned) groups.delete(id);
  const id = Math.max(data.nodes.length, ...groups.keys()) + 1;
  groups.set(id, members.sort((a, b) => a - b));
  pinned.clear();
  draw();
});
document.getElementById("ungroup").addEventListener("click", () => { groups.clear(); pinned.clear(); draw(); });
document.getElementById("unpin").addEventListener("click", () => { pinned.clear(); draw(); });
draw();
