/**
 * Holds - the seats this tab holds or bought, kept over a reload.
 *
 * The stream says that a seat is on hold, not by whom; so we remember.  A hold of ours ends when the stream, after it
 * has shown HOLD once, shows something else: an AVAILABLE from before our hold may still be on its way.
 */
export class Holds {
  #key;
  #holds; #bought;
  #storage;

  constructor(match, storage = sessionStorage) {
    this.#key = `seatcast holds ${match}`;
    this.#storage = storage;
    let saved = {};
    try { saved = JSON.parse(storage.getItem(this.#key) ?? '{}'); } catch { /* start anew */ }
    this.#holds = new Map(saved.holds ?? []);
    this.#bought = new Map(saved.bought ?? []);
  }

  get size() { return this.#holds.size; }
  get ids() { return [...this.#holds.keys()]; }
  get labels() { return [...this.#holds.values()].map((hold) => hold.label); }
  has(seatId) { return this.#holds.has(seatId); }
  hasBought(seatId) { return this.#bought.has(seatId); }

  add(seatId, label, expiresAt, now) {
    this.#holds.set(seatId, { label, expiresAt, lasts: expiresAt - now, seen: false });
    this.#save();
  }

  drop(seatId) {
    this.#holds.delete(seatId);
    this.#save();
  }

  buy(seatIds) {
    for (const seatId of seatIds) {
      this.#bought.set(seatId, true);
      this.#holds.delete(seatId);
    }
    this.#save();
  }

  /** What the stream says of a seat.  @returns {boolean} whether a hold of ours ended by it */
  observe(seatId, status) {
    if (this.#bought.has(seatId) && status !== 'OCCUPIED' && this.#bought.get(seatId) === 'seen') this.#bought.delete(seatId);
    if (this.#bought.has(seatId) && status === 'OCCUPIED') this.#bought.set(seatId, 'seen');
    const hold = this.#holds.get(seatId);
    if (!hold) return false;
    if (status === 'HOLD') {
      hold.seen = true;
      this.#save();
      return false;
    }
    if (status === 'AVAILABLE' && !hold.seen) return false;
    this.drop(seatId);
    return true;
  }

  /** @returns {(number|string)[]} the seats whose time is over; they are ours no more */
  expire(now) {
    const over = this.ids.filter((seatId) => this.#holds.get(seatId).expiresAt <= now);
    for (const seatId of over) this.drop(seatId);
    return over;
  }

  /** The hold that ends first. */
  next() {
    return [...this.#holds.values()].reduce((first, hold) => (!first || hold.expiresAt < first.expiresAt ? hold : first), null);
  }

  #save() {
    this.#storage.setItem(this.#key, JSON.stringify({ holds: [...this.#holds], bought: [...this.#bought] }));
  }
}

/** Who we are: one random user per tab, so that two windows can play two people. */
export function ownUserId(storage = sessionStorage) {
  const saved = storage.getItem('seatcast user');
  if (saved) return Number(saved);
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  const userId = (high % 0x1fffff) * 2 ** 32 + low + 1;
  storage.setItem('seatcast user', String(userId));
  return userId;
}
