// SPDX-License-Identifier: ISC
const CELL_SIZES = [10, 14, 18, 22, 26, 30, 36, 44, 54];
const FINGER_CELL = 28;			// what a finger can hit (WCAG 2.5.8 asks for 24)
const MOUSE_CELL = 14;			// what a mouse can hit: rather the whole block at once
const LARGEST_FITTING_CELL = 30;
const SCREEN_SHARE = 0.75;		// of the window's height that a map may take
const TINY_CELL = 22;			// below, numbers are no longer read

/** SeatZoom - how large the seats of a map are: to fit, by buttons, by pinching, by Ctrl and the wheel.  Panning is scrolling. */
export class SeatZoom {
  #grid; #stage; #hint;
  #columns = 1;
  #rows = 1;
  #fit = true;
  /** @type {Map<number, PointerEvent>} */ #fingers = new Map();
  #pinch = null;

  constructor({ grid, stage, hint }) {
    this.#grid = grid;
    this.#stage = stage;
    this.#hint = hint;
    new ResizeObserver(() => { if (this.#fit) this.#fitWidth(); this.#tellWhatIsHidden(); }).observe(stage);
    stage.addEventListener('wheel', (event) => this.#wheel(event), { passive: false });
    stage.addEventListener('pointerdown', (event) => this.#down(event));
    stage.addEventListener('pointermove', (event) => this.#move(event));
    for (const end of ['pointerup', 'pointercancel']) stage.addEventListener(end, (event) => this.#up(event));
    stage.addEventListener('scroll', () => this.#tellWhatIsHidden(), { passive: true });
  }

  /** Another block. */
  drawn({ columns, rows }) {
    this.#columns = columns;
    this.#rows = rows.length;
    if (this.#fit) this.#fitWidth();
    this.#stage.scrollTo((this.#stage.scrollWidth - this.#stage.clientWidth) / 2, 0);
    this.#tellWhatIsHidden();
  }

  toFit() {
    this.#fit = true;
    // Asked for: everything on the screen, however small.
    this.#fitWidth(CELL_SIZES[0], (innerHeight * SCREEN_SHARE) / (this.#rows + 5));
    this.#tellWhatIsHidden();
  }

  step(/** @type {1|-1} */ step) {
    const size = this.#cell;
    const next = step > 0 ? CELL_SIZES.find((s) => s > size) : CELL_SIZES.findLast((s) => s < size);
    if (next) this.#resize(next, this.#stage.clientWidth / 2, this.#stage.clientHeight / 2);
  }

  get #cell() { return Number.parseFloat(this.#grid.style.getPropertyValue('--cell')) || FINGER_CELL; }

  #setCell(size) {
    this.#grid.style.setProperty('--cell', `${size}px`);
    this.#grid.classList.toggle('tiny', size < TINY_CELL);
  }

  #fitWidth(smallest = matchMedia('(pointer: coarse), (max-width: 40rem)').matches ? FINGER_CELL : MOUSE_CELL, largest = LARGEST_FITTING_CELL) {
    const style = getComputedStyle(this.#stage);
    const width = this.#stage.clientWidth - Number.parseFloat(style.paddingLeft) - Number.parseFloat(style.paddingRight);
    const fitting = Math.floor((width / (this.#columns + 2)) * 2) / 2;
    this.#setCell(Math.max(smallest, Math.min(largest, fitting)));
  }

  /** What is at (x, y) of the stage stays there. */
  #resize(size, x, y) {
    this.#fit = false;
    const factor = size / this.#cell;
    const { scrollLeft, scrollTop } = this.#stage;
    this.#setCell(size);
    this.#stage.scrollTo((scrollLeft + x) * factor - x, (scrollTop + y) * factor - y);
    this.#tellWhatIsHidden();
  }

  #tellWhatIsHidden() {
    const { scrollWidth, clientWidth, scrollLeft } = this.#stage;
    const hidden = scrollWidth - clientWidth > 2;
    this.#hint.hidden = !hidden;
    this.#stage.classList.toggle('more-left', hidden && scrollLeft > 2);
    this.#stage.classList.toggle('more-right', hidden && scrollLeft < scrollWidth - clientWidth - 2);
  }

  #wheel(event) {
    if (!event.ctrlKey) return;		// a trackpad's pinch comes as this too
    event.preventDefault();
    const box = this.#stage.getBoundingClientRect();
    this.#resize(bounded(this.#cell * Math.exp(-event.deltaY / 200)), event.clientX - box.left, event.clientY - box.top);
  }

  // While two fingers are down the map is only scaled, which costs nothing; it is laid out when they let go.

  #down(event) {
    if (event.pointerType !== 'touch') return;
    this.#fingers.set(event.pointerId, event);
    if (this.#fingers.size !== 2) return;
    const { distance, x, y } = this.#hand();
    const box = this.#stage.getBoundingClientRect();
    const map = this.#grid.getBoundingClientRect();
    this.#grid.style.transformOrigin = `${x - map.left}px ${y - map.top}px`;
    this.#pinch = { distance, cell: this.#cell, x: x - box.left, y: y - box.top, size: this.#cell };
  }

  #move(event) {
    if (!this.#fingers.has(event.pointerId)) return;
    this.#fingers.set(event.pointerId, event);
    if (!this.#pinch) return;
    this.#pinch.size = bounded((this.#pinch.cell * this.#hand().distance) / this.#pinch.distance);
    this.#grid.style.transform = `scale(${this.#pinch.size / this.#pinch.cell})`;
  }

  #up(event) {
    this.#fingers.delete(event.pointerId);
    if (!this.#pinch) return;
    this.#grid.style.transform = '';
    this.#resize(Math.round(this.#pinch.size), this.#pinch.x, this.#pinch.y);
    this.#pinch = null;
  }

  #hand() {
    const [a, b] = [...this.#fingers.values()];
    return { distance: Math.max(1, Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY)), x: (a.clientX + b.clientX) / 2, y: (a.clientY + b.clientY) / 2 };
  }
}

function bounded(size) { return Math.min(CELL_SIZES.at(-1), Math.max(CELL_SIZES[0], size)); }
