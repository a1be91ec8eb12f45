// What lies under the marks: tiles of the configured address; where there are none, or they do not answer, the streets of
// the loaded road network. Territories are drawn over both, with their names where there is room.

import { language, words } from "./console.js";
import { node } from "./map-looks.js";
import { icon } from "./map-marks.js";

const say = words("map-words");
const facts = words("map-facts");
const STREETS_FROM = 10; // the first zoom with streets
const DETAILS = [8, 11, 14]; // zooms for which outlines are simplified

/** The zoom of a map that does not know yet what it is going to show. */
export const WORLD = 2;

/** The closest zoom at which one place alone still has something around it that tells where it is. */
export const AROUND = facts.tiles || facts.streets ? 19 : 11;

/** Data of the base. That it does not come is no news for a notice: the map just stays bare. */
async function get(url) {
  const answer = await fetch(url, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`${answer.status}`);
  return answer.json();
}

/** Put the base under `map`, which has a view; gives `{bounds(), ready}` of the territories. */
export function addBase(map) {
  const streets = facts.streets ? streetLayer(map) : null;
  if (facts.tiles) addTiles(map, streets);
  else streets?.addTo(map);
  bare(map, !facts.tiles);
  return addTerritories(map);
}

/** Without tiles territories are the ground that streets lie on; with them they are lines over the picture. */
function bare(map, without) {
  map.getContainer().classList.toggle("no-tiles", without);
  map.getPane("territories").style.zIndex = without ? 150 : 250;
}

function addTiles(map, streets) {
  // Tile servers want to know which site asks; the page's own policy would tell them nothing.
  const tiles = window.L.tileLayer(facts.tiles, { maxZoom: 19, referrerPolicy: "origin", className: "map-tiles" });
  const told = node("p", "map-told", say.noTiles);
  let missing = 0;
  let there = false;
  tiles.on("tileerror", () => {
    missing += 1;
    if (there || missing < 3 || told.isConnected) return;
    bare(map, true);
    map.getContainer().append(told);
    streets?.addTo(map);
  });
  tiles.on("tileload", () => {
    there = true;
    if (!told.isConnected) return;
    bare(map, false);
    told.remove();
    streets?.remove();
  });
  tiles.addTo(map);
  map.attributionControl.addAttribution(escaped(facts.credit));
}
const escaped = (text) => node("p", "", text).innerHTML;

function streetLayer(map) {
  const L = window.L;
  const Streets = L.GridLayer.extend({
    createTile(coords, done) {
      const size = this.getTileSize();
      const canvas = node("canvas");
      const sharp = Math.min(2, window.devicePixelRatio || 1);
      canvas.width = size.x * sharp;
      canvas.height = size.y * sharp;
      const corner = coords.scaleBy(size);
      const northWest = map.unproject(corner, coords.z);
      const southEast = map.unproject(corner.add(size), coords.z);
      const box = [northWest.lng, southEast.lat, southEast.lng, northWest.lat].map((degrees) => degrees.toFixed(6));
      get(`${facts.streets}?bbox=${box}&zoom=${coords.z}`).then(
        ({ lines }) => {
          drawLines(canvas, sharp, lines, ([lon, lat]) => map.project([lat, lon], coords.z).subtract(corner), getComputedStyle(this.getContainer()).color, coords.z);
          done(null, canvas);
        },
        (error) => done(error, canvas),
      );
      return canvas;
    },
  });
  const layer = new Streets({ tileSize: 512, minZoom: STREETS_FROM, noWrap: true, className: "map-streets", bounds: facts.streetBounds, updateWhenZooming: false, keepBuffer: 1 });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => layer.redraw());
  return layer;
}

function drawLines(canvas, sharp, lines, place, colour, zoom) {
  const pen = canvas.getContext("2d");
  pen.scale(sharp, sharp);
  pen.strokeStyle = colour;
  pen.lineJoin = pen.lineCap = "round";
  pen.lineWidth = zoom >= 16 ? 4 : zoom >= 14 ? 2 : 1;
  pen.beginPath();
  for (const line of lines) {
    line.forEach((point, step) => {
      const { x, y } = place(point);
      if (step) pen.lineTo(x, y);
      else pen.moveTo(x, y);
    });
  }
  pen.stroke();
}

function addTerritories(map) {
  const L = window.L;
  const outlines = L.geoJSON(null, { interactive: false, pane: "territories", className: "territory", fill: true }).addTo(map);
  const names = L.layerGroup().addTo(map);
  let detail = null;
  let features = [];
  let box = null;

  const told = new Map(); // the names that are shown, by territory
  const label = () => {
    const view = map.getBounds();
    for (const { id, properties } of features) {
      const [west, south, east, north] = properties.box;
      const name = (language === "zh" && properties.name_local) || properties.name;
      const size = map.project([north, east]).subtract(map.project([south, west]));
      const fits = Math.abs(size.x) >= name.length * 6.5 + 8 && Math.abs(size.y) >= 24 && view.intersects([[south, west], [north, east]]);
      if (fits && !told.has(id)) {
        const text = icon(() => node("div", "territory-name", node("span", "", name)));
        told.set(id, L.marker([properties.at[1], properties.at[0]], { icon: text, interactive: false, keyboard: false, pane: "names" }).addTo(names));
      } else if (!fits && told.has(id)) {
        names.removeLayer(told.get(id));
        told.delete(id);
      }
    }
  };
  const load = async () => {
    const wanted = map.getZoom() > WORLD ? DETAILS.find((zoom) => zoom >= map.getZoom()) ?? DETAILS.at(-1) : DETAILS[1];
    if (wanted === detail) return;
    detail = wanted;
    const found = await get(`${facts.territories}?zoom=${wanted}`);
    if (detail !== wanted) return;
    features = found.features;
    outlines.clearLayers();
    outlines.addData(found);
    box = found.bbox ? L.latLngBounds([found.bbox[1], found.bbox[0]], [found.bbox[3], found.bbox[2]]) : null;
    label();
  };
  const soon = () => load().catch(() => (detail = null)); // asked again with the next move
  map.on("zoomend", soon);
  map.on("moveend", label);
  return { bounds: () => box, ready: soon() };
}
