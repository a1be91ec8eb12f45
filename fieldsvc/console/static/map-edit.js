// Drawing and changing areas: polygons with holes, several of them, with a way back.

import { language, words } from "./console.js";
import { button, toolbar } from "./map-tools.js";

const say = words("map-words");
const STEPS = 100; // so many changes can be taken back

/**
 * Let a person change `geometry` (Polygon, MultiPolygon or null) on the map of `view`.
 *
 * @returns {{geometry: () => ?object, set: (geometry: ?object) => void, undo: () => boolean, stop: () => void}}
 */
export function editAreas(view, geometry, callback = () => {}) {
  const L = window.L;
  const { map } = view;
  const areas = L.featureGroup().addTo(map);
  const past = [];
  let last = "null";

  const now = () => {
    const parts = areas.getLayers().map((layer) => layer.toGeoJSON().geometry).flatMap(({ type, coordinates }) => (type === "MultiPolygon" ? coordinates : [coordinates]));
    if (!parts.length) return null;
    return parts.length === 1 ? { type: "Polygon", coordinates: parts[0] } : { type: "MultiPolygon", coordinates: parts };
  };
  const listen = (layer) => layer.on("pm:edit pm:vertexremoved pm:dragend", changed);
  const take = (layer) => {
    layer.options.pmIgnore = false;
    L.PM.reInitLayer(layer);
    layer.getElement()?.classList.add("area");
    listen(areas.hasLayer(layer) ? layer : layer.addTo(areas));
  };
  const rest = () => map.pm.globalEditModeEnabled() && map.pm.disableGlobalEditMode();
  const put = (shape) => {
    rest();
    areas.clearLayers();
    const parts = !shape ? [] : shape.type === "Polygon" ? [shape.coordinates] : shape.coordinates;
    for (const rings of parts) {
      const layer = L.polygon(rings.map((ring) => ring.slice(0, -1).map(([lon, lat]) => [lat, lon])), { className: "area", pmIgnore: false });
      listen(layer.addTo(areas));
    }
  };
  function changed() {
    // geoman tells of a cut before it has put the new shapes in place of the old
    queueMicrotask(() => {
      const text = JSON.stringify(now());
      if (text === last) return;
      past.push(last);
      if (past.length > STEPS) past.shift();
      last = text;
      back.disabled = false;
      callback(now());
    });
  }
  const undo = () => {
    if (!past.length) return false;
    last = past.pop();
    put(JSON.parse(last));
    back.disabled = !past.length;
    callback(now());
    return true;
  };
  const created = ({ layer }) => {
    take(layer);
    changed();
  };
  const cut = ({ layer, originalLayer }) => {
    areas.removeLayer(originalLayer);
    areas.removeLayer(layer);
    for (const part of layer.getLayers?.() ?? [layer]) take(part);
    changed();
  };
  const removed = ({ layer }) => {
    areas.removeLayer(layer);
    changed();
  };

  map.getContainer().classList.add("drawing");
  map.pm.setLang(language === "zh" ? "zh" : "en");
  map.pm.setGlobalOptions({ layerGroup: areas, snappable: true, allowSelfIntersection: false, exitModeOnEscape: true });
  map.pm.addControls({
    position: "topleft", drawMarker: false, drawCircle: false, drawCircleMarker: false, drawPolyline: false, drawText: false, rotateMode: false,
    drawPolygon: true, drawRectangle: true, editMode: true, dragMode: true, cutPolygon: true, removalMode: true,
  });
  named(map.getContainer());
  const back = button("undo", say.undo, undo);
  back.disabled = true;
  const bar = toolbar(map, say.areas, [back]);
  map.on("pm:create", created).on("pm:cut", cut).on("pm:remove", removed);
  put(geometry);
  last = JSON.stringify(now());
  if (areas.getLayers().length) map.fitBounds(areas.getBounds(), { padding: [30, 30], animate: false });
  return {
    geometry: now,
    set: (shape) => {
      put(shape);
      changed();
    },
    undo,
    stop: () => {
      rest();
      map.pm.removeControls();
      map.getContainer().classList.remove("drawing");
      map.off("pm:create", created).off("pm:cut", cut).off("pm:remove", removed);
      bar.remove();
      areas.remove();
    },
  };
}

/** geoman's buttons have pictures only. */
function named(container) {
  const names = { polygon: say.drawPolygon, rectangle: say.drawRectangle, edit: say.editArea, drag: say.moveArea, cut: say.cutArea, delete: say.removeArea };
  for (const [name, label] of Object.entries(names)) {
    const link = container.querySelector(`.leaflet-pm-icon-${name}`)?.closest("a");
    link?.setAttribute("aria-label", label);
    if (link) link.title = label;
  }
}
