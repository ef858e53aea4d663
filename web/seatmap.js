// SPDX-License-Identifier: ISC
import { element } from './dom.js';
import { texts } from './texts.js';

const CURVE = 0.055;			// how far the ends of a row come forward, in rows per column
const MOST_FLASHES = 16;		// at a time: beyond, colour alone tells, and the processor stays cool
const FLASH_MS = 900;
const FLASH = [{ scale: 1.25, opacity: 0.35 }, { scale: 1, opacity: 1 }];
const MARK = [{ opacity: 0.35 }, { opacity: 1 }];

/**
 * SeatMap - the seats of one block as a grid that bends around the pitch.
 *
 * One tab stop; arrow keys move inside (roving tabindex).  Calls choose(seat) on click, Enter and Space.  Knows how
 * seats look, not what holding one means.
 */
export class SeatMap {
  #grid; #choose;
  /** @type {Map<string, {id: any, row: number, number: number, column: number, node: HTMLElement, look: string}>} */ #byId = new Map();
  #rows = [];
  #columns = 1;
  #current = null;
  #flashes = 0;
  #motion = matchMedia('(prefers-reduced-motion: reduce)');

  constructor(grid, choose) {
    this.#grid = grid;
    this.#choose = choose;
    grid.addEventListener('click', (event) => {
      const node = event.target.closest('.seat');
      if (!node) return;
      const seat = this.#byId.get(node.dataset.seat);
      this.#focusable(seat);
      this.#choose(seat);
    });
    grid.addEventListener('keydown', (event) => this.#pressed(event));
  }

  get columns() { return this.#columns; }
  seat(seatId) { return this.#byId.get(String(seatId)); }

  clear() {
    this.#byId.clear();
    this.#rows = [];
    this.#current = null;
    this.#grid.replaceChildren();
  }

  /** @param {(seatId: any) => string} lookOf */
  draw({ rows, columns }, lookOf) {
    const hadFocus = this.#grid.contains(document.activeElement);
    this.clear();
    this.#columns = columns;
    const all = document.createDocumentFragment();
    for (const row of rows) all.append(this.#drawRow(row, lookOf));
    this.#grid.style.setProperty('--columns', String(columns));
    this.#grid.setAttribute('aria-rowcount', String(rows.length));
    this.#grid.setAttribute('aria-colcount', String(columns));
    this.#grid.replaceChildren(all);
    this.#focusable(this.#rows[0]?.[0] ?? null);
    if (hadFocus) this.focus();
  }

  focus() { (this.#current?.node ?? this.#grid).focus({ preventScroll: true }); }

  #drawRow(seats, lookOf) {
    const row = element('div', 'row');
    row.setAttribute('role', 'row');
    row.setAttribute('aria-label', texts.row(seats[0].row));
    row.append(this.#rowLabel(seats[0].row, 'start'));
    this.#rows.push(seats.map((seat) => this.#drawSeat(seat, row, lookOf(seat.id))));
    row.append(this.#rowLabel(seats[0].row, 'end'));
    return row;
  }

  #rowLabel(rowNumber, side) {
    const label = element('span', `row-label ${side}`, String(rowNumber));
    label.setAttribute('aria-hidden', 'true');
    return label;
  }

  #drawSeat(seat, row, look) {
    const node = element('button', 'seat', String(seat.number));
    node.type = 'button';
    node.tabIndex = -1;
    node.dataset.seat = String(seat.id);
    node.setAttribute('role', 'gridcell');
    node.setAttribute('aria-colindex', String(seat.column));
    this.#bend(node, seat.column);
    row.append(node);
    const drawn = { ...seat, node, look: '' };
    this.#byId.set(String(seat.id), drawn);
    this.#show(drawn, look);
    return drawn;
  }

  /** Places a node on its arc: the ends of a row come forward and turn to the pitch. */
  #bend(node, column) {
    const half = (this.#columns + 1) / 2;
    const off = (column - half) / half;
    const depth = CURVE * Math.min(this.#columns, 40);
    node.style.gridColumn = String(column + 1);
    node.style.setProperty('--lift', (depth * (1 - off * off)).toFixed(3));
    node.style.setProperty('--turn', `${(-Math.atan((2 * depth * off) / half) * 180 / Math.PI).toFixed(2)}deg`);
  }

  /** @param {(seatId: any) => string} lookOf  AVAILABLE HOLD OCCUPIED MINE BOUGHT UNKNOWN */
  show(seatIds, lookOf, flash) {
    const changed = [];
    for (const seatId of seatIds) {
      const seat = this.#byId.get(String(seatId));
      const look = lookOf(seatId);
      if (!seat || seat.look === look) continue;
      this.#show(seat, look);
      changed.push(seat.node);
    }
    if (flash && changed.length + this.#flashes <= MOST_FLASHES && !document.hidden) for (const node of changed) this.#flash(node);
  }

  #show(seat, look) {
    seat.look = look;
    seat.node.dataset.look = look;
    seat.node.setAttribute('aria-label', texts.seat(seat.row, seat.number, texts[look]));
    seat.node.setAttribute('aria-selected', String(look === 'MINE'));
    seat.node.setAttribute('aria-disabled', String(look !== 'AVAILABLE' && look !== 'MINE'));
  }

  /** By animate(): a class would have to be taken off and on, and the page laid out in between for each seat. */
  #flash(node) {
    this.#flashes += 1;
    const animation = node.animate(this.#motion.matches ? MARK : FLASH, { duration: FLASH_MS, easing: 'ease-out' });
    animation.onfinish = animation.oncancel = () => { this.#flashes -= 1; };
  }

  pending(seatId, on) { this.#byId.get(String(seatId))?.node.classList.toggle('pending', on); }

  // ---- keys ----

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
    const row = this.#rows[y];
    const x = row.indexOf(this.#current);
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
