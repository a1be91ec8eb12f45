// Intake by keyboard: find who calls, pick the trouble, send; what is known of it is asked for on the way.

import { draftKey, words } from "./console.js";

const say = words("intake-words");
const form = document.getElementById("intake");
const who = form.elements.who;
const list = document.getElementById("found");
const known = document.getElementById("known");
const news = document.getElementById("found-news");
let asked = 0; // searches that are under way or about to be
let takeFirst = false; // Enter came before the answer

const options = () => [...list.querySelectorAll("[role=option]")];
const active = () => list.querySelector("[aria-selected=true]");
const chosen = () => Boolean(form.elements.customer_id.value || form.elements.usage_point_id.value);
const trouble = () => form.querySelector("[name=trouble_code]:checked") ?? form.querySelector("[name=trouble_code]");

/** Ask what is known of the call as it stands, soon. */
let soon;
function look(after = 60) {
  clearTimeout(soon);
  soon = setTimeout(() => known.dispatchEvent(new Event("known")), after);
}

/** Keep what is typed, whatever ends the page: console.js puts it back, and forgets it once a ticket is made of it. */
function keep() {
  const fields = [...new FormData(form)].filter(([name]) => name !== "csrf_token");
  sessionStorage.setItem(draftKey("intake"), JSON.stringify(fields));
}
form.addEventListener("input", keep);
form.addEventListener("change", keep);
form.addEventListener("reset", () => {
  sessionStorage.removeItem(draftKey("intake"));
  for (const name of ["customer_id", "usage_point_id"]) form.elements[name].value = "";
  setTimeout(() => {
    who.focus();
    look(0);
  });
});

function show(open) {
  list.hidden = !open;
  who.setAttribute("aria-expanded", String(open));
  if (!open) who.removeAttribute("aria-activedescendant");
}

function activate(option) {
  for (const one of options()) one.setAttribute("aria-selected", String(one === option));
  if (!option) return who.removeAttribute("aria-activedescendant");
  who.setAttribute("aria-activedescendant", option.id);
  option.scrollIntoView({ block: "nearest" });
}

/** Take an option: its customer or usage point is who calls; on to the trouble. */
function take(option) {
  form.elements.customer_id.value = option.dataset.customer;
  form.elements.usage_point_id.value = option.dataset.point;
  who.value = option.dataset.label;
  who.removeAttribute("aria-invalid");
  show(false);
  keep();
  look(0);
  trouble().focus();
}

who.addEventListener("input", () => {
  form.elements.customer_id.value = "";
  form.elements.usage_point_id.value = "";
  for (const one of faults()) one.checked = one.value === "";
  takeFirst = false;
  asked += 1;
  if (!who.value.trim()) show(false);
  look(400);
});
list.addEventListener("htmx:afterSwap", () => {
  asked = 0;
  if (chosen() || !who.value.trim()) return show(false);
  const found = options();
  show(found.length > 0 && document.activeElement === who);
  activate(found[0]);
  news.textContent = found.length ? say.found.replace("{count}", found.length) : say.none;
  if (takeFirst && found.length && (found.length === 1 || found[0].dataset.exact)) take(found[0]);
  takeFirst = false;
});
// Without an answer the text goes as it is: the service looks once more when the form is sent.
who.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful) return;
  asked = 0;
  if (takeFirst) trouble().focus();
  takeFirst = false;
});
who.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  const found = options();
  const place = found.indexOf(active());
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    if (!found.length || chosen()) return;
    event.preventDefault();
    const step = event.key === "ArrowDown" ? 1 : -1;
    if (list.hidden) show(true);
    else activate(found[(place + step + found.length) % found.length]);
  } else if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    if (!chosen() && who.value.trim() && asked) takeFirst = true;
    else if (!chosen() && !list.hidden && active()) take(active());
    else if (chosen() || !who.value.trim()) trouble().focus();
    else if (found.length) show(true);
  } else if (event.key === "Escape" && !list.hidden) {
    event.stopPropagation();
    show(false);
  }
});
who.addEventListener("blur", () => setTimeout(() => show(false), 150));
list.addEventListener("mousedown", (event) => event.preventDefault());
list.addEventListener("click", (event) => {
  const option = event.target.closest("[role=option]");
  if (option) take(option);
});

// The rest of the form.
form.addEventListener("change", (event) => {
  if (["who", "description", "caller_name", "reporting_kind"].includes(event.target.name)) return;
  if (event.target.name === "trouble_code") event.target.focus();
  look();
});
for (const name of ["address", "lon", "lat"]) form.elements[name].addEventListener("input", () => look(400));
form.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing) return;
  const pick = event.target.matches("input[type=radio], input[type=checkbox]");
  if (pick || event.ctrlKey || event.metaKey) {
    event.preventDefault();
    form.requestSubmit();
  }
});
form.addEventListener("submit", () => show(false));
known.addEventListener("change", (event) => event.target.name === "fault" && event.target.focus());
known.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.name === "fault") {
    event.preventDefault();
    form.requestSubmit();
  }
});
known.addEventListener("click", (event) => {
  const point = event.target.closest("[data-point]");
  if (!point) return;
  form.elements.usage_point_id.value = point.getAttribute("aria-pressed") === "true" ? "" : point.dataset.point;
  look(0);
});
// The choice of a fault stays when the piece around it is replaced, also by an answer from before the choice; so does
// the focus.
const faults = () => [...known.querySelectorAll("[name=fault]")];
let held = null;
let picked = "";
known.addEventListener("htmx:beforeSwap", () => {
  held = known.contains(document.activeElement) ? document.activeElement.value : null;
  picked = faults().find((one) => one.checked)?.value ?? "";
});
known.addEventListener("htmx:afterSwap", () => {
  news.textContent = known.querySelector("[data-news]").textContent;
  const kept = faults().find((one) => one.value === picked);
  if (kept) kept.checked = true;
  if (held !== null) faults().find((one) => one.value === held)?.focus();
});

// A place on the map. It is made when it is first wanted.
const opener = document.getElementById("on-map");
const box = document.getElementById("intake-map");
let view = null;
opener.addEventListener("click", async () => {
  box.hidden = !box.hidden;
  opener.setAttribute("aria-expanded", String(!box.hidden));
  if (box.hidden || view) return;
  try {
    const { createMap } = await import("./map.js");
    view = createMap(box, { remember: "intake" });
    const { lon, lat } = form.elements;
    const place = lon.value && lat.value ? { lon: Number(lon.value), lat: Number(lat.value) } : undefined;
    const caller = known.querySelector("[data-lon]")?.dataset;
    if (place || caller) view.setView(place ?? { lon: Number(caller.lon), lat: Number(caller.lat) });
    view.pick((picked) => {
      lon.value = picked.lon;
      lat.value = picked.lat;
      keep();
      look(0);
    }, place);
  } catch (error) {
    console.warn(error);
    box.textContent = say.noMap;
  }
});

// A draft that console.js has put back: with the key it was sent with, its checks, and what is known of it.
const draft = sessionStorage.getItem(draftKey("intake"));
if (draft && !form.querySelector(".fault") && !document.querySelector("[data-draft-taken]")) {
  const kept = JSON.parse(draft);
  for (const [name, value] of kept) {
    if (name === "key") form.elements.key.value = value;
    if (name === "hazards") form.querySelector(`[name=hazards][value="${CSS.escape(value)}"]`)?.click();
    if (["address", "lon", "lat"].includes(name) && value) form.querySelector("details.elsewhere").open = true;
  }
  if (chosen()) trouble().focus();
}
if (chosen() || form.elements.lon.value) look(0);

// Whoever types at once, before this file is there, has asked for nothing yet. htmx is ready by then: it comes first.
document.addEventListener("DOMContentLoaded", () => {
  if (chosen() || !who.value.trim()) return;
  asked += 1;
  window.htmx.trigger(who, "early");
});
