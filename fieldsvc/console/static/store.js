// What the board shows, held once for list, map and timeline: jobs, crews, what is pointed at and what is selected.
//
// Events: `load` (everything is new), `change` (detail {jobs: [ids], crews: [ids]}; what has gone is no longer in the
// maps), `point` (detail {job, crew}: ids or null), `select` (detail {ids}: all that are selected now).

import { ask } from "./console.js";

/**
 * @typedef {{id: string, number: string, kind: string, status: string, priority: number, tier: string,
 *   hazards: boolean, lon: ?number, lat: ?number, crew_id: ?string, planned_start: ?string, planned_end: ?string,
 *   planned_order: ?number, pinned: boolean, due_at: ?string, service_minutes: number, window_start: ?string,
 *   window_end: ?string, rev: number, title: string, address: ?string, territory_id: ?string, promise: ?("soon"|"over"),
 *   place: number}} Job
 *   Times are RFC 3339 in UTC; `due_at` is when the next promise runs out.
 * @typedef {{id: string, code: string, name: string, base: ?[number, number],
 *   position: ?{lon: number, lat: number, at: string}, last_seen_at: ?string, silent: boolean,
 *   shifts: {starts_at: string, ends_at: string, breaks: object[]}[], skills: string[], territory_ids: string[],
 *   own: boolean}} Crew `own`: of the visitor's territories; of others it is not told when they were last heard of.
 */

const AT_ONCE = 200; // ids in one address
const ALL_ANEW = 1000; // when more than this has changed, everything is asked for
const COUNTED = 1_000; // milliseconds: the numbers are not asked for more often,
const AGED = 20_000; // milliseconds: how often is looked for what changes by time alone
const MANY = 2_000; // and of more jobs than this five times less often

export class Store extends EventTarget {
  /** @param {string} [query] the filters, as they stand in the address; `day` among them. */
  constructor(query = "") {
    super();
    /** @type {Map<string, Job>} */
    this.jobs = new Map();
    /** @type {Map<string, Crew>} */
    this.crews = new Map();
    this.filters = new URLSearchParams(query);
    this.selected = new Set();
    this.pointed = { job: null, crew: null };
    this.counts = null; // of these filters; none yet: as the list has them
    this.day = null; // YYYY-MM-DD
    this.cursor = null; // where the stream goes on
    this.asked = 0;
    this.coming = null; // what everything is asked with: {query, answer, jobs, crews}; these have changed since
    this.counted = 0;
    this.recount = null;
    this.ages = null;
    setInterval(() => this.ages && this.age(), AGED);
  }

  /**
   * Ask for everything by other filters, which the next `load` is going to have.
   *
   * @param {string} query
   * @param {string} [address] where, when it is known to the letter.
   */
  ahead(query, address = `/board/data?${query}`) {
    this.coming = { query: sorted(query), answer: ask(address), jobs: new Set(), crews: new Set() };
    this.coming.answer.catch(() => {}); // load tells of it
  }

  /** Get everything anew by `filters`. An answer that a later question has overtaken is dropped. */
  async load() {
    const asked = ++this.asked;
    if (this.coming?.query !== sorted(this.filters) || this.coming.taken) this.ahead(this.filters.toString());
    const { coming } = this;
    coming.taken = true;
    const found = await coming.answer.finally(() => (this.coming = this.coming === coming ? null : this.coming));
    if (asked !== this.asked) return;
    this.jobs = new Map(rows(found.jobs).map((job) => [job.id, job]));
    this.crews = new Map(found.crews.map((crew) => [crew.id, crew]));
    Object.assign(this, { counts: null, day: found.day, cursor: found.cursor, counted: performance.now() });
    this.ages = { risk: found.at_risk_s * 1000, fresh: found.fresh_s * 1000 };
    this.select([...this.selected].filter((id) => this.jobs.has(id)));
    this.tell("load");
    if (coming.jobs.size || coming.crews.size) await this.refresh([...coming.jobs], [...coming.crews]);
  }

  /** Get these jobs and crews anew; those that no longer fit the filters go. */
  async refresh(jobIds, crewIds = []) {
    if (jobIds.length > ALL_ANEW) return this.load();
    for (const id of jobIds) this.coming?.jobs.add(id); // what is on its way may have been read before they changed
    for (const id of crewIds) this.coming?.crews.add(id);
    const asked = this.asked;
    const changed = { jobs: [], crews: [...crewIds] };
    for (let from = 0; from < Math.max(jobIds.length, crewIds.length); from += AT_ONCE) {
      const wanted = crewIds.slice(from, from + AT_ONCE);
      const found = await ask(this.question({ ids: jobIds.slice(from, from + AT_ONCE), crews: wanted }));
      if (asked !== this.asked) return;
      const jobs = rows(found.jobs);
      for (const id of wanted) this.crews.delete(id);
      for (const job of jobs) this.jobs.set(job.id, job);
      for (const id of found.gone) this.jobs.delete(id);
      for (const crew of found.crews) this.crews.set(crew.id, crew);
      if (found.counts) this.counts = found.counts;
      changed.jobs.push(...jobs.map((job) => job.id), ...found.gone);
      changed.crews.push(...found.crews.map((crew) => crew.id).filter((id) => !wanted.includes(id)));
    }
    const kept = [...this.selected].filter((id) => this.jobs.has(id));
    if (kept.length !== this.selected.size) this.select(kept);
    this.tell("change", changed);
  }

  /** The address that asks for some jobs and crews: now and then with the numbers, which cost more than all the rest. */
  question({ ids = [], crews = [] }) {
    const query = new URLSearchParams(this.filters);
    if (ids.length) query.set("ids", ids.join(","));
    if (crews.length) query.set("crews", crews.join(","));
    const now = performance.now();
    const pause = this.jobs.size > MANY ? 5 * COUNTED : COUNTED;
    if (now - this.counted >= pause) {
      this.counted = now;
      query.set("counts", "1");
    } else if (ids.length) {
      this.recount ??= setTimeout(() => this.count(), pause - (now - this.counted));
    }
    return `/board/jobs?${query}`;
  }

  async count() {
    this.recount = null;
    const asked = this.asked;
    const found = await ask(this.question({})).catch(() => ({}));
    if (asked !== this.asked || !found.counts) return;
    this.counts = found.counts;
    this.tell("change", { jobs: [], crews: [] });
  }

  /** What changes by time alone: promises begin to run out and are broken, crews fall silent. */
  age(now = Date.now()) {
    const jobs = [...this.jobs.values()].filter((job) => {
      const left = Date.parse(job.due_at) - now;
      const promise = left <= 0 ? "over" : left <= this.ages.risk ? "soon" : null;
      return job.due_at && promise !== job.promise;
    });
    const crews = [...this.crews.values()].filter((crew) => {
      const shift = crew.shifts.find(({ starts_at, ends_at }) => Date.parse(starts_at) <= now && now < Date.parse(ends_at));
      const heard = Math.max(Date.parse(crew.last_seen_at) || 0, Date.parse(shift?.starts_at) || 0);
      return crew.own && crew.silent !== (Boolean(shift) && heard < now - this.ages.fresh);
    });
    if (jobs.length || crews.length) this.refresh(jobs.map(({ id }) => id), crews.map(({ id }) => id)).catch(() => {});
  }

  /** Light one job or crew in every view; `null`: none. */
  point(what) {
    const pointed = { job: what?.job ?? null, crew: what?.crew ?? null };
    if (pointed.job === this.pointed.job && pointed.crew === this.pointed.crew) return;
    this.pointed = pointed;
    this.tell("point", pointed);
  }

  /** Select these jobs, in place of or (`add`) besides those that are. */
  select(ids, { add = false } = {}) {
    this.selected = new Set(add ? [...this.selected, ...ids] : ids);
    this.tell("select", { ids: [...this.selected] });
  }

  tell(name, detail = null) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

function sorted(query) {
  const found = new URLSearchParams(query);
  found.sort();
  return found.toString();
}

/** A table of columns and rows as objects. */
export function rows({ columns, rows }) {
  return rows.map((row) => Object.fromEntries(columns.map((name, place) => [name, row[place]])));
}
