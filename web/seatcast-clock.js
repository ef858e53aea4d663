// SPDX-License-Identifier: ISC
const CLOCK_STEP_MS = 5_000;

/**
 * Clock - the database's time, from the asOf of beats.  asOf is the time of the last poll, so it is never ahead:
 * the largest difference to our own monotonic clock is the best one.  A clock that was set back shows as a big step.
 */
export class Clock {
  /** @type {number|null} */ #offset = null;
  exact = false;			// from the database, not only from an HTTP header

  learn(/** @type {number} */ time, exact = true) {
    if (Number.isNaN(time) || (this.exact && !exact)) return;
    const offset = time - performance.now();
    const better = this.#offset === null || offset > this.#offset || this.#offset - offset > CLOCK_STEP_MS;
    if (better || (exact && !this.exact)) this.#offset = offset;
    this.exact = exact;
  }

  now() {
    return this.#offset === null ? Date.now() : performance.now() + this.#offset;
  }
}
