// What a job carries: what it was created with, and what it has gathered since. Both may be large, so each is asked for
// when it is unfolded.

import { get } from "./api.js";
import { el, render } from "./dom.js";
import { json } from "./format.js";

// A place for both, and `look`, which shows what it has gathered as it is now, where that is unfolded.
export function carriedOf(path, signal) {
  const given = unfolding(path, "initial_data", "Initial data", signal);
  const gathered = unfolding(path, "state_history", "State history", signal);
  const title = el("h2", { id: "carried" }, "Data");
  const place = el("section", { "aria-labelledby": "carried" }, title, given.place, gathered.place);
  return { place, look: gathered.look };
}

function unfolding(path, field, label, signal) {
  const shown = el("div");
  const place = el("details", { toggle: () => look().catch(refused) }, el("summary", {}, label), shown);

  async function look() {
    if (!place.open) return;
    const value = (await get(path, { fields: field }, signal))[field];
    render(shown, value, () => [value === null ? el("p", {}, "The node no longer keeps it.") : json(value, label)]);
  }

  // What passes by itself is told here too: nobody looks again by himself, once the job is over.
  function refused(error) {
    if (!signal.aborted) render(shown, error.message, () => [el("p", { role: "alert" }, error.message)]);
  }

  return { place, look };
}
