// The page's frame: who uses it, and which view is shown. Views are named by what follows # in the address.

import { get, Refused, token } from "./api.js";
import { blueprint, blueprints } from "./blueprints.js";
import { el } from "./dom.js";
import { catalog, figures, workers } from "./fleet.js";
import { tell } from "./follow.js";
import { job } from "./job.js";
import { jobs } from "./jobs.js";

const main = document.getElementById("main");
const nav = document.querySelector("nav");
const ONE = { jobs: job, blueprints: blueprint };
const ALL = { jobs, blueprints, workers, catalog, node: figures };
const WHERE = "A client token is HOLON_TOKEN in .holon/dev.toml (holon serve --dev), the setting CLIENT_TOKEN of the node, or "
  + "the token of a client in its clients.toml.";
let leaving = new AbortController();

async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  tell("");
  nav.hidden = token.get() === null;
  if (nav.hidden) return signIn();
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  const views = rest.length ? ONE : ALL;
  if (!Object.hasOwn(views, name)) return void location.replace("#/jobs");
  for (const link of nav.querySelectorAll("a")) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `Holon: ${name}`;
  const place = el("div");
  main.replaceChildren(place);
  try {
    await views[name](place, { id: decoded(rest.join("/")), query: new URLSearchParams(query), signal });
  } catch (error) {
    if (!signal.aborted) fail(error, place);
  }
}

function fail(error, place) {
  if (error instanceof Refused && error.status === 401) {
    token.drop();
    show();
    tell(`The node no longer accepts this token: ${error.message}. ${WHERE}`);
    return;
  }
  if (!(error instanceof Refused)) console.error(error);
  const heading = error.status === 403 ? "This token has no permission for this page" : "This page cannot be shown";
  place.replaceChildren(el("h1", {}, heading), el("p", { role: "alert" }, error.message));
}

function signIn() {
  document.title = "Holon: sign in";
  const input = el("input", {
    id: "token", type: "password", required: true, autocomplete: "current-password", "aria-describedby": "about-token",
  });
  const enter = async (event) => {
    event.preventDefault();
    token.keep(input.value.trim());
    try {
      await get("jobs", { page_size: 1, fields: "id" });
    } catch (error) {
      token.drop();
      if (!error.status) return tell(`${error.message} A token consists of printable ASCII characters.`);
      return tell(error.status === 401 ? `${error.message}. ${WHERE}` : error.message);
    }
    show();
  };
  main.replaceChildren(
    el("h1", {}, "Sign in"),
    el("form", { submit: enter },
      // What keeps passwords tells those of several nodes apart by it.
      el("input", { autocomplete: "username", value: location.host, hidden: true }),
      el("label", { for: "token" }, "Client token"), input,
      el("p", { id: "about-token" },
        `${WHERE} This tab keeps the token until you sign out or close the tab. You have this token's permissions.`),
      el("button", {}, "Sign in")));
  input.focus();
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.getElementById("leave").addEventListener("click", () => {
  token.drop();
  show();
});
addEventListener("hashchange", async () => {
  main.focus({ preventScroll: true });
  await show();
});
show();
