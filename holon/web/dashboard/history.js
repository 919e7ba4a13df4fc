// What happened to a job, as a timeline: the oldest event first, new ones below.

import { get } from "./api.js";
import { el } from "./dom.js";
import { further } from "./follow.js";
import { folded, lasting, time, trouble, words } from "./format.js";

const PAGE = 200;
// By status, what a task_finished is called for people.
const ENDS = { failure: "task failed", cancelled: "task cancelled" };

// A place for the history, and `look`, which adds what has come since.
export function historyOf(path, signal) {
  const list = el("ol", { class: "timeline" });
  const more = el("button", { type: "button", hidden: true, click: () => further(() => look(true), signal) }, "More");
  const place = el("section", { "aria-labelledby": "history" }, el("h2", { id: "history" }, "History"), list, more);
  // Events come in order: those of the last page that is shown are asked for again, and what is new of them is added.
  let [token, next, last] = ["", "", 0];

  async function look(further = false) {
    const from = further && next ? next : token;
    const page = await get(`${path}/history`, { page_size: PAGE, page_token: from }, signal);
    const added = page.events.filter((event) => event.sequence > last);
    last = added.at(-1)?.sequence ?? last;
    [token, next] = [from, page.next_page_token];
    list.append(...added.map(shown));
    more.hidden = !next;
  }

  return { place, look: () => look() };
}

function shown(event) {
  const { status, code, error, reason } = event.context_snapshot ?? {};
  const kind = (event.event_type === "task_finished" && ENDS[status]) || words(event.event_type);
  const moved = event.previous_state && event.next_state ? `${event.previous_state} → ${event.next_state}` : null;
  const said = [
    moved ?? event.state,
    event.worker_id && `worker ${event.worker_id}`,
    event.task_id && `task ${event.task_id}`,
    event.attempt_number && `attempt ${event.attempt_number}`,
    reason && words(reason),
    event.duration_ms !== null && (event.duration_ms < 1000 ? `${event.duration_ms} ms` : lasting(event.duration_ms / 1000)),
  ];
  return el("li", {},
    time(event.timestamp), " ", el("strong", {}, kind), " ", code ? trouble({ code, message: error }) : null,
    el("p", {}, said.filter(Boolean).join(", ")),
    folded(event.context_snapshot, "Details"));
}
