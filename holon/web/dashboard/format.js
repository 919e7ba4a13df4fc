// How values read: times, statuses, progress, money, JSON.

import { el } from "./dom.js";
import { written } from "./exact.js";

export const OPEN = [
  "pending", "running", "waiting_for_worker", "waiting_for_parallel", "waiting_for_human", "waiting_for_signal",
  "waiting_for_timer", "waiting_for_child", "waiting_for_retry",
];
export const OVER = ["finished", "failed", "cancelled", "quarantined"];

export function words(name) {
  return name.replaceAll("_", " ");
}

// A time of the API, in the zone of whoever looks; nothing where there is none.
export function time(seconds) {
  if (seconds === null || seconds === undefined) return null;
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) return String(seconds);
  return el("time", { datetime: date.toISOString() }, date.toLocaleString());
}

export function status(name) {
  return el("span", { class: "status", "data-status": name }, words(name));
}

// Nothing where it is not known.
export function progress(percent, of) {
  if (percent === null) return null;
  return el("span", { class: "progress" },
    el("progress", { max: "100", value: percent, "aria-label": `Progress of ${of}` }), ` ${Math.round(percent)} %`);
}

// An amount that is counted in millionths.
export function money(millionths) {
  return millionths === null || millionths === undefined ? null : String(Number(millionths) / 1e6);
}

export function bytes(count) {
  return `${(Number(count) / 1e9).toFixed(1)} GB`;
}

export function lasting(seconds) {
  const whole = Math.floor(seconds);
  const parts = [[Math.floor(whole / 86400), "d"], [Math.floor(whole / 3600) % 24, "h"], [Math.floor(whole / 60) % 60, "min"]];
  const said = parts.filter(([count]) => count).map(([count, unit]) => `${count} ${unit}`);
  return [...said, `${whole % 60} s`].join(" ");
}

export function json(value, label, key = label) {
  return el("pre", { tabindex: "0", role: "region", "aria-label": label, "data-key": key }, written(value, 2));
}

// JSON that is shown when it is asked for; nothing where there is none. The key is its own, where it is shown anew, and
// `full` what it is called where nothing is around it.
export function folded(value, label, key = null, full = label) {
  if (value === null || value === undefined) return null;
  return el("details", {}, el("summary", { "data-key": key }, label), json(value, full, key && `${key}: unfolded`));
}

export function trouble(error) {
  if (!error) return null;
  return el("span", { class: "trouble" }, `${error.code}: ${error.message}`);
}
