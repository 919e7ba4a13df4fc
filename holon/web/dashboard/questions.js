// What a person does with a job: deciding what it asks, and ending it.

import { attempt, objectOf } from "./acting.js";
import { newKey, post } from "./api.js";
import { el, facts } from "./dom.js";
import { written } from "./exact.js";
import { time } from "./format.js";

// A form for what the job asks. It stays as it is filled in until the job asks something else.
export function questionOf(job, done) {
  const { approval_id: id, message, integration, decisions, requested_at, expires_at } = job.approval;
  const key = newKey();
  const [said, told] = [el("p", { role: "alert" }), el("p", { role: "status" })];
  const comment = el("input", { id: "comment", name: "comment", maxlength: "4096" });
  const data = el("textarea", { id: "data", name: "data", rows: "3", spellcheck: "false" });
  const decide = async (event) => {
    event.preventDefault();
    const chosen = form.querySelector("input[name=decision]:checked").value;
    // The job goes on by it once it is its turn: until then it still asks.
    const sent = () => {
      form.reset();
      told.textContent = `Decided: ${chosen}`;
      return done();
    };
    await attempt(form, said, sent, () => post(
      `_public/webhooks/approval/${encodeURIComponent(job.id)}`,
      written({ decision: chosen, approval_id: id, comment: comment.value || undefined, data: objectOf(data.value) }),
      key));
  };
  const form = el("form", { submit: decide, class: "question" },
    el("h2", {}, "Decision needed"),
    el("p", { class: "asked" }, message),
    facts([["Integration", integration], ["Requested", time(requested_at)], ["Expires", time(expires_at)]]),
    el("fieldset", {}, el("legend", {}, "Decision"), decisions.map((name) => el("label", {},
      el("input", { type: "radio", name: "decision", value: name, required: true }), " ", name))),
    el("label", { for: "comment" }, "Comment for the history (optional)"), comment,
    el("label", { for: "data" }, "Data for the job's state: a JSON object (optional)"), data,
    el("button", {}, "Decide"), said, told);
  return form;
}

// A button that asks once more before it asks the job to end.
export function cancelButton(job, done) {
  let key = newKey();
  const [said, told] = [el("p", { role: "alert" }), el("span", { role: "status" })];
  const close = () => dialog.close();
  const cancel = () => attempt(dialog, said, () => {
    close();
    // It may clean up first, or be at work.
    told.textContent = " The cancel was requested.";
    // Another cancel is one of its own: it ends the clean-up that this one began.
    key = newKey();
    return done();
  }, () => post(`api/v1/jobs/${encodeURIComponent(job.id)}/cancel`, undefined, key));
  const dialog = el("dialog", { "aria-labelledby": "cancel-title" },
    el("h2", { id: "cancel-title" }, "Cancel this job?"),
    el("p", {}, `The node cancels ${job.blueprint_name} ${job.id}, its tasks and its child jobs.`),
    said,
    el("p", { class: "buttons" },
      el("button", { type: "button", click: close }, "Keep it running"),
      el("button", { type: "button", class: "grave", click: cancel }, "Cancel the job")));
  const open = el("button", { type: "button", class: "grave", click: () => dialog.showModal() }, "Cancel…");
  return el("span", {}, open, told, dialog);
}
