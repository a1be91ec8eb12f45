// The readings of a meter as a chart; the table below it has the same values.

import { language, words, zone } from "./console.js";

const box = document.getElementById("readings");
const data = words("readings-data");

/** Draw the chart into the width there is, in the colours of the page. */
function draw() {
  const style = getComputedStyle(document.documentElement);
  const probe = document.body.appendChild(document.createElement("i"));
  const colour = (name) => {
    probe.style.color = style.getPropertyValue(name);
    return getComputedStyle(probe).color;
  };
  const lines = ["--accent", "--bad", "--warn", "--good", "--quiet"].map(colour);
  const [ink, rule] = [colour("--quiet"), colour("--line")];
  probe.remove();
  const number = new Intl.NumberFormat(language, { maximumFractionDigits: 3 });
  const axis = { stroke: ink, grid: { stroke: rule, width: 1 }, ticks: { stroke: rule, width: 1 } };
  const day = new Intl.DateTimeFormat("sv-SE", { timeZone: zone, dateStyle: "short" });
  const hour = new Intl.DateTimeFormat("sv-SE", { timeZone: zone, timeStyle: "short" });
  const daily = 86_400;
  // The day stands where it begins, as everywhere else in the console.
  const year = new Set(data.times.map((time) => day.format(new Date(time)).slice(0, 4))).size > 1 ? 0 : 5;
  const times = (_plot, at, _axis, _space, step) =>
    at.map((seconds, place) => {
      const when = new Date(seconds * 1000);
      if (step >= daily) return day.format(when).slice(year);
      const begins = !place || day.format(when) !== day.format(new Date(at[place - 1] * 1000));
      return begins ? `${hour.format(when)}\n${day.format(when).slice(year)}` : hour.format(when);
    });
  const options = {
    width: box.clientWidth,
    height: 260,
    tzDate: (seconds) => window.uPlot.tzDate(new Date(seconds * 1000), zone),
    scales: { x: { time: true } },
    axes: [{ ...axis, values: times }, { ...axis, size: 80, values: (_, ticks) => ticks.map((tick) => number.format(tick)) }],
    series: [
      { value: (_, seconds) => (seconds == null ? "–" : `${day.format(new Date(seconds * 1000))} ${hour.format(new Date(seconds * 1000))}`), label: data.time },
      ...data.lines.map((line, place) => ({
        label: line.label,
        stroke: lines[place % lines.length],
        dash: place ? [6, 2 + place * 2] : [],
        width: 2,
        spanGaps: true,
        points: { show: true, size: 7 },
        value: (_, value) => (value == null ? "–" : number.format(value)),
      })),
    ],
  };
  box.replaceChildren();
  new window.uPlot(options, [data.times.map((time) => Date.parse(time) / 1000), ...data.lines.map((line) => line.values)], box);
}

if (box) {
  draw();
  let width = box.clientWidth;
  new ResizeObserver(() => {
    if (Math.abs(box.clientWidth - width) > 4) {
      width = box.clientWidth;
      draw();
    }
  }).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}
