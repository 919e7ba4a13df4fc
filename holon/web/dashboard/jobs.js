// The list of jobs, newest first: by status and blueprint, page by page.

import { get, pages } from "./api.js";
import { el, link, render, table } from "./dom.js";
import { follow } from "./follow.js";
import { OPEN, OVER, progress, status, time, words } from "./format.js";

const SECONDS = 5;
const PAGE = 50;
const COLUMNS = ["Job", "Blueprint", "Status", "State", "Progress", "Created", "Updated"];

export async function jobs(place, { query, signal }) {
  const wanted = { status: query.get("status") ?? "", blueprint: query.get("blueprint") ?? "" };
  // The tokens of the pages up to the one that is shown.
  const tokens = [""];
  const list = el("div");
  const older = el("button", { type: "button", click: () => next && turn(tokens.push(next)) }, "Older");
  const newer = el("button", { type: "button", click: () => tokens.length > 1 && turn(tokens.pop()) }, "Newer");
  let next = "";

  async function look() {
    const asked = { ...wanted, page_size: PAGE, page_token: tokens.at(-1) };
    const page = await get("jobs", asked, signal);
    if (asked.page_token !== tokens.at(-1)) return;
    next = page.next_page_token;
    [older.disabled, newer.disabled] = [!next, tokens.length === 1];
    render(list, page.jobs, () => [page.jobs.length ? shown(page.jobs) : el("p", {}, "No jobs match.")]);
  }

  // A turn that fails is made up for by the next look. What comes next is not known before that.
  const turn = () => {
    next = "";
    look().catch(() => {});
  };
  place.append(el("h1", {}, "Jobs"), filter(wanted, signal), list, el("p", { class: "buttons" }, newer, older));
  await follow(look, SECONDS, signal);
}

function shown(jobs) {
  return table("Jobs, newest first", COLUMNS, jobs.map((job) => [
    el("span", { class: "whole" }, link(`jobs/${encodeURIComponent(job.id)}`, job.id)), job.blueprint_name,
    status(job.status), job.current_state, progress(job.progress, job.id), time(job.created_at), time(job.updated_at),
  ]));
}

function filter(wanted, signal) {
  const option = (value, text) => el("option", { value, selected: value === wanted.status }, text);
  const choice = el("select", { id: "status", name: "status" },
    option("", "any"), option(OPEN.join(), "open"), [...OPEN, ...OVER].map((name) => option(name, words(name))));
  const known = el("datalist", { id: "blueprints" });
  // Names can be typed without it.
  pages("blueprints", "blueprints", { page_size: 1000 }, 1, signal).then(
    ({ items }) => known.append(...items.map((one) => el("option", { value: one.name }))), () => {});
  const name = el("input", { id: "blueprint", name: "blueprint", list: "blueprints", value: wanted.blueprint });
  const submit = (event) => {
    event.preventDefault();
    const chosen = new URLSearchParams(Object.entries({ status: choice.value, blueprint: name.value.trim() })
      .filter(([, value]) => value));
    location.hash = `#/jobs${chosen.size ? `?${chosen}` : ""}`;
  };
  return el("form", { submit, class: "filter", role: "search" },
    el("label", { for: "status" }, "Status"), choice,
    el("label", { for: "blueprint" }, "Blueprint"), name,
    known,
    el("button", {}, "Show"));
}
