// The page of a territory: its border among its neighbours.

import { words } from "./console.js";
import { drawAreas } from "./areas.js";
import { createMap } from "./map.js";

const element = document.getElementById("territory-map");
const view = createMap(element, { label: element.dataset.label });
drawAreas(view.map, { type: "Feature", geometry: words("territory-border"), properties: {} }, { look: () => "area-plain lit" }).fit();
