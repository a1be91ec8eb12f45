// The page of a job: its map, photos to be looked at by keyboard, dialogs, paper, and news while one looks.

import { words } from "./console.js";
import { follow } from "./job-live.js";

const say = words("job-words");

// Dialogs: a button with data-opens shows one; a form in it that came back with a fault shows it at once.
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  if (opener) document.getElementById(opener.dataset.opens)?.showModal();
  event.target.closest("[data-closes]")?.closest("dialog")?.close();
});
for (const dialog of document.querySelectorAll("dialog")) if (dialog.querySelector(".fault")) dialog.showModal();

/** Photos of the page in one dialog: arrows go on, Escape closes, the focus comes back to the photo one was at. */
function photos(dialog) {
  const image = dialog.querySelector("#photo-image");
  const caption = dialog.querySelector("#photo-caption");
  const save = dialog.querySelector("#photo-save");
  let links = [];
  let at = 0;
  const show = (index) => {
    at = (index + links.length) % links.length;
    const { caption: name } = links[at].dataset;
    image.src = links[at].href;
    image.alt = links[at].querySelector("img").alt;
    const place = say.of?.replace("{number}", at + 1).replace("{total}", links.length) ?? "";
    caption.textContent = links.length > 1 ? `${name} (${place})` : name;
    save.href = `${links[at].href}?save=1`;
    for (const step of dialog.querySelectorAll("[data-photo-step]")) step.hidden = links.length < 2;
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-photo]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    links = [...document.querySelectorAll("a[data-photo]")];
    show(links.indexOf(link));
    dialog.showModal();
  });
  dialog.addEventListener("click", (event) => {
    const step = event.target.closest("[data-photo-step]");
    if (step) show(at + Number(step.dataset.photoStep));
  });
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(at + step);
  });
  dialog.addEventListener("close", () => links[at]?.focus());
}
const dialog = document.getElementById("photo");
if (dialog) photos(dialog);

/** The map, where there is a place; a page without one stays whole. */
async function place(element) {
  const { job, crew } = words("job-where");
  const { createMap } = await import("./map.js");
  element.hidden = false;
  const view = createMap(element);
  view.showJobs([job]);
  if (crew) view.showCrews([crew]);
  view.fit({ maxZoom: 14 });
}
const map = document.getElementById("job-map");
if (map && "L" in window) place(map).catch(() => (map.hidden = true));

// On paper everything is open.
const unfold = () => document.querySelectorAll("main details").forEach((one) => (one.open = true));
if (say.paper) unfold();
window.addEventListener("beforeprint", unfold);

if (say.stream) follow(say);
