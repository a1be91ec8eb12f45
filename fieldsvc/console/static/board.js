// The board: its list in step with map, timeline and the service; regions that can be folded and sized.

import { notice, time, words } from "./console.js";
import { Actions } from "./board-actions.js";
import { Layout } from "./board-layout.js";
import { List } from "./board-list.js";
import { follow } from "./live.js";
import { attachMap } from "./map.js";
import { Store } from "./store.js";
import { attachTimeline } from "./timeline.js";

const say = words("board-words");
const board = document.getElementById("board");
const store = new Store(document.getElementById("found").dataset.query);

const list = new List(store, board);
new Actions(store);
const layout = new Layout(board);
const map = attachMap(document.getElementById("map"), store);
attachTimeline(document.getElementById("timeline"), store);
layout.onChange = () => map.map.invalidateSize();

function line(state) {
  const element = document.getElementById("line");
  if (element.dataset.state === state) return;
  element.dataset.state = state;
  element.querySelector(".text").textContent = say[state];
}

/** When a crew was last heard of: the time, and the day unless it is today's. */
function since(at) {
  if (!at) return say.never;
  const today = new Date(at).toDateString() === new Date().toDateString();
  return time(at, today ? undefined : { dateStyle: "short", timeStyle: "short" });
}

/** Crews that are on duty and have not been heard of: how many, and who, the longest silent first. */
function silent() {
  const menu = document.getElementById("silent");
  if (!menu) return;
  const crews = [...store.crews.values()].filter((crew) => crew.silent);
  crews.sort((a, b) => (a.last_seen_at ?? "").localeCompare(b.last_seen_at ?? ""));
  menu.hidden = crews.length === 0;
  menu.querySelector("summary").textContent = say.silent.replace("{count}", crews.length);
  menu.querySelector("ul").replaceChildren(
    ...crews.slice(0, 50).map((crew) => {
      const link = Object.assign(document.createElement("a"), { href: `/crews/${crew.id}`, textContent: `${crew.code} · ${crew.name}` });
      link.append(Object.assign(document.createElement("span"), { className: "number", textContent: since(crew.last_seen_at) }));
      link.addEventListener("mouseenter", () => store.point({ crew: crew.id }));
      link.addEventListener("focus", () => store.point({ crew: crew.id }));
      const item = document.createElement("li");
      item.append(link);
      return item;
    }),
  );
}

store.addEventListener("load", silent);
store.addEventListener("change", silent);

// Filters: htmx exchanges the list and the address; everything else follows.
const form = document.getElementById("filters");
document.addEventListener("htmx:configRequest", ({ detail }) => {
  if (detail.elt !== form) return;
  for (const [name, value] of [...detail.formData.entries()]) if (value === "") detail.formData.delete(name);
});
// Map and timeline need not wait for the list: what they will ask for is asked with it.
document.addEventListener("htmx:beforeSend", ({ detail }) => {
  const { pathname, searchParams } = new URL(detail.pathInfo.finalRequestPath, location.href);
  const other = detail.target.id === "found" && pathname === "/" && searchParams.toString() !== store.filters.toString();
  if (other) store.ahead(searchParams.toString());
});
function inStep() {
  const found = document.getElementById("found");
  const query = new URLSearchParams(found.dataset.query);
  for (const field of form.elements) {
    if (field.type === "checkbox") field.checked = query.getAll(field.name).includes(field.value);
    else if (field.multiple) for (const option of field.options) option.selected = query.getAll(field.name).includes(option.value);
    else if (field.name && field !== document.activeElement) field.value = query.get(field.name) ?? "";
  }
  document.getElementById("filter-count").textContent = found.dataset.filters;
  for (const view of document.querySelectorAll(".views form, .views .act")) view.action = `${view.action.split("?")[0]}?${query}`;
  if (store.filters.toString() !== query.toString()) {
    store.filters = query;
    list.expected = true;
    store.load().catch((error) => error.problem && notice(error.message, true));
  }
}
document.addEventListener("htmx:afterSettle", ({ detail }) => {
  if (detail.target.id !== "found" && detail.elt.id !== "found") return;
  list.renew();
  inStep();
  silent();
});
document.addEventListener("timeline:day", (event) => {
  event.preventDefault();
  const field = form.elements.day;
  field.value = event.detail;
  field.dispatchEvent(new Event("change", { bubbles: true }));
});

/** Without an answer it is asked again, until there is one. The page has asked for the first one itself. */
store.ahead(store.filters.toString(), document.getElementById("first-data").href);
async function start() {
  try {
    await store.load();
    follow(store, line);
  } catch (error) {
    line("cut");
    if (error.problem) notice(error.message, true);
    setTimeout(start, 5_000);
  }
}
start();
