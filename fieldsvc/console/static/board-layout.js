// The regions of the board: which are shown, and how large. This browser remembers it.

const KEY = "board-layout";

export class Layout {
  /** @param {HTMLElement} board */
  constructor(board) {
    this.board = board;
    this.onChange = () => {};
    this.kept = { list: 36, map: 55, hidden: [], tab: "list", ...recall() };
    this.narrow = matchMedia("(max-width: 1000px)");
    this.narrow.addEventListener("change", () => this.show());
    this.buttons = [...board.querySelectorAll("[data-region]")];
    for (const button of this.buttons) button.addEventListener("click", () => this.toggle(button.dataset.region));
    this.splitter(document.getElementById("split-list"), "list", (x) => x / board.clientWidth, "ArrowLeft", "ArrowRight");
    const top = () => board.querySelector(".board-head").offsetHeight;
    this.splitter(document.getElementById("split-map"), "map", (_, y) => (y - top()) / (board.clientHeight - top()), "ArrowUp", "ArrowDown");
    this.show();
  }

  toggle(region) {
    const { hidden } = this.kept;
    if (this.narrow.matches) this.kept.tab = region;
    else if (hidden.includes(region)) this.kept.hidden = hidden.filter((one) => one !== region);
    else if (hidden.length < 2) this.kept.hidden = [...hidden, region];
    this.show();
    this.keep();
  }

  show() {
    const { board, kept } = this;
    board.dataset.tab = kept.tab;
    board.style.setProperty("--list", `${kept.list}%`);
    board.style.setProperty("--map", `${kept.map}%`);
    for (const button of this.buttons) {
      const { region } = button.dataset;
      const on = this.narrow.matches ? kept.tab === region : !kept.hidden.includes(region);
      button.setAttribute("aria-pressed", String(on));
      board.classList.toggle(`no-${region}`, !this.narrow.matches && !on);
    }
    requestAnimationFrame(() => this.onChange());
  }

  /** A bar between two regions: dragged, or moved by arrow keys. */
  splitter(bar, name, share, less, more) {
    const set = (percent) => {
      const [low, high] = [Number(bar.ariaValueMin), Number(bar.ariaValueMax)];
      this.kept[name] = Math.round(Math.max(low, Math.min(high, percent)) * 10) / 10;
      bar.ariaValueNow = String(Math.round(this.kept[name]));
      this.show();
    };
    bar.ariaValueNow = String(Math.round(this.kept[name]));
    bar.addEventListener("pointerdown", (down) => {
      down.preventDefault();
      bar.setPointerCapture(down.pointerId);
      bar.classList.add("moved");
      const move = (event) => {
        const box = this.board.getBoundingClientRect();
        set(100 * share(event.clientX - box.left, event.clientY - box.top));
      };
      const up = () => {
        bar.removeEventListener("pointermove", move);
        bar.classList.remove("moved");
        this.keep();
      };
      bar.addEventListener("pointermove", move);
      bar.addEventListener("lostpointercapture", up, { once: true });
    });
    bar.addEventListener("keydown", (event) => {
      const step = { [less]: -2, [more]: 2 }[event.key];
      if (!step) return;
      event.preventDefault();
      set(this.kept[name] + step);
      this.keep();
    });
  }

  keep() {
    localStorage.setItem(KEY, JSON.stringify(this.kept));
  }
}

function recall() {
  try {
    const { list, map, hidden, tab } = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return Object.fromEntries(Object.entries({ list, map, hidden, tab }).filter(([, value]) => value !== undefined));
  } catch {
    return {};
  }
}
