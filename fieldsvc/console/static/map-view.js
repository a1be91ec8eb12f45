// One map in an element: base, marks, and the ways to point out a place or an area on it.

import { language, words } from "./console.js";
import { addBase, AROUND, WORLD } from "./map-base.js";
import { CrewMarks, JobMarks, Routes, icon, placed, prepare } from "./map-marks.js";
import { node } from "./map-looks.js";
import { button, legend, toolbar } from "./map-tools.js";
import { editAreas } from "./map-edit.js";

const say = words("map-words");
const PANES = { territories: 150, names: 350, routes: 420, halo: 590, stops: 640, crews: 645 };
const LEAST = 80; // pixels that a map needs for anything to fit
let made = 0;

/**
 * Make a map in `element`, which has a height of its own by the page's style.
 *
 * @param {HTMLElement} element
 * @param {{legend?: boolean, remember?: string, label?: string}} [options]
 *   `legend` (false): what the marks mean; `remember`: a name under which centre and zoom are kept for the session;
 *   `label`: what a screen reader calls it.
 * @returns {{
 *   map: object,
 *   jobs: JobMarks, crews: CrewMarks, routes: Routes,
 *   showJobs: (jobs: Iterable<Job>) => void,
 *   showCrews: (crews: Iterable<Crew>) => void,
 *   showRoute: (points: {lon: number, lat: number, label?: string}[]) => void,
 *   fit: (options?: {maxZoom?: number}) => void,
 *   pick: (callback: (place: {lon: number, lat: number}) => void, value?: {lon: number, lat: number}) => {set: Function, stop: Function},
 *   draw: (shape: "Polygon"|"Rectangle", callback: (ring: [number, number][]) => void) => void,
 *   edit: (geometry: ?object, callback: (geometry: ?object) => void) => {geometry: Function, undo: Function, stop: Function},
 *   setView: (place: {lon: number, lat: number}, zoom?: number) => void,
 * }} `map` is Leaflet's. `showRoute` draws a line and a number at each point that has a label. `pick` calls back with
 *   each place chosen by a click, or by Enter (the middle of the map); a page has fields of its own to type one, and `set`
 *   shows it. `draw` gives the ring of one area.
 *   `edit` draws and changes a Polygon or MultiPolygon, with holes, and calls back after each change.
 */
export function createMap(element, options = {}) {
  const L = window.L;
  prepare();
  const id = `map-${++made}`;
  const canvas = frame(element, id, options.label ?? say.map);
  const map = L.map(canvas, { zoomControl: false, minZoom: WORLD, maxZoom: 19, worldCopyJump: true, zoomSnap: 0.25, zoomDelta: 1, boxZoom: false, markerZoomAnimation: false, pmIgnore: false });
  map.attributionControl.setPrefix(false);
  for (const [name, zIndex] of Object.entries(PANES)) map.createPane(name).style.zIndex = zIndex;
  for (const name of ["territories", "names", "routes", "halo", "stops"]) map.getPane(name).classList.add("no-pointer");
  // Marks are for the eye, as the list is for everybody; what opens on a click is for everybody, too.
  for (const name of ["tilePane", "overlayPane", "shadowPane", "markerPane", ...Object.keys(PANES)]) map.getPane(name).setAttribute("aria-hidden", "true");
  map.on("popupopen", ({ popup }) => popup.getElement().querySelector(".leaflet-popup-close-button")?.setAttribute("aria-label", say.close));
  const kept = recall(options.remember);
  map.setView(kept?.at ?? [20, 0], kept?.zoom ?? WORLD, { animate: false });
  L.control.zoom({ zoomInTitle: say.zoomIn, zoomOutTitle: say.zoomOut }).addTo(map);
  let fitted = null; // how everything was fitted in, as long as nobody has moved the map
  const view = { map, jobs: new JobMarks(map), crews: new CrewMarks(map), routes: new Routes(map) };
  toolbar(map, say.view, [button("fit", say.fit, () => view.fit(), { key: "b" })]);
  if (options.legend) legend(map);
  const base = addBase(map);

  Object.assign(view, {
    showJobs: (jobs) => view.jobs.show(jobs),
    showCrews: (crews) => view.crews.show([...crews]),
    showRoute: (points) => view.routes.show(points),
    setView: ({ lon, lat }, zoom = 15) => {
      map.setView([lat, lon], Math.min(zoom, AROUND), { animate: false });
      fitted = null;
    },
    fit: (how = {}) => {
      const { maxZoom = 16 } = how;
      const { x, y } = map.getSize();
      fitted = how;
      if (Math.min(x, y) < LEAST) return; // folded away, or not laid out yet: when it has a size
      const shown = [view.jobs.bounds(), view.crews.bounds()].filter(Boolean);
      const bounds = shown.length ? shown.reduce((all, one) => L.latLngBounds(all.getSouthWest(), all.getNorthEast()).extend(one)) : base.bounds();
      const alone = bounds?.getSouthWest().equals(bounds.getNorthEast());
      if (bounds) map.fitBounds(bounds, { padding: [24, 24], maxZoom: alone ? Math.min(maxZoom, AROUND) : maxZoom, animate: false });
      fitted = how;
    },
    pick: (callback, value) => pick(view, callback, value),
    draw: (shape, callback) => draw(map, shape, callback),
    edit: (geometry, callback) => editAreas(view, geometry, callback),
  });
  view.recalled = Boolean(kept);
  if (options.remember) map.on("moveend", () => remember(options.remember, map));
  base.ready.then(() => !view.recalled && map.getZoom() <= WORLD && view.fit());
  map.on("dragstart zoomstart", () => (fitted = null));
  new ResizeObserver(() => {
    map.invalidateSize({ pan: false });
    if (fitted) view.fit(fitted);
  }).observe(canvas);
  return view;
}

/** The element around Leaflet's: named, and with a way past for those who go by keyboard. */
function frame(element, id, label) {
  element.classList.add("map");
  element.setAttribute("role", "group");
  element.setAttribute("aria-label", label);
  const skip = node("a", "map-skip", say.skip);
  skip.href = `#${id}-end`;
  const canvas = node("div", "map-canvas");
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", say.how);
  const end = node("span", "map-end");
  Object.assign(end, { id: `${id}-end`, tabIndex: -1 });
  skip.addEventListener("click", (event) => {
    event.preventDefault();
    end.focus();
  });
  element.replaceChildren(skip, canvas, end);
  return canvas;
}

function recall(name) {
  try {
    return name ? JSON.parse(sessionStorage.getItem(`map:${name}`)) : null;
  } catch {
    return null;
  }
}
function remember(name, map) {
  const { lat, lng } = map.getCenter();
  sessionStorage.setItem(`map:${name}`, JSON.stringify({ at: [lat, lng], zoom: map.getZoom() }));
}

function pick(view, callback, value) {
  const { map } = view;
  const L = window.L;
  const container = map.getContainer();
  let pin = null;
  const set = (place) => {
    if (!placed(place)) return void pin?.remove();
    pin ??= L.marker([0, 0], { keyboard: false, interactive: false, pane: "crews", icon: icon(() => node("div", "pin", node("span"))) });
    pin.setLatLng([place.lat, place.lon]).addTo(map);
  };
  const take = (place) => {
    set(place);
    callback(place);
  };
  const at = ({ lat, lng }) => ({ lon: Number(L.Util.wrapNum(lng, [-180, 180], true).toFixed(6)), lat: Number(lat.toFixed(6)) });
  const click = (event) => take(at(event.latlng));
  const key = (event) => event.key === "Enter" && event.target === container && take(at(map.getCenter()));
  container.classList.add("picking");
  container.setAttribute("aria-label", say.howToPick);
  map.on("click", click);
  container.addEventListener("keydown", key);
  if (value) set(value);
  return {
    set,
    stop: () => {
      map.off("click", click);
      container.removeEventListener("keydown", key);
      container.classList.remove("picking");
      container.setAttribute("aria-label", say.how);
      pin?.remove();
    },
  };
}

function draw(map, shape, callback) {
  const container = map.getContainer();
  map.pm.disableDraw();
  map.pm.setLang(language === "zh" ? "zh" : "en");
  map.pm.setGlobalOptions({ exitModeOnEscape: true });
  const take = ({ layer }) => {
    const ring = layer.getLatLngs()[0].map(({ lng, lat }) => [lng, lat]);
    layer.remove();
    callback(ring);
  };
  map.on("pm:create", take);
  map.once("pm:drawend", () => {
    container.classList.remove("drawing");
    setTimeout(() => map.off("pm:create", take)); // what was drawn comes after the end of drawing
  });
  container.classList.add("drawing");
  const look = { className: "drawn" };
  map.pm.enableDraw(shape, { snappable: false, finishOn: "dblclick", pathOptions: look, templineStyle: look, hintlineStyle: { className: "drawn hint" } });
}
