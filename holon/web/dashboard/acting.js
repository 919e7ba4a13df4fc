// What all that a person does with a job has in common: it is done once, and says what was the matter.

import { parse } from "./exact.js";

// Do it once, with its buttons at rest meanwhile and the form marked as busy; say what was the matter, in place.
export async function attempt(form, said, done, act) {
  const buttons = form.querySelectorAll("button");
  const focused = document.activeElement;
  const rest = (busy) => {
    form.setAttribute("aria-busy", busy);
    for (const button of buttons) button.disabled = busy;
    // A button that is at rest loses the focus.
    if (!busy && form.contains(focused) && document.activeElement === document.body) focused.focus();
  };
  rest(true);
  said.textContent = "";
  try {
    await act();
  } catch (error) {
    // The message has them already where it is about one field.
    const fields = (error.details ?? []).map((one) => `${one.field} ${one.reason}`);
    said.textContent = [error.message, ...fields.filter((one) => !error.message.includes(one))].join(" ");
    return;
  } finally {
    rest(false);
  }
  await done();
}

// What was typed as JSON; nothing where nothing was.
export function objectOf(text) {
  if (!text.trim()) return undefined;
  try {
    return parse(text);
  } catch (error) {
    throw new Error(`The data is not valid JSON: ${error.message}`);
  }
}
