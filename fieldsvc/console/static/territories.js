// The list of territories and its map: pointing at one lights it in the other; a click on the map opens it.

import { ask, words } from "./console.js";
import { drawAreas } from "./areas.js";
import { createMap } from "./map.js";

const element = document.getElementById("territories-map");
const rows = new Map([...document.querySelectorAll("tr[data-territory]")].map((row) => [row.dataset.territory, row]));

if (element) {
  const view = createMap(element, { label: element.dataset.label });
  const { features } = await ask(`${words("map-facts").territories}?zoom=10`);
  const open = ({ id }) => location.assign(rows.get(id)?.querySelector("a").href ?? `/territories/${encodeURIComponent(id)}`);
  const areas = drawAreas(view.map, features, { look: () => "area-quiet", act: open, point: light });
  function light(feature) {
    areas.light((one) => one.id === feature?.id);
    for (const [id, row] of rows) row.classList.toggle("lit", id === feature?.id);
  }
  for (const [id, row] of rows) {
    row.addEventListener("pointerenter", () => light({ id }));
    row.addEventListener("pointerleave", () => light(null));
    row.addEventListener("focusin", () => light({ id }));
    row.addEventListener("focusout", () => light(null));
  }
  const some = new URLSearchParams(location.search).has("q");
  areas.fit((one) => !some || rows.has(one.id));
}
