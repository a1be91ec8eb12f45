// The sync desk asks for news of itself. What has the focus keeps it by its id; while something without one has it,
// or nobody looks, it waits for the next time. Tables stay scrolled to where they were.

const desk = document.getElementById("desk");
let scrolled = [];

desk.addEventListener("htmx:beforeRequest", (event) => {
  const focused = document.activeElement;
  if (document.hidden || (desk.contains(focused) && !focused.id)) event.preventDefault();
});
desk.addEventListener("htmx:beforeSwap", () => {
  scrolled = [...desk.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
});
desk.addEventListener("htmx:afterSwap", () => {
  [...desk.querySelectorAll(".scroll")].forEach((box, index) => (box.scrollLeft = scrolled[index] ?? 0));
});
