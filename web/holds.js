// SPDX-License-Identifier: ISC
const BUSY_MS = 12_000;		// longer than a request may take

/**
 * Holds - the seats that this browser holds or bought, kept over a reload and known to all its tabs.
 *
 * The stream says that a seat is on hold, not by whom; so we remember.  A hold of ours ends when the stream, after it
 * has shown HOLD once, shows something else: an AVAILABLE from before our hold may still be on its way.  While we are
 * asking for it to end ourselves (busy), what the stream shows is our own doing, in every tab.
 */
export class Holds extends EventTarget {
  #key; #storage;
  #holds = new Map(); #bought = new Map();

  constructor(match, storage = localStorage) {
    super();
    this.#key = `seatcast holds ${match}`;
    this.#storage = storage;
    this.#load();
    globalThis.addEventListener('storage', (event) => {
      if (event.key !== this.#key) return;
      const before = [...this.ids, ...this.#bought.keys()];
      this.#load();
      const detail = [...new Set([...before, ...this.ids, ...this.#bought.keys()])];
      this.dispatchEvent(new CustomEvent('elsewhere', { detail }));	// another tab held, released or bought
    });
  }

  get size() { return this.#holds.size; }
  get ids() { return [...this.#holds.keys()]; }

  /** Each with its seatId, place (block, row, number as shown), blockId, expiresAt, lasts. */
  get all() { return [...this.#holds].map(([seatId, hold]) => ({ seatId, ...hold })); }
  get blocks() { return [...new Set([...this.#holds.values()].map((hold) => hold.blockId))]; }
  has(seatId) { return this.#holds.has(seatId); }
  get(seatId) { return this.#holds.get(seatId); }
  hasBought(seatId) { return this.#bought.has(seatId); }

  /** Held, or held anew: then with its new time. */
  add(seatId, where, expiresAt, now) {
    const seen = this.#holds.get(seatId)?.seen ?? false;
    this.#change(() => this.#holds.set(seatId, { ...where, expiresAt, lasts: expiresAt - now, seen }));
  }

  drop(...seatIds) {
    this.#change(() => { for (const seatId of seatIds) this.#holds.delete(seatId); });
  }

  buy(seatIds) {
    this.#change(() => {
      for (const seatId of seatIds) {
        this.#bought.set(seatId, 'new');
        this.#holds.delete(seatId);
      }
    });
  }

  /** We are about to buy these or give them back; or that failed. */
  busy(seatIds, on) {
    this.#change(() => {
      for (const seatId of seatIds) if (this.#holds.has(seatId)) this.#holds.set(seatId, { ...this.#holds.get(seatId), busy: on ? Date.now() : 0 });
    });
  }

  /** What the stream says of a seat.  @returns {object|null} the hold of ours that ended by it */
  observe(seatId, status) {
    const bought = this.#bought.get(seatId);
    if (bought === 'new' && status === 'OCCUPIED') this.#change(() => this.#bought.set(seatId, 'seen'));
    if (bought === 'seen' && status !== 'OCCUPIED') this.#change(() => this.#bought.delete(seatId));
    const hold = this.#holds.get(seatId);
    if (!hold || Date.now() - (hold.busy ?? 0) < BUSY_MS) return null;
    if (status === 'HOLD') {
      if (!hold.seen) this.#change(() => this.#holds.set(seatId, { ...hold, seen: true }));
      return null;
    }
    if (status === 'AVAILABLE' && !hold.seen) return null;
    this.drop(seatId);
    return { seatId, ...hold };
  }

  /** The holds whose time is over; they are ours no more. */
  expire(now) {
    const over = this.all.filter((hold) => hold.expiresAt <= now);
    if (over.length) this.drop(...over.map((hold) => hold.seatId));
    return over;
  }

  /** The hold that ends first. */
  next() { return this.all.reduce((first, hold) => (!first || hold.expiresAt < first.expiresAt ? hold : first), null); }

  #load() {
    let saved = {};
    try { saved = JSON.parse(this.#storage.getItem(this.#key) ?? '{}'); } catch { /* start anew */ }
    this.#holds = new Map(saved.holds ?? []);
    this.#bought = new Map(saved.bought ?? []);
  }

  /** From what all tabs wrote, and back. */
  #change(change) {
    this.#load();
    change();
    this.#storage.setItem(this.#key, JSON.stringify({ holds: [...this.#holds], bought: [...this.#bought] }));
  }
}

/** Who we are: one random user per browser.  A site that knows its users says so to the server (--user-param). */
export function ownUserId(storage = localStorage) {
  const saved = storage.getItem('seatcast user');
  if (saved) return Number(saved);
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  const userId = (high % 0x1fffff) * 2 ** 32 + low + 1;
  storage.setItem('seatcast user', String(userId));
  return userId;
}
