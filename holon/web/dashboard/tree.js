// What is below a job: its tasks, and the jobs by which other holons did them.

import { pages } from "./api.js";
import { el, render } from "./dom.js";
import { further } from "./follow.js";
import { OPEN, progress, status, time, trouble } from "./format.js";

// What jobs and tasks are while they go on.
const GOING = [...OPEN, "queued", "offered"];

// A place for the tree, and `look`, which shows it as it is now, and says whether something of it goes on.
export function treeOf(path, signal) {
  const list = el("div");
  const more = el("button", { type: "button", hidden: true, click: () => { count += 1; further(look, signal); } }, "More");
  const place = el("section", { "aria-labelledby": "tree" }, el("h2", { id: "tree" }, "Tree"), list, more);
  let count = 1;

  async function look() {
    const { items, more: longer } = await pages(`${path}/tree`, "nodes", { page_size: 200 }, count, signal);
    more.hidden = !longer;
    render(list, items, () => [nested(items)]);
    return items.some((node) => GOING.includes(node.status) && !node.offline);
  }

  return { place, look };
}

// Each node comes after the one above it.
function nested(nodes) {
  const top = el("ul", { class: "tree" });
  const items = new Map();
  const tasks = new Set();
  for (const node of nodes) {
    const item = shown(node, node.kind === "task" && tasks.has(node.parent_node_id));
    if (node.kind === "task") tasks.add(node.node_id);
    const above = items.get(node.parent_node_id);
    if (above && above.lastElementChild.tagName !== "UL") above.append(el("ul"));
    (above?.lastElementChild ?? top).append(item);
    items.set(node.node_id, item);
  }
  return top;
}

// `earlier`: it is an earlier generation of the task above it.
function shown(node, earlier) {
  const said = [
    node.current_state && `in ${node.current_state}`,
    (node.generation > 1 || earlier) && `generation ${node.generation}`,
    node.attempt > 1 && `attempt ${node.attempt}`,
    node.worker_id && `worker ${node.worker_id}`,
    node.reported && `holon ${node.holon_id}`,
  ];
  return el("li", {},
    `${node.kind} `, el("strong", {}, node.name), " ", status(node.status), " ", said.filter(Boolean).join(", "),
    " ", progress(node.progress, node.name), " ", trouble(node.error),
    node.offline ? el("p", {}, "Its holon cannot be reached; this is its state of ", time(node.as_of)) : null);
}
