// Elements, made of text only: what jobs carry is never read as markup.

const SVG = "http://www.w3.org/2000/svg";
const shown = new WeakMap();

// An element. A property that is a function listens; any other is an attribute, left out where it is null or false.
export function el(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

export function svg(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

// Show in a place what `make` returns, unless the facts are those that are shown. What has the focus keeps it, what is
// unfolded stays so, and what is scrolled as far as it is: each is known by its `data-key`, which it has alone.
export function render(place, facts, make) {
  const signature = JSON.stringify(facts);
  if (shown.get(place) === signature) return;
  shown.set(place, signature);
  const keyOf = (element) => element.dataset.key;
  const focused = place.contains(document.activeElement) ? keyOf(document.activeElement) : undefined;
  const unfolded = new Set(Array.from(place.querySelectorAll("details[open] > summary[data-key]"), keyOf));
  const scrolled = new Map(Array.from(place.querySelectorAll(":is(.wide, pre)[data-key]"),
    (one) => [keyOf(one), [one.scrollLeft, one.scrollTop]]));
  place.replaceChildren(...make());
  for (const one of place.querySelectorAll("[data-key]")) {
    const key = keyOf(one);
    if (one.matches("summary") && unfolded.has(key)) one.parentElement.open = true;
    if (one.matches(".wide, pre") && scrolled.has(key)) [one.scrollLeft, one.scrollTop] = scrolled.get(key);
    if (key === focused) one.focus({ preventScroll: true });
  }
}

// A table: `columns` are the headings, `rows` lists of what is in the cells; the first cell names its row.
export function table(caption, columns, rows) {
  const cell = (content, at) => (at ? el("td", {}, content) : el("th", { scope: "row" }, content));
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption, "data-key": caption },
    el("table", {},
      el("caption", {}, caption),
      el("thead", {}, el("tr", {}, columns.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell))))));
}

// Names and what they are; those without a value are left out.
export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", {}, known.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

export function link(path, text) {
  return el("a", { href: `#/${path}`, "data-key": path }, text);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined).map(whole));
  return element;
}

function whole(child) {
  return child instanceof Node ? child : document.createTextNode(String(child));
}
