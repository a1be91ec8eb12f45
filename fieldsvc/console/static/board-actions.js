// What can be done with the jobs that are selected: open one, give them to a crew, plan them.

import { notice, words } from "./console.js";
import { offer } from "./assign.js";

const say = words("board-words");

export class Actions {
  /** @param {import("./store.js").Store} store */
  constructor(store) {
    this.store = store;
    this.bar = document.getElementById("chosen");
    this.bar.addEventListener("click", (event) => this.act(event));
    store.addEventListener("select", () => this.show());
  }

  show() {
    const { selected } = this.store;
    this.bar.hidden = selected.size === 0;
    this.bar.querySelector(".count").textContent = say.selected.replace("{count}", selected.size);
    const open = this.bar.querySelector("[data-do=open]");
    open.hidden = selected.size !== 1;
    open.href = selected.size === 1 ? `/jobs/${[...selected][0]}` : "#";
    const plan = this.bar.querySelector("[data-do=plan]");
    if (plan) plan.href = this.planned(plan.dataset.base);
  }

  /** The form of a new plan, with the territories and kinds of the jobs; a single one is put in. */
  planned(base) {
    const jobs = [...this.store.selected].map((id) => this.store.jobs.get(id)).filter(Boolean);
    const query = new URLSearchParams();
    if (jobs.length === 1) {
      query.set("mode", "insert");
      query.set("job_id", jobs[0].id);
      return `${base}?${query}`;
    }
    for (const id of new Set(jobs.map((job) => job.territory_id).filter(Boolean))) query.append("territory_ids", id);
    for (const kind of new Set(jobs.map((job) => job.kind))) query.append("kinds", kind);
    return `${base}?${query}`;
  }

  act(event) {
    const what = event.target.closest("[data-do]")?.dataset.do;
    if (what === "clear") this.store.select([]);
    if (what === "assign") this.assign();
  }

  async assign() {
    try {
      await offer(this.store, [...this.store.selected]);
    } catch (error) {
      notice(error.message, true);
    }
  }
}
