// What a plan makes different, as pictures: where crews go and who does what when, before and after. What else they
// hold is there too, quietly, so that the whole day is seen.

import { ask, time, words } from "./console.js";
import { createMap } from "./map.js";
import { createTimeline } from "./timeline.js";

const HOUR = 3600_000;
const MARKS = { new: "new", other_crew: "moved", moved: "moved", dropped: "gone" };

/**
 * @typedef {object} Change one change of a run, as `work/dispatch/difference.py: row` tells it
 * @typedef {{changes: Change[], beside: object[], crews: object[], cut: boolean, from: string, until: string}} Drawn
 */

/**
 * Draw the difference in `picture`, which names in `data-url` where to get it and holds `.run-map`, `.run-time`,
 * `.run-load` and buttons `[data-show]`.
 *
 * @param {HTMLElement} picture
 */
export async function drawDifference(picture) {
  const say = words("run-words");
  /** @type {Drawn} */
  const drawn = await ask(picture.dataset.url);
  const map = createMap(picture.querySelector(".run-map"), { label: say.map });
  const former = window.L.layerGroup().addTo(map.map);
  dots(drawn.beside, say).addTo(map.map);
  const point = (id) => lightRow(id, timeline);
  const timeline = createTimeline(picture.querySelector(".run-time"), {
    readonly: true,
    days: false,
    onPoint: (what) => what?.job && map.jobs.select([what.job]),
    onSelect: (id) => point(id),
    onOpen: (id) => location.assign(`/jobs/${id}`),
  });
  const show = (which) => {
    for (const button of picture.querySelectorAll("[data-show]")) button.setAttribute("aria-pressed", button.dataset.show === which);
    timeline.set(drawn.crews, items(drawn, which, say));
    map.showJobs(drawn.changes.filter((one) => standing(one, which)).map(({ job }) => job));
    map.showCrews(drawn.crews.map((crew) => ({ ...crew, silent: false })));
    map.routes.showAll(which === "before" ? [] : routes(drawn, "crew_id", "planned_start"));
    former.clearLayers();
    if (which !== "after") dashed(routes(drawn, "former_crew_id", "former_start"), former);
  };
  for (const button of picture.querySelectorAll("[data-show]")) button.addEventListener("click", () => show(button.dataset.show));
  timeline.element.parentElement.style.height = `${Math.min(352, 110 + 62 * Math.max(1, drawn.crews.length))}px`;
  timeline.show(day(drawn.from));
  show(picture.querySelector("[data-show][aria-pressed=true]")?.dataset.show ?? "both");
  map.fit();
  fitAll(map.map, drawn);
  load(picture.querySelector(".run-load"), drawn, say);
  document.getElementById("changes")?.addEventListener("pointerover", ({ target }) => {
    const job = target.closest("tr[data-job]")?.dataset.job;
    timeline.light({ job });
    map.jobs.select(job ? [job] : []);
  });
  picture.querySelector(".run-cut").hidden = !drawn.cut;
  picture.dataset.drawn = drawn.changes.length;
  picture.dataset.beside = drawn.beside.length;
}

const day = (at) => {
  const parts = Object.fromEntries(new Intl.DateTimeFormat("en", { timeZone: document.documentElement.dataset.zone, year: "numeric", month: "2-digit", day: "2-digit" }).formatToParts(new Date(at)).map(({ type, value }) => [type, value]));
  return `${parts.year}-${parts.month}-${parts.day}`;
};

/** Whether a change has a crew in what is shown. */
const standing = (one, which) => (which === "before" ? one.former_crew_id : which === "after" ? one.crew_id : true);

/** Items of the timeline: what is planned anew in full, what it was before as an outline, what stays without colour. */
function items({ changes, beside, from }, which, say) {
  const found = beside.map((job) => ({ ...job, due_at: null, hazards: false, mark: "same", note: say.same }));
  for (const one of changes) {
    const due_at = one.job.due_at >= from ? one.job.due_at : null; // what was over before this begins has no place on it
    const facts = { ...one.job, due_at, hazards: Boolean(one.job.hazards?.length), status: "scheduled", planned_order: one.planned_order };
    if (which !== "before" && one.crew_id && one.planned_start) {
      const mark = which === "both" ? MARKS[one.what] : undefined;
      found.push({ ...facts, crew_id: one.crew_id, planned_start: one.planned_start, planned_end: one.planned_end, mark, note: say[one.what] });
    }
    if (which === "after" || !one.former_crew_id || !one.former_start) continue;
    const before = { ...facts, key: `${one.job_id}:before`, crew_id: one.former_crew_id, planned_start: one.former_start, planned_end: null };
    found.push(which === "before" ? { ...before, key: undefined } : { ...before, ghost: true, mark: one.what === "dropped" ? "gone" : undefined, note: say.was });
  }
  return found;
}

/** Bring what stays as it is into view, too, where it lies outside. */
function fitAll(map, { changes, beside }) {
  const placed = (jobs) => jobs.filter((job) => Number.isFinite(job.lon)).map(({ lon, lat }) => [lat, lon]);
  const quiet = window.L.latLngBounds(placed(beside));
  if (!quiet.isValid() || map.getBounds().contains(quiet)) return;
  map.fitBounds(quiet.extend(window.L.latLngBounds(placed(changes.map(({ job }) => job)))), { padding: [24, 24], maxZoom: 16, animate: false });
}

/** Small dots for the jobs that stay as they are; each says its number. */
function dots(jobs, say) {
  const drawn = jobs.filter((job) => Number.isFinite(job.lon)).map((job) => {
    const dot = window.L.circleMarker([job.lat, job.lon], { radius: 4.5, className: "beside-dot", pane: "routes" });
    return dot.bindTooltip(() => document.createTextNode(`${job.number} · ${say.same}`));
  });
  return window.L.layerGroup(drawn);
}

/** The way of each crew through all of its jobs: from its base, by time. */
function routes({ changes, beside, crews }, crew, start) {
  return crews.map(({ id, base }) => {
    const stops = changes.filter((one) => one[crew] === id && one[start]).map((one) => ({ ...one.job, at: one[start] }));
    stops.push(...beside.filter((job) => job.crew_id === id).map((job) => ({ ...job, at: job.planned_start })));
    stops.sort((a, b) => a.at.localeCompare(b.at));
    const line = stops.map(({ lon, lat }) => ({ lon, lat }));
    return base && line.length ? [{ lon: base[0], lat: base[1] }, ...line] : line;
  });
}

function dashed(lines, layer) {
  const drawn = lines.map((line) => line.filter((point) => Number.isFinite(point.lon)).map(({ lon, lat }) => [lat, lon])).filter((line) => line.length > 1);
  if (drawn.length) window.L.polyline(drawn, { className: "route-former", interactive: false, pane: "routes" }).addTo(layer);
}

/** Show where a job stands in the list below. */
function lightRow(id, timeline) {
  document.querySelectorAll("tr.lit").forEach((row) => row.classList.remove("lit"));
  const row = document.querySelector(`tr[data-job="${CSS.escape(id)}"]`);
  row?.classList.add("lit");
  row?.scrollIntoView({ block: "center" });
  timeline.mark(new Set([id]));
}

/** Jobs being worked on at each time, before and after: a chart, and the table that says the same. */
function load(element, drawn, say) {
  const span = (start, end, job) => [Date.parse(start ?? ""), Date.parse(end ?? "") || Date.parse(start ?? "") + job.service_minutes * 60_000];
  const stays = drawn.beside.map((job) => span(job.planned_start, job.planned_end, job));
  const spans = (start, end) => [...stays, ...drawn.changes.map((one) => span(one[start], one[end], one.job))].filter(([from]) => Number.isFinite(from));
  const before = spans("former_start", "none");
  const after = spans("planned_start", "planned_end");
  const all = [...before, ...after];
  if (!all.length) return;
  const first = Math.floor(Math.min(...all.map(([from]) => from)) / HOUR) * HOUR;
  const last = Math.min(Math.max(...all.map(([, to]) => to)), first + 48 * HOUR);
  const times = [];
  for (let at = first; at <= last + HOUR / 4; at += HOUR / 4) times.push(at);
  const busy = (some) => times.map((at) => some.reduce((count, [from, to]) => count + (from <= at && at < to), 0));
  const data = [times.map((at) => at / 1000), busy(before), busy(after)];
  chart(element.querySelector(".chart"), data, say);
  const rows = times.flatMap((at, place) => (at % HOUR ? [] : [[time(at), data[1][place], data[2][place]]]));
  element.querySelector("details tbody").replaceChildren(...rows.map(([at, ...counts]) => {
    const row = document.createElement("tr");
    row.append(Object.assign(document.createElement("th"), { scope: "row", textContent: at }), ...counts.map((count) => Object.assign(document.createElement("td"), { className: "number", textContent: count })));
    return row;
  }));
  element.hidden = false;
}

function chart(element, data, say) {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
  const probe = document.createElement("span");
  element.append(probe);
  const shown = (name) => {
    probe.className = `colour-${name}`;
    return getComputedStyle(probe).color;
  };
  const axis = { stroke: shown("quiet"), grid: { stroke: shown("line"), width: 1 }, ticks: { stroke: shown("line"), width: 1 }, font: `12px ${colour("--font")}` };
  const stepped = uPlot.paths.stepped({ align: 1 });
  const clock = (seconds) => time(seconds * 1000);
  const options = {
    width: Math.max(280, element.clientWidth),
    height: 170,
    cursor: { drag: { x: false, y: false } },
    axes: [
      { ...axis, values: (_plot, at) => at.map(clock) },
      { ...axis, size: 36, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] },
    ],
    scales: { y: { range: (_plot, _low, high) => [0, Math.max(1, high)] } },
    series: [
      { label: say.at, value: (_plot, at) => (at === null ? "–" : clock(at)) },
      { label: say.before, stroke: shown("quiet"), width: 2, dash: [5, 4], paths: stepped, points: { show: false } },
      { label: say.after, stroke: shown("accent"), fill: shown("accent-soft"), width: 2, paths: stepped, points: { show: false } },
    ],
  };
  const plot = new uPlot(options, data, element);
  new ResizeObserver(() => plot.setSize({ width: Math.max(280, element.clientWidth), height: 170 })).observe(element);
  probe.remove();
}
