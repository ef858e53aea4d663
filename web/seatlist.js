// SPDX-License-Identifier: ISC
import { element } from './dom.js';
import { texts } from './texts.js';

/**
 * SeatList - the same block as rows that open into their seats, for thumbs and screen readers.
 *
 * A row shows the seats that were free when it was opened; one that goes meanwhile stays at its place and says so, so that
 * nothing moves under a finger.
 */
export class SeatList {
  #root; #choose;
  /** @type {{seats: any[], details: HTMLDetailsElement, summary: HTMLElement, box: HTMLElement}[]} */ #rows = [];
  #lookOf = (_seatId) => 'UNKNOWN';
  #stale = new Set();			// rows whose number is to be counted again

  constructor(root, choose) {
    this.#root = root;
    this.#choose = choose;
    root.addEventListener('click', (event) => {
      const node = event.target.closest('.pick');
      if (node) this.#choose(this.#find(node.dataset.seat));
    });
  }

  draw({ rows }, lookOf) {
    this.#lookOf = lookOf;
    this.#rows = rows.map((seats) => {
      const details = element('details', 'seat-row');
      const summary = element('summary');
      const box = element('div', 'picks');
      details.append(summary, box);
      const row = { seats, details, summary, box };
      details.addEventListener('toggle', () => this.#fill(row));
      this.#count(row);
      return row;
    });
    this.#root.replaceChildren(...this.#rows.map((row) => row.details));
  }

  /** These seats look different now. */
  show(seatIds) {
    if (this.#root.hidden) return;
    const ids = new Set([...seatIds].map(String));
    for (const row of this.#rows) {
      if (!row.seats.some((seat) => ids.has(String(seat.id)))) continue;
      if (this.#stale.size === 0) setTimeout(() => this.#countStale(), 250);
      this.#stale.add(row);
    }
  }

  /** Shown after it was hidden: everything may have changed. */
  refresh() { for (const row of this.#rows) this.#count(row); }

  #countStale() {
    for (const row of this.#stale) this.#count(row);
    this.#stale.clear();
  }

  #count(row) {
    const left = row.seats.filter((seat) => this.#lookOf(seat.id) === 'AVAILABLE').length;
    const text = texts.rowLeft(row.seats[0].row, left);
    if (row.summary.textContent !== text) row.summary.textContent = text;
    row.details.dataset.left = left ? 'some' : 'none';
    for (const node of row.box.children) this.#dress(node, this.#find(node.dataset.seat));
  }

  #fill(row) {
    if (!row.details.open) return row.box.replaceChildren();
    const shown = row.seats.filter((seat) => ['AVAILABLE', 'MINE'].includes(this.#lookOf(seat.id)));
    return row.box.replaceChildren(...shown.map((seat) => {
      const node = element('button', 'pick', String(seat.number));
      node.type = 'button';
      node.dataset.seat = String(seat.id);
      this.#dress(node, seat);
      return node;
    }));
  }

  #dress(node, seat) {
    const look = this.#lookOf(seat.id);
    if (node.dataset.look === look) return;
    node.dataset.look = look;
    node.setAttribute('aria-label', texts.seat(seat.row, seat.number, texts[look]));
    node.setAttribute('aria-pressed', String(look === 'MINE'));
    node.setAttribute('aria-disabled', String(look !== 'AVAILABLE' && look !== 'MINE'));
  }

  #find(seatId) {
    for (const row of this.#rows) for (const seat of row.seats) if (String(seat.id) === seatId) return seat;
    return undefined;
  }
}
