// SPDX-License-Identifier: ISC
import { $, element, write } from './dom.js';
import { settle } from './guard.js';
import { clockText, texts, timeText } from './texts.js';

const HURRY_MS = 60_000;
const HURRY_SHARE = 0.3;		// of a hold that is shorter than a few minutes

/**
 * Basket - the bar at the bottom: the visitor's seats one by one, the time that is left for them, and after buying the
 * receipt, which stays until it is dismissed.  The bar is always there, so that nothing takes its place under a pointer.
 */
export class Basket {
  #holds; #now; #announcer; #leaving;
  #receipt = null;
  #shown = '';
  #warnedOf = 0;

  /** @param {{onRemove: (seatId: any) => void}} does */
  constructor({ holds, now, announcer, leaving, onRemove }) {
    this.#holds = holds;
    this.#now = now;
    this.#announcer = announcer;
    this.#leaving = leaving;
    $('basket-items').addEventListener('click', (event) => {
      const button = event.target.closest('button');
      if (button) onRemove(this.#holds.ids.find((seatId) => String(seatId) === button.dataset.seat));
    });
    $('done').addEventListener('click', () => {
      this.#receipt = null;
      this.draw();
      $('basket-title').focus({ preventScroll: true });
    });
  }

  receipt(seats) {
    this.#receipt = seats;
    this.draw();
    $('basket-title').focus({ preventScroll: true });
  }

  draw() {
    // Who holds another seat has read the receipt.
    if (this.#receipt && this.#holds.size) this.#receipt = null;
    const seats = this.#receipt ?? this.#holds.all;
    const mode = this.#receipt ? 'receipt' : seats.length ? 'holding' : 'empty';
    const bar = $('basket');
    const was = bar.dataset.mode;
    if (was !== mode && [was, mode].includes('holding')) settle(bar, was === 'holding');	// where Confirm was
    bar.dataset.mode = mode;
    write($('basket-title'), { empty: texts.basket, holding: texts.basket, receipt: texts.receipt(seats.length) }[mode]);
    const key = mode + seats.map((seat) => seat.seatId).join();
    if (key !== this.#shown) this.#drawItems(seats, mode);
    this.#shown = key;
    $('confirm').textContent = texts.buy(seats.length);
    $('confirm').dataset.meaning = key;		// see guard.js
    this.tick();
  }

  #drawItems(seats, mode) {
    const focused = $('basket-items').contains(document.activeElement) || ($('basket').contains(document.activeElement) && mode !== 'holding');
    const at = [...$('basket-items').children].findIndex((item) => item.contains(document.activeElement));
    $('basket-items').replaceChildren(...seats.map((seat) => this.#drawItem(seat, mode)));
    if (!focused) return;
    const items = $('basket-items').querySelectorAll('button');
    (items[Math.min(at, items.length - 1)] ?? $('basket-title')).focus({ preventScroll: true });
  }

  #drawItem({ seatId, block, row, number }, mode) {
    const place = texts.place(block, row, number);
    const item = element('li', 'item');
    item.append(element('span', '', place));
    if (mode === 'receipt') return item;
    const remove = element('button', 'remove', '×');
    remove.type = 'button';
    remove.dataset.seat = String(seatId);
    remove.setAttribute('aria-label', texts.remove(place));
    item.append(remove);
    return item;
  }

  /** What time does. */
  tick() {
    const next = this.#receipt ? null : this.#holds.next();
    const minutes = next && texts.keep(Math.max(1, Math.round(next.lasts / 60_000)));
    write($('basket-note'), this.#receipt ? '' : next ? (this.#leaving.gives ? texts.onClose : texts.onCloseKept) : texts.nothing);
    if (!next) return;
    const left = Math.max(0, next.expiresAt - this.#now());
    const hurry = left < Math.min(HURRY_MS, next.lasts * HURRY_SHARE);
    write($('countdown'), clockText(left));
    $('countdown').title = texts.until(timeText(next.expiresAt));
    write($('keep'), minutes);
    $('basket').classList.toggle('hurry', hurry);
    $('ring').style.setProperty('--left', (left / Math.max(1, next.lasts)).toFixed(3));
    if (!hurry || this.#warnedOf === next.expiresAt) return;
    this.#warnedOf = next.expiresAt;
    this.#announcer.toast(texts.ending(Math.ceil(left / 1000), minutes));
  }
}
