// Plans: the form, what is ticked, and the difference as pictures.

// The form: lists that can be narrowed, and a default for each mode until somebody chooses.
for (const field of document.querySelectorAll("[data-narrows]")) {
  const list = document.getElementById(field.dataset.narrows);
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    for (const label of list.querySelectorAll("label")) {
      label.hidden = Boolean(wanted) && !label.textContent.toLowerCase().includes(wanted) && !label.querySelector(":checked");
    }
  });
}
const form = document.querySelector(".run-new");
if (form) {
  let chosen = new URLSearchParams(location.search).has("what_if") || Boolean(form.querySelector(".fault"));
  form.addEventListener("change", ({ target }) => {
    if (target.name === "what_if") chosen = true;
    if (target.name !== "mode" || chosen) return;
    form.querySelector(`[name=what_if][value=${target.value === "fill" ? "false" : "true"}]`).checked = true;
  });
}

// What is ticked: a crew's box stands for all its changes.
const accept = document.getElementById("accept");
if (accept) {
  const told = document.getElementById("ticked");
  const tell = () => {
    for (const crew of accept.querySelectorAll("[name=crew_ids]")) {
      for (const box of crew.closest("tbody").querySelectorAll("[name=job_ids]")) {
        if (crew.checked) box.checked = true;
        box.disabled = crew.checked;
        box.closest("tr").classList.toggle("chosen", box.checked);
      }
    }
    const count = accept.querySelectorAll("[name=job_ids]:checked, [name=territory_ids]:checked").length;
    told.textContent = count ? told.dataset.some.replace("{count}", count) : told.dataset.none;
  };
  accept.addEventListener("change", ({ target }) => {
    if (target.name === "crew_ids" && !target.checked) {
      target.closest("tbody").querySelectorAll("[name=job_ids]").forEach((box) => (box.checked = false));
    }
    tell();
  });
  window.addEventListener("pageshow", tell);
  tell();
}

// How far it is, told once each time it changes: what htmx puts in anew would be read out every time.
const said = document.getElementById("progress-said");
document.addEventListener("htmx:afterSwap", ({ detail }) => {
  const text = detail.target.querySelector(".progress-text")?.textContent.trim().replace(/\s+/g, " ");
  if (said && text && said.textContent !== text) said.textContent = text;
});

// The difference, when it comes near the window: map and timeline are large.
const picture = document.getElementById("picture");
if (picture) {
  const near = new IntersectionObserver(async ([seen]) => {
    if (!seen.isIntersecting) return;
    near.disconnect();
    const { drawDifference } = await import("./run-picture.js");
    await drawDifference(picture);
  }, { rootMargin: "400px" });
  near.observe(picture);
}
