// The page of a crew: its base, where it is taken to be, and its way, on the map.

import { words } from "./console.js";
import { createMap } from "./map.js";

const element = document.getElementById("crew-map");
const crew = words("crew-facts");
const view = createMap(element, { label: element.dataset.label });
let fitted = false;

function show() {
  const { origin, stops } = words("crew-way-points");
  const position = origin?.source === "position" ? origin : null;
  if (crew.base || position) view.showCrews([{ ...crew, position }]);
  const points = (stops ?? []).filter(({ lon }) => lon !== null);
  if (points.length) view.showRoute([...(origin ? [origin] : []), ...points]);
  if (fitted || !(crew.base || points.length)) return;
  const places = [...points, ...(origin ? [origin] : []), ...(crew.base ? [{ lon: crew.base[0], lat: crew.base[1] }] : [])];
  const bounds = window.L.latLngBounds(places.map(({ lon, lat }) => [lat, lon]));
  view.map.fitBounds(bounds, { padding: [30, 30], maxZoom: 14, animate: false });
  fitted = points.length > 0;
}
show();
document.addEventListener("htmx:afterSwap", (event) => event.detail.target.id === "crew-way" && show());
