// The place of a form for what a job asks or waits for, and what becomes of what was filled in when that is another.

import { el, render } from "./dom.js";

// `gone` is what is said then.
export function askedOf(gone) {
  const [line, form] = [el("p", { role: "status" }), el("div")];
  const place = el("div", { tabindex: "-1" }, line, form);
  return {
    place,
    // Show what `make` returns where the facts are others. Returns whether that was done: what is being sent stays until
    // there is an answer, which is told in it.
    show(facts, make) {
      const before = form.firstElementChild;
      if (before?.getAttribute("aria-busy") === "true") return false;
      const [focused, filled] = [form.contains(document.activeElement), before !== null && isFilled(before)];
      render(form, facts, make);
      if (form.firstElementChild === before) return true;
      line.textContent = filled ? `${gone} Your entries were not sent.` : "";
      if (focused) place.focus({ preventScroll: true });
      return true;
    },
  };
}

function isFilled(form) {
  const typed = (one) => one.matches("textarea, input:not([type=radio])") && one.value !== "";
  return Array.from(form.elements).some((one) => one.matches(":checked") || typed(one));
}
