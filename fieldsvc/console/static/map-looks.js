// How jobs look on the map. Shape says the kind, colour and size the urgency, the filling how far the work is. The
// colours are those of Okabe and Ito (2008), which the colour-blind tell apart; a sign inside says the worst without any.

import { words } from "./console.js";

const facts = words("map-facts");
const SVG = "http://www.w3.org/2000/svg";

/** The ranks of jobs, the most urgent first, with half the size of their mark in pixels. */
export const TIERS = { hazard: 12, emergency: 11, important: 9.5, at_risk: 9, planned: 7 };
const SIGNS = { hazard: "!", emergency: "+", important: "★", at_risk: "…" };
const ORDER = Object.keys(TIERS);

const SHAPES = [
  (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  (r) => polygon(4, r * 1.25, Math.PI / 4),
  (r) => polygon(3, r * 1.35, -Math.PI / 2),
  (r) => polygon(4, r * 1.25, 0),
  (r) => polygon(6, r * 1.12, 0),
  (r) => polygon(5, r * 1.15, -Math.PI / 2),
];
function polygon(corners, r, turn) {
  const at = (step) => {
    const angle = turn + (step * 2 * Math.PI) / corners;
    return `${(r * Math.cos(angle)).toFixed(2)} ${(r * Math.sin(angle)).toFixed(2)}`;
  };
  return `M${Array.from({ length: corners }, (_, step) => at(step)).join("L")}z`;
}

const STAGES = {
  waiting_to_be_scheduled: "waiting", returned: "waiting",
  scheduled: "given", dispatched: "given", accepted: "given",
  enroute: "working", on_site: "working", in_progress: "working",
  waiting_on_material: "stopped", suspended: "stopped",
};
/** How far the work is: waiting, given, working, stopped or over. */
export const stage = (job) => STAGES[job.status] ?? "over";

/** Of two ranks the more urgent; a rank that is not known counts as planned. */
export const urgency = (job) => Math.max(0, ORDER.indexOf(job.tier in TIERS ? job.tier : "planned"));
/** The name of a rank by its place. */
export const tierAt = (place) => ORDER[place];

/** An SVG element with attributes. */
export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** An HTML element with a class and text or children; text never becomes markup. */
export function node(name, className = "", ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

const drawn = new Map();
/** The mark of a job as an element of its own: a copy of one drawn before for the same look. */
export function jobMark(job) {
  const tier = job.tier in TIERS ? job.tier : "planned";
  const look = `${job.kind} ${tier} ${stage(job)}`;
  if (!drawn.has(look)) drawn.set(look, drawMark(job.kind, tier, stage(job)));
  return drawn.get(look).cloneNode(true);
}

function drawMark(kind, tier, stageName) {
  const place = facts.kinds.indexOf(kind);
  const shape = SHAPES[place < 0 ? 0 : place % SHAPES.length];
  const r = TIERS[tier];
  const half = Math.ceil(r * 1.4 + 3);
  const picture = svg("svg", { width: 2 * half, height: 2 * half, viewBox: `${-half} ${-half} ${2 * half} ${2 * half}`, "aria-hidden": "true" });
  picture.append(svg("path", { class: "mark-edge", d: shape(r + 2) }), svg("path", { class: "mark-body", d: shape(r) }));
  if (stageName === "given" || stageName === "working") picture.append(svg("path", { class: "mark-core", d: shape(r * 0.62) }));
  if (stageName === "working") picture.append(svg("path", { class: "mark-dot", d: shape(r * 0.34) }));
  if (stageName === "stopped") picture.append(svg("path", { class: "mark-bars", d: `M${-r * 0.3} ${-r * 0.45}v${r * 0.9}M${r * 0.3} ${-r * 0.45}v${r * 0.9}` }));
  const sign = stageName === "over" || stageName === "stopped" ? null : SIGNS[tier];
  if (sign) picture.append(svg("text", { class: "mark-sign", y: place === 2 ? r * 0.52 : r * 0.42, "font-size": r * 1.2 }, sign));
  const mark = node("div", `mark ${tier} ${stageName}`);
  mark.append(picture);
  return mark;
}

/**
 * The mark of a cluster: how many, a ring with the share of each rank, and the sign of the worst inside.
 *
 * @param {number[]} shares jobs of each rank, the most urgent first
 */
export function clusterMark(shares, selected) {
  const total = shares.reduce((sum, share) => sum + share, 0);
  const worst = Math.max(0, shares.findIndex((share) => share > 0));
  const half = 15 + Math.min(9, Math.round(Math.log10(total) * 4));
  const r = half - 4;
  const around = 2 * Math.PI * r;
  const picture = svg("svg", { width: 2 * half, height: 2 * half, viewBox: `${-half} ${-half} ${2 * half} ${2 * half}`, "aria-hidden": "true" });
  picture.append(svg("circle", { class: "cluster-body", r: half - 1 }));
  let from = 0;
  shares.forEach((share, place) => {
    if (!share) return;
    const part = (share / total) * around;
    picture.append(svg("circle", { class: `cluster-part ${tierAt(place)}`, r, "stroke-dasharray": `${part} ${around - part}`, "stroke-dashoffset": -from, transform: "rotate(-90)" }));
    from += part;
  });
  picture.append(svg("text", { class: "cluster-count", y: "0.35em" }, total > 9999 ? `${Math.round(total / 1000)}k` : String(total)));
  const sign = SIGNS[tierAt(worst)];
  const mark = node("div", `cluster ${tierAt(worst)}${selected ? " selected" : ""}`);
  mark.append(picture);
  if (sign) mark.append(node("span", `cluster-sign ${tierAt(worst)}`, sign));
  return mark;
}
