// A review: a suggested reason goes into the field with one key, and the next key decides.

const note = document.getElementById("f-note");
const suggestions = [...document.querySelectorAll("[data-note]")];

function mark() {
  for (const button of suggestions) button.setAttribute("aria-pressed", String(note.value === button.dataset.note));
}
if (note) {
  for (const button of suggestions) {
    button.addEventListener("click", () => {
      note.value = button.dataset.note;
      mark();
    });
  }
  note.addEventListener("input", mark);
  mark();
}
