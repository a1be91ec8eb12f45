// The list of the board. The service writes its lines; here they are exchanged as jobs change, without losing where one
// is: neither the focus, nor the place scrolled to, nor what is selected.

import { count, words } from "./console.js";

const say = words("board-words");

export class List {
  /** @param {import("./store.js").Store} store @param {HTMLElement} board */
  constructor(store, board) {
    this.store = store;
    this.news = document.getElementById("news");
    board.addEventListener("mouseover", (event) => this.over(event));
    board.addEventListener("mouseout", (event) => event.target.closest(".jobs .job") && !event.relatedTarget?.closest?.(".jobs .job") && store.point(null));
    board.addEventListener("focusin", (event) => this.over(event));
    board.addEventListener("change", (event) => event.target.matches(".choose") && this.choose(event.target));
    for (const button of document.querySelectorAll("#moves [data-move]")) button.addEventListener("click", () => this.move(button.dataset.move));
    store.addEventListener("point", ({ detail }) => this.light(detail));
    store.addEventListener("select", () => this.mark());
    store.addEventListener("change", ({ detail }) => this.change(detail.jobs));
    document.addEventListener("htmx:afterSwap", () => this.once());
    this.expected = true; // the next load is one for which the list is there already
    store.addEventListener("load", () => {
      if (!this.expected) this.anew();
      this.expected = false;
    });
  }

  get jobs() {
    return document.getElementById("jobs");
  }

  line(id) {
    return document.getElementById(`job-${id}`);
  }

  over({ target }) {
    const line = target.closest?.(".jobs .job");
    if (line) this.store.point({ job: line.dataset.id });
  }

  /** Light the lines of what is pointed at, here or elsewhere. */
  light({ job, crew }) {
    for (const line of document.querySelectorAll(".jobs .lit")) line.classList.remove("lit");
    const lines = job ? [this.line(job)] : crew ? [...this.store.jobs.values()].filter((one) => one.crew_id === crew).map((one) => this.line(one.id)) : [];
    const there = lines.filter(Boolean);
    for (const line of there) line.classList.add("lit");
    if (job && there[0] && !there[0].matches(":hover, :focus-within")) there[0].scrollIntoView({ block: "nearest" });
  }

  choose(box) {
    const id = box.closest(".job").dataset.id;
    if (box.checked) this.store.select([id], { add: true });
    else this.store.select([...this.store.selected].filter((one) => one !== id));
  }

  mark() {
    for (const box of document.querySelectorAll(".jobs .choose")) {
      const line = box.closest(".job");
      box.checked = this.store.selected.has(line.dataset.id);
      line.classList.toggle("chosen", box.checked);
    }
  }

  /** j and k move the focus through the list, x selects. */
  move(how) {
    const lines = [...document.querySelectorAll(".jobs .job")];
    const here = document.activeElement.closest?.(".jobs .job") ?? this.line(this.store.pointed.job) ?? null;
    if (how === "select") {
      here?.querySelector(".choose").click();
      return;
    }
    const place = here ? lines.indexOf(here) + Number(how) : 0;
    const next = lines[Math.max(0, Math.min(lines.length - 1, place))];
    next?.querySelector(".what").focus();
    next?.scrollIntoView({ block: "nearest" });
  }

  /** What htmx has put in place of the list or at its end. */
  renew() {
    this.mark();
    this.light(this.store.pointed);
  }

  /** The next part of the list may bring again what has moved down meanwhile. */
  once() {
    const seen = new Set();
    for (const line of [...document.querySelectorAll(".jobs .job")].reverse()) {
      if (seen.has(line.id)) line.remove();
      seen.add(line.id);
    }
  }

  /** The whole list as the service writes it now. */
  async anew() {
    const top = this.jobs?.scrollTop ?? 0;
    const focused = document.activeElement.closest?.(".jobs .job")?.dataset.id;
    await window.htmx.ajax("GET", `/?${this.store.filters}`, { target: "#found", swap: "outerHTML" });
    if (this.jobs) this.jobs.scrollTop = top;
    if (focused) this.line(focused)?.querySelector(".what").focus({ preventScroll: true });
  }

  /** Bring the lines of these jobs up to date. */
  async change(ids) {
    this.counts();
    const query = this.store.filters.toString();
    for (let from = 0; from < ids.length; from += 200) {
      const some = ids.slice(from, from + 200);
      const asked = new URLSearchParams(this.store.filters);
      asked.set("ids", some.join(","));
      const answer = await fetch(`/board/rows?${asked}`, { headers: { Accept: "text/html" } }).catch(() => null);
      if (!answer?.ok || answer.redirected || query !== this.store.filters.toString()) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const lines = new Map([...page.querySelectorAll(".job")].map((line) => [line.dataset.id, line]));
      for (const id of some) this.put(id, lines.get(id) ?? null);
    }
    this.mark();
  }

  put(id, line) {
    const old = this.line(id);
    if (!line) return old ? this.drop(old) : undefined;
    const focused = old?.contains(document.activeElement) ? document.activeElement.className : null;
    if (old?.classList.contains("lit")) line.classList.add("lit");
    count(line);
    if (old && old.dataset.order === line.dataset.order) old.replaceWith(line);
    else this.insert(line, old);
    if (focused) line.getElementsByClassName(focused)[0]?.focus({ preventScroll: true });
  }

  /** Into its place; one beyond what has been loaded waits there. What one looks at stays where it is on the screen. */
  insert(line, old) {
    const jobs = this.jobs;
    if (!jobs) return this.anew();
    const others = [...jobs.querySelectorAll(".job")].filter((other) => other !== old);
    const next = others.find((other) => other.dataset.order > line.dataset.order);
    const more = jobs.querySelector(".more");
    const anchor = others.find((other) => other.getBoundingClientRect().bottom > jobs.getBoundingClientRect().top);
    const before = anchor?.getBoundingClientRect().top;
    if (next || !more) jobs.insertBefore(line, next ?? null);
    old?.remove();
    if (jobs.scrollTop > 0 && anchor) jobs.scrollTop += anchor.getBoundingClientRect().top - before;
    if (!line.isConnected) return;
    line.classList.add("fresh");
    if (!old) this.news.textContent = say.new.replace("{job}", line.querySelector(".what").textContent.trim());
  }

  drop(line) {
    const focused = line.contains(document.activeElement);
    const next = line.nextElementSibling ?? line.previousElementSibling;
    line.remove();
    if (focused) next?.querySelector(".what")?.focus({ preventScroll: true });
    if (!this.jobs.querySelector(".job")) this.anew();
  }

  /** The numbers above the list. One that was not there comes with the next change of filters. */
  counts() {
    const { counts } = this.store;
    if (!counts) return;
    const numbers = { "promise:soon": counts.soon, "promise:over": counts.over, "crew:none": counts.nobody };
    for (const [status, number] of Object.entries(counts.status)) numbers[`status:${status}`] = number;
    const chips = [...document.querySelectorAll("#chips [data-chip]")];
    for (const chip of chips) {
      const number = chip.querySelector(".number");
      const text = String(numbers[chip.dataset.chip] ?? 0);
      if (number.textContent !== text) number.textContent = text;
    }
    const known = new Set(chips.map((chip) => chip.dataset.chip));
    if (Object.entries(numbers).some(([name, number]) => number && !known.has(name))) this.chips();
  }

  async chips() {
    const answer = await fetch(`/?${this.store.filters}`, { headers: { Accept: "text/html", "HX-Request": "true" } }).catch(() => null);
    if (!answer?.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const [old, made] = [document.getElementById("chips"), page.getElementById("chips")];
    if (!old || !made || old.contains(document.activeElement)) return;
    const silent = document.getElementById("silent");
    made.querySelector("#silent").replaceWith(silent);
    old.replaceWith(made);
    window.htmx.process(made);
  }
}
