// SPDX-License-Identifier: ISC
import * as api from './api.js';
import { texts } from './texts.js';

const MOST_TRIES = 6;			// to find seats together, when others are faster

/** What is said of a seat that somebody else has. */
const TAKEN = { held: texts.onHold, sold: texts.sold, limit: texts.limit, 'not-yours': texts.onHold };

/**
 * Desk - what a visitor does: hold, give back, keep, buy, find together.  Asks the server, puts the answer into holds and
 * looks, and says what happened.
 */
export class Desk {
  #match; #userId; #holds; #looks; #say; #now;

  /** @param {{match: string, userId: number, holds: any, looks: any, announcer: any, clock: {now: () => number, hint: (date: number) => void}}} parts */
  constructor({ match, userId, holds, looks, announcer, clock }) {
    this.#match = match;
    this.#userId = userId;
    this.#holds = holds;
    this.#looks = looks;
    this.#say = announcer;
    this.#now = clock;
  }

  /** @param {{id: any, where: {blockId: any, block: string, row: number, number: number}}[]} seats */
  async hold(seats) {
    try {
      await this.#hold(seats);
      this.#say.say(texts.held(placesOf(seats.map((seat) => seat.where))));
      return true;
    } catch (error) {
      // He saw it free, and it is not: somebody was faster.
      const [{ reason } = { reason: 'held' }] = error.seats ?? [];
      const text = error.status !== 409 ? this.#trouble(error) : reason === 'limit' ? texts.limit : `${texts.faster} ${TAKEN[reason] ?? texts.onHold}`;
      this.#say.toast(text);
      return false;
    }
  }

  async #hold(seats) {
    const { data, date } = await api.hold(this.#match, this.#userId, seats.map((seat) => seat.id));
    this.#now.hint(date);
    const until = new Map(data.heldSeats.map((seat) => [seat.seatId, Date.parse(seat.holdExpiresAt)]));
    for (const seat of seats) this.#holds.add(seat.id, seat.where, until.get(seat.id), this.#now.now());
    this.#looks.say(seats.map((seat) => seat.id), 'HOLD');
  }

  /** The first of these proposals that can be had, each in one request; the next best when somebody is faster. */
  async holdFirst(proposals, n) {
    const lost = new Set();
    for (let tries = 0; tries < MOST_TRIES; tries += 1) {
      const seats = proposals.find((choice) => !choice.some((seat) => lost.has(String(seat.id))));
      if (!seats) break;
      try {
        await this.#hold(seats);
        this.#say.toast(texts.found(n));
        return seats;
      } catch (error) {
        if (error.status !== 409 || error.seats.some((seat) => seat.reason === 'limit')) {
          this.#say.toast(error.status === 409 ? texts.limit : this.#trouble(error));
          return null;
        }
        for (const seat of error.seats.length ? error.seats : [{ seatId: seats[0].id }]) lost.add(String(seat.seatId));
      }
    }
    this.#say.toast(texts.notFound(n));
    return null;
  }

  async release(seatIds) {
    const places = placesOf(seatIds.map((seatId) => this.#holds.get(seatId)).filter(Boolean));
    this.#holds.busy(seatIds, true);
    try {
      await api.release(this.#match, this.#userId, seatIds);
      this.#holds.drop(...seatIds);
      this.#looks.say(seatIds, 'AVAILABLE');
      this.#say.say(texts.released(places));
    } catch (error) {
      this.#holds.busy(seatIds, false);
      if (error.status !== 409) return this.#say.toast(this.#trouble(error));
      const lost = this.#lostOf(error, seatIds);
      this.#holds.drop(...lost);
      this.#looks.say([], '');
      const rest = seatIds.filter((seatId) => !lost.includes(seatId));
      if (lost.length && rest.length) return this.release(rest);	// all or nothing: the others are still ours
    }
    return undefined;
  }

  /** Some more minutes for all seats. */
  async keep() {
    const seats = this.#holds.all.map(({ seatId, blockId, block, row, number }) => ({ id: seatId, where: { blockId, block, row, number } }));
    try {
      await this.#hold(seats);
      return true;
    } catch (error) {
      const limit = (error.seats ?? []).some((seat) => seat.reason === 'limit');
      this.#say.toast(error.status !== 409 ? this.#trouble(error) : limit ? texts.noLonger : this.#drop(error, seats.map((seat) => seat.id), texts.lost));
      return false;
    }
  }

  /** @returns {Promise<object[]|null>} what was bought */
  async buy() {
    const seats = this.#holds.all;
    const ids = seats.map((seat) => seat.seatId);
    this.#holds.busy(ids, true);
    try {
      await api.confirm(this.#match, this.#userId, ids);
      this.#holds.buy(ids);
      this.#looks.say(ids, 'OCCUPIED');
      this.#say.say(texts.bought(ids.length));
      return seats;
    } catch (error) {
      this.#holds.busy(ids, false);
      this.#say.toast(error.status === 409 ? `${this.#drop(error, ids, texts.notBought)} ${texts.rest(this.#holds.size)}`.trim() : this.#trouble(error));
      return null;
    }
  }

  /** Takes what is ours no more out of the basket.  @returns {string} what to say of it */
  #drop(error, seatIds, sentence) {
    const lost = this.#lostOf(error, seatIds);
    if (lost.length === 0) return error.message || texts.failed;
    const text = sentence(placesOf(lost.map((seatId) => this.#holds.get(seatId)).filter(Boolean)));
    this.#holds.drop(...lost);
    this.#looks.say([], '');
    return text;
  }

  /** Which of these were the reason: the server says; where it does not, the clock does. */
  #lostOf(error, seatIds) {
    const named = new Set((error.seats ?? []).map((seat) => String(seat.seatId)));
    const now = this.#now.now();
    return seatIds.filter((seatId) => (named.size ? named.has(String(seatId)) : (this.#holds.get(seatId)?.expiresAt ?? 0) <= now));
  }

  #trouble({ status }) { return status === 401 || status === 403 ? texts.notAllowed : texts.failed; }
}

export function placesOf(holds) {
  return texts.list(holds.map(({ block, row, number }) => texts.place(block, row, number)));
}
