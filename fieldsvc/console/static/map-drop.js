// A job dragged from its mark and dropped on a crew: what breaks there is said before it is let go. A finger rests on the
// mark first, for a swipe moves the map. By keyboard the same is done from the job's popup and from the list.

import { breaks, offer } from "./assign.js";
import { words } from "./console.js";
import { drag } from "./drag.js";

const say = words("map-words");
const REST = 80; // milliseconds on a crew before it is asked what breaks
const HOLD = 350; // milliseconds for which a finger rests before it drags
const STILL = 8; // pixels that a resting finger may wander

/** Let the jobs of `view` be dropped on its crews. */
export function onDrop(view, store) {
  const pane = view.map.getPane("markerPane");
  let pressed = false;

  pane.addEventListener("pointerdown", (event) => {
    const mark = event.target.closest?.(".mark[data-job]");
    pressed = Boolean(mark) && event.button === 0 && event.pointerType !== "touch";
    if (pressed) begin(event, mark);
    else if (mark && event.pointerType === "touch") rest(event, mark);
  });
  pane.addEventListener("contextmenu", (event) => event.target.closest?.(".mark[data-job]") && event.preventDefault());
  pane.addEventListener("mousedown", (event) => {
    if (!pressed) return;
    event.stopPropagation(); // or the map would be dragged, too
    event.preventDefault(); // or text would be selected on the way
  });

  function rest(down, mark) {
    const over = new AbortController();
    const end = () => {
      clearTimeout(held);
      over.abort();
    };
    const held = setTimeout(() => {
      end();
      view.map.dragging.disable();
      view.busy = true;
      begin(down, mark, true);
    }, HOLD);
    const listen = { capture: true, signal: over.signal };
    document.addEventListener("pointermove", ({ clientX, clientY }) => Math.hypot(clientX - down.clientX, clientY - down.clientY) > STILL && end(), listen);
    for (const name of ["pointerdown", "pointerup", "pointercancel"]) document.addEventListener(name, end, listen);
  }

  function begin(event, mark, held = false) {
    const id = mark.dataset.job;
    const ids = store.selected.has(id) ? [...store.selected] : [id];
    let target = null;
    let asking = null;
    let asked = null;
    const aim = (crewId, hint) => {
      if (crewId === target) return;
      clearTimeout(asking);
      asked?.abort();
      target = crewId;
      view.crews.light(crewId);
      const crew = store.crews.get(crewId);
      hint?.say([crew ? crew.name : say.dropHint]);
      if (!crew) return;
      const { signal } = (asked = new AbortController());
      asking = setTimeout(async () => {
        const found = await breaks(store, ids, { crewId, start: null }, signal).catch(() => null);
        if (found && !signal.aborted) hint?.say([crew.name], found);
      }, REST);
    };
    const crewAt = (x, y) => document.elementFromPoint(x, y)?.closest(".crew[data-crew]")?.dataset.crew ?? null;
    drag.begin(event, mark, {
      held,
      label: ids.length > 1 ? say.chosen.replace("{count}", ids.length) : store.jobs.get(id)?.number ?? "",
      over: (x, y, hint) => {
        if (!view.busy) view.hush();
        view.busy = true;
        aim(crewAt(x, y), hint);
        return Boolean(target);
      },
      drop: () => {
        const crewId = target;
        end();
        if (crewId) offer(store, ids, { crewId });
      },
      cancel: end,
    });
    function end() {
      aim(null, null);
      view.map.dragging.enable();
      setTimeout(() => (view.busy = false)); // the click that follows a drag opens nothing
    }
  }
}
