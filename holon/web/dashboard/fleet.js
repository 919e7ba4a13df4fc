// Who works, what they offer, and the figures of the node.

import { get, pages } from "./api.js";
import { el, facts, render, table } from "./dom.js";
import { written } from "./exact.js";
import { follow, further } from "./follow.js";
import { bytes, folded, lasting, money, status, time, words } from "./format.js";

const SECONDS = 5;
const WORKER = [
  "Worker", "Node", "Tasks", "Skills", "Reputation", "Loaded", "Labels", "Machines", "Load", "Connected", "Last seen",
  "SDK",
];
const SKILL = ["Skill", "Type", "Version", "Providers", "Reputation", "Lowest price", "Description", "Contract"];

export function workers(place, { signal }) {
  return list(place, "Workers", "Workers of all nodes, by id", "workers", "workers", WORKER, signal, (one) => [
    one.kind === "holon" ? `${one.worker_id} (holon ${one.holon_id})` : one.worker_id,
    one.node_id,
    el("span", {}, `${one.held} of ${one.credits} `, one.draining ? status("draining") : null,
      one.connected ? null : status("disconnected")),
    one.skills.map((name) => (Object.hasOwn(one.prices, name) ? `${name} (${money(one.prices[name])})` : name)).join(", "),
    reputations(one),
    one.hot_skills.length || one.cached.length
      ? details({ hot_skills: one.hot_skills, cached: one.cached }, `loaded by ${one.worker_id}`) : null,
    Object.entries(one.labels).map(([name, value]) => `${name}=${value}`).join(", "),
    [
      one.resources.length ? details(one.resources, `machines of ${one.worker_id}`) : null,
      ...one.warnings.map((text) => el("p", { class: "trouble" }, text)),
    ],
    load(one.load), time(one.connected_at), time(one.last_seen_at), one.sdk,
  ]);
}

// By skill with its reasons, the lowest first; one number where all are the best.
function reputations(worker) {
  if (!worker.reputations.length) return worker.reputation;
  return worker.reputations.map((one) => {
    const reasons = one.reasons.map((reason) => el("li", {}, `${reason.count} ${reason.code}, last `, time(reason.last_at)));
    return el("div", {}, `${one.skill} ${one.reputation.toFixed(3)} `, one.excluded ? status("gets_no_tasks") : null,
      el("ul", {}, reasons));
  });
}

function details(value, full) {
  return folded(value, "show", full, full);
}

// How busy a machine is; nothing where it does not say.
function load(it) {
  if (it === null) return null;
  const used = it.memory_used_bytes, total = it.memory_total_bytes;
  const memory = used === null ? null : `${bytes(used)}${total === null ? "" : ` of ${bytes(total)}`}`;
  const measured = it.devices.filter((one) => one.percent !== null);
  const devices = measured.map((one) => `${one.device_id} ${Math.round(one.percent)} %`);
  const processors = it.cpu_percent === null ? null : `${Math.round(it.cpu_percent)} % CPU`;
  return [processors, memory, ...devices].filter((text) => text).join(", ");
}

export function catalog(place, { signal }) {
  return list(place, "Skills", "Skills that workers offer now, by name", "workers/catalog", "skills", SKILL, signal, (one) => {
    const contract = written([one.name, one.type, one.version, one.input_schema, one.output_schema, one.events]);
    return [
      one.name, one.type, one.version, one.provider_count, one.average_reputation, money(one.lowest_price), one.description,
      [
        folded(one.input_schema, "params", `params ${contract}`, `params of ${one.name}`),
        folded(one.output_schema, "result", `result ${contract}`, `result of ${one.name}`),
        one.events.length ? folded(one.events, "events", `events ${contract}`, `events of ${one.name}`) : null,
      ],
    ];
  });
}

export async function figures(place, { signal }) {
  const shown = el("div");
  place.append(el("h1", {}, "Node"), shown);
  await follow(async () => {
    const it = await get("dashboard", {}, signal);
    const jobs = Object.entries(it.jobs);
    render(shown, it, () => [
      facts([
        ["Tasks waiting for a worker", it.tasks_queued],
        ["Tasks held by workers", it.tasks_leased],
        ["Workers of this node", it.workers_connected],
        ["Uptime", lasting(it.uptime)],
        ["As of", time(it.as_of)],
      ]),
      jobs.length ? table("Open jobs", ["Status", "Count"], jobs.map(([name, count]) => [status(name), count]))
        : el("p", {}, "There are no open jobs."),
    ]);
  }, SECONDS, signal);
}

async function list(place, title, caption, path, field, columns, signal, cells) {
  const shown = el("div");
  const more = el("button", { type: "button", hidden: true, click: () => { count += 1; further(look, signal); } }, "More");
  let count = 1;

  async function look() {
    const { items, more: longer } = await pages(path, field, { page_size: 200 }, count, signal);
    more.hidden = !longer;
    render(shown, items, () => [
      items.length ? table(caption, columns, items.map(cells)) : el("p", {}, `There are no ${words(field)}.`)]);
  }

  place.append(el("h1", {}, title), shown, more);
  await follow(look, SECONDS, signal);
}
