// Dragging by pointer, finger or pen alike: something follows, says where it would land, and Escape puts it back.

import { words } from "./console.js";

const FAR = 5; // pixels that a press may wander and still be a click

/** A small box beside the pointer that says whereto and what breaks. */
function hint(at) {
  const box = document.createElement("div");
  box.className = "drag-hint";
  box.setAttribute("role", "status");
  document.body.append(box);
  const follow = (event) => put(box, event);
  document.addEventListener("pointermove", follow, true);
  if (at) put(box, at);
  return {
    /** @param {string[]} lines @param {{severity: string, sentence: string}[]} [found] what breaks; none yet: leave out */
    say(lines, found) {
      box.replaceChildren(...lines.map((line) => part("strong", line)));
      box.classList.remove("hard", "soft", "fine");
      if (!found) return;
      const worst = found.some((one) => one.severity === "hard") ? "hard" : found.length ? "soft" : "fine";
      box.classList.add(worst);
      const list = found.slice(0, 5).map((one) => part("span", `${one.severity === "hard" ? "✕" : "▲"} ${one.sentence}`, one.severity));
      box.append(...(found.length ? list : [part("span", `✓ ${words("timeline-words").fits ?? ""}`, "fine")]));
    },
    close() {
      document.removeEventListener("pointermove", follow, true);
      box.remove();
    },
  };
}

function part(tag, text, className = "") {
  return Object.assign(document.createElement(tag), { textContent: text, className });
}

/** Beside a pointer; over a finger, which would hide it. */
function put(box, { clientX: x, clientY: y, pointerType }) {
  if (pointerType === "touch") {
    const left = Math.max(8, Math.min(innerWidth - box.offsetWidth - 8, x - box.offsetWidth / 2));
    box.style.transform = `translate(${left}px, ${Math.max(8, y - box.offsetHeight - 64)}px)`;
    return;
  }
  const right = x + 18 + box.offsetWidth > innerWidth;
  const below = y + 18 + box.offsetHeight > innerHeight;
  box.style.transform = `translate(${right ? x - box.offsetWidth - 12 : x + 18}px, ${below ? y - box.offsetHeight - 12 : y + 18}px)`;
}

/**
 * Begin to drag `element` with a pointerdown event.
 *
 * @param {PointerEvent} down
 * @param {HTMLElement} element
 * @param {{label: string, over: (x: number, y: number, hint: object) => boolean, drop: (x: number, y: number) => void,
 *   cancel: () => void, held?: boolean}} options `over`: whether it may land there; `held`: the press was long enough to be
 *   no click, whether it wanders or not.
 */
function begin(down, element, { label, over, drop, cancel, held = false }) {
  let ghost = null;
  let beside = null;
  const start = () => {
    ghost = part("div", label, "drag-ghost");
    document.body.append(ghost);
    beside = hint(down);
    element.classList.add("dragging");
    document.documentElement.classList.add("is-dragging");
  };
  const move = (event) => {
    if (!ghost && Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) < FAR) return;
    if (!ghost) start();
    event.preventDefault();
    ghost.style.transform = `translate(${event.clientX + 4}px, ${event.clientY - 30}px)`;
    ghost.classList.toggle("lands", over(event.clientX, event.clientY, beside));
  };
  const end = (event, done) => {
    element.removeEventListener("pointermove", move);
    element.removeEventListener("pointerup", up);
    element.removeEventListener("pointercancel", stop);
    document.removeEventListener("keydown", escape, true);
    const moved = Boolean(ghost);
    ghost?.remove();
    beside?.close();
    element.classList.remove("dragging");
    document.documentElement.classList.remove("is-dragging");
    if (moved) done(event?.clientX, event?.clientY);
  };
  const up = (event) => end(event, drop);
  const stop = () => end(null, cancel);
  const escape = (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    stop();
  };
  if (held) start();
  element.setPointerCapture(down.pointerId);
  element.addEventListener("pointermove", move);
  element.addEventListener("pointerup", up);
  element.addEventListener("pointercancel", stop);
  document.addEventListener("keydown", escape, true);
}

export const drag = { begin, hint };
