// The form of a job: its place may be picked on a map, and what stands in the fields is shown there.

const element = document.getElementById("place-map");
const fields = ["lon", "lat"].map((name) => document.getElementById(`f-${name}`));

function typed() {
  const [lon, lat] = fields.map((field) => Number.parseFloat(field.value));
  return Number.isFinite(lon) && Number.isFinite(lat) ? { lon, lat } : null;
}

async function place() {
  const { createMap } = await import("./map.js");
  element.hidden = false;
  const view = createMap(element, { territories: true });
  const pin = view.pick(({ lon, lat }) => {
    fields[0].value = lon;
    fields[1].value = lat;
  }, typed());
  if (typed()) view.setView(typed(), 14);
  for (const field of fields) {
    field.addEventListener("change", () => {
      pin.set(typed());
      if (typed()) view.setView(typed(), 14);
    });
  }
}
if ("L" in window) place().catch(() => (element.hidden = true));
