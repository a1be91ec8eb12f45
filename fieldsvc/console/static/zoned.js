// Times of day in the visitor's zone, which need not be the one of the machine.

import { zone } from "./console.js";

const HOUR = 3_600_000;
const told = new Intl.DateTimeFormat("en-US", { timeZone: zone, timeZoneName: "longOffset" });
const offsets = new Map(); // hour since 1970 → minutes; clocks are put back and forward on the full hour of UTC

/** Minutes that the zone is ahead of UTC at an instant (milliseconds). */
export function offset(at) {
  const hour = Math.floor(at / HOUR);
  let found = offsets.get(hour);
  if (found === undefined) {
    const name = told.formatToParts(hour * HOUR).find((part) => part.type === "timeZoneName").value;
    const [, sign, hours, minutes] = /GMT(?:([+-])(\d\d):(\d\d))?/.exec(name);
    found = sign ? (sign === "-" ? -1 : 1) * (Number(hours) * 60 + Number(minutes)) : 0;
    offsets.set(hour, found);
  }
  return found;
}

/** The instant (milliseconds) of a wall-clock time, as `<input type=datetime-local>` writes it: 2026-01-31T08:00. */
export function instant(local) {
  const utc = Date.parse(`${local}Z`);
  const first = utc - offset(utc) * 60_000;
  return utc - offset(first) * 60_000;
}

/** What `<input type=datetime-local>` takes for an instant: a Date, milliseconds or RFC 3339. */
export function wall(at) {
  const ms = new Date(at).getTime();
  return new Date(ms + offset(ms) * 60_000).toISOString().slice(0, 16);
}

/** The day of an instant: YYYY-MM-DD. */
export const dayOf = (at) => wall(at).slice(0, 10);

/** The day some days later. */
export const dayAfter = (day, days) => new Date(Date.parse(`${day}T12:00Z`) + days * 24 * HOUR).toISOString().slice(0, 10);
