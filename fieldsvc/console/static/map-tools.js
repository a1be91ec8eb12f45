// Buttons and the legend of a map.

import { words } from "./console.js";
import { jobMark, node, svg, TIERS } from "./map-looks.js";

const say = words("map-words");
const facts = words("map-facts");

const PICTURES = {
  fit: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  polygon: "M5 8l8-4 7 6-3 9-11-2z",
  rectangle: "M4 6h16v12H4z",
  view: "M2 12s4-7 10-7 10 7 10 7-4 7-10 7S2 12 2 12zM12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6",
  routes: "M5 19a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM19 9a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM7 17h7a4 4 0 0 0 0-8h-3",
  clear: "M5 5l14 14M19 5L5 19",
  undo: "M9 14L4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3",
};

/** Put an element into a corner of the map; clicks on it do not reach the map. */
export function corner(map, position, element) {
  const L = window.L;
  const control = L.control({ position });
  control.onAdd = () => {
    L.DomEvent.disableClickPropagation(element);
    L.DomEvent.disableScrollPropagation(element);
    return element;
  };
  return control.addTo(map);
}

/** A button with a picture; `pressed` (true or false) makes it a switch. */
export function button(name, label, act, { pressed, key } = {}) {
  const made = node("button", "map-button");
  made.type = "button";
  made.title = label;
  made.setAttribute("aria-label", label);
  if (pressed !== undefined) made.setAttribute("aria-pressed", String(pressed));
  if (key) made.dataset.key = key;
  made.append(svg("svg", { viewBox: "0 0 24 24", width: 18, height: 18, "aria-hidden": "true" }, svg("path", { d: PICTURES[name], class: "map-picture" })));
  made.addEventListener("click", () => act(made));
  return made;
}

/** A row of buttons as one group. */
export function toolbar(map, label, buttons, position = "topleft") {
  const bar = node("div", "map-bar", ...buttons);
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", label);
  corner(map, position, bar);
  return bar;
}

/** What the marks mean; folded until somebody wants it, and as they left it. */
export function legend(map, { crews = true } = {}) {
  const box = node("details", "map-legend");
  const line = (mark, text) => node("li", "", node("span", "sample", mark), text);
  const example = (changes) => jobMark({ kind: facts.kinds[0], tier: "planned", status: "waiting_to_be_scheduled", ...changes });
  const list = (title, lines) => {
    const items = node("ul", "", ...lines);
    items.setAttribute("aria-label", title);
    return [node("p", "", title), items];
  };
  const body = node("div", "map-legend-body");
  body.tabIndex = 0; // it scrolls where the map is low
  body.append(
    ...list(say.kinds, facts.kinds.map((kind) => line(example({ kind }), facts.names[kind]))),
    ...list(say.tiers, Object.keys(TIERS).map((tier) => line(example({ tier }), facts.names[tier]))),
    ...list(say.stages, [
      line(example({}), say.waiting), line(example({ status: "dispatched" }), say.given), line(example({ status: "on_site" }), say.working),
      line(example({ status: "suspended" }), say.stopped), line(example({ status: "closed" }), say.over),
    ]),
    ...(crews ? list(say.crews, ["fresh", "old", "silent"].map((tone) => line(node("span", "", node("span", `crew-pill sample-pill ${tone}`), node("span", `crew ${tone}`)), say[tone]))) : []),
  );
  box.append(node("summary", "", say.legend), body);
  box.open = sessionStorage.getItem("map-legend") === "open";
  box.addEventListener("toggle", () => sessionStorage.setItem("map-legend", box.open ? "open" : ""));
  corner(map, "bottomright", box);
}
