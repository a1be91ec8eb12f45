// A job dragged from its mark and dropped on a crew, with mouse or pen. By keyboard and by touch the same is done from
// the job's popup and from the list.

import { words } from "./console.js";
import { node } from "./map-looks.js";
import { offerJob } from "./map-board.js";

const say = words("map-words");
const SLACK = 6; // pixels before a press becomes a drag

/** Let the jobs of `view` be dropped on its crews. */
export function onDrop(view, store) {
  const pane = view.map.getPane("markerPane");
  let held = null;

  const crewAt = ({ clientX, clientY }) => document.elementFromPoint(clientX, clientY)?.closest("[data-crew]") ?? null;
  const move = (event) => {
    if (!held) return;
    if (!held.ghost) {
      if (Math.hypot(event.clientX - held.x, event.clientY - held.y) < SLACK) return;
      held.ghost = node("div", "drag-ghost", `${store.jobs.get(held.id)?.number ?? ""} · ${say.dropHint}`);
      document.body.append(held.ghost);
      held.mark.classList.add("dragged");
    }
    held.ghost.style.transform = `translate(${event.clientX + 12}px, ${event.clientY + 12}px)`;
    const target = crewAt(event);
    if (target !== held.target) {
      held.target?.classList.remove("target");
      target?.classList.add("target");
      held.target = target;
    }
  };
  const end = (event) => {
    if (!held) return;
    const { id, ghost, mark, target } = held;
    ghost?.remove();
    mark.classList.remove("dragged");
    target?.classList.remove("target");
    held = null;
    window.removeEventListener("pointermove", move);
    if (ghost && target && event.type === "pointerup") offerJob(store, id, { crewId: target.dataset.crew });
    // The click that follows a drag selects nothing.
    if (ghost) window.addEventListener("click", (click) => click.stopPropagation(), { capture: true, once: true });
  };
  const press = (event) => {
    const mark = event.target.closest?.("[data-job]");
    if (!mark || event.button !== 0 || event.pointerType === "touch") return;
    held = { id: mark.dataset.job, mark, x: event.clientX, y: event.clientY, ghost: null, target: null };
    window.addEventListener("pointermove", move);
  };
  pane.addEventListener("pointerdown", press);
  pane.addEventListener("mousedown", (event) => held && event.stopPropagation()); // or the map would be dragged, too
  window.addEventListener("pointerup", end);
  window.addEventListener("pointercancel", end);
  window.addEventListener("keydown", (event) => event.key === "Escape" && end(event));
}
