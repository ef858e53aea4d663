// SPDX-License-Identifier: ISC
import { jitter, parseJson, refusal } from './seatcast-http.js';

/** @typedef {import('./seatcast-line.js').BlockId} BlockId */
/** @typedef {import('./seatcast-line.js').Message} Message */
/** @typedef {import('./seatcast-line.js').Model} Model */
/** @typedef {import('./seatcast-line.js').Options} Options */
/** @typedef {{body: any, age: number, asOf: number}} Answer  age: what the header says, in ms; asOf: the data's time, NaN when nobody says */
/** @typedef {(url: string) => Promise<Answer>} Get */
/** @typedef {(get: Get, streamUrl: string, blocks: BlockId[], ids: Map<BlockId|'', string>) => Promise<{data: any, id?: string, answers: Answer[]}>} Plan */

const OLD_MS = 5_000;			// the server calls 3 s stale; a cache on the way may add its own
const CACHE_MS = 10_000;		// for longer no cache keeps an answer: what is older is the server's clock

/** Where a stream's changes are: the same address, /changes in place of /status-stream. */
function changesOf(/** @type {string} */ streamUrl, /** @type {string} */ since) {
  const url = new URL(streamUrl);
  url.pathname = url.pathname.replace(/\/status-stream$/, '/changes');
  url.searchParams.delete('lastEventId');
  url.searchParams.set('since', since);
  return url.href;
}

/** A block: what changed since the id that we have. */
export const BLOCK_POLL = /** @type {Plan} */ (async (get, streamUrl, _blocks, ids) => {
  const answer = await get(changesOf(streamUrl, ids.get('') ?? ''));
  const { id, seats, full = false } = answer.body.data;
  ids.set('', id);
  return { data: { seats, full }, id, answers: [answer] };
});

/** A match: the counts of its blocks, and the changes of those that are watched. */
export const MATCH_POLL = /** @type {Plan} */ (async (get, streamUrl, blocks, ids) => {
  const match = new URL(streamUrl);
  match.search = '';
  match.pathname = match.pathname.replace(/\/status-stream$/, '/blocks');
  for (const blockId of ids.keys()) if (blockId !== '' && !blocks.includes(blockId)) ids.delete(blockId);
  const [counts, ...changes] = await Promise.all([get(match.href),
    ...blocks.map((blockId) => get(changesOf(`${match.href}/${blockId}/seats/status-stream`, ids.get(blockId) ?? '')))]);
  const parts = changes.map(({ body: { data: { id, seats, full = false } } }, index) => {
    ids.set(blocks[index], id);
    return { blockId: blocks[index], seats, full };
  });
  return { data: { blocks: counts.body.data.blocks, parts, full: parts.some((part) => part.full) }, answers: [counts, ...changes] };
});

/**
 * Poll - the same seats without a stream.  Everybody who has the same version asks for the same address, so that caches
 * on the way can answer; asOf and Age say how old their answers are.
 *
 * A message is {type: 'poll', data: {asOf, oldMs, full, ...}, id}: oldMs is 0 when the data is current.
 */
export class Poll {
  #model; #blocks; #options; #tell;
  /** @type {ReturnType<typeof setTimeout>|undefined} */ #timer;
  /** @type {Map<BlockId|'', string>} */ #ids;
  #failures = 0; #closed = false; #running = false;
  #asOf = NaN; #asOfSeen = 0;		// the time of the data that we had last, and when it was new to us

  /**
   * @param {Model} model
   * @param {BlockId[]} blocks
   * @param {Options} options
   * @param {string} lastEventId
   * @param {{answer: (message: Message) => void, failed: (error: any) => void, recovered: () => void}} tell
   */
  constructor(model, blocks, options, lastEventId, tell) {
    this.#model = model;
    this.#blocks = blocks;
    this.#options = options;
    this.#ids = new Map([['', lastEventId]]);
    this.#tell = tell;
    this.#run();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  want(/** @type {BlockId[]} */ blocks) {
    this.#blocks = blocks;
    clearTimeout(this.#timer);
    if (!this.#running) this.#run();
  }

  async #run() {
    this.#running = true;
    let wait = this.#options.pollMs * (0.75 + Math.random() / 2);
    const blocks = this.#blocks;
    try {
      const ids = new Map(this.#ids);		// ids count when all of the answer has come
      const { data, id, answers } = await this.#model.poll((url) => this.#get(url), this.#model.request([]).url, blocks, ids);
      if (this.#closed) return;
      const message = { type: 'poll', data: { ...data, ...this.#howOld(answers) }, ...(id && { id }) };
      if (this.#fromThePast(message.data)) throw new Error('a cache keeps what we have left behind');
      this.#ids = ids;
      this.#tell.answer(message);
      if (this.#failures > 0) this.#tell.recovered();
      this.#failures = 0;
    } catch (error) {
      if (this.#closed) return;
      this.#failures += 1;
      const retryAfter = /** @type {any} */ (error).retryAfter ?? 0;
      wait = Math.max(500, jitter(this.#failures, this.#options), retryAfter * 1000);
      this.#tell.failed(error);
      if (this.#closed) return;		// for good
    }
    this.#running = false;
    this.#timer = setTimeout(() => this.#run(), blocks === this.#blocks ? wait : 0);
  }

  async #get(/** @type {string} */ url) {
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), this.#options.openMs);
    try {
      const response = await fetch(url, { cache: 'no-cache', signal: stop.signal, credentials: this.#options.credentials ? 'include' : 'same-origin' });
      if (response.status !== 200) throw await refusal(response);
      const body = parseJson(await response.text());
      const asOf = Date.parse(body.data.asOf ?? response.headers.get('As-Of') ?? '');
      return { body, age: (Number(response.headers.get('Age')) || 0) * 1000, asOf };
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * The oldest answer counts.  Data whose time goes on is current, however late a cache is with it; where it stands still,
   * the header says for how long, or our own clock does (the header does not reach another origin, and a cached one outlives a 304).
   */
  #howOld(/** @type {Answer[]} */ answers) {
    const asOf = answers.reduce((oldest, answer) => (answer.asOf < oldest || Number.isNaN(oldest) ? answer.asOf : oldest), NaN);
    const goesOn = asOf > this.#asOf;
    if (asOf !== this.#asOf) this.#asOfSeen = performance.now();
    this.#asOf = asOf;
    const standing = Number.isNaN(asOf) ? 0 : performance.now() - this.#asOfSeen;
    const age = goesOn ? 0 : Math.max(standing, ...answers.map((answer) => answer.age));
    return { asOf: Number.isNaN(asOf) ? null : new Date(asOf).toISOString(), oldMs: age > OLD_MS ? age : 0 };
  }

  /** All seats, but from a time before what we show: a cache's.  Differences only ever lead forward. */
  #newest = NaN;
  #fromThePast(/** @type {{full: boolean, asOf: string|null}} */ { full, asOf }) {
    const time = Date.parse(asOf ?? '');
    if (Number.isNaN(time)) return false;
    if (full && this.#newest - time > 0 && this.#newest - time < CACHE_MS) return true;
    this.#newest = time;
    return false;
  }
}
