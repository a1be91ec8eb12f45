// The form of a territory: the border on the map and as text, each following the other, and what it comes to.

import { token, words } from "./console.js";
import { drawAreas } from "./areas.js";
import { createMap } from "./map.js";

const say = words("form-words");
const element = document.getElementById("draw-map");
const text = document.getElementById("f-geometry");
const look = document.getElementById("border-look");
const SOON = 400;
let asked = null;
let waiting = 0;
let after = null;

/** The Polygon or MultiPolygon in a text that may be one, a feature, or a collection of one; undefined: none. */
function area(value) {
  let found;
  try {
    found = JSON.parse(value);
  } catch {
    return undefined;
  }
  if (found?.type === "FeatureCollection") found = found.features?.length === 1 ? found.features[0] : null;
  if (found?.type === "Feature") found = found.geometry;
  return ["Polygon", "MultiPolygon"].includes(found?.type) && Array.isArray(found.coordinates) ? found : undefined;
}

const view = createMap(element, { label: element.dataset.label });
const start = area(text.value) ?? null;
const drawn = view.edit(start, (geometry) => {
  text.value = geometry ? JSON.stringify(geometry) : "";
  soon();
});
if (!start) view.fit();

text.addEventListener("change", () => {
  const geometry = text.value.trim() ? area(text.value) : null;
  if (geometry === undefined) return void tell(say.wrong);
  const kept = text.value;
  try {
    drawn.set(geometry);
    if (geometry) drawAreas(view.map, { type: "Feature", geometry, properties: {} }, { look: () => "area-unseen" }).fit();
  } catch {
    return void tell(say.wrong);
  }
  text.value = kept;
  soon();
});
document.getElementById("f-priority").addEventListener("change", soon);
document.getElementById("f-code")?.addEventListener("change", soon);
if (text.value.trim()) soon();

function tell(problem) {
  const line = document.createElement("p");
  line.className = "fault";
  line.textContent = problem;
  look.replaceChildren(line);
}

function soon() {
  clearTimeout(waiting);
  waiting = setTimeout(ask, SOON);
}

async function ask() {
  asked?.abort();
  after?.layer.remove();
  after = null;
  if (!text.value.trim()) return void look.replaceChildren();
  asked = new AbortController();
  const body = new FormData();
  const code = look.dataset.code || document.getElementById("f-code").value;
  for (const [name, value] of [["geometry", text.value], ["priority", document.getElementById("f-priority").value || "0"], ["code", code]]) if (value) body.set(name, value);
  try {
    const answer = await fetch(look.dataset.look, { method: "POST", body, headers: { ...token(), "HX-Request": "true" }, signal: asked.signal });
    if (!answer.ok) return;
    // The piece is ours, made by the template that escapes what stands in it.
    look.replaceChildren(...new DOMParser().parseFromString(await answer.text(), "text/html").body.childNodes);
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    return;
  }
  const repair = document.getElementById("border-repair");
  if (repair?.dataset.repaired) after = drawAreas(view.map, { type: "Feature", geometry: JSON.parse(repair.dataset.repaired), properties: {} }, { look: () => "area-after" });
}
