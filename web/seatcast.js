// SPDX-License-Identifier: ISC
/**
 * seatcast - live seat status for any web page: of one block (SeatStream), or of a whole match (MatchStream).
 *
 *   import { SeatStream, MatchStream } from './seatcast.js';
 *
 *   const block = new SeatStream({ match: 1, block: 101 });	// or the address of the stream
 *   block.addEventListener('seats', ({ detail }) => draw(detail.seats, detail.changed));
 *   block.addEventListener('state', ({ detail }) => badge(detail.state));
 *
 *   const stadium = new MatchStream({ match: 1, blocks: [101] });
 *   stadium.addEventListener('seats', ({ detail }) => paint(stadium.blocks, detail.counted));
 *   stadium.watch([102]);			// other blocks, over the same connection
 *
 * The one idea: everything that happens is a small message.  The tab that holds the connection (the leader)
 * applies each message and passes it on; its sisters (followers) apply the same messages.  So every tab has the
 * whole state and the last event id, and any of them can go on where the leader stopped.
 *
 * Parts: seatcast-line.js keeps a connection up, seatcast-poll.js does without one, seatcast-tabs.js shares it,
 * seatcast-stream.js says what a message means for state and age, and here is what it means for seats.
 *
 * Ids are 64 bit.  JSON.parse would round those beyond 2^53, so they stay strings ("9223372036854775807"); all
 * others are numbers.  The same id always has the same form, so it always finds its Map entry.
 */
import { LiveStream } from './seatcast-stream.js';
import { MATCH_POLL, BLOCK_POLL } from './seatcast-poll.js';

export { parseJson } from './seatcast-http.js';

/** @typedef {number|string} SeatId */
/** @typedef {number|string} BlockId */
/** @typedef {'AVAILABLE'|'HOLD'|'OCCUPIED'} SeatStatus */
/** @typedef {import('./seatcast-stream.js').StreamState} StreamState */
/** @typedef {import('./seatcast-stream.js').StreamOptions} StreamOptions */
/** @typedef {import('./seatcast-stream.js').LifeEvents} LifeEvents */
/** @typedef {import('./seatcast-line.js').Message} Message */
/** @typedef {{available: number, hold: number, occupied: number}} Counts */
/** @typedef {{id: SeatId, blockId?: BlockId, status: SeatStatus}} SeatRow */

/** Where seatcast answers: beside this file, unless somebody says otherwise (a bundle is somewhere else). */
function address(/** @type {string} */ path, /** @type {string|URL|undefined} */ base) {
  const here = globalThis.location?.href;
  return new URL(path, base === undefined ? new URL('.', import.meta.url) : new URL(base, here)).href;
}

/** Puts a status in place.  @returns {SeatStatus|undefined} the one before */
function put(/** @type {Map<SeatId, SeatStatus>} */ seats, /** @type {SeatId} */ id, /** @type {SeatStatus} */ status) {
  const previous = seats.get(id);
  seats.set(id, status);
  return previous;
}

/** The ids whose status is not the same in both. */
function difference(/** @type {Map<SeatId, SeatStatus>} */ before, /** @type {Map<SeatId, SeatStatus>} */ after) {
  /** @type {SeatId[]} */
  const ids = [];
  for (const [id, status] of after) if (before.get(id) !== status) ids.push(id);
  for (const id of before.keys()) if (!after.has(id)) ids.push(id);
  return ids;
}

// ---- one block ----

/** The seats of one block, and which of them changed since somebody looked. */
class BlockModel {
  /** @type {Map<SeatId, SeatStatus>} */ seats = new Map();
  /** @type {Set<SeatId>} */ #changed = new Set();
  poll = BLOCK_POLL;
  /** @type {BlockId[]} */ wants = [];
  known = false;
  #url;

  constructor(/** @type {string} */ url) { this.#url = url; }

  most = 0;

  get name() { return this.#url; }
  get about() { return []; }

  request() { return { url: this.#url, about: [] }; }

  covers() { return true; }

  apply(/** @type {Message} */ { type, data }, /** @type {(name: any, detail: any) => void} */ emit) {
    if (type === 'update') return this.#update(data, emit);
    if (type === 'init' || (type === 'poll' && data.full)) return this.#replace(data.seats, emit);
    for (const { id, status } of data.seats) this.#update({ seatId: id, status }, emit);
    return undefined;
  }

  #replace(/** @type {SeatRow[]} */ rows, /** @type {(name: any, detail: any) => void} */ emit) {
    const next = new Map(rows.map(({ id, status }) => [id, status]));
    for (const id of difference(this.seats, next)) this.#changed.add(id);
    this.seats = next;
    this.known = true;
    emit('init', { seats: next });
  }

  #update(/** @type {{seatId: SeatId, status: SeatStatus}} */ { seatId, status }, /** @type {(name: any, detail: any) => void} */ emit) {
    const previous = put(this.seats, seatId, status);
    this.#changed.add(seatId);
    emit('update', { seatId, status, previous });
  }

  /** What the page is to draw. */
  take() {
    const detail = { seats: this.seats, changed: this.#changed };
    this.#changed = new Set();
    return detail;
  }

  whole() { return [...this.seats]; }

  adopt(/** @type {[SeatId, SeatStatus][]} */ rows, /** @type {(name: any, detail: any) => void} */ emit) {
    this.#replace(rows.map(([id, status]) => ({ id, status })), emit);
  }
}

/**
 * @typedef {object} SeatEvents
 * @property {{seats: Map<SeatId, SeatStatus>}} init    every seat; may come again at any time and replaces all before
 * @property {{seatId: SeatId, status: SeatStatus, previous: SeatStatus|undefined}} update   one seat
 * @property {{seats: Map<SeatId, SeatStatus>, changed: Set<SeatId>}} seats   the map after one or many of the above, at most once per task
 */

/**
 * SeatStream - the seats of one block, live.  Events: those of SeatEvents and of LifeEvents (in seatcast-stream.js).
 * @extends {LiveStream<SeatEvents & LifeEvents>}
 */
export class SeatStream extends LiveStream {
  #model;

  /**
   * @param {string|URL|{match: number|string, block: BlockId, base?: string|URL}} where  .../blocks/{blockId}/seats/status-stream,
   *   or the ids, and the address of what stands before `api/` when that is not where this file was loaded from
   * @param {StreamOptions} [options]
   */
  constructor(where, options = {}) {
    const url = typeof where === 'string' || where instanceof URL ? new URL(where, globalThis.location?.href).href
      : address(`api/matches/${where.match}/blocks/${where.block}/seats/status-stream`, where.base);
    const model = new BlockModel(url);
    super(model, options);
    this.#model = model;
  }

  /** The current map.  It is ours: read it, do not change it. */
  get seats() { return this.#model.seats; }
}

// ---- a match ----

const MOST_BLOCKS = 16;			// that one stream carries seats of

/** The counts of all blocks, and the seats of those that somebody watches. */
class MatchModel {
  /** @type {Map<BlockId, Counts>} */ blocks = new Map();
  /** @type {Map<BlockId, Map<SeatId, SeatStatus>>} */ seats = new Map();
  /** @type {Map<BlockId, Set<SeatId>>} */ #changed = new Map();
  /** @type {Set<BlockId>} */ #counted = new Set();
  /** @type {BlockId[]} */ wants;
  poll = MATCH_POLL;
  most = MOST_BLOCKS;
  known = false;
  #url;

  constructor(/** @type {string} */ url, /** @type {BlockId[]} */ wants) {
    this.#url = url;
    this.wants = wants;
  }

  get name() { return this.#url; }

  /** The blocks whose seats we have. */
  get about() { return [...this.seats.keys()]; }

  request(/** @type {BlockId[]} */ blocks) {
    const url = new URL(this.#url);
    // By id, so that viewers of the same blocks are the same view to the server.
    const sorted = blocks.map(String).sort((a, b) => a.length - b.length || (a < b ? -1 : 1));
    if (sorted.length) url.searchParams.set('blocks', sorted.join(','));
    return { url: url.href.replaceAll('%2C', ','), about: blocks };
  }

  /** Whether a connection about some blocks is enough for others. */
  covers(/** @type {BlockId[]} */ about, /** @type {BlockId[]} */ blocks) { return blocks.every((id) => about.includes(id)); }

  apply(/** @type {Message} */ { type, data, about }, /** @type {(name: any, detail: any) => void} */ emit) {
    if (type === 'update') return this.#update(data, emit);
    if (type === 'count') return this.#count(data, emit);
    if (type === 'init') return this.#replace(data, about ?? [], emit);
    for (const { blockId, full, seats } of data.parts) {
      if (full) this.#replaceSeats(blockId, seats);
      else for (const { id, status } of seats) this.#update({ seatId: id, blockId, status }, emit);
    }
    this.#replaceCounts(data.blocks);
    this.known = true;
    if (data.full) emit('init', { blocks: this.blocks });
    return undefined;
  }

  #replace(/** @type {{blocks: (Counts & {id: BlockId})[], seats: SeatRow[]}} */ { blocks, seats }, /** @type {BlockId[]} */ about, /** @type {(name: any, detail: any) => void} */ emit) {
    /** @type {Map<BlockId, SeatRow[]>} */
    const rows = new Map(about.map((id) => [id, []]));
    for (const seat of seats) rows.get(/** @type {BlockId} */ (seat.blockId))?.push(seat);
    for (const id of this.seats.keys()) if (!rows.has(id)) this.seats.delete(id);
    for (const [id, of] of rows) this.#replaceSeats(id, of);
    this.#replaceCounts(blocks);
    this.known = true;
    emit('init', { blocks: this.blocks });
  }

  #replaceSeats(/** @type {BlockId} */ blockId, /** @type {SeatRow[]} */ rows) {
    const next = new Map(rows.map(({ id, status }) => [id, status]));
    for (const id of difference(this.seats.get(blockId) ?? new Map(), next)) this.#mark(blockId, id);
    if (!this.seats.has(blockId) && next.size === 0) this.#changed.set(blockId, new Set());
    this.seats.set(blockId, next);
  }

  #replaceCounts(/** @type {(Counts & {id: BlockId})[]} */ rows) {
    const next = new Map(rows.map(({ id, available, hold, occupied }) => [id, { available, hold, occupied }]));
    const same = (/** @type {Counts|undefined} */ a, /** @type {Counts} */ b) =>
      a?.available === b.available && a.hold === b.hold && a.occupied === b.occupied;
    for (const [id, counts] of next) if (!same(this.blocks.get(id), counts)) this.#counted.add(id);
    for (const id of this.blocks.keys()) if (!next.has(id)) this.#counted.add(id);
    this.blocks = next;
  }

  #update(/** @type {{seatId: SeatId, blockId: BlockId, status: SeatStatus}} */ { seatId, blockId, status }, /** @type {(name: any, detail: any) => void} */ emit) {
    const seats = this.seats.get(blockId);
    if (!seats) return;			// of a block that is watched no more
    const previous = put(seats, seatId, status);
    this.#mark(blockId, seatId);
    emit('update', { seatId, blockId, status, previous });
  }

  #count(/** @type {Counts & {blockId: BlockId}} */ { blockId, available, hold, occupied }, /** @type {(name: any, detail: any) => void} */ emit) {
    const previous = this.blocks.get(blockId);
    this.blocks.set(blockId, { available, hold, occupied });
    this.#counted.add(blockId);
    emit('count', { blockId, available, hold, occupied, previous });
  }

  #mark(/** @type {BlockId} */ blockId, /** @type {SeatId} */ seatId) {
    let seats = this.#changed.get(blockId);
    if (!seats) this.#changed.set(blockId, seats = new Set());
    seats.add(seatId);
  }

  take() {
    const detail = { blocks: this.blocks, counted: this.#counted, seats: this.seats, changed: this.#changed };
    this.#counted = new Set();
    this.#changed = new Map();
    return detail;
  }

  whole() {
    return { blocks: [...this.blocks].map(([id, counts]) => ({ id, ...counts })), seats: [...this.seats].map(([id, seats]) => [id, [...seats]]) };
  }

  adopt(/** @type {{blocks: (Counts & {id: BlockId})[], seats: [BlockId, [SeatId, SeatStatus][]][]}} */ { blocks, seats }, /** @type {(name: any, detail: any) => void} */ emit) {
    const rows = seats.flatMap(([blockId, of]) => of.map(([id, status]) => ({ id, blockId, status })));
    this.#replace({ blocks, seats: rows }, seats.map(([id]) => id), emit);
  }
}

/**
 * @typedef {object} MatchEvents
 * @property {{blocks: Map<BlockId, Counts>}} init  everything; may come again at any time and replaces all before
 * @property {{seatId: SeatId, blockId: BlockId, status: SeatStatus, previous: SeatStatus|undefined}} update   one seat of a watched block
 * @property {Counts & {blockId: BlockId, previous: Counts|undefined}} count  what is left of one block
 * @property {{blocks: Map<BlockId, Counts>, counted: Set<BlockId>, seats: Map<BlockId, Map<SeatId, SeatStatus>>, changed: Map<BlockId, Set<SeatId>>}} seats
 *   all of it after one or many of the above, at most once per task; counted and changed: what is new
 */

/**
 * MatchStream - a whole stadium over one connection: how many seats each block has left, and the seats of those blocks
 * (up to 16) that are watched.  Events: those of MatchEvents and of LifeEvents (in seatcast-stream.js).
 * @extends {LiveStream<MatchEvents & LifeEvents>}
 */
export class MatchStream extends LiveStream {
  #model;

  /**
   * @param {string|URL|{match: number|string, blocks?: BlockId[], base?: string|URL}} where  .../matches/{matchId}/status-stream, its
   *   ?blocks= being what is watched first; or the ids, and what stands before `api/`
   * @param {StreamOptions} [options]
   */
  constructor(where, options = {}) {
    const plain = typeof where === 'string' || where instanceof URL;
    const url = new URL(plain ? new URL(where, globalThis.location?.href) : address(`api/matches/${where.match}/status-stream`, where.base));
    const named = (url.searchParams.get('blocks') ?? '').split(',').filter(Boolean);
    url.searchParams.delete('blocks');
    const model = new MatchModel(url.href, oneForm(plain ? named : where.blocks ?? []));
    super(model, options);
    this.#model = model;
  }

  /** What is left of each block that has seats.  It is ours: read it, do not change it. */
  get blocks() { return this.#model.blocks; }

  /** The blocks that this tab watches. */
  get watched() { return this.#model.wants; }

  /** The seats of a watched block; undefined until they are here. */
  seatsOf(/** @type {BlockId} */ blockId) { return this.#model.seats.get(oneForm([blockId])[0]); }

  /** Watch these blocks and no others.  What is known of those that stay is kept, and nothing goes offline. */
  watch(/** @type {Iterable<BlockId>} */ blockIds) {
    this.#model.wants = oneForm(blockIds);
    this.want();
  }
}

/** An id as a number where that is exact, as in the stream's JSON. */
function oneForm(/** @type {Iterable<BlockId>} */ ids) {
  const all = [...new Set([...ids].map((id) => (Number.isSafeInteger(Number(id)) ? Number(id) : String(id))))];
  if (all.length > MOST_BLOCKS) throw new RangeError(`a stream carries at most ${MOST_BLOCKS} blocks`);
  return all;
}
