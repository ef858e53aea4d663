// SPDX-License-Identifier: ISC
import * as api from './api.js';
import { $, element, pause, write } from './dom.js';
import { arrange, together } from './rows.js';
import { SeatList } from './seatlist.js';
import { SeatMap } from './seatmap.js';
import { SeatZoom } from './seatzoom.js';
import { levelOf } from './stadium.js';
import { texts } from './texts.js';

const RETRY_MS = 3_000;
const LOOKS = ['AVAILABLE', 'HOLD', 'OCCUPIED', 'MINE', 'BOUGHT'];
const COUNT_OF = { AVAILABLE: 'available', HOLD: 'hold', OCCUPIED: 'occupied' };

/** Block - the block that is shown: its seats as a map and as a list, its legend with numbers, and what there is to say of it. */
export class Block {
  #lookOf;
  #map; #list; #zoom;
  #plans = new Map();			// arranged seats by block id
  #plan = null;
  #statusesKnown = false;
  id = '';
  name = '';

  /** @param {{choose: (seat: any) => void, lookOf: (seatId: any, blockId: any) => string}} does */
  constructor({ choose, lookOf }) {
    this.#lookOf = (seatId) => lookOf(seatId, this.id);
    this.#map = new SeatMap($('map'), choose);
    this.#list = new SeatList($('list'), choose);
    this.#zoom = new SeatZoom({ grid: $('map'), stage: $('stage'), hint: $('pan') });
    $('zoom-in').addEventListener('click', () => this.#zoom.step(1));
    $('zoom-out').addEventListener('click', () => this.#zoom.step(-1));
    $('zoom-fit').addEventListener('click', () => this.#zoom.toFit());
    for (const view of ['map', 'list']) $(`as-${view}`).addEventListener('click', () => this.#view(view));
    this.#view(localStorage.getItem('seatcast view') === 'list' ? 'list' : 'map');
    drawLegend();
  }

  get map() { return this.#map; }

  /** Shows another one; what was there stays until it can be drawn. */
  async open(id) {
    this.id = id;
    this.#statusesKnown = false;
    $('block').classList.remove('nothing');
    $('stage').setAttribute('aria-busy', 'true');
    const plan = this.#plans.get(String(id)) ?? await this.#load(id);
    if (this.id !== id) return;			// somebody chose another one meanwhile
    this.#plan = plan;
    this.#draw();
  }

  async #load(id) {
    while (this.id === id) {
      try {
        const plan = arrange(await api.seats(id));
        this.#plans.set(String(id), plan);
        return plan;
      } catch (error) {
        if (error.status === 404 || error.status === 400) return { rows: [], columns: 1 };
        this.note(texts.failed);
        await pause(RETRY_MS);
      }
    }
    return null;
  }

  #draw() {
    this.note('');
    this.#map.draw(this.#plan, this.#lookOf);
    this.#list.draw(this.#plan, this.#lookOf);
    this.#zoom.drawn(this.#plan);
    $('stage').removeAttribute('aria-busy');
  }

  /** No block at all, and why. */
  clear(text) {
    this.id = '';
    this.#plan = null;
    this.#map.clear();
    this.#list.draw({ rows: [] }, this.#lookOf);
    $('stage').removeAttribute('aria-busy');
    $('block').classList.add('nothing');
    this.note(text);
  }

  /** Seats that changed.  The first news of a block are no changes. */
  news(seatIds) {
    const flash = this.#statusesKnown;
    this.#statusesKnown = true;
    this.redraw(seatIds, flash);
  }

  redraw(seatIds, flash = false) {
    this.#map.show(seatIds, this.#lookOf, flash);
    this.#list.show(seatIds);
  }

  /** The legend's numbers, and a word where nothing is to be had. */
  counts(counts, mine, bought) {
    const numbers = { MINE: mine, BOUGHT: bought };
    for (const look of LOOKS) {
      const field = COUNT_OF[look];
      write($('legend').querySelector(`[data-legend=${look}] .number`), field ? String(counts?.[field] ?? '–') : String(numbers[look]));
    }
    if (!this.#plan || !counts) return;
    const level = levelOf(counts);
    this.note(level === 'none' ? texts.soldOut : level === 'held' ? texts.allHeld(counts.hold) : '');
  }

  noSeats() { if (this.#plan?.rows.length === 0) this.note(texts.noSeats); }

  note(text) {
    write($('note'), text);
    $('note').hidden = text === '';
  }

  /** n free seats next to each other, best first. */
  proposals(n) {
    return this.#plan ? together(this.#plan.rows, (seat) => this.#lookOf(seat.id) === 'AVAILABLE', n) : [];
  }

  #view(view) {
    $('map-view').hidden = view !== 'map';
    $('list').hidden = view !== 'list';
    $('zoom').hidden = view !== 'map';
    for (const name of ['map', 'list']) $(`as-${name}`).setAttribute('aria-pressed', String(name === view));
    if (view === 'list') this.#list.refresh();
    localStorage.setItem('seatcast view', view);
  }
}

function drawLegend() {
  $('legend').replaceChildren(...LOOKS.map((look) => {
    const item = element('li');
    item.dataset.legend = look;
    const sample = element('span', 'seat sample');
    sample.dataset.look = look;
    sample.setAttribute('aria-hidden', 'true');
    item.append(sample, element('span', '', texts[look]), element('b', 'number', '–'));
    return item;
  }));
}
