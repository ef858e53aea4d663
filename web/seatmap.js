import { texts } from './texts.js';

const CELL_SIZES = [14, 18, 22, 26, 30, 36, 44, 54];
const FINGER_CELL = 28;			// what a finger can hit (WCAG 2.5.8 asks for 24)
const MOUSE_CELL = 16;			// what a mouse can hit: rather the whole block at once
const LARGEST_FITTING_CELL = 40;
const CURVE = 0.055;			// how far the ends of a row come forward, in rows per column

/**
 * SeatMap - the seats of one block as a grid that bends around the pitch.
 *
 * One tab stop; arrow keys move inside (roving tabindex).  Calls choose(seat) on click, Enter and Space.  Knows how
 * seats look, not what holding one means.
 */
export class SeatMap {
  #grid; #stage; #choose;
  /** @type {Map<number|string, {id: any, row: number, number: number, node: HTMLElement, look: string}>} */ #byId = new Map();
  #rows = [];
  #columns = 1;
  #current = null;
  #fit = true;

  constructor(grid, stage, choose) {
    this.#grid = grid;
    this.#stage = stage;
    this.#choose = choose;
    grid.addEventListener('click', (event) => this.#clicked(event));
    grid.addEventListener('keydown', (event) => this.#pressed(event));
    grid.addEventListener('animationend', (event) => event.target.classList.remove('flash'));
    new ResizeObserver(() => { if (this.#fit) this.#fitWidth(); }).observe(stage);
  }

  seat(seatId) { return this.#byId.get(seatId); }

  clear() {
    this.#byId.clear();
    this.#rows = [];
    this.#current = null;
    this.#grid.replaceChildren();
  }

  draw(/** @type {{id: any, rowNumber: number, seatNumber: number}[]} */ seats) {
    this.clear();
    const rows = Map.groupBy ? Map.groupBy(seats, (seat) => seat.rowNumber) : groupByRow(seats);
    const columnOf = this.#columnPlan(seats, rows);
    const all = document.createDocumentFragment();
    for (const [rowNumber, rowSeats] of [...rows].sort(([a], [b]) => a - b)) {
      all.append(this.#drawRow(rowNumber, rowSeats.sort((a, b) => a.seatNumber - b.seatNumber), columnOf));
    }
    this.#grid.style.setProperty('--columns', String(this.#columns));
    this.#grid.setAttribute('aria-rowcount', String(rows.size));
    this.#grid.setAttribute('aria-colcount', String(this.#columns));
    this.#grid.replaceChildren(all);
    this.#focusable(this.#rows[0]?.[0] ?? null);
    this.#fitWidth();
    this.#stage.scrollLeft = (this.#stage.scrollWidth - this.#stage.clientWidth) / 2;
  }

  /** Seat numbers are columns, so that gaps show as gaps; where numbers run wild, the order is enough. */
  #columnPlan(seats, rows) {
    const numbers = seats.map((seat) => seat.seatNumber);
    const low = numbers.reduce((a, b) => Math.min(a, b), Infinity);
    const span = numbers.reduce((a, b) => Math.max(a, b), -Infinity) - low + 1;
    const longest = Math.max(1, ...[...rows.values()].map((row) => row.length));
    const byNumber = span <= longest * 2;
    this.#columns = byNumber ? Math.max(1, span) : longest;
    return (seat, index) => (byNumber ? seat.seatNumber - low + 1 : index + 1);
  }

  #drawRow(rowNumber, seats, columnOf) {
    const row = document.createElement('div');
    row.className = 'row';
    row.setAttribute('role', 'row');
    row.setAttribute('aria-label', texts.row(rowNumber));
    row.append(this.#rowLabel(rowNumber, 0));
    const line = seats.map((seat, index) => this.#drawSeat(seat, columnOf(seat, index), row));
    row.append(this.#rowLabel(rowNumber, this.#columns + 1));
    this.#rows.push(line);
    return row;
  }

  #rowLabel(rowNumber, column) {
    const label = document.createElement('span');
    label.className = 'row-label';
    label.setAttribute('aria-hidden', 'true');
    label.textContent = String(rowNumber);
    this.#bend(label, column);
    return label;
  }

  #drawSeat(seat, column, row) {
    const node = document.createElement('button');
    node.type = 'button';
    node.className = 'seat';
    node.tabIndex = -1;
    node.dataset.seat = String(seat.id);
    node.setAttribute('role', 'gridcell');
    node.setAttribute('aria-colindex', String(column));
    node.textContent = String(seat.seatNumber);
    this.#bend(node, column);
    row.append(node);
    const drawn = { id: seat.id, row: seat.rowNumber, number: seat.seatNumber, column, node, look: '' };
    this.#byId.set(seat.id, drawn);
    return drawn;
  }

  /** Places a node on its arc: the ends of a row come forward and turn to the pitch. */
  #bend(node, column) {
    const half = (this.#columns + 1) / 2;
    const off = (column - half) / half;
    const depth = CURVE * Math.min(this.#columns, 40);
    node.style.setProperty('--column', String(column + 1));
    node.style.setProperty('--lift', (depth * (1 - off * off)).toFixed(3));
    node.style.setProperty('--turn', `${(-Math.atan((2 * depth * off) / half) * 180 / Math.PI).toFixed(2)}deg`);
  }

  /** @param {string} look AVAILABLE HOLD OCCUPIED MINE BOUGHT */
  show(seatId, look, { flash = false } = {}) {
    const seat = this.#byId.get(seatId);
    if (!seat || seat.look === look) return;
    seat.look = look;
    seat.node.dataset.look = look;
    seat.node.setAttribute('aria-label', texts.seat(seat.row, seat.number, texts[look]));
    seat.node.setAttribute('aria-selected', String(look === 'MINE'));
    seat.node.setAttribute('aria-disabled', String(look === 'OCCUPIED' || look === 'HOLD' || look === 'BOUGHT'));
    if (!flash) return;
    seat.node.classList.remove('flash');
    void seat.node.offsetWidth;			// or the animation would not start again
    seat.node.classList.add('flash');
  }

  pending(seatId, on) { this.#byId.get(seatId)?.node.classList.toggle('pending', on); }

  // ---- size ----

  get #cell() { return Number.parseFloat(this.#grid.style.getPropertyValue('--cell')) || FINGER_CELL; }

  #setCell(size) {
    this.#grid.style.setProperty('--cell', `${size}px`);
    this.#grid.classList.toggle('tiny', size < 22);
  }

  #comfortable() {
    return matchMedia('(pointer: coarse), (max-width: 40rem)').matches ? FINGER_CELL : MOUSE_CELL;
  }

  #fitWidth(smallest = this.#comfortable()) {
    const style = getComputedStyle(this.#stage);
    const width = this.#stage.clientWidth - Number.parseFloat(style.paddingLeft) - Number.parseFloat(style.paddingRight);
    const fitting = Math.floor(width / (this.#columns + 2));
    this.#setCell(Math.min(LARGEST_FITTING_CELL, Math.max(smallest, fitting)));
  }

  zoomToFit() {
    this.#fit = true;
    this.#fitWidth(10);				// asked for: everything on the screen, however small
  }

  zoom(/** @type {1|-1} */ step) {
    this.#fit = false;
    const size = this.#cell;
    const next = step > 0 ? CELL_SIZES.find((s) => s > size) : CELL_SIZES.findLast((s) => s < size);
    if (next) this.#setCell(next);
  }

  // ---- hands and keys ----

  #clicked(event) {
    const node = event.target.closest('.seat');
    if (!node) return;
    const seat = this.#find(node);
    this.#focusable(seat);
    this.#choose(seat);
  }

  #find(node) {
    return this.#byId.get(Number(node.dataset.seat)) ?? this.#byId.get(node.dataset.seat);
  }

  #focusable(seat) {
    if (this.#current) this.#current.node.tabIndex = -1;
    this.#current = seat;
    if (seat) seat.node.tabIndex = 0;
  }

  #pressed(event) {
    if (!this.#current || event.altKey || event.metaKey) return;
    const target = this.#target(event);
    if (!target) return;
    event.preventDefault();
    this.#focusable(target);
    target.node.focus();
    target.node.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  }

  #target({ key, ctrlKey }) {
    const y = this.#rows.findIndex((row) => row.includes(this.#current));
    const x = this.#rows[y].indexOf(this.#current);
    const row = this.#rows[y];
    switch (key) {
      case 'ArrowLeft': return row[x - 1];
      case 'ArrowRight': return row[x + 1];
      case 'ArrowUp': return this.#nearest(y - 1);
      case 'ArrowDown': return this.#nearest(y + 1);
      case 'PageUp': return this.#nearest(Math.max(0, y - 5));
      case 'PageDown': return this.#nearest(Math.min(this.#rows.length - 1, y + 5));
      case 'Home': return ctrlKey ? this.#rows[0][0] : row[0];
      case 'End': return ctrlKey ? this.#rows.at(-1).at(-1) : row.at(-1);
      default: return undefined;
    }
  }

  #nearest(y) {
    const distance = (seat) => Math.abs(seat.column - this.#current.column);
    return this.#rows[y]?.reduce((best, seat) => (distance(seat) < distance(best) ? seat : best));
  }
}

function groupByRow(seats) {
  const rows = new Map();
  for (const seat of seats) rows.set(seat.rowNumber, [...(rows.get(seat.rowNumber) ?? []), seat]);
  return rows;
}
