// The map of the board: shows what the store holds, and tells the store what is pointed at, selected and dropped.

import { language, time, words } from "./console.js";
import { node } from "./map-looks.js";
import { age, brief, icon, placed } from "./map-marks.js";
import { button, toolbar } from "./map-tools.js";
import { createMap } from "./map-view.js";

const say = words("map-words");
const facts = words("map-facts");

/**
 * The map of the board in `element`, linked with `store` both ways.
 *
 * @param {HTMLElement} element
 * @param {import("./store.js").Store} store
 * @param {{remember?: string, assign?: boolean}} [options] `assign`: jobs can be dropped on crews (not for auditors).
 * @returns what createMap gives
 */
export function attachMap(element, store, { remember = "board", assign = element.dataset.assign !== undefined } = {}) {
  const view = createMap(element, { legend: true, remember });
  const { map, jobs, crews } = view;
  const halo = window.L.marker([0, 0], { interactive: false, keyboard: false, pane: "halo", icon: icon(() => node("div", "halo", node("span"))) });
  const buttons = tools(view, store);
  let first = true;

  const showAll = () => {
    jobs.show(store.jobs.values());
    crews.show([...store.crews.values()]);
    jobs.select(store.selected);
    routes();
    if (first && !view.recalled && (store.jobs.size || store.crews.size)) {
      first = false;
      view.fit();
    }
  };
  const routes = () => {
    const on = buttons.routes.getAttribute("aria-pressed") === "true";
    view.routes.showAll(on ? [...store.crews.values()].map((crew) => routeOf(store, crew)) : []);
  };
  buttons.routes.addEventListener("click", routes);
  const light = ({ job: jobId, crew: crewId }) => {
    const job = store.jobs.get(jobId);
    if (job && placed(job)) halo.setLatLng([job.lat, job.lon]).addTo(map);
    else halo.remove();
    crews.light(crewId ?? job?.crew_id ?? null);
    const crew = store.crews.get(crewId);
    view.routes.show(crew ? routeOf(store, crew) : []);
  };

  store.addEventListener("load", showAll);
  store.addEventListener("change", ({ detail }) => {
    const changed = detail.jobs.map((id) => store.jobs.get(id) ?? id);
    jobs.drop(changed.filter((job) => typeof job === "string"));
    jobs.put(changed.filter((job) => typeof job !== "string"));
    for (const id of detail.crews) if (!store.crews.has(id)) crews.drop(id);
    crews.put(detail.crews.map((id) => store.crews.get(id)).filter(Boolean));
    routes();
    light(store.pointed);
  });
  store.addEventListener("point", ({ detail }) => light(detail));
  store.addEventListener("select", ({ detail }) => jobs.select(detail.ids));

  pointing(view, store);
  clicking(view, store, assign);
  if (assign) import("./map-drop.js").then(({ onDrop }) => onDrop(view, store));
  if (store.jobs.size || store.crews.size) showAll();
  return view;
}

/** The way of a crew today: where it is or starts from, then its jobs in order, numbered. */
function routeOf(store, crew) {
  const start = crew.position ?? (crew.base ? { lon: crew.base[0], lat: crew.base[1] } : null);
  const stops = [...store.jobs.values()].filter((job) => job.crew_id === crew.id && job.planned_start && placed(job));
  stops.sort((a, b) => (a.planned_order ?? Infinity) - (b.planned_order ?? Infinity) || a.planned_start.localeCompare(b.planned_start));
  const points = stops.map(({ lon, lat }, place) => ({ lon, lat, label: String(place + 1) }));
  return start && points.length ? [{ lon: start.lon, lat: start.lat }, ...points] : points;
}

function tools(view, store) {
  const { map, jobs } = view;
  const choose = (ids, add = false) => {
    store.select(ids, { add });
    told.textContent = say.chosen.replace("{count}", new Intl.NumberFormat(language).format(store.selected.size));
  };
  const area = (shape) => () => view.draw(shape, (ring) => choose(jobs.within(ring)));
  const routes = button("routes", say.routes, (made) => made.setAttribute("aria-pressed", String(made.getAttribute("aria-pressed") !== "true")), { pressed: false, key: "h" });
  const told = node("p", "sr");
  told.setAttribute("role", "status");
  toolbar(map, say.select, [
    button("rectangle", say.rectangle, area("Rectangle")),
    button("polygon", say.polygon, area("Polygon")),
    button("view", say.inView, () => choose(jobs.within()), { key: "l" }),
    button("clear", say.clear, () => choose([])),
    told,
  ]);
  toolbar(map, say.crews, [routes]);
  return { routes };
}

function pointing(view, store) {
  const { map, jobs, crews } = view;
  const tip = window.L.tooltip({ direction: "top", opacity: 1 });
  const over = (what, lines, at) => {
    if (view.busy) return;
    tip.options.offset = what.crew ? [0, -26] : [0, -10];
    store.point(what);
    tip.setContent(brief(...lines)).setLatLng(at).addTo(map);
  };
  const out = () => {
    store.point(null);
    tip.remove();
  };
  jobs.group.on("mouseover", ({ layer }) => {
    if (!layer.job) return;
    const job = store.jobs.get(layer.job.id) ?? layer.job;
    over({ job: job.id }, [`${job.number} · ${facts.names[job.kind] ?? job.kind}`, job.title, dueOf(job)], layer.getLatLng());
  });
  crews.group.on("mouseover", ({ layer }) => {
    const { crew, others = [] } = layer;
    const { text } = age(crew);
    const besides = others.map(({ code }) => code).join(", ");
    over({ crew: crew.id }, [`${crew.code} · ${crew.name}`, `${say.lastSeen}: ${text}`, crew.position ? "" : say.atBase, besides && `+ ${besides}`], layer.getLatLng());
  });
  for (const group of [jobs.group, crews.group]) group.on("mouseout", out);
  view.hush = out;
}
const dueOf = (job) => (job.due_at ? `${say.due}: ${time(job.due_at, { dateStyle: "short", timeStyle: "short" })}` : "");

function clicking(view, store, assign) {
  const { map, jobs, crews } = view;
  jobs.group.on("click", ({ layer, originalEvent }) => {
    if (!layer.job || view.busy) return;
    const job = store.jobs.get(layer.job.id);
    if (!job) return;
    if (originalEvent.ctrlKey || originalEvent.metaKey || originalEvent.shiftKey) {
      const others = [...store.selected].filter((id) => id !== job.id);
      store.select(others.length === store.selected.size ? [...others, job.id] : others);
      return;
    }
    store.select([job.id]);
    const crew = store.crews.get(job.crew_id);
    const lines = brief(`${facts.names[job.tier] ?? job.tier} · ${facts.names[job.status] ?? job.status}`, job.title, job.address, dueOf(job), crew ? `${say.crew}: ${crew.code}` : "");
    const open = node("a", "", `${say.open} ${job.number}`);
    open.href = `/jobs/${job.id}`;
    const acts = node("p", "row", open);
    if (assign) {
      const give = node("button", "small", say.assign);
      give.type = "button";
      give.addEventListener("click", () => {
        map.closePopup();
        import("./assign.js").then(({ offer }) => offer(store, job.id));
      });
      acts.append(give);
    }
    lines.append(acts);
    window.L.popup({ offset: [0, -6], maxWidth: 320 }).setLatLng(layer.getLatLng()).setContent(lines).openOn(map);
  });
  crews.group.on("click", ({ layer }) => {
    const { crew } = layer;
    store.select([...store.jobs.values()].filter((job) => job.crew_id === crew.id).map((job) => job.id));
    store.point({ crew: crew.id });
  });
}
