// The form of a crew: its base by a click on the map, and the map after what is typed.

import { createMap } from "./map.js";

const element = document.getElementById("base-map");
const lat = document.getElementById("f-base_lat");
const lon = document.getElementById("f-base_lon");

function typed() {
  const place = { lon: Number(lon.value), lat: Number(lat.value) };
  const there = lon.value.trim() && lat.value.trim() && Math.abs(place.lon) <= 180 && Math.abs(place.lat) <= 90;
  return there ? place : undefined;
}

const view = createMap(element, { label: element.dataset.label });
const pin = view.pick((place) => {
  lon.value = place.lon;
  lat.value = place.lat;
}, typed());
if (typed()) view.setView(typed(), 14);
for (const field of [lon, lat]) {
  field.addEventListener("change", () => {
    const place = typed();
    pin.set(place);
    if (place) view.setView(place, 14);
  });
}
