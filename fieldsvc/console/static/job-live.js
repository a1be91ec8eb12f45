// News for a page that is open: what changes about its job is put in place, but never under the hands of whoever works
// there. Only a page that is looked at holds a line.

import { count, notice, time } from "./console.js";

const PARTS = "heading glance facts had clocks operations checklist result files history".split(" ").map((name) => `job-${name}`);
const REFUSED = 5_000; // milliseconds
const ANEW = 60_000; // milliseconds: what brings no news by itself, such as work that is held, is seen by then

/**
 * @param {{job: string, stream: string, changed: string, later: string, live: string, cut: string, out: string}} say
 * @param {() => void} after what has to be done when parts of the page are new
 */
export function follow(say, after = () => {}) {
  let line = null;
  let asked = 0;
  const state = () => document.getElementById("job-live");
  const tell = (text) => state() && (state().textContent = text);
  const refresh = async (loud) => {
    const number = ++asked;
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
    if (answer?.redirected) tell(say.out);
    if (!answer?.ok || answer.redirected || number !== asked) return;
    if (line?.readyState === EventSource.CLOSED) close();
    open();
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const { put, left } = takeOver(fresh);
    if (put) after();
    tell(say.live);
    if (loud && (put || left)) notice(left ? say.later : say.changed);
  };
  const open = () => {
    if (line || document.hidden) return;
    line = new EventSource(say.stream);
    line.addEventListener("open", () => tell(say.live));
    line.addEventListener("error", () => {
      tell(say.cut.replace("{time}", time(Date.now())));
      // A browser tries again by itself, unless it was refused.
      if (line?.readyState === EventSource.CLOSED) setTimeout(() => refresh(false), REFUSED);
    });
    line.addEventListener("changed", (event) => JSON.parse(event.data).jobs.includes(say.job) && refresh(true));
    line.addEventListener("reload", () => refresh(false));
  };
  const close = () => {
    line?.close();
    line = null;
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return close();
    open();
    refresh(false);
  });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  setInterval(() => !document.hidden && refresh(false), ANEW);
  open();
}

/** Put the parts that differ in place of the old ones; `left`: how many somebody is at work in. */
function takeOver(fresh) {
  let put = 0;
  let left = 0;
  for (const id of PARTS) {
    const old = document.getElementById(id);
    const found = fresh.getElementById(id);
    if (!found || same(old, found)) continue;
    if (old && busy(old)) left += 1;
    else if (old) {
      keepOpen(old, found);
      old.replaceWith(found);
      window.htmx?.process(found);
      count(found);
      put += 1;
    }
  }
  return { put, left };
}

/** Whether two parts say the same: countdowns and ages pass by themselves, and say nothing new. */
function same(old, found) {
  if (!old) return false;
  const text = (part) => {
    const copy = part.cloneNode(true);
    for (const passing of copy.querySelectorAll(".countdown, [data-passing], #job-live")) passing.textContent = "";
    for (const one of copy.querySelectorAll("details")) one.removeAttribute("open");
    return copy.textContent.replace(/\s+/g, " ");
  };
  return text(old) === text(found);
}

const busy = (part) =>
  part.querySelectorAll("ol.entries").length > 1 || (part.contains(document.activeElement) && document.activeElement !== document.body);

function keepOpen(old, found) {
  const within = (part) => [...part.querySelectorAll("details")];
  const open = new Set(within(old).filter((one) => one.open).map((one) => one.closest("[id]")?.id));
  for (const one of within(found)) if (open.has(one.closest("[id]")?.id)) one.open = true;
}
