// Giving jobs to crews, from map, list and timeline alike: what breaks is said before anything is done, nobody's work is
// overwritten, and what was done can be taken back.

import { ask, notice, post, words } from "./console.js";
import { fill, make } from "./timeline-parts.js";
import { wall, instant } from "./zoned.js";

const say = words("assign-words");

/** @typedef {{crewId?: ?string, start?: ?string, pin?: boolean}} To whom and when: RFC 3339 in UTC, none: where it fits. */

/**
 * What breaks if these jobs went there.
 *
 * @param {import("./store.js").Store} store
 * @param {string[]} ids
 * @param {To} to
 * @param {AbortSignal} [signal]
 * @returns {Promise<{code: string, severity: string, sentence: string}[]>}
 */
export async function breaks(store, ids, to, signal) {
  const found = await offered(ids, to, signal);
  const several = found.jobs.length > 1;
  const list = found.jobs.flatMap((job) => job.breaks.map((one) => (several ? { ...one, sentence: `${job.number}: ${one.sentence}` } : one)));
  const crew = store?.crews.get(to.crewId);
  if (crew?.silent) list.push({ code: "silent", severity: "soft", sentence: fill(say.silent, { crew: crew.code }) });
  return list;
}

function offered(ids, { crewId, start }, signal) {
  const query = new URLSearchParams(ids.map((id) => ["job", id]));
  query.set("crew", crewId);
  if (start) query.set("start", start);
  return ask(`/assign/breaks?${query}`, { signal });
}

/**
 * Give one or several jobs to a crew. What breaks nothing is done at once; else, or where no crew is said, a dialog asks.
 *
 * @param {import("./store.js").Store} store its jobs carry the revision that the dispatcher has seen.
 * @param {string|string[]} jobIds
 * @param {To} [to]
 * @returns {Promise<boolean>} whether at least one job was given.
 */
export async function offer(store, jobIds, to = {}) {
  const jobs = [jobIds].flat().map((id) => store.jobs.get(id)).filter(Boolean);
  if (!jobs.length) return false;
  if (!to.crewId) return choose(store, jobs, to);
  if (jobs.length > 1) return choose(store, jobs, to);
  const [job] = jobs;
  const silent = store.crews.get(to.crewId)?.silent;
  if (silent) return choose(store, jobs, to);
  try {
    settled(store, [await give(job, to)]);
    return true;
  } catch (error) {
    if (error.problem?.breaks) return choose(store, jobs, to, error.problem);
    if (error.problem?.changes) return overtaken(store, jobs, to, error.problem);
    if (error.problem) notice(error.message, true);
    store.refresh([job.id]);
    return false;
  }
}

/** Send it; throws what `ask` throws. */
function give(job, { crewId, start, pin }, anyway = false) {
  const fields = { rev: job.rev, crew_id: crewId };
  if (start) fields.planned_start = start;
  if (pin ?? (job.pinned && job.crew_id === crewId)) fields.pin = "true";
  if (anyway) fields.anyway = "true";
  return post(`/jobs/${job.id}/assign`, fields);
}

// ----- the dialog

/** Ask for crew, time and pin, saying all the while what breaks. */
function choose(store, jobs, to, problem = null) {
  return new Promise((resolve) => new Chooser(store, jobs, to, problem, resolve).open());
}

class Chooser {
  constructor(store, jobs, to, problem, resolve) {
    Object.assign(this, { store, jobs, resolve });
    const [first] = jobs;
    const start = to.start ?? (to.crewId ? null : first.planned_start);
    this.crew = make("select", "", [], { name: "crew", id: "assign-crew" });
    this.time = make("input", "", [], { type: "datetime-local", name: "start", id: "assign-start", value: start ? wall(start) : "" });
    this.pin = make("input", "", [], { type: "checkbox", name: "pin" });
    this.pin.checked = to.pin ?? (jobs.length === 1 && first.pinned);
    this.told = make("ul", "breaks", [], { "aria-live": "polite" });
    this.reason = make("p", "quiet assign-reason");
    this.go = make("button", "primary", say.give, { type: "submit" });
    this.fillCrews(to.crewId ?? (jobs.length === 1 ? first.crew_id : null));
    this.build();
    if (problem) this.tell([problem.job ?? { ...first, allowed: problem.allowed, breaks: problem.breaks }]);
    else this.check();
    this.rank();
  }

  build() {
    const title = this.jobs.length === 1 ? fill(say.title, { job: this.jobs[0].number }) : fill(say.title_many, { count: this.jobs.length });
    const field = (label, control, hint) => {
      const id = `${control.id}-hint`;
      if (hint) control.setAttribute("aria-describedby", id);
      return make("div", "field", [make("label", "", label, { for: control.id }), ...(hint ? [make("p", "hint", hint, { id })] : []), control]);
    };
    const cancel = make("button", "", say.cancel, { type: "button" });
    const acts = make("div", "row end", [cancel, this.go]);
    if (this.jobs.some((job) => job.crew_id)) {
      const take = make("button", "danger", say.take, { type: "button" });
      take.addEventListener("click", () => this.close(() => takeAway(this.store, this.jobs.filter((job) => job.crew_id))));
      acts.prepend(take);
    }
    const heading = make("h2", "", title, { id: "assign-title" });
    const about = make("p", "quiet", this.jobs.length === 1 ? this.jobs[0].title ?? "" : this.jobs.map((job) => job.number).join(", "));
    const form = make("form", "form", [heading, about, field(say.crew, this.crew), this.reason, field(say.start, this.time, say.start_hint), make("label", "check", [this.pin, ` ${say.pin}`]), this.told, acts]);
    form.noValidate = true;
    this.dialog = make("dialog", "assign-dialog", form, { "aria-labelledby": "assign-title" });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      event.stopPropagation();
      if (!this.go.disabled) this.send();
    });
    cancel.addEventListener("click", () => this.close());
    this.dialog.addEventListener("cancel", () => this.close());
    this.crew.addEventListener("change", () => this.check());
    this.time.addEventListener("change", () => this.check());
  }

  open() {
    document.body.append(this.dialog);
    this.before = document.activeElement;
    this.dialog.showModal();
    (this.crew.value && this.told.children.length ? this.go : this.crew).focus();
  }

  close(then = null) {
    this.asking?.abort();
    this.dialog.remove();
    this.before?.focus?.();
    if (then) then().then(this.resolve);
    else this.resolve(false);
  }

  get to() {
    return { crewId: this.crew.value || null, start: this.time.value ? new Date(instant(this.time.value)).toISOString() : null, pin: this.pin.checked };
  }

  fillCrews(chosen) {
    const crews = [...this.store.crews.values()].sort((a, b) => a.name.localeCompare(b.name, document.documentElement.lang, { numeric: true }));
    const options = crews.map((crew) => option(crew.id, `${crew.name} · ${crew.code}`));
    this.crew.replaceChildren(option("", say.choose), ...options);
    this.crew.value = chosen ?? "";
  }

  /** Put the crews in the order of who could best, as soon as that is known. */
  async rank() {
    if (this.jobs.length > 1) return;
    const found = await ask(`/assign/crews?job=${this.jobs[0].id}`).catch(() => null);
    if (!found?.crews.length || !this.dialog.isConnected) return;
    const chosen = this.crew.value;
    const group = (label, rows) => (rows.length ? [make("optgroup", "", rows.map((row) => option(row.crew_id, `${row.name} · ${row.crew_code}`)), { label })] : []);
    const by = (possible) => found.crews.filter((row) => row.possible === possible);
    this.why = new Map(found.crews.filter((row) => row.possible).map((row) => [row.crew_id, row.words]));
    this.crew.replaceChildren(option("", say.choose), ...group(say.could, by(true)), ...group(say.unknown, by(null)), ...group(say.cannot, by(false)));
    this.crew.value = chosen;
    this.reason.textContent = this.why.get(chosen) ?? "";
  }

  /** Ask what breaks as things stand in the form. */
  async check() {
    const to = this.to;
    this.asking?.abort();
    this.reason.textContent = this.why?.get(to.crewId) ?? "";
    this.go.disabled = !to.crewId;
    this.go.textContent = say.give;
    this.seen = false; // of this crew and time, nothing has been seen yet
    if (!to.crewId) return this.told.replaceChildren();
    this.asking = new AbortController();
    const found = await offered(this.jobs.map((job) => job.id), to, this.asking.signal).catch((error) => error);
    if (found instanceof Error) {
      if (found.name !== "AbortError") this.told.replaceChildren(make("li", "hard", found.message));
      return undefined;
    }
    return this.tell(found.jobs);
  }

  tell(offers) {
    const crew = this.store.crews.get(this.to.crewId);
    const lines = offers.flatMap((one) => [
      ...(offers.length > 1 && one.breaks.length ? [make("li", "job", one.number)] : []),
      ...one.breaks.map(line),
    ]);
    if (crew?.silent) lines.push(line({ severity: "soft", sentence: fill(say.silent, { crew: crew.code }) }));
    this.seen = lines.length > 0;
    const possible = offers.filter((one) => one.allowed);
    this.go.disabled = !possible.length;
    this.go.textContent = lines.length ? say.anyway : say.give;
    this.told.replaceChildren(...(lines.length ? lines : [make("li", "fine", [make("span", "tag good", "✓"), make("span", "", say.fits)])]));
  }

  async send() {
    const to = this.to;
    this.go.disabled = true;
    const several = this.jobs.length > 1;
    const went = [];
    const failed = [];
    let next = to.start;
    for (const job of this.jobs) {
      try {
        went.push(await give(job, { ...to, start: next }, this.seen));
        if (next) next = new Date(Date.parse(next) + (job.service_minutes ?? 30) * 60_000).toISOString();
      } catch (error) {
        if (!several && error.problem?.changes) return this.close(() => overtaken(this.store, this.jobs, to, error.problem));
        if (!several && error.problem?.breaks) return this.tell([error.problem.job]);
        failed.push({ job, error });
      }
    }
    if (!several && failed.length) {
      this.told.replaceChildren(make("li", "hard", failed[0].error.message));
      this.go.disabled = false;
      return undefined;
    }
    return this.close(async () => {
      settled(this.store, went, failed);
      return went.length > 0;
    });
  }
}

const option = (value, text) => make("option", "", text, { value });

function line({ severity, sentence }) {
  const hard = severity === "hard";
  return make("li", severity, [make("span", `tag ${hard ? "bad" : "warn"}`, hard ? say.hard : say.soft), make("span", "", sentence)]);
}

// ----- somebody was faster

/** Who did what meanwhile, and how it stands now: look at it, or do it all the same. */
function overtaken(store, jobs, to, problem, again = null) {
  const [job] = jobs;
  return new Promise((resolve) => {
    const look = make("button", "primary", say.look, { type: "button" });
    const anyway = make("button", "", say.all_the_same, { type: "button" });
    const changes = make("ul", "", problem.changes.map((text) => make("li", "", text)));
    const heading = make("h2", "", fill(say.faster, { job: job.number }), { id: "overtaken-title" });
    const dialog = make("dialog", "assign-dialog", [heading, changes, make("p", "", problem.job.words), make("p", "quiet", say.untouched), make("div", "row end", [anyway, look])], { "aria-labelledby": "overtaken-title", role: "alertdialog" });
    const end = (answer) => {
      dialog.remove();
      resolve(answer);
    };
    look.addEventListener("click", async () => {
      end(false);
      await store.refresh([job.id]);
      store.select([job.id]);
      store.point({ job: job.id });
    });
    anyway.addEventListener("click", () => {
      end(again ? again(problem.job.rev) : offerAgain(store, job, to, problem.job.rev));
    });
    dialog.addEventListener("cancel", () => {
      end(false);
      store.refresh([job.id]);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** The same once more, on what it is now. */
async function offerAgain(store, job, to, rev) {
  await store.refresh([job.id]).catch(() => null);
  const known = store.jobs.get(job.id) ?? job;
  known.rev = Math.max(known.rev, rev);
  store.jobs.set(job.id, known);
  return offer(store, job.id, to);
}

// ----- afterwards

/** Tell what went and what did not, and offer to take it back. */
function settled(store, went, failed = []) {
  const ids = [...went.map((one) => one.job.id), ...failed.map(({ job }) => job.id)];
  for (const { job } of went) {
    const known = store.jobs.get(job.id);
    if (known) Object.assign(known, { rev: job.rev, crew_id: job.crew_id, planned_start: job.planned_start, planned_end: job.planned_end, pinned: job.pinned, status: job.status });
  }
  store.refresh(ids);
  const text = went.length === 1 ? went[0].said : fill(say.went, { count: went.length });
  const rest = failed.map(({ job, error }) => `${job.number}: ${error.message}`);
  if (went.length) undoable(store, went, text, rest);
  else if (rest.length) notice(`${say.none_went} ${rest.join(" ")}`, true);
}

function undoable(store, went, text, rest) {
  for (const before of document.querySelectorAll("#notices .notice:not(.bad)")) before.remove(); // they would cover what is dropped next
  const undo = make("button", "small undo", say.undo, { type: "button", "data-key": "z" });
  const close = make("button", "small", say.close, { type: "button" });
  const box = make("div", rest.length ? "notice bad" : "notice", [make("p", "", text), ...(rest.length ? [make("p", "", say.not_all), make("ul", "", rest.map((one) => make("li", "", one)))] : []), make("div", "notice-acts", [undo, close])]);
  const leave = setTimeout(() => box.remove(), 45_000);
  const away = () => {
    clearTimeout(leave);
    box.remove();
  };
  close.addEventListener("click", away);
  undo.addEventListener("click", async () => {
    away();
    for (const { job } of [...went].reverse()) await takeBack(store, job);
    store.refresh(went.map(({ job }) => job.id));
  });
  document.getElementById("notices").append(box);
}

async function takeBack(store, job) {
  try {
    const answer = await post(`/jobs/${job.id}/undo`, { rev: job.rev });
    notice(answer.said);
  } catch (error) {
    const changes = error.problem?.changes ?? [];
    notice([fill(say.not_undone, { job: job.number }), ...(changes.length ? changes : [error.message])].join(" "), true);
  }
}

/** Ask for the reason and take jobs from their crews. */
function takeAway(store, jobs) {
  return new Promise((resolve) => {
    const reason = make("input", "", [], { type: "text", id: "take-reason", maxlength: "500", required: "" });
    const go = make("button", "danger", say.take, { type: "submit" });
    const cancel = make("button", "", say.cancel, { type: "button" });
    const fault = make("p", "fault", "", { role: "alert", hidden: "" });
    const heading = make("h2", "", jobs.length === 1 ? fill(say.take_title, { job: jobs[0].number }) : fill(say.take_many, { count: jobs.length }), { id: "take-title" });
    const form = make("form", "form", [heading, make("div", "field", [make("label", "", say.reason, { for: "take-reason" }), make("p", "hint", say.reason_hint), fault, reason]), make("div", "row end", [cancel, go])]);
    form.noValidate = true;
    const dialog = make("dialog", "assign-dialog", form, { "aria-labelledby": "take-title" });
    const end = (answer) => {
      dialog.remove();
      resolve(answer);
    };
    cancel.addEventListener("click", () => end(false));
    dialog.addEventListener("cancel", () => end(false));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      event.stopPropagation();
      if (!reason.value.trim()) {
        fault.textContent = say.reason_missing;
        fault.hidden = false;
        return reason.focus();
      }
      const went = [];
      const failed = [];
      for (const job of jobs) {
        await post(`/jobs/${job.id}/unassign`, { rev: job.rev, reason: reason.value }).then(
          (answer) => went.push(answer),
          (error) => failed.push({ job, error }),
        );
      }
      end(went.length > 0);
      const overtook = failed.length === 1 && !went.length && failed[0].error.problem?.changes;
      if (!overtook) return settled(store, went, failed);
      return overtaken(store, jobs, {}, failed[0].error.problem, (rev) => takeAway(store, [{ ...jobs[0], rev }]));
    });
    document.body.append(dialog);
    dialog.showModal();
    reason.focus();
  });
}

/** Take jobs from their crews; a dialog asks for the reason. */
export const unassign = (store, jobIds) =>
  takeAway(store, [jobIds].flat().map((id) => store.jobs.get(id)).filter((job) => job?.crew_id));
