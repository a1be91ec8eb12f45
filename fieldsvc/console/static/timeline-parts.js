// What stands in the timeline: crews' labels, jobs on their rows, jobs that wait. Elements only: text from records is
// never read as HTML.

import { language, time, words } from "./console.js";
import { dayOf } from "./zoned.js";

const say = words("timeline-words");
const SVG = "http://www.w3.org/2000/svg";

// The same shapes and colours as on the map: shape says the kind, colour the urgency.
const SHAPES = ["M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1Z", "M2 2h12v12H2Z", "M8 1 15.5 14H.5Z", "M8 0 16 8 8 16 0 8Z", "M4.5 2h7L15 8l-3.5 6h-7L1 8Z", "M8 1l7 5-2.7 8.5H3.7L1 6Z"];
const TIERS = new Set(["hazard", "emergency", "important", "at_risk", "planned"]);

/** An element with a class, text or children, and attributes. */
export function make(tag, className, content = [], attributes = {}) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...[content].flat().filter((part) => part !== null && part !== undefined));
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== false) element.setAttribute(name, value);
  return element;
}

/** How urgent a job is; what is not known counts as planned. */
export const tier = (job) => (TIERS.has(job.tier) ? job.tier : "planned");

/** The sign of a job: its kind and urgency. */
export function shape(job) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "-1 -1 18 18");
  svg.setAttribute("class", "tl-shape");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  const place = Math.max(0, say.kinds?.indexOf(job.kind) ?? 0);
  path.setAttribute("d", SHAPES[place % SHAPES.length]);
  svg.append(path);
  return svg;
}

/** A code as part of a class name. */
export const token = (code) => String(code).replace(/[^\w-]/g, "_");

/** A code of the service in words. */
export const word = (code) => say.codes?.[code] ?? String(code).replaceAll("_", " ");

/** `%(name)s` replaced in a text. */
export const fill = (text, values) => text.replace(/%\((\w+)\)[sd]/g, (whole, name) => values[name] ?? whole);

/** "08:00", with the date where it is on another day than `day`. */
export function at(value, day) {
  const clock = time(value);
  return dayOf(value) === day ? clock : `${time(value, { month: "2-digit", day: "2-digit" })} ${clock}`;
}

/** What a job is, in one line: for those who hear it, and as its title. */
export function spoken(job, crew) {
  const parts = [`${job.number} ${job.title ?? ""}`.trim(), word(job.kind), word(job.status)];
  if (crew) parts.push(crew.name);
  if (job.planned_start) parts.push(job.planned_end ? `${time(job.planned_start)}–${time(job.planned_end)}` : time(job.planned_start));
  if (job.due_at) parts.push(fill(say.due, { time: at(job.due_at, dayOf(Date.now())) }));
  if (job.pinned) parts.push(say.pinned);
  if (job.hazards) parts.push(say.hazard);
  if (job.note) parts.push(job.note);
  return parts.join(" · ");
}

/** How far a promise is: "late" (planned after it), "risk" (close before it, or the service says so), or "". */
export function danger(job) {
  if (!job.due_at || ENDED.has(job.status)) return "";
  const due = Date.parse(job.due_at);
  const begins = job.planned_start ? Date.parse(job.planned_start) : Date.now();
  if (begins > due || Date.now() > due) return "late";
  return job.at_risk || due - begins < 30 * 60_000 ? "risk" : "";
}

export const ENDED = new Set(["completed", "closed", "cancelled"]);
export const UNDER_WAY = new Set(["on_site", "in_progress"]);

/** Whether a dispatcher may still decide about it. */
export const movable = (job) => !ENDED.has(job.status) && !UNDER_WAY.has(job.status);

/** A job on a row: sign, number, title; a pin, and the time of a promise at risk. */
export function jobOnRow(job, crew) {
  const near = danger(job);
  const parts = [shape(job), make("span", "tl-number", job.number)];
  if (job.pinned) parts.push(pin());
  if (job.hazards) parts.push(make("span", "tl-hazard", "!", { "aria-hidden": "true" }));
  if (near) parts.push(make("span", `tl-due ${near}`, fill(say.due, { time: at(job.due_at, dayOf(job.planned_start ?? Date.now())) })));
  parts.push(make("span", "tl-title", job.title ?? ""));
  const text = spoken(job, crew);
  return make("div", "tl-job", parts, { role: "button", tabindex: "-1", "data-job": job.id, title: text });
}

function pin() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 12 16");
  svg.setAttribute("class", "tl-pin");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", "M3 1h6v1L8 3v4l3 2v1H6.5v5h-1v-5H1V9l3-2V3L3 2Z");
  svg.append(path);
  return svg;
}

/** A job that waits, in the strip above the rows; the promise that runs out is counted down. */
export function waiting(job, crew) {
  const near = danger(job);
  const parts = [shape(job), make("span", "tl-number", job.number)];
  if (job.hazards) parts.push(make("span", "tl-hazard", "!", { "aria-hidden": "true" }));
  if (job.due_at) parts.push(make("span", "countdown", "", { "data-due": job.due_at }));
  else parts.push(make("span", "tl-title", job.title ?? ""));
  if (crew) parts.push(make("span", "tl-has", crew.code));
  const text = spoken(job, crew);
  const classes = ["tl-job", "tl-chip", `tier-${tier(job)}`, near].filter(Boolean).join(" ");
  return make("button", classes, parts, { type: "button", tabindex: "-1", "data-job": job.id, title: text });
}

const PERCENT = new Intl.NumberFormat(language, { style: "percent" });

/** A crew before its row: name and code, whether it is silent, how full its shift is, what it can. */
export function crewLabel(crew, load) {
  const name = make("span", "tl-name clip", crew.name, { title: `${crew.code} ${crew.name}` });
  const second = [];
  if (crew.silent) {
    const since = crew.last_seen_at ? fill(say.silent_since, { time: at(crew.last_seen_at, dayOf(Date.now())) }) : say.silent;
    second.push(make("span", "tl-silent", say.silent, { title: since }));
  }
  const share = load?.shift ? load.minutes / load.shift : null;
  const text = !load ? "" : share === null ? fill(say.load_off, { jobs: load.jobs }) : fill(say.load, { jobs: load.jobs, percent: Math.round(share * 100) });
  const skills = (crew.skills ?? []).map(word).join(", ");
  const full = share === null ? null : PERCENT.format(share);
  second.push(make("span", "tl-second clip", [crew.code, full, skills].filter(Boolean).join(" · "), { title: [crew.code, text, skills].filter(Boolean).join(" · ") }));
  const parts = [make("span", "tl-top", name), make("span", "tl-top", second)];
  if (load?.shift) parts.push(loadBar(load));
  return make("div", "tl-crew", parts, { "data-crew": crew.id });
}

function loadBar({ minutes, shift }) {
  const share = minutes / shift;
  const bar = make("span", `tl-load ${share > 1 ? "over" : share > 0.85 ? "full" : ""}`, make("span", "tl-load-bar"), { "aria-hidden": "true" });
  bar.firstChild.style.width = `${Math.min(100, Math.round(share * 100))}%`;
  return bar;
}
