// What stands in the timeline: crews' labels, jobs on their rows, jobs that wait. Elements only: text from records is
// never read as HTML.

import { time, words } from "./console.js";

const say = words("timeline-words");
const SVG = "http://www.w3.org/2000/svg";

// The same shapes as on the map: what a job is can be told without its colour.
const SHAPES = {
  repair: "M8 1 15 14H1Z",
  meter_change: "M2 2h12v12H2Z",
  safety_inspection: "M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1Z",
  assist: "M8 0 16 8 8 16 0 8Z",
};

/** An element with a class, text or children, and attributes. */
export function make(tag, className, content = [], attributes = {}) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...[content].flat().filter((part) => part !== null && part !== undefined));
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== false) element.setAttribute(name, value);
  return element;
}

/** The sign of a kind of job. */
export function shape(kind) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", `tl-shape ${token(kind)}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", SHAPES[kind] ?? SHAPES.assist);
  svg.append(path);
  return svg;
}

/** A code as part of a class name. */
export const token = (code) => String(code).replace(/[^\w-]/g, "_");

/** A code of the service in words. */
export const word = (code) => say.codes?.[code] ?? String(code).replaceAll("_", " ");

/** `%(name)s` replaced in a text. */
export const fill = (text, values) => text.replace(/%\((\w+)\)[sd]/g, (whole, name) => values[name] ?? whole);

/** "08:00", with the day where it is another one than `day`. */
export function at(value, day) {
  const text = time(value);
  const date = time(value, { year: "numeric", month: "2-digit", day: "2-digit" });
  return !day || date === time(`${day}T12:00Z`, { year: "numeric", month: "2-digit", day: "2-digit" }) ? text : `${date} ${text}`;
}

/** What a job is, in one line: for those who hear it, and as its title. */
export function spoken(job, crew) {
  const parts = [`${job.number} ${job.title ?? ""}`.trim(), word(job.kind), word(job.status)];
  if (crew) parts.push(crew.name);
  if (job.planned_start) parts.push(job.planned_end ? `${time(job.planned_start)}–${time(job.planned_end)}` : time(job.planned_start));
  if (job.due_at) parts.push(fill(say.due, { time: time(job.due_at, { month: "numeric", day: "numeric", hour: "2-digit", minute: "2-digit", hour12: false }) }));
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
  const parts = [shape(job.kind), make("span", "tl-number", job.number)];
  if (job.pinned) parts.push(make("span", "tl-pin", "⚲", { "aria-hidden": "true" }));
  if (job.hazards) parts.push(make("span", "tl-hazard", "!", { "aria-hidden": "true" }));
  if (near) parts.push(make("span", `tl-due ${near}`, fill(say.due, { time: time(job.due_at) })));
  parts.push(make("span", "tl-title", job.title ?? ""));
  const text = spoken(job, crew);
  return make("div", "tl-job", parts, { role: "button", tabindex: "-1", "data-job": job.id, "aria-label": text, title: text });
}

/** A job that waits, in the strip above the rows. */
export function waiting(job, crew) {
  const near = danger(job);
  const parts = [shape(job.kind), make("span", "tl-number", job.number)];
  if (job.hazards) parts.push(make("span", "tl-hazard", "!", { "aria-hidden": "true" }));
  if (near) parts.push(make("span", `tl-due ${near}`, fill(say.due, { time: time(job.due_at) })));
  else parts.push(make("span", "tl-title", job.title ?? ""));
  if (crew) parts.push(make("span", "tl-has", crew.code));
  const text = spoken(job, crew);
  const classes = ["tl-job", "tl-chip", `p${job.priority}`, near].filter(Boolean).join(" ");
  return make("button", classes, parts, { type: "button", tabindex: "-1", "data-job": job.id, "aria-label": text, title: text });
}

/** A crew before its row: name and code, what it can, whether it is silent, how full its shift is. */
export function crewLabel(crew, load) {
  const name = make("span", "tl-name clip", crew.name, { title: `${crew.code} ${crew.name}` });
  const second = make("span", "tl-second clip", [make("span", "mono", crew.code), ` ${(crew.skills ?? []).map(word).join(", ")}`]);
  const top = [name];
  if (crew.silent) {
    const since = crew.last_seen_at ? fill(say.silent_since, { time: at(crew.last_seen_at) }) : say.silent;
    top.push(make("span", "tl-silent", say.silent, { title: since }));
  }
  const parts = [make("span", "tl-top", top), second];
  if (load) parts.push(loadBar(load));
  return make("div", "tl-crew", parts, { "data-crew": crew.id, "data-drop-crew": crew.id });
}

function loadBar({ jobs, minutes, shift }) {
  const share = shift ? minutes / shift : 0;
  const text = shift ? fill(say.load, { jobs, percent: Math.round(share * 100) }) : fill(say.load_off, { jobs });
  const bar = make("span", `tl-load ${share > 1 ? "over" : share > 0.85 ? "full" : ""}`, [make("span", "tl-load-bar"), make("span", "tl-load-text", text)], { title: text });
  bar.firstChild.style.width = `${Math.min(100, Math.round(share * 100))}%`;
  return bar;
}
