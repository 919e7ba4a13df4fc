// Looking again and again, as long as somebody looks: a tab that is hidden asks for nothing.

import { Refused } from "./api.js";

export const ENOUGH = Symbol("there is nothing more to see");
const notice = document.getElementById("notice");

// Tell the user something, until something else is told; "" tells nothing.
export function tell(text) {
  if (notice.textContent !== text) notice.textContent = text;
}

// Go round until the signal, or until a round returns ENOUGH; one may return for how many seconds to pause after it. What
// passes by itself is told and tried again; any other refusal is thrown.
export async function follow(round, seconds, signal) {
  while (!signal.aborted) {
    let pause = seconds;
    try {
      await visible(signal);
      const came = await round();
      tell("");
      if (came === ENOUGH) return;
      pause = came ?? seconds;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Refused && error.passes)) throw error;
      pause = Math.max(seconds, error.after, 2);
      tell(`${error.message} Trying again.`);
    }
    await sleep(pause, signal);
  }
}

// Look until it was seen once: at what does not change while the node runs.
export function see(look, seconds, signal) {
  return follow(async () => {
    await look();
    return ENOUGH;
  }, seconds, signal);
}

// Look because somebody asks for more, who is told what is the matter: perhaps nobody looks again by himself.
export async function further(look, signal) {
  try {
    await look();
    if (!signal.aborted) tell("");
  } catch (error) {
    if (!signal.aborted) tell(error.message);
  }
}

function sleep(seconds, signal) {
  return new Promise((done) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      done();
    };
    const timer = setTimeout(end, seconds * 1000);
    signal.addEventListener("abort", end);
  });
}

function visible(signal) {
  if (!document.hidden) return undefined;
  return new Promise((done) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      signal.removeEventListener("abort", look);
      done();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look);
  });
}
