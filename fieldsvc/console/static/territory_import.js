// Importing a file of territories: its size is looked at before it is sent, and what would become of it is drawn.

import { words } from "./console.js";
import { drawAreas } from "./areas.js";
import { createMap } from "./map.js";

const say = words("import-words");
const form = document.getElementById("import-form");
const file = document.getElementById("f-file");
const large = document.getElementById("f-file-large");
const megabytes = (bytes) => (bytes / 1048576).toFixed(1);

function tooLarge() {
  const size = file.files[0]?.size ?? 0;
  const most = Number(form.dataset.largest);
  large.hidden = size < most;
  if (!large.hidden) large.textContent = say.large.replace("{size}", megabytes(size)).replace("{most}", megabytes(most));
  return !large.hidden;
}
document.addEventListener("htmx:configRequest", (event) => {
  if (!file.files.length || tooLarge()) event.preventDefault();
});
file.addEventListener("change", () => {
  // Another file is read anew: what was chosen for the last one may not be in it.
  document.querySelectorAll("#mapping select, #preview [name=seen]").forEach((field) => (field.disabled = true));
  if (tooLarge()) document.getElementById("preview").replaceChildren();
}, { capture: true });

let shown = null;
function draw() {
  const element = document.getElementById("import-map");
  if (!element) return;
  const drawing = words("import-drawing");
  const view = createMap(element, { label: element.dataset.label });
  const looks = { after: "area-after", raw: "area-raw", before: "area-before" };
  const named = drawing.features.map((one) => ({ ...one, properties: { ...one.properties, name: `${one.properties.name} (${say[one.properties.side]})` } }));
  shown = drawAreas(view.map, named, { look: ({ properties }) => (properties.side === "after" ? `area-after fate-${properties.fate}` : looks[properties.side]), point: light });
  shown.fit();
  for (const row of document.querySelectorAll("tr[data-feature]")) {
    const feature = { properties: { index: Number(row.dataset.feature) } };
    row.addEventListener("pointerenter", () => light(feature));
    row.addEventListener("pointerleave", () => light(null));
  }
}
function light(feature) {
  shown.light((one) => one.properties.index === feature?.properties.index);
  for (const row of document.querySelectorAll("tr[data-feature]")) row.classList.toggle("lit", Number(row.dataset.feature) === feature?.properties.index);
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-show]");
  if (!button) return;
  const index = Number(button.dataset.show);
  shown.fit((one) => one.properties.index === index);
  light({ properties: { index } });
  document.getElementById("import-map").scrollIntoView({ block: "nearest" });
});
document.addEventListener("htmx:afterSwap", (event) => event.detail.target.id === "preview" && draw());
draw();
