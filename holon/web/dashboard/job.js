// One job: where it stands, what it asks and waits for, what it carries, what happened to it, and what is below it.

import { get } from "./api.js";
import { askedOf } from "./asked.js";
import { carriedOf } from "./carried.js";
import { el, facts, link, render } from "./dom.js";
import { ENOUGH, follow } from "./follow.js";
import { json, money, progress, status, time, trouble } from "./format.js";
import { historyOf } from "./history.js";
import { cancelButton, questionOf } from "./questions.js";
import { signalOf } from "./signals.js";
import { treeOf } from "./tree.js";

// The node answers at once when the job is over; what else changes is seen after so long.
const WAIT_SECONDS = 5;
const PAUSE_SECONDS = 1;

export async function job(place, { id, signal }) {
  const path = `jobs/${encodeURIComponent(id)}`;
  const [head, actions] = [el("div"), el("p", { class: "buttons" })];
  const question = askedOf("This decision was made or is no longer needed.");
  const awaited = askedOf("The job no longer waits for this signal.");
  const [carried, history, tree] = [carriedOf(path, signal), historyOf(path, signal), treeOf(path, signal)];
  let [known, over, going, settled] = [false, false, true, true];
  let moved = "";

  async function look(wait) {
    const it = await get(path, { wait }, signal);
    over = it.finished_at !== null;
    render(head, it, () => shown(it));
    const asks = question.show(it.approval?.approval_id, () => (it.approval ? [questionOf(it, refresh)] : []));
    const waits = awaited.show(it.signal, () => (it.signal ? [signalOf(it, refresh)] : []));
    settled = asks && waits;
    render(actions, over, () => (over ? [] : [cancelButton(it, refresh)]));
    if (!known) place.append(head, question.place, awaited.place, actions, carried.place, history.place, tree.place);
    known = true;
    const now = `${it.status} ${it.updated_at}`;
    const same = now === moved;
    [going] = await Promise.all([tree.look(), same && !over ? null : history.look(), same ? null : carried.look()]);
    moved = now;
  }

  // What it has begun may end later than itself, and tells it.
  async function round() {
    await look(known && !over ? WAIT_SECONDS : undefined);
    if (over && !going && settled) return ENOUGH;
    return over ? WAIT_SECONDS : PAUSE_SECONDS;
  }

  // What was done here is seen at once; the next round makes up for one that fails.
  const refresh = () => look().catch(() => {});
  await follow(round, PAUSE_SECONDS, signal);
}

function shown(job) {
  const parent = job.parent_job_id;
  return [
    el("h1", {}, "Job ", el("span", { class: "id" }, job.id)),
    facts([
      ["Blueprint", link(`blueprints/${encodeURIComponent(job.blueprint_name)}`, job.blueprint_name)],
      ["Status", status(job.status)],
      ["State", job.current_state],
      ["Progress", progress(job.progress, "the job")],
      ["Message", job.progress_message],
      ["Kept signals", job.kept_signals || null],
      ["Error", trouble(job.error)],
      ["Parent job", parent && link(`jobs/${encodeURIComponent(parent)}`, parent)],
      ["Created", time(job.created_at)],
      ["Updated", time(job.updated_at)],
      ["Ended", time(job.finished_at)],
      ["Cost", money(job.cost)],
      ["Budget", money(job.budget)],
    ]),
    ...(job.status === "finished" ? [el("h2", {}, "Result"), json(job.result, "Result")] : []),
    ...(job.error?.details ? [el("h2", {}, "Error details"), json(job.error.details, "Details")] : []),
  ];
}
