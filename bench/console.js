// What bench/console.py puts into a page before its own scripts: a watch for when it has come to rest, and what to do.

window.bench = { last: 0, asking: 0 };

new MutationObserver((changes) => {
  const ticks = ({ target }) => (target.nodeType === 1 ? target : target.parentElement)?.closest(".countdown, .vis-current-time, #line");
  if (changes.some((one) => !ticks(one))) bench.last = performance.now();
}).observe(document, { subtree: true, childList: true, attributes: true, characterData: true });

// Whatever is asked of the service is under way until its answer has been read; the line of events never ends and is none.
for (const [of, name] of [[window, "fetch"], [Response.prototype, "json"], [Response.prototype, "text"]]) {
  const asked = of[name];
  of[name] = function (...args) {
    bench.asking += 1;
    return asked.apply(this, args).finally(() => (bench.asking -= 1));
  };
}
const { send } = XMLHttpRequest.prototype;
XMLHttpRequest.prototype.send = function (...args) {
  bench.asking += 1;
  this.addEventListener("loadend", () => (bench.asking -= 1));
  return send.apply(this, args);
};

/** Milliseconds from `from` to the last change after which for half a second nothing changes and nothing is under way. */
bench.still = async (from) => {
  for (;;) {
    const last = bench.last;
    let quiet = !bench.asking;
    for (let part = 0; part < 10; part += 1) {
      await new Promise((done) => setTimeout(done, 50));
      quiet &&= !bench.asking;
    }
    if (quiet && bench.last === last && last > from) return last - from;
  }
};

/** Milliseconds from a click on `selector` until the page is at rest. */
bench.click = (selector) => {
  const from = performance.now();
  document.querySelector(selector).click();
  return bench.still(from);
};

/** Milliseconds of each frame during four seconds in which the map is zoomed in and out. */
bench.zoom = async () => {
  const map = document.querySelector("#map .leaflet-container") ?? document.getElementById("map");
  const box = map.getBoundingClientRect();
  const at = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2, bubbles: true, cancelable: true };
  let turn = 0;
  const turning = setInterval(() => map.dispatchEvent(new WheelEvent("wheel", { ...at, deltaY: turn++ % 6 < 3 ? -120 : 120 })), 300);
  const frames = [];
  const ends = performance.now() + 4000;
  for (let before = performance.now(); before < ends; ) {
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    frames.push(now - before);
    before = now;
  }
  clearInterval(turning);
  return frames;
};

/** Milliseconds that the libraries alone take to show `points`, as markers and clusters of their own making. */
bench.bare = async ([styles, scripts, points]) => {
  for (const href of styles) document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href }));
  for (const src of scripts) {
    await new Promise((onload) => document.head.append(Object.assign(document.createElement("script"), { src, onload })));
  }
  const element = document.createElement("div");
  element.style.height = "500px";
  document.body.replaceChildren(element);
  await new Promise(requestAnimationFrame);
  const from = performance.now();
  const map = L.map(element, { maxZoom: 19 }).setView([40.7, -73.95], 10);
  map.addLayer(L.markerClusterGroup().addLayers(points.map(([lon, lat]) => L.marker([lat, lon]))));
  await new Promise(requestAnimationFrame);
  return performance.now() - from;
};
