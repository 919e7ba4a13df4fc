// What the node runs: the blueprints, and each with its graph.

import { get, pages } from "./api.js";
import { el, facts, link, table } from "./dom.js";
import { read } from "./dot.js";
import { see } from "./follow.js";
import { json, money } from "./format.js";
import { drawn } from "./graph.js";

const SECONDS = 5;
const SIZE = 1000;
// More than a drawing can show.
const MOST_STATES = 200;

export function blueprints(place, { signal }) {
  return see(async () => {
    const { items } = await pages("blueprints", "blueprints", { page_size: SIZE }, Infinity, signal);
    const rows = items.map((one) => [
      link(`blueprints/${encodeURIComponent(one.name)}`, one.name), one.api_endpoint ?? "none", money(one.price),
      link(`jobs?${new URLSearchParams({ blueprint: one.name })}`, "jobs"),
    ]);
    place.append(el("h1", {}, "Blueprints"),
      items.length ? table("Blueprints, by name", ["Name", "Endpoint", "Price", "Jobs"], rows)
        : el("p", {}, "The node has no blueprints."));
  }, SECONDS, signal);
}

export function blueprint(place, { id, signal }) {
  const path = `blueprints/${encodeURIComponent(id)}`;
  return see(async () => {
    const [dot, { items }] = await Promise.all([
      get(`${path}/graph`, {}, signal), pages("blueprints", "blueprints", { page_size: SIZE }, Infinity, signal)]);
    const graph = read(dot);
    const own = items.find((one) => one.name === id);
    const picture = graph.nodes.length && graph.nodes.length <= MOST_STATES ? drawn(graph, id) : [el("pre", {}, dot)];
    place.append(
      el("h1", {}, "Blueprint ", el("span", { class: "id" }, id)),
      facts([
        ["Endpoint", own?.api_endpoint ?? "none: clients cannot create its jobs"],
        ["Price", money(own?.price)],
        ["Jobs", link(`jobs?${new URLSearchParams({ blueprint: id })}`, "jobs of this blueprint")],
      ]),
      el("h2", {}, "States"), ...picture,
      ...(own?.input_schema ? [el("h2", {}, "Input of a job"), json(own.input_schema, "JSON Schema")] : []),
      ...(own?.output_schema ? [el("h2", {}, "Result of a job"), json(own.output_schema, "JSON Schema")] : []));
  }, SECONDS, signal);
}
