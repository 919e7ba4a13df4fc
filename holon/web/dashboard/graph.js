// The graph of a blueprint as a drawing, from left to right.

import { el, svg } from "./dom.js";
import { placed } from "./layout.js";

const [WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN, LOOP] = [170, 40, 110, 50, 20, 40];
const [NAME, LABEL] = [20, 16];

// The drawing, and below it the same in words.
export function drawn({ nodes, edges }, name) {
  const places = placed({ nodes, edges });
  const spots = [...places.values()];
  const width = 2 * MARGIN + across(Math.max(...spots.map((one) => one.layer))) + WIDTH;
  const height = 2 * MARGIN + down(Math.max(...spots.map((one) => one.row))) + HEIGHT + LOOP;
  const picture = svg("svg", {
    class: "graph", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `The states of ${name}`,
  },
  svg("defs", {}, svg("marker", {
    id: "tip", viewBox: "0 0 8 8", refX: "8", refY: "4", markerWidth: "8", markerHeight: "8", orient: "auto",
  }, svg("path", { d: "M0,0 L8,4 L0,8 z" }))),
  together(edges).map((edge) => way(edge, places)), nodes.map((node) => state(node, places.get(node.name))));
  return [
    el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Graph" }, picture),
    el("details", {}, el("summary", {}, "The same in words"),
      el("ul", {}, nodes.map((node) => el("li", {}, `${node.name} (${node.kind})`,
        el("ul", {}, edges.filter((edge) => edge.source === node.name)
          .map((edge) => el("li", {}, `to ${edge.target}${edge.label && `: ${edge.label}`}`))))))),
  ];
}

function across(layer) {
  return layer * (WIDTH + GAP_X);
}

function down(row) {
  return row * (HEIGHT + GAP_Y);
}

// Ways between the same two states share a line.
function together(edges) {
  const ways = new Map();
  for (const { source, target, label } of edges) {
    const key = JSON.stringify([source, target]);
    const way = ways.get(key) ?? { source, target, labels: [] };
    if (label) way.labels.push(label);
    ways.set(key, way);
  }
  return [...ways.values()];
}

function state({ name, kind }, { layer, row }) {
  const [x, y] = [MARGIN + across(layer), MARGIN + down(row)];
  return svg("g", { class: `state ${kind}` },
    svg("title", {}, `${name} (${kind})`),
    svg("rect", { x, y, width: WIDTH, height: HEIGHT, rx: kind === "ordinary" ? 4 : HEIGHT / 2 }),
    kind === "end" ? svg("rect", { x: x + 4, y: y + 4, width: WIDTH - 8, height: HEIGHT - 8, rx: HEIGHT / 2 - 4 }) : null,
    svg("text", { x: x + WIDTH / 2, y: y + HEIGHT / 2 + 5 }, short(name, NAME)));
}

function way({ source, target, labels }, places) {
  const [from, to] = [places.get(source), places.get(target)];
  const [left, right] = [MARGIN + across(from.layer), MARGIN + across(to.layer)];
  const [top, bottom] = [MARGIN + down(from.row), MARGIN + down(to.row)];
  const label = labels.join(", ");
  let line, at;
  if (to.layer > from.layer) {
    const [x, y, xx, yy] = [left + WIDTH, top + HEIGHT / 2, right, bottom + HEIGHT / 2];
    // One that passes other layers goes between the rows of states.
    const bend = to.layer > from.layer + 1 ? (HEIGHT + GAP_Y) / 2 : 0;
    const half = (xx - x) / 2;
    line = `M${x},${y} C${x + half},${y + bend} ${xx - half},${yy + bend} ${xx},${yy}`;
    at = [(x + xx) / 2, (y + yy) / 2 + bend * 0.75 - 6];
  } else {
    // Back, or to itself: below the states.
    const [x, y, xx, yy] = [left + WIDTH * 0.6, top + HEIGHT, right + WIDTH * 0.4, bottom + HEIGHT];
    const low = Math.max(y, yy) + LOOP;
    line = `M${x},${y} C${x},${low} ${xx},${low} ${xx},${yy}`;
    at = [(x + xx) / 2, low - 8];
  }
  return svg("g", { class: "way" },
    svg("title", {}, `${source} → ${target}${label && `: ${label}`}`),
    svg("path", { d: line, "marker-end": "url(#tip)" }),
    label ? svg("text", { x: at[0], y: at[1] }, short(label, LABEL)) : null);
}

function short(text, length) {
  const signs = [...text];
  return signs.length > length ? `${signs.slice(0, length - 1).join("")}…` : text;
}
