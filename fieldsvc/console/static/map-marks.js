// Jobs, clusters, crews and routes on a map. One job that changes moves one mark, not all.

import { words } from "./console.js";
import { clusterMark, jobMark, node, TIERS, urgency } from "./map-looks.js";

const say = words("map-words");
const facts = words("map-facts");
const MANY = 400; // when more have changed than this, adding all anew is faster
const FEW = 30; // so many are faster one by one
const FEW_NAMES = 30; // so many crews have their names whatever those cover,
const FEW_SILENT = 8; // and so many silent ones, however many others there are
const ONE_PLACE = 6; // pixels between crews that look as one

/**
 * Leaflet and its plugins as this console wants them: marks are moved in the plane. By default each has a transform in
 * space, which makes it a layer of its own for the graphics card: with hundreds of them dragging the map takes three times the processor, and stutters.
 */
export function prepare() {
  const L = window.L;
  if (L.Marker.prototype.flat) return;
  L.Marker.include({
    flat: true,
    _setPos(at) {
      if (this._icon) {
        this._icon._leaflet_pos = at;
        this._icon.style.transform = `translate(${at.x}px, ${at.y}px)`;
      }
      this._zIndex = at.y + this.options.zIndexOffset;
      this._resetZIndex();
    },
  });
  L.MarkerCluster.prototype.options.keyboard = false; // by keyboard the list is the way to a job
  L.PM.setOptIn(true); // only areas that are drawn can be changed, not territories, routes and marks
}

/** What Leaflet takes for an icon; `draw` gives its element. */
const icon = (draw) => ({ options: { tooltipAnchor: [0, -10], popupAnchor: [0, -10] }, createIcon: draw, createShadow: () => null });
const placed = (thing) => Number.isFinite(thing?.lon) && Number.isFinite(thing?.lat);

/** The jobs of a map, clustered where they are dense. */
export class JobMarks {
  constructor(map) {
    const L = window.L;
    this.map = map;
    this.marks = new Map(); // id → marker
    this.selected = new Set();
    this.group = L.markerClusterGroup({
      chunkedLoading: true, chunkInterval: 60, chunkDelay: 10, animate: false, showCoverageOnHover: false,
      spiderLegPolylineOptions: { className: "spider-leg", weight: 1.5 },
      maxClusterRadius: (zoom) => (zoom >= 17 ? 14 : zoom >= 15 ? 30 : zoom >= 13 ? 50 : 60),
      iconCreateFunction: (cluster) => this.clusterIcon(cluster),
    });
    // A quarter of the view on each side is drawn ahead; the plugin's whole view on each side is nine times the marks.
    this.group._getExpandedVisibleBounds = () => this.group._checkBoundsMaxLat(map.getBounds().pad(0.25));
    this.group.addTo(map);
  }

  /** Show exactly these jobs (those that have a place). */
  show(jobs) {
    const wanted = new Map();
    for (const job of jobs) if (placed(job)) wanted.set(job.id, job);
    const gone = [...this.marks].filter(([id]) => !wanted.has(id)).map(([, mark]) => mark);
    if (gone.length > MANY && gone.length > this.marks.size / 2) {
      this.group.clearLayers();
      this.marks.clear();
    } else {
      this.remove(gone);
      for (const mark of gone) this.marks.delete(mark.job.id);
    }
    this.put([...wanted.values()]);
  }

  /** Show, change or move these jobs and leave the others as they are. */
  put(jobs) {
    const added = [];
    const moved = [];
    const looks = [];
    for (const job of jobs) {
      const mark = this.marks.get(job.id);
      if (!placed(job)) {
        if (mark) this.drop([job.id]);
      } else if (!mark) {
        added.push(this.make(job));
      } else if (mark.job.lon !== job.lon || mark.job.lat !== job.lat) {
        moved.push(mark);
        added.push(this.make(job));
      } else {
        const before = mark.job;
        mark.job = job;
        if (before.status !== job.status || before.tier !== job.tier || before.kind !== job.kind) looks.push(mark);
      }
    }
    this.remove(moved);
    if (added.length > FEW) this.group.addLayers(added);
    else for (const mark of added) this.group.addLayer(mark);
    this.repaint(looks);
  }

  remove(marks) {
    if (marks.length > FEW) this.group.removeLayers(marks);
    else for (const mark of marks) this.group.removeLayer(mark);
  }

  /** Take these jobs away. */
  drop(ids) {
    const gone = ids.map((id) => this.marks.get(id)).filter(Boolean);
    this.remove(gone);
    for (const mark of gone) this.marks.delete(mark.job.id);
  }

  /** Mark these jobs as selected, and no others. */
  select(ids) {
    const now = new Set(ids);
    const changed = [...this.marks.values()].filter(({ job }) => now.has(job.id) !== this.selected.has(job.id));
    this.selected = now;
    this.repaint(changed);
  }

  /** The jobs inside of a ring of [lon, lat], or of everything in view. */
  within(ring = null) {
    const view = this.map.getBounds();
    const inside = ring ? (mark) => holds(ring, mark.job) : (mark) => view.contains(mark.getLatLng());
    return [...this.marks.values()].filter(inside).map((mark) => mark.job.id);
  }

  /** The bounds of all jobs, or null. */
  bounds() {
    const found = this.group.getBounds();
    return found.isValid() ? found : null;
  }

  make(job) {
    const mark = window.L.marker([job.lat, job.lon], { keyboard: false, riseOnHover: true });
    mark.job = job;
    mark.options.zIndexOffset = (5 - urgency(job)) * 1000;
    mark.options.icon = icon(() => this.draw(mark.job, jobMark(mark.job)));
    this.marks.set(job.id, mark);
    return mark;
  }

  draw(job, mark) {
    mark.dataset.job = job.id;
    mark.classList.toggle("selected", this.selected.has(job.id));
    return mark;
  }

  /** In place, so that what the pointer is on or drags stays. */
  repaint(marks) {
    if (!marks.length) return;
    for (const mark of marks) {
      const there = mark.getElement();
      if (!there?.isConnected) continue;
      const drawn = jobMark(mark.job);
      const kept = [...there.classList].filter((name) => name.startsWith("leaflet-") || name === "dragging");
      there.className = "";
      there.classList.add(...kept, ...drawn.classList);
      there.replaceChildren(...drawn.childNodes);
      this.draw(mark.job, there);
    }
    this.group.refreshClusters(marks.length > MANY ? undefined : marks);
  }

  clusterIcon(cluster) {
    const shares = new Array(Object.keys(TIERS).length).fill(0);
    let selected = false;
    for (const { job } of cluster.getAllChildMarkers()) {
      shares[urgency(job)] += 1;
      selected ||= this.selected.has(job.id);
    }
    return icon(() => clusterMark(shares, selected));
  }
}

function holds(ring, { lon, lat }) {
  let inside = false;
  for (let here = 0, before = ring.length - 1; here < ring.length; before = here++) {
    const [x, y] = ring[here];
    const [px, py] = ring[before];
    if (y > lat !== py > lat && lon < ((px - x) * (lat - y)) / (py - y) + x) inside = !inside;
  }
  return inside;
}

/** How long ago, and how that is to be taken: `fresh`, `old`, `silent`, or `base` where nothing was heard at all. */
export function age(crew, now = Date.now()) {
  const at = crew.position?.at ?? crew.last_seen_at;
  const heard = [crew.position?.at, crew.last_seen_at].filter(Boolean).map((when) => Date.parse(when));
  if (!at) return { text: say.never, tone: crew.silent ? "silent" : "base" };
  const minutes = Math.max(0, (now - Math.max(...heard)) / 60000);
  const unit = minutes < 1 ? say.now : minutes < 90 ? `${Math.round(minutes)} ${say.min}` : minutes < 2160 ? `${Math.round(minutes / 60)} ${say.h}` : `${Math.round(minutes / 1440)} ${say.d}`;
  return { text: unit, tone: crew.silent ? "silent" : minutes * 60 > facts.fresh_s ? "old" : "fresh" };
}

const SIDES = { above: [0, -1], below: [0, 1], after: [1, 0], before: [-1, 0] };
const covers = (a, b) => Math.abs(a.x - b.x) < a.wide + b.wide && Math.abs(a.y - b.y) < a.high + b.high;

/** The crews of a map. */
export class CrewMarks {
  constructor(map) {
    this.map = map;
    this.marks = new Map();
    this.group = window.L.featureGroup().addTo(map);
    setInterval(() => this.grow(), 20000);
    map.on("moveend", () => this.sort());
  }

  /** Show exactly these crews, where they are or where they start from. */
  show(crews) {
    const wanted = new Set([...crews].map((crew) => crew.id));
    for (const id of this.marks.keys()) if (!wanted.has(id)) this.drop(id);
    this.put(crews);
  }

  /**
   * Give each name the side where it covers nothing; crews for whose names there is no room are bare marks. A name covers
   * other marks only where few crews are in view, or few of them silent; another name never. Crews in one place have one name,
   * which says how many more there are.
   */
  sort() {
    cancelAnimationFrame(this.sorting);
    this.sorting = requestAnimationFrame(() => {
      const jobs = [...this.map.getPane("markerPane").children].map((mark) => {
        const { x, y } = window.L.DomUtil.getPosition(mark);
        const half = mark.classList.contains("cluster") ? 20 : 10;
        return { x, y, wide: half, high: half };
      });
      const names = [];
      const view = this.map.getBounds().pad(0.1);
      const marks = [...this.marks.values()].filter((mark) => mark.drawn && view.contains(mark.getLatLng()));
      marks.sort((a, b) => Number(b.crew.silent) - Number(a.crew.silent) || (a.crew.code < b.crew.code ? -1 : 1));
      const silent = marks.filter((mark) => mark.crew.silent).length;
      const places = this.places(marks);
      const crews = places.map(({ at }) => ({ x: at.x, y: at.y, wide: 5, high: 5 }));
      for (const { at, there } of places) {
        for (const mark of there) {
          mark.others = there.filter((other) => other !== mark).map((other) => other.crew);
          mark.first = mark === there[0];
          paint(mark);
        }
        const [mark] = there;
        const wide = 8 + 3.6 * mark.drawn.textContent.length;
        const boxes = Object.entries(SIDES).map(([side, [x, y]]) => ({ side, x: at.x + x * (wide + 8), y: at.y + y * 16, wide, high: 10 }));
        const apart = boxes.filter((box) => !names.some((other) => covers(box, other)));
        const beside = apart.filter((box) => !crews.some((crew) => covers(box, crew)));
        const free = beside.find((box) => !jobs.some((job) => covers(box, job)));
        const few = marks.length <= FEW_NAMES || (mark.crew.silent && silent <= FEW_SILENT);
        const best = free ?? (few ? beside[0] ?? apart[0] : null);
        for (const one of there) {
          for (const side of Object.keys(SIDES)) one.drawn.classList.toggle(side, best?.side === side);
          const named = best && one === mark;
          one.drawn.classList.toggle("crowded", !named);
          one.setZIndexOffset((named ? 2000 : 0) + (one.crew.silent ? 1000 : 0)); // no bare mark over a name, nor over a silent one
        }
        if (best) names.push(best);
      }
    });
  }

  /** Where these crews are, in pixels, and who is there. */
  places(marks) {
    const found = [];
    for (const mark of marks) {
      const at = this.map.latLngToLayerPoint(mark.getLatLng());
      const place = found.find((one) => Math.abs(one.at.x - at.x) < ONE_PLACE && Math.abs(one.at.y - at.y) < ONE_PLACE);
      if (place) place.there.push(mark);
      else found.push({ at, there: [mark] });
    }
    return found;
  }

  /** Show, change or move these crews and leave the others as they are. */
  put(crews) {
    for (const crew of crews) {
      const at = placed(crew.position) ? [crew.position.lat, crew.position.lon] : crew.base ? [crew.base[1], crew.base[0]] : null;
      const mark = this.marks.get(crew.id);
      if (!at) this.drop(crew.id);
      else if (mark) {
        mark.crew = crew;
        mark.setLatLng(at);
        paint(mark);
      } else this.marks.set(crew.id, this.make(crew, at));
    }
    if (this.map._loaded) this.sort();
  }

  drop(id) {
    this.marks.get(id)?.remove();
    if (this.marks.has(id)) this.group.removeLayer(this.marks.get(id));
    this.marks.delete(id);
  }

  /** Let the ages told grow with the clock. */
  grow() {
    for (const mark of this.marks.values()) paint(mark);
  }

  /** Light one crew, or none. */
  light(id) {
    for (const mark of this.marks.values()) mark.drawn?.classList.toggle("lit", mark.crew.id === id);
  }

  bounds() {
    const found = this.group.getBounds();
    return found.isValid() ? found : null;
  }

  make(crew, at) {
    const mark = window.L.marker(at, { keyboard: false, pane: "crews", riseOnHover: true });
    mark.crew = crew;
    mark.options.icon = icon(() => {
      mark.drawn = node("div", "crew");
      mark.drawn.dataset.crew = crew.id;
      mark.drawn.append(node("span", "crew-pill", node("b", "", ""), node("span", "crew-age"), node("b", "crew-more")));
      paint(mark);
      return mark.drawn;
    });
    return mark.addTo(this.group);
  }
}

function paint(mark) {
  const { crew, drawn, first, others } = mark;
  if (!drawn) return;
  const { text, tone } = age(crew);
  const [code, since, more] = drawn.firstChild.children;
  if (code.textContent !== crew.code) code.textContent = crew.code;
  const told = crew.position ? text : `${text} ⌂`;
  if (since.textContent !== told) since.textContent = told;
  const besides = first && others.length ? `+${others.length}` : "";
  if (more.textContent !== besides) more.textContent = besides;
  for (const name of ["fresh", "old", "silent", "base"]) drawn.classList.toggle(name, name === tone);
  drawn.classList.toggle("at-base", !crew.position);
}

/** Routes: of one crew with numbers, or of many as bare lines. */
export class Routes {
  constructor(map) {
    this.map = map;
    this.one = window.L.layerGroup().addTo(map);
    this.all = window.L.layerGroup().addTo(map);
  }

  /** The way of one crew: `points` of {lon, lat, label?} in order; the first without a label is where it starts. */
  show(points) {
    const L = window.L;
    this.one.clearLayers();
    const there = (points ?? []).filter(placed);
    if (!there.length) return;
    const line = there.map(({ lon, lat }) => [lat, lon]);
    for (const className of ["route-casing", "route"]) L.polyline(line, { className, interactive: false, pane: "routes" }).addTo(this.one);
    there.forEach((point, place) => {
      if (point.label === undefined && !place) return;
      L.marker([point.lat, point.lon], { interactive: false, keyboard: false, pane: "stops", icon: icon(() => node("div", "stop", node("span", "", String(point.label ?? place)))) }).addTo(this.one);
    });
  }

  /** Bare lines of many crews: a list of lists of points. */
  showAll(lines) {
    this.all.clearLayers();
    const drawn = lines.map((points) => points.filter(placed).map(({ lon, lat }) => [lat, lon])).filter((line) => line.length > 1);
    if (drawn.length) window.L.polyline(drawn, { className: "route-many", interactive: false, pane: "routes" }).addTo(this.all);
  }
}

/** What is told of a job or crew in a few words, as text nodes. */
export function brief(...lines) {
  const made = node("div", "map-brief");
  for (const line of lines.filter(Boolean)) made.append(node("p", "", line));
  return made;
}

export { icon, placed };
