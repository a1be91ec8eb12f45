// What vis-timeline is given: items, shifts and breaks as its records, and what the rows add up to.

import { time } from "./console.js";
import { danger, ENDED, movable, tier, token } from "./timeline-parts.js";
import { dayAfter, instant } from "./zoned.js";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** Begin and end of a day in the visitor's zone, in milliseconds. */
const bounds = (day) => [instant(`${day}T00:00`), instant(`${dayAfter(day, 1)}T00:00`)];

/** What of a day is shown: from a little before its first shift to a little after its last; without shifts, 6 to 20. */
export function spanOf(crews, day) {
  const [from, to] = bounds(day);
  let first = Infinity;
  let last = -Infinity;
  for (const crew of crews) {
    for (const shift of crew.shifts ?? []) {
      const [starts, ends] = [Date.parse(shift.starts_at), Date.parse(shift.ends_at)];
      if (ends <= from || starts >= to) continue;
      first = Math.min(first, Math.max(starts, from));
      last = Math.max(last, Math.min(ends, to + 12 * HOUR));
    }
  }
  if (first >= last) [first, last] = [instant(`${day}T06:00`), instant(`${day}T20:00`)];
  return { first: first - 30 * MINUTE, last: last + 30 * MINUTE };
}

/** Crew id → {jobs, minutes, shift}: what it has that day, how long that takes on site, how long it is on duty. */
export function loadsOf(crews, jobs, day) {
  const [from, to] = bounds(day);
  const loads = new Map();
  for (const crew of crews) {
    let shift = 0;
    for (const one of crew.shifts ?? []) {
      const [starts, ends] = [Date.parse(one.starts_at), Date.parse(one.ends_at)];
      if (starts < from || starts >= to) continue;
      shift += (ends - starts) / MINUTE - (one.breaks ?? []).reduce((sum, pause) => sum + pause.minutes, 0);
    }
    loads.set(crew.id, { jobs: 0, minutes: 0, shift });
  }
  for (const job of jobs) {
    const load = loads.get(job.crew_id);
    if (!load || job.ghost || job.status === "cancelled") continue;
    const starts = job.planned_start ? Date.parse(job.planned_start) : from;
    if (starts < from || starts >= to) continue;
    load.jobs += 1;
    load.minutes += job.service_minutes ?? 0;
  }
  return loads;
}

/** A crew's shifts and breaks between two times. */
export function backgrounds(crew, from, to) {
  const found = [];
  for (const shift of crew.shifts ?? []) {
    const [start, end] = [Date.parse(shift.starts_at), Date.parse(shift.ends_at)];
    if (end < from || start > to) continue;
    const id = `shift:${crew.id}:${shift.starts_at}`;
    found.push(background(id, crew.id, start, end, "tl-shift"));
    (shift.breaks ?? []).forEach((pause, number) => {
      const [earliest, latest] = [Date.parse(pause.earliest), Date.parse(pause.latest) + pause.minutes * MINUTE];
      found.push(background(`${id}:${number}`, crew.id, earliest, latest, "tl-break"));
    });
  }
  return found;
}

/** A job on its row. */
export function item(key, job, start, end) {
  const classes = ["tl-item", `tier-${tier(job)}`, `status-${token(job.status)}`, danger(job)];
  if (job.pinned) classes.push("pinned");
  if (job.hazards) classes.push("hazard");
  if (ENDED.has(job.status)) classes.push("ended");
  if (job.ghost) classes.push("ghost");
  if (job.mark) classes.push(`mark-${token(job.mark)}`);
  const className = classes.filter(Boolean).join(" ");
  const editable = !job.ghost && movable(job) ? undefined : false;
  const look = [job.rev, job.crew_id, start, end, className, job.title, job.note, job.due_at].join("|");
  return { id: key, group: job.crew_id, start, end, type: "range", className, editable, content: job.number, look };
}

function background(id, group, start, end, className) {
  return { id, group, start, end, type: "background", className, content: "", look: `${start}|${end}|${className}` };
}

/** Make a data set hold what is wanted, touching only what differs. */
export function update(set, wanted, same, keep = () => false) {
  const gone = set.getIds().filter((id) => !wanted.has(id) && !keep(id));
  const changed = [];
  for (const [id, one] of wanted) {
    const was = set.get(id);
    if ((!was || !same(was, one)) && !keep(id)) changed.push(one);
  }
  if (gone.length) set.remove(gone);
  if (changed.length) set.update(changed);
}

/** The texts of the axis: the finer line, and the one above it. */
export function minor(at, scale) {
  if (scale === "minute" || scale === "hour") return time(at);
  if (scale === "weekday" || scale === "day") return time(at, { weekday: "short", day: "numeric" });
  return "";
}
export function major(at, scale) {
  if (scale === "minute" || scale === "hour") return time(at, { weekday: "long", day: "numeric", month: "long" });
  return time(at, { month: "long", year: "numeric" });
}
