// The line to the service: what has changed comes by itself; when the line is cut it says so, and catches up.

const SILENT = 45_000; // the service says something every 15 s
const REFUSED = 5_000;

/**
 * Follow what changes on the board of `store`, until the page goes.
 *
 * @param {import("./store.js").Store} store loaded once already; its `cursor` is where this goes on.
 * @param {(state: "live"|"cut"|"away"|"caught_up"|"busy") => void} show tells how the line is.
 */
export function follow(store, show) {
  let source = null;
  let cursor = store.cursor;
  let heard = Date.now();
  let lost = false; // the line is cut, and what was missed has not been caught up yet
  let expected = false; // it has said that it ends
  let later = null;
  const changes = new Changes(store);

  const alive = (event) => {
    heard = Date.now();
    if (event.lastEventId) cursor = event.lastEventId;
  };
  const back = async () => {
    if (!lost) return show("live");
    lost = false;
    changes.add([], [...store.crews.keys()]); // where they are is not in what was missed
    await changes.done();
    if (!lost) show("caught_up");
  };
  const cut = (state = navigator.onLine ? "cut" : "away") => {
    lost = true;
    show(state);
  };
  const open = () => {
    clearTimeout(later);
    source?.close();
    source = new EventSource(`/board/stream?since=${cursor}`);
    source.addEventListener("changed", (event) => {
      alive(event);
      const { jobs, crews } = JSON.parse(event.data);
      changes.add(jobs, crews);
      back();
    });
    source.addEventListener("reload", (event) => {
      alive(event);
      store.load().then(back, () => cut());
    });
    source.addEventListener("beat", (event) => {
      alive(event);
      back();
    });
    source.addEventListener("full", (event) => {
      alive(event);
      expected = true;
      lost = false;
      show("busy");
    });
    source.addEventListener("bye", (event) => {
      alive(event);
      expected = true;
    });
    source.onerror = () => {
      if (!expected || source.readyState === EventSource.CLOSED) cut();
      expected = false;
      // A browser tries again by itself, unless it was refused.
      if (source.readyState === EventSource.CLOSED) later = setTimeout(again, REFUSED);
    };
  };
  const again = async () => {
    const answer = await fetch("/board/jobs", { headers: { Accept: "application/json" } }).catch(() => null);
    if (answer?.status === 401) location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
    else if (answer?.ok) open();
    else later = setTimeout(again, REFUSED);
  };

  window.addEventListener("offline", () => cut("away"));
  window.addEventListener("online", open);
  document.addEventListener("visibilitychange", () => !document.hidden && Date.now() - heard > SILENT && open());
  setInterval(() => {
    if (Date.now() - heard < SILENT) return;
    heard = Date.now();
    cut();
    open();
  }, 5_000);
  store.addEventListener("load", () => (cursor = Math.max(Number(cursor), Number(store.cursor))));
  open();
}

/** Changes as they come, asked for together: the first at once, what comes while that is under way after it. */
class Changes {
  constructor(store) {
    this.store = store;
    this.jobs = new Set();
    this.crews = new Set();
    this.running = null;
  }

  add(jobs, crews) {
    for (const id of jobs) this.jobs.add(id);
    for (const id of crews) this.crews.add(id);
    this.running ??= this.run().finally(() => (this.running = null));
  }

  async run() {
    while (this.jobs.size || this.crews.size) {
      const [jobs, crews] = [[...this.jobs], [...this.crews]];
      this.jobs.clear();
      this.crews.clear();
      try {
        await this.store.refresh(jobs, crews);
      } catch {
        for (const id of jobs) this.jobs.add(id);
        for (const id of crews) this.crews.add(id);
        await new Promise((resolve) => setTimeout(resolve, REFUSED));
      }
      await new Promise((resolve) => setTimeout(resolve, 400));
    }
  }

  done() {
    return this.running ?? Promise.resolve();
  }
}
