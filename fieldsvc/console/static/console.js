// What every page does: notices, countdowns, keyboard shortcuts, drafts of forms, and what htmx needs to be told.

const root = document.documentElement;
export const language = root.lang;
export const zone = root.dataset.zone;

/** The texts a template has left for scripts under an id. */
export function words(id) {
  return JSON.parse(document.getElementById(id)?.textContent ?? "{}");
}
const say = words("words");

/** Text as `Intl` writes a time in the visitor's zone; `options` as of Intl.DateTimeFormat. */
export function time(value, options = CLOCK) {
  const key = JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(language, { timeZone: zone, ...options }));
  return formats.get(key).format(new Date(value));
}
const CLOCK = { hour: "2-digit", minute: "2-digit", hour12: false };
const formats = new Map(); // to make one takes longer than to use it a thousand times

/**
 * Show a line at the edge of the window; `bad` for what went wrong. It goes after a while, unless pointed at. What is
 * there already is not said again: a piece of a page that asks every two seconds would pile it up.
 */
export function notice(text, bad = false) {
  if ([...document.getElementById("notices").children].some((line) => line.textContent === text)) return;
  const line = document.createElement("p");
  line.className = bad ? "notice bad" : "notice";
  line.textContent = text;
  if (bad) line.setAttribute("role", "alert");
  document.getElementById("notices").append(line);
  leave(line, bad ? 12000 : 6000);
}
function leave(line, after) {
  setTimeout(() => (line.matches(":hover") ? leave(line, 3000) : line.remove()), after);
}
document.querySelectorAll("#notices .notice").forEach((line) => leave(line, 6000));

/** The headers a request that changes something has to carry. */
export const token = () => ({ "X-CSRFToken": document.querySelector("meta[name=csrf-token]").content });

/** Ask for JSON. Throws an Error with the problem document as `problem`, and tells of a service that is away. */
export async function ask(url, options = {}) {
  let answer;
  try {
    answer = await fetch(url, {
      ...options,
      headers: { Accept: "application/json", ...(options.method && options.method !== "GET" ? token() : {}), ...options.headers },
    });
  } catch (error) {
    if (error.name !== "AbortError") notice(say.away, true);
    throw error;
  }
  if (answer.status === 401) {
    location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
    throw new Error("signed out");
  }
  const body = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (!answer.ok) throw Object.assign(new Error(body?.detail ?? say.failed), { problem: body, status: answer.status });
  return body;
}

/** Post fields as a form does and get JSON. */
export const post = (url, fields) => ask(url, { method: "POST", body: new URLSearchParams(fields) });

// The visitor's zone, so that the service can write times in it.
const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (here && !document.cookie.includes(`zone=${here}`)) {
  document.cookie = `zone=${here}; path=/; max-age=31536000; samesite=lax; secure`;
}

// Countdowns of promises.
function left(seconds) {
  const size = Math.abs(seconds);
  if (size < 90) return `${Math.round(size)} ${say.s}`;
  if (size < 5400) return `${Math.round(size / 60)} ${say.min}`;
  if (size < 129600) return `${(size / 3600).toFixed(1)} ${say.h}`;
  return `${Math.round(size / 86400)} ${say.d}`;
}
export function count(scope = document) {
  const now = Date.now();
  for (const element of scope.querySelectorAll(".countdown[data-due]")) {
    const seconds = (Date.parse(element.dataset.due) - now) / 1000;
    const text = seconds < 0 ? `${left(seconds)} ${say.over}` : left(seconds);
    if (element.textContent !== text) element.textContent = text;
    element.title = time(element.dataset.due, { dateStyle: "short", timeStyle: "short" });
    element.classList.toggle("over", seconds < 0);
    element.classList.toggle("soon", seconds >= 0 && seconds < Number(element.dataset.warn ?? 3600));
  }
}
count();
setInterval(count, 1000);

// Keyboard: whatever has data-key is done when its key, or its keys one after the other, are pressed.
const keysOn = () => localStorage.getItem("keys") !== "off";
let before = "";
let beforeAt = 0;
function wanted(keys) {
  return [...document.querySelectorAll("[data-key]")].find(
    (element) => element.dataset.key.split("|").includes(keys) && !element.disabled && !element.closest("[hidden]"),
  );
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const typing = event.target.closest("input:not([type=checkbox], [type=radio], [type=button]), textarea, select, [contenteditable]");
  if (typing || (document.querySelector("dialog[open]") && event.key !== "Escape")) {
    if (typing && event.key === "Escape") event.target.blur();
    return;
  }
  if (!keysOn() || event.key.length > 1) return;
  const both = performance.now() - beforeAt < 1500 ? `${before} ${event.key}` : "";
  const found = (both && wanted(both)) || wanted(event.key);
  before = event.key;
  beforeAt = performance.now();
  if (!found) return;
  event.preventDefault();
  before = "";
  if (found.matches("input:not([type=checkbox], [type=radio]), textarea, select, [data-key-focus]")) found.focus();
  else found.click();
});
/** What stands on a control, without the key that stands there too. */
function spoken(control) {
  const words = control.cloneNode(true);
  for (const key of words.querySelectorAll("kbd")) key.remove();
  return words.textContent.trim();
}
function showKeys() {
  const dialog = document.getElementById("keys");
  const list = dialog.querySelector("dl");
  list.replaceChildren();
  const told = new Set();
  for (const element of document.querySelectorAll("[data-key]")) {
    const key = element.dataset.key.split("|")[0];
    if (told.has(key)) continue;
    told.add(key);
    const term = document.createElement("dt");
    for (const one of key.split(" ")) term.append(Object.assign(document.createElement("kbd"), { textContent: one }), " ");
    const text = element.dataset.label ?? element.getAttribute("aria-label") ?? spoken(element);
    list.append(term, Object.assign(document.createElement("dd"), { textContent: text }));
  }
  const box = dialog.querySelector("#keys-on");
  box.checked = keysOn();
  box.onchange = () => localStorage.setItem("keys", box.checked ? "on" : "off");
  dialog.showModal();
}
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-do=keys]")) showKeys();
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

/** Where the draft of a form is kept in this tab: an account finds its own alone. */
export const draftKey = (name) => `draft:${root.dataset.account ?? ""}:${name}`;

// Forms: ask before what cannot be undone; send once; keep a draft until the service has taken it, so that a session
// that has ended in between costs nobody what was typed.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.confirm && !window.confirm(form.dataset.confirm)) {
    event.preventDefault();
    return;
  }
  if ("forget" in form.dataset) sessionStorage.clear(); // who comes next is not to read what this one typed of callers
  if (form.dataset.draft) sessionStorage.setItem(draftKey(form.dataset.draft), JSON.stringify([...new FormData(form)].filter(([name, value]) => name !== "csrf_token" && typeof value === "string")));
  if (form.method === "post" && !form.matches("[hx-post], [data-again]")) {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  }
});
window.addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent));
export function forgetDraft(name) {
  sessionStorage.removeItem(draftKey(name));
}
for (const element of document.querySelectorAll("[data-draft-taken]")) forgetDraft(element.dataset.draftTaken);
for (const form of document.querySelectorAll("form[data-draft]")) {
  const kept = sessionStorage.getItem(draftKey(form.dataset.draft));
  if (kept && !form.querySelector(".fault")) {
    for (const [name, value] of JSON.parse(kept)) {
      const field = form.elements[name];
      if (field && "value" in field && !field.value) field.value = value;
    }
  }
}

// htmx.
document.addEventListener("htmx:configRequest", (event) => Object.assign(event.detail.headers, token()));
document.addEventListener("htmx:afterSwap", (event) => count(event.detail.target));
document.addEventListener("htmx:sendError", () => notice(say.away, true));
document.addEventListener("htmx:responseError", (event) => {
  const text = new DOMParser().parseFromString(event.detail.xhr.responseText, "text/html").body.textContent.trim();
  notice(text.slice(0, 400) || say.failed, true);
});
