// SPDX-License-Identifier: ISC
/**
 * Looks - what a seat looks like to this visitor: what an answer of the server has just said, else his own holds, else
 * what the stream says.  An answer is believed until the stream says the same, or for a moment: news from before it may
 * still be on their way.
 */
const BELIEVED_MS = 3_000;

export class Looks {
  #stream; #holds; #changed;
  #said = new Map();

  /** @param {(seatIds: any[]) => void} changed  these look different, though no news came */
  constructor(stream, holds, changed) {
    this.#stream = stream;
    this.#holds = holds;
    this.#changed = changed;
  }

  of(seatId, blockId) {
    if (this.#holds.has(seatId)) return 'MINE';
    const status = this.#said.get(seatId)?.status ?? this.#stream()?.seatsOf(blockId)?.get(seatId) ?? 'UNKNOWN';
    return status === 'OCCUPIED' && this.#holds.hasBought(seatId) ? 'BOUGHT' : status;
  }

  say(seatIds, status) {
    const entry = { status };
    for (const seatId of seatIds) this.#said.set(seatId, entry);
    this.#changed(seatIds);
    setTimeout(() => {
      const over = seatIds.filter((seatId) => this.#said.get(seatId) === entry);
      for (const seatId of over) this.#said.delete(seatId);
      if (over.length) this.#changed(over);
    }, BELIEVED_MS);
  }

  /** The stream's word. */
  heard(seatId, status) {
    if (this.#said.get(seatId)?.status === status) this.#said.delete(seatId);
  }
}
