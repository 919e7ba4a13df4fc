// Telling a job what has happened outside.

import { attempt, objectOf } from "./acting.js";
import { newKey, post } from "./api.js";
import { el, facts } from "./dom.js";
import { written } from "./exact.js";
import { time } from "./format.js";

// A form for what the job waits for. It stays as it is filled in until the job waits for something else.
export function signalOf(job, done) {
  const { names, expires_at } = job.signal;
  const [said, told] = [el("p", { role: "alert" }), el("p", { role: "status" })];
  const choice = (value) => el("input", { type: "radio", name: "signal", value, required: true });
  const other = choice("");
  const typed = el("input", {
    id: "signal", maxlength: "128", "aria-label": "Name of the signal", input: () => { other.checked = true; },
  });
  const data = el("textarea", { id: "data", name: "data", rows: "3", spellcheck: "false" });
  // The same that gets no answer is sent again under the same key; once it is taken, it is another.
  let [last, key] = ["", ""];
  const send = async (event) => {
    event.preventDefault();
    told.textContent = "";
    const name = other.checked ? typed.value : form.querySelector("input[name=signal]:checked").value;
    const sent = () => {
      last = "";
      form.reset();
      told.textContent = `Sent: ${name}`;
      return done();
    };
    await attempt(form, said, sent, () => {
      const body = written({ name, data: objectOf(data.value) });
      if (body !== last) [last, key] = [body, newKey()];
      return post(`api/v1/jobs/${encodeURIComponent(job.id)}/signals`, body, key);
    });
  };
  const form = el("form", { submit: send, class: "question" },
    el("h2", {}, "Signal needed"),
    facts([["Expires", time(expires_at)]]),
    el("fieldset", {}, el("legend", {}, "Signal"),
      names.map((name) => el("label", {}, choice(name), " ", name)),
      el("span", {}, el("label", {}, other, " another; the job keeps it until it waits for it "), typed)),
    el("label", { for: "data" }, "Data for the job's state: a JSON object (optional)"), data,
    el("button", {}, "Send"), said, told);
  return form;
}
