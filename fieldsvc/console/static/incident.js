// The map of an incident: where each call came from, the leading job among them.

const box = document.getElementById("incident-map");
const places = JSON.parse(document.getElementById(box.dataset.tickets).textContent);
if (!places.length) box.hidden = true;
else {
  const { createMap } = await import("./map.js");
  const view = createMap(box);
  view.showJobs(places);
  view.fit();
}
