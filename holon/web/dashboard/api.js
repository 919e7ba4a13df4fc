// The node's public HTTP API, with the token of whoever uses the page. The token is in this tab's session alone: it is
// in no address, and goes when the tab is closed.

import { parse } from "./exact.js";

const TOKEN = "holon.token";
const ROOT = new URL("../../", import.meta.url);
// Longer than the node takes for anything that is asked here; a browser by itself may wait for ever.
const PATIENCE_SECONDS = 20;

// What the node refused, or that there was no answer (status 0).
export class Refused extends Error {
  constructor(status, message, details = [], after = 0) {
    super(message);
    this.status = status;
    this.details = details;
    this.after = after;
  }

  // Whether the same call may go well a little later.
  get passes() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  keep: (text) => sessionStorage.setItem(TOKEN, text),
  drop: () => sessionStorage.removeItem(TOKEN),
};

// What the node answers to a GET of a path below /api/v1/, whose variables are encoded.
export function get(path, query = {}, signal = undefined) {
  const url = new URL(`api/v1/${path}`, ROOT);
  for (const [name, value] of Object.entries(query)) {
    if (value !== "" && value !== undefined) url.searchParams.set(name, value);
  }
  return call(url, { signal });
}

// Has the node do something, once for each key.
export function post(path, body, key) {
  return call(new URL(path, ROOT), { method: "POST", body, headers: { "Idempotency-Key": key } });
}

// The items of the first pages of a list, and whether there are more.
export async function pages(path, field, query, count, signal) {
  const items = [];
  let token = "";
  for (let page = 0; page < count; page += 1) {
    const answer = await get(path, { ...query, page_token: token }, signal);
    items.push(...answer[field]);
    token = answer.next_page_token;
    if (!token) break;
  }
  return { items, more: Boolean(token) };
}

export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word.toString(16)).join("-");
}

async function call(url, { headers = {}, signal, ...options }) {
  const ending = new AbortController();
  const end = () => ending.abort();
  const timer = setTimeout(end, PATIENCE_SECONDS * 1000);
  signal?.addEventListener("abort", end);
  if (signal?.aborted) end();
  const request = {
    ...options,
    headers: { ...headers, "X-Client-Token": token.get() ?? "" },
    credentials: "omit",
    cache: "no-store",
    redirect: "error",
    signal: ending.signal,
  };
  let reply, text;
  try {
    reply = await fetch(url, request);
    text = await reply.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, "The node does not answer.");
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", end);
  }
  if (reply.ok) return reply.headers.get("Content-Type").startsWith("application/json") ? parse(text) : text;
  let told = {};
  try {
    told = parse(text);
  } catch {
    // It is not of the node, but of something on the way.
  }
  const message = told.error ?? `The answer was ${reply.status} ${reply.statusText}`;
  throw new Refused(reply.status, message, told.details, Number(reply.headers.get("Retry-After")) || 0);
}
