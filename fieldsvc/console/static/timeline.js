// The crews' day: who does what when. Rows and their items are vis-timeline's; what is shown of them, the strip of jobs
// that wait, dragging from it and the keyboard are here.

import { count, language, time, words } from "./console.js";
import { drag } from "./drag.js";
import { backgrounds, item, loadsOf, major, minor, spanOf, update } from "./timeline-data.js";
import { crewLabel, danger, fill, jobOnRow, make, movable, waiting } from "./timeline-parts.js";
import { dayAfter, dayOf, offset, wall } from "./zoned.js";

const say = words("timeline-words");
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const STEP = 5 * MINUTE; // what a drag snaps to
const ROWS_MORE = 4; // rows above and below those in sight that are kept ready
const BY_FINGER = window.matchMedia("(pointer: coarse)").matches;
const MOST_WAITING = 80; // jobs in the strip; the list has them all

/**
 * A timeline in `element`, which it fills.
 *
 * @param {HTMLElement} element
 * @param {object} [options]
 * @param {boolean} [options.readonly] nothing can be dragged and there is no strip of waiting jobs to drag from.
 * @param {boolean} [options.tray] show the strip of jobs that wait for a crew (default: unless readonly).
 * @param {boolean} [options.days] show the chooser of the day (default true).
 * @param {(ids: string[], to: {crewId: ?string, start: ?string}|null) => ?Promise<void>} [options.onOffer] jobs were
 *   dropped on a crew, at a time or without one; `null`: ask where to. What was dragged stays there until it is settled.
 * @param {(ids: string[], to: object, signal: AbortSignal) => Promise<{severity: string, sentence: string}[]>}
 *   [options.onOver] what breaks if they were dropped there.
 * @param {(what: {job?: string, crew?: string}|null) => void} [options.onPoint]
 * @param {(id: string, add: boolean) => void} [options.onSelect]
 * @param {(id: string) => void} [options.onOpen] Enter or a double click on a job.
 * @param {(day: string) => void} [options.onDay] another day was chosen; it is shown in any case.
 * @returns {Timeline}
 */
export function createTimeline(element, options = {}) {
  return new Timeline(element, options);
}

/**
 * A timeline of what a store holds, for the board. Fires `timeline:day` (detail: YYYY-MM-DD, bubbles, cancelable) before
 * it asks the store for another day.
 *
 * @param {HTMLElement} element `data-readonly` makes it one to look at only.
 * @param {import("./store.js").Store} store
 */
export function attachTimeline(element, store) {
  const readonly = "readonly" in element.dataset;
  const assign = readonly ? null : import("./assign.js");
  const timeline = createTimeline(element, {
    readonly,
    onPoint: (what) => store.point(what),
    onSelect: (id, add) => store.select(add && store.selected.has(id) ? [...store.selected].filter((one) => one !== id) : [id], { add: add && !store.selected.has(id) }),
    onOpen: (id) => location.assign(`/jobs/${id}`),
    onOffer: async (ids, to) => (await assign).offer(store, ids, to ?? undefined),
    onOver: async (ids, to, signal) => (await assign).breaks(store, ids, to, signal),
    onDay(day) {
      const event = new CustomEvent("timeline:day", { detail: day, bubbles: true, cancelable: true });
      if (!element.dispatchEvent(event)) return;
      store.filters.set("day", day);
      store.load();
    },
  });
  const fresh = () => {
    if (store.day && store.day !== timeline.day) timeline.show(store.day);
    timeline.set([...store.crews.values()], [...store.jobs.values()]);
    timeline.mark(store.selected);
  };
  store.addEventListener("load", fresh);
  store.addEventListener("change", ({ detail }) => {
    const there = (ids, known) => ids.map((id) => known.get(id)).filter(Boolean);
    const gone = detail.jobs.filter((id) => !store.jobs.has(id));
    timeline.change(there(detail.jobs, store.jobs), gone, there(detail.crews ?? [], store.crews));
    timeline.mark(store.selected);
  });
  store.addEventListener("point", ({ detail }) => timeline.light(detail));
  store.addEventListener("select", ({ detail }) => timeline.mark(new Set(detail.ids)));
  if (store.jobs.size || store.crews.size) fresh();
  return timeline;
}

/** See {@link createTimeline}. A job may carry `key` (its id here, where one job is shown twice), `mark` (a class:
 * new, moved, gone, same), `ghost` (drawn as an outline) and `note` (told with it). */
class Timeline {
  constructor(element, options) {
    this.element = element;
    this.options = { readonly: false, days: true, ...options };
    this.options.tray ??= !this.options.readonly;
    this.crews = new Map();
    this.jobs = new Map(); // key → job
    this.marked = new Set();
    this.chips = new Map(); // job → what stands in the strip
    this.pending = new Set(); // jobs whose drop is not settled
    this.focused = null;
    this.day = dayOf(Date.now());
    this.items = new vis.DataSet();
    this.groups = new vis.DataSet();
    this.build();
    this.vis = new vis.Timeline(this.rows, this.items, this.groups, this.visOptions());
    this.vis.on("rangechanged", () => this.fillWindow());
    this.rows.querySelector(".vis-left")?.setAttribute("tabindex", "0"); // it scrolls: by keyboard too
    this.listen();
    this.window();
    this.follow();
  }

  /** Everything anew. */
  set(crews, jobs) {
    this.crews = new Map(crews.map((crew) => [crew.id, crew]));
    this.jobs = new Map(jobs.map((job) => [job.key ?? job.id, job]));
    this.windowIfStill();
    this.drawCrews();
    this.fillWindow();
    this.drawTray();
  }

  /** These jobs and crews are new or have changed; `gone`: ids of jobs that are no longer there. */
  change(jobs, gone = [], crews = []) {
    for (const job of jobs) this.jobs.set(job.key ?? job.id, job);
    for (const id of gone) this.jobs.delete(id);
    for (const crew of crews) this.crews.set(crew.id, crew);
    this.drawCrews();
    this.fillWindow();
    this.drawTray();
  }

  /** Show a day: YYYY-MM-DD in the visitor's zone. */
  show(day) {
    this.day = day;
    if (this.date) this.date.value = day;
    this.moved = false;
    this.window();
    this.drawCrews();
    this.fillWindow();
  }

  /** Light a job, a crew or (null) nothing. */
  light({ job, crew } = {}) {
    this.lit?.forEach((one) => one.classList.remove("lit"));
    this.lit = [...this.elementsOf(job), ...(crew ? this.element.querySelectorAll(`[data-crew="${CSS.escape(crew)}"]`) : [])];
    this.lit.forEach((one) => one.classList.add("lit"));
    this.litJob = job ?? null;
    this.dueLine(this.jobs.get(job)?.due_at ?? null);
  }

  /** A line through all rows at the time a promise runs out. */
  dueLine(due) {
    if (due === this.due) return;
    if (this.due) this.vis.removeCustomTime("due");
    this.due = due;
    if (!due) return;
    this.vis.addCustomTime(new Date(due), "due");
    this.vis.setCustomTimeMarker(fill(say.due, { time: time(due) }), "due", false);
    this.vis.setCustomTimeTitle(() => "", "due");
  }

  /** Show which jobs are selected. */
  mark(ids) {
    const changed = [...ids].filter((id) => !this.marked.has(id)).concat([...this.marked].filter((id) => !ids.has(id)));
    this.marked = new Set(ids);
    for (const id of changed) for (const one of this.elementsOf(id)) this.dress(one, id);
    this.hold();
  }

  /** By finger a swipe moves the rows; the job that has been tapped on is the one that a finger drags. */
  hold() {
    if (BY_FINGER) this.vis.setSelection(this.marked.size === 1 ? [...this.marked] : []);
  }

  /** Bring a job into view and put the keyboard on it. */
  focus(id) {
    const job = this.jobs.get(id);
    if (job?.crew_id && job.planned_start) this.vis.focus(id, { animation: false, zoom: false });
    this.setFocus(id);
  }

  /** Draw anew when the rows get another size. */
  follow() {
    let [width, height] = [this.rows.clientWidth, this.rows.clientHeight];
    this.resized = new ResizeObserver(() => {
      const { clientWidth, clientHeight } = this.rows;
      const same = clientWidth === width && clientHeight === height;
      if (same || !clientWidth) return; // folded away it stays as it is
      [width, height] = [clientWidth, clientHeight];
      this.vis.redraw();
    });
    this.resized.observe(this.rows);
  }

  destroy() {
    this.resized.disconnect();
    cancelAnimationFrame(this.soon);
    this.vis.destroy();
    this.element.replaceChildren();
  }

  // ----- building

  build() {
    const { days, tray, readonly } = this.options;
    const bar = make("div", "tl-bar");
    const button = (text, label, act, attributes = {}) => {
      const one = make("button", "small", text, { type: "button", "aria-label": label === text ? null : label, title: label, ...attributes });
      one.addEventListener("click", act);
      return one;
    };
    if (days) {
      this.date = make("input", "tl-date", [], { type: "date", "aria-label": say.day, value: this.day });
      this.date.addEventListener("change", () => this.date.value && this.choose(this.date.value));
      bar.append(
        button("‹", say.day_before, () => this.choose(dayAfter(this.day, -1))),
        this.date,
        button("›", say.day_after, () => this.choose(dayAfter(this.day, 1))),
        button(say.today, say.today, () => this.choose(dayOf(Date.now()))),
      );
    }
    bar.append(
      make("span", "tl-group", [
        button("−", say.zoom_out, () => this.vis.zoomOut(0.5, { animation: false })),
        button("+", say.zoom_in, () => this.vis.zoomIn(0.5, { animation: false })),
        button(say.hours, say.hours_label, () => this.hours()),
        button(say.whole_day, say.whole_day_label, () => this.window()),
      ]),
    );
    if (!readonly && this.options.onOffer) bar.append(button(say.move, say.move_label, () => this.move(), { "data-key": "m" }));
    this.tray = make("div", "tl-tray", [], { role: "group", "aria-label": say.waiting, hidden: tray ? null : "" });
    this.rows = make("div", "tl-rows");
    this.element.classList.add("timeline");
    this.element.replaceChildren(bar, this.tray, this.rows);
  }

  visOptions() {
    const { readonly, onOffer } = this.options;
    const editable = !readonly && Boolean(onOffer);
    return {
      height: "100%",
      autoResize: false, // which looks every second, and draws all once more a second after the start
      orientation: { axis: "top", item: "top" },
      stack: true,
      showCurrentTime: true,
      selectable: false,
      verticalScroll: true,
      horizontalScroll: true,
      horizontalScrollKey: "shiftKey",
      zoomKey: "ctrlKey",
      zoomMin: HOUR,
      zoomMax: 8 * 24 * HOUR,
      margin: { axis: 6, item: { horizontal: 0, vertical: 2 } },
      groupHeightMode: "auto",
      editable: editable ? { updateTime: true, updateGroup: true, add: false, remove: false } : false,
      itemsAlwaysDraggable: { item: editable && !BY_FINGER, range: false },
      groupOrder: "order",
      snap: (date) => new Date(Math.round(date.getTime() / STEP) * STEP),
      moment: (date) => vis.moment(date).utcOffset(offset(new Date(date ?? Date.now()).getTime())),
      format: { minorLabels: (date, scale) => minor(date.valueOf(), scale), majorLabels: (date, scale) => major(date.valueOf(), scale) },
      template: (item, element, data) => this.itemContent(data ?? item),
      groupTemplate: (group) => (group?.id ? crewLabel(this.crews.get(group.id) ?? { id: group.id, name: "", code: "" }, this.loads?.get(group.id)) : ""),
      showTooltips: false,
      onMoving: (item, callback) => this.moving(item, callback),
      onMove: (item, callback) => this.dropped(item, callback),
    };
  }

  itemContent(data) {
    const job = this.jobs.get(data.id);
    return job ? jobOnRow(job, this.crews.get(job.crew_id)) : "";
  }

  // ----- what is shown

  /** Show the whole day. */
  window() {
    const { first, last } = spanOf(this.crews.values(), this.day);
    this.vis.setWindow(first, last, { animation: false });
    this.moved = false;
  }

  /** Keep the whole day in sight as long as nobody has looked elsewhere. */
  windowIfStill() {
    if (!this.moved) this.window();
  }

  /** Six hours around now, or around the middle of what is shown when another day is. */
  hours() {
    const shown = this.vis.getWindow();
    const now = Date.now();
    const middle = dayOf(now) === this.day ? now + 2 * HOUR : (shown.start.getTime() + shown.end.getTime()) / 2;
    this.moved = true;
    this.vis.setWindow(middle - 3 * HOUR, middle + 3 * HOUR, { animation: false });
  }

  choose(day) {
    this.show(day);
    this.options.onDay?.(day);
  }

  drawCrews() {
    this.loads = loadsOf(this.crews.values(), this.jobs.values(), this.day);
    const inOrder = [...this.crews.values()].sort((a, b) => a.name.localeCompare(b.name, language, { numeric: true }));
    const wanted = new Map();
    inOrder.forEach((crew, order) => {
      const load = this.loads.get(crew.id);
      const look = [crew.name, crew.code, crew.silent, crew.skills, load, order].join("|");
      wanted.set(crew.id, { id: crew.id, order, content: crew.code, look, className: crew.silent ? "silent" : "heard" });
    });
    update(this.groups, wanted, (a, b) => a.look === b.look);
  }

  /** Give vis what lies in its window and half of it on either side, on the rows in sight and a few more: it measures
   * whatever it is given, so a day of 300 crews at once would take it a minute. */
  fillWindow() {
    const shown = this.vis.getWindow();
    const beside = (shown.end - shown.start) / 2;
    const [from, to] = [shown.start.getTime() - beside, shown.end.getTime() + beside];
    const rows = this.rowsInSight();
    this.filled = rows.join();
    const inSight = new Set(rows);
    const wanted = new Map();
    for (const id of rows) for (const one of backgrounds(this.crews.get(id), from, to)) wanted.set(one.id, one);
    for (const [key, job] of this.jobs) {
      if (this.pending.has(key) || !job.planned_start || !inSight.has(job.crew_id)) continue;
      const start = Date.parse(job.planned_start);
      const end = job.planned_end ? Date.parse(job.planned_end) : start + (job.service_minutes ?? 30) * MINUTE;
      if (end < from || start > to) continue;
      wanted.set(key, item(key, job, start, end));
    }
    update(this.items, wanted, (a, b) => a.look === b.look, (id) => this.pending.has(id));
    this.hold();
  }

  /** The ids of the crews whose rows are in sight, or nearly. */
  rowsInSight() {
    const labels = [...this.rows.querySelectorAll(".vis-labelset .vis-label")];
    const { top, bottom } = this.rows.getBoundingClientRect();
    const firstBelow = (y) => {
      let [low, high] = [0, labels.length];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (labels[middle].getBoundingClientRect().bottom < y) low = middle + 1;
        else high = middle;
      }
      return low;
    };
    const shown = labels.slice(Math.max(0, firstBelow(top) - ROWS_MORE), firstBelow(bottom) + ROWS_MORE);
    return shown.map((label) => label.querySelector(".tl-crew")?.dataset.crew).filter((id) => this.crews.has(id));
  }

  drawTray() {
    if (!this.options.tray || this.tray.querySelector(".dragging")) return;
    const open = [...this.jobs.values()].filter((job) => !job.ghost && movable(job) && (!job.crew_id || !job.planned_start));
    open.sort((a, b) => (a.due_at ?? "9").localeCompare(b.due_at ?? "9") || a.priority - b.priority || a.number.localeCompare(b.number));
    const shown = open.slice(0, MOST_WAITING);
    const parts = [this.trayTitle(open.length), ...shown.map((job) => this.chip(job))];
    if (open.length > shown.length) parts.push(make("span", "quiet nowrap", fill(say.more, { count: open.length - shown.length })));
    if (!open.length) parts.push(make("span", "quiet", say.none_waiting));
    const kept = new Set(shown.map((job) => job.id));
    for (const id of this.chips.keys()) if (!kept.has(id)) this.chips.delete(id);
    if (parts.length === this.tray.children.length && parts.every((part, place) => part === this.tray.children[place])) return;
    const had = this.tray.contains(document.activeElement) ? document.activeElement.dataset.job : null;
    this.tray.replaceChildren(...parts);
    count(this.tray);
    this.rove();
    if (had) this.chips.get(had)?.element.focus();
  }

  trayTitle(waitingNow) {
    this.title ??= make("span", "tl-tray-title");
    this.title.textContent = fill(say.waiting_count, { count: waitingNow });
    return this.title;
  }

  /** The chip of a job; the one that is there as long as nothing in it has changed, so that no drag loses its hold. */
  chip(job) {
    const look = [job.rev, job.due_at, job.crew_id, job.title, job.tier, danger(job)].join("|");
    const known = this.chips.get(job.id);
    if (known?.look === look) return known.element;
    const element = waiting(job, this.crews.get(job.crew_id));
    this.dress(element, job.id);
    this.chips.set(job.id, { look, element });
    return element;
  }

  // ----- pointing, selecting, keyboard

  elementsOf(id) {
    return id ? [...this.element.querySelectorAll(`.tl-job[data-job="${CSS.escape(id)}"]`)] : [];
  }

  dress(element, id) {
    element.classList.toggle("selected", this.marked.has(id));
    element.setAttribute("aria-pressed", this.marked.has(id));
    element.classList.toggle("lit", this.litJob === id);
  }

  listen() {
    const jobAt = (event) => event.target.closest?.(".tl-job")?.dataset.job ?? null;
    this.element.addEventListener("pointerover", (event) => {
      const job = jobAt(event);
      const crew = event.target.closest?.(".tl-crew")?.dataset.crew;
      if (job) this.options.onPoint?.({ job });
      else if (crew) this.options.onPoint?.({ crew });
    });
    this.element.addEventListener("pointerleave", () => this.options.onPoint?.(null));
    this.element.addEventListener("focusin", (event) => {
      const job = jobAt(event);
      if (!job) return;
      this.focused = job;
      this.rove();
      this.options.onPoint?.({ job });
    });
    this.element.addEventListener("click", (event) => {
      const job = jobAt(event);
      if (job && !this.dragged) this.options.onSelect?.(job, event.ctrlKey || event.metaKey || event.shiftKey);
    });
    this.element.addEventListener("dblclick", (event) => jobAt(event) && this.options.onOpen?.(jobAt(event)));
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.rows.addEventListener("wheel", () => (this.moved = true), { passive: true });
    this.rows.addEventListener("pointerdown", () => (this.moved = true));
    if (!this.options.readonly && this.options.onOffer) this.tray.addEventListener("pointerdown", (event) => this.pick(event));
    this.vis.on("changed", () => {
      cancelAnimationFrame(this.soon);
      this.soon = requestAnimationFrame(() => {
        if (this.rowsInSight().join() !== this.filled) this.fillWindow();
        this.rove();
      });
    });
  }

  /** One job in the timeline is reached by Tab; arrows go on from there. */
  rove() {
    const all = [...this.element.querySelectorAll(".tl-job")];
    const chosen = all.find((one) => one.dataset.job === this.focused) ?? all[0];
    for (const one of all) {
      const wanted = one === chosen ? "0" : "-1";
      if (one.getAttribute("tabindex") !== wanted) one.setAttribute("tabindex", wanted);
      if (this.marked.has(one.dataset.job) !== one.classList.contains("selected")) this.dress(one, one.dataset.job);
    }
  }

  setFocus(id) {
    this.focused = id;
    this.rove();
    this.elementsOf(id)[0]?.focus();
  }

  key(event) {
    const here = event.target.closest?.(".tl-job");
    if (!here || event.ctrlKey || event.metaKey || event.altKey) return;
    const id = here.dataset.job;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (steps) this.step(here, ...steps);
    else if (event.key === "Enter") this.options.onOpen?.(id);
    else if (event.key === " ") this.options.onSelect?.(id, event.shiftKey);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** From one job to the next on its row, or to the nearest in time on a row above or below. */
  step(here, along, across) {
    const all = [...this.element.querySelectorAll(".tl-job")].map((element) => ({ element, box: element.getBoundingClientRect() }));
    const from = here.getBoundingClientRect();
    const [x, y] = [from.left, from.top];
    const inTray = this.tray.contains(here);
    const row = (one) => Math.abs(one.box.top - y) < 6 && this.tray.contains(one.element) === inTray;
    let found;
    if (along) {
      const beside = all.filter((one) => row(one) && (one.box.left - x) * along > 0);
      found = beside.sort((a, b) => Math.abs(a.box.left - x) - Math.abs(b.box.left - x))[0];
    } else {
      const beyond = all.filter((one) => !row(one) && (one.box.top - y) * across > 5);
      found = beyond.sort((a, b) => Math.abs(a.box.top - y) * 4 + Math.abs(a.box.left - x) - Math.abs(b.box.top - y) * 4 - Math.abs(b.box.left - x))[0];
    }
    if (found) this.setFocus(found.element.dataset.job);
  }

  /** Ask where to: for the job the keyboard is on, else for what is selected. */
  move() {
    const on = this.element.contains(document.activeElement) ? document.activeElement.closest(".tl-job")?.dataset.job : null;
    const ids = on ? [on] : this.marked.size ? [...this.marked] : this.focused ? [this.focused] : [];
    if (ids.length) this.options.onOffer(ids, null);
  }

  // ----- dragging

  /** While a job on a row is dragged. */
  moving(item, callback) {
    callback(item);
    const start = new Date(item.start).toISOString();
    if (!this.hint) document.documentElement.classList.add("is-dragging");
    this.hint ??= drag.hint();
    const job = this.jobs.get(item.id);
    this.tell([job.id], { crewId: item.group, start });
  }

  /** A job on a row was dropped: it stays where it is until that is settled. */
  async dropped(item, callback) {
    this.endHint();
    const job = this.jobs.get(item.id);
    const start = new Date(item.start).toISOString();
    if (item.group === job.crew_id && Date.parse(start) === Date.parse(job.planned_start)) return callback(null);
    this.pending.add(item.id);
    callback(item);
    this.dragged = true;
    setTimeout(() => (this.dragged = false), 0);
    try {
      await this.options.onOffer([job.id], { crewId: item.group, start });
    } finally {
      this.pending.delete(item.id);
      const was = this.items.get(item.id);
      if (was) this.items.update({ ...was, look: "" });
      this.fillWindow();
    }
    return undefined;
  }

  /** A job of the strip is dragged: onto a row, or onto a crew anywhere on the page. */
  pick(event) {
    const chip = event.target.closest(".tl-chip");
    if (!chip || event.button !== 0) return;
    const id = chip.dataset.job;
    const ids = this.marked.has(id) ? [...this.marked] : [id];
    drag.begin(event, chip, {
      label: ids.length > 1 ? fill(say.jobs, { count: ids.length }) : this.jobs.get(id)?.number ?? "",
      over: (x, y, hint) => {
        const to = this.place(x, y);
        this.hint = hint;
        this.tell(ids, to);
        return Boolean(to);
      },
      drop: (x, y) => {
        const to = this.place(x, y);
        this.endHint();
        this.dragged = true;
        setTimeout(() => (this.dragged = false), 0);
        if (to) this.options.onOffer(ids, to);
      },
      cancel: () => this.endHint(),
    });
  }

  /** Which crew, and on a row which time, lies under a point of the window. */
  place(x, y) {
    const under = document.elementFromPoint(x, y);
    const crewId = under?.closest("[data-crew]")?.dataset.crew; // a label of ours, or a crew on the map
    if (crewId) return { crewId, start: null };
    if (!under || !this.rows.contains(under)) return null;
    const { group, time: when, what } = this.vis.getEventProperties({ clientX: x, clientY: y, target: under, center: { x, y }, srcEvent: {} });
    if (!group || what === "axis") return null;
    return { crewId: group, start: new Date(Math.round(when.getTime() / STEP) * STEP).toISOString() };
  }

  /** Say beside the pointer whereto, and a moment later what breaks there. */
  tell(ids, to) {
    const key = to ? `${to.crewId}|${to.start}` : "";
    if (key === this.told) return;
    this.told = key;
    clearTimeout(this.asking);
    this.asked?.abort();
    if (!to) return this.hint?.say([]);
    const crew = this.crews.get(to.crewId);
    const head = [crew?.name ?? "", to.start ? wall(to.start).slice(11) : ""].filter(Boolean).join(" · ");
    this.hint?.say([head]);
    if (!this.options.onOver) return undefined;
    this.asked = new AbortController();
    const { signal } = this.asked;
    this.asking = setTimeout(async () => {
      const found = await this.options.onOver(ids, to, signal).catch(() => null);
      if (found && !signal.aborted && this.told === key) this.hint?.say([head], found);
    }, 80);
    return undefined;
  }

  endHint() {
    clearTimeout(this.asking);
    this.asked?.abort();
    this.told = null;
    this.hint?.close();
    this.hint = null;
    document.documentElement.classList.remove("is-dragging");
    queueMicrotask(() => this.drawTray());
  }
}
