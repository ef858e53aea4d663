// SPDX-License-Identifier: ISC
import { jitter, parseJson, refusal } from './seatcast-http.js';
import { Poll } from './seatcast-poll.js';

/** @typedef {number|string} BlockId */
/** @typedef {{type: string, data?: any, id?: string, about?: BlockId[]}} Message */
/** @typedef {import('./seatcast-stream.js').Model} Model */
/** @typedef {Required<import('./seatcast-stream.js').StreamOptions>} Options */

const EVENT_TYPES = ['init', 'update', 'count', 'stale', 'fresh', 'beat', 'busy'];

/**
 * Line - one connection to the server, kept up by all means: EventSource with a watchdog, and polling where event
 * streams do not get through.  Knows nothing of seats or tabs; gives messages to receive().
 *
 * Besides the server's own events: `down` (no connection; we go on trying), `gone` (there is nothing to connect to; the
 * line is closed), `poll` (an answer to polling, see seatcast-poll.js).
 */
export class Line {
  #model; #options; #receive;
  #lastEventId;
  /** @type {BlockId[]} */ #blocks;
  /** @type {BlockId[]} */ #about = [];
  /** @type {EventSource|null} */ #source = null;
  /** @type {Poll|null} */ #poll = null;
  /** @type {ReturnType<typeof setTimeout>|undefined} */ #watchdog;
  /** @type {ReturnType<typeof setTimeout>|undefined} */ #reopenTimer;
  #strikes = 0; #heardAt = Date.now(); #quietAfter = 0; #streamTries = 0;
  #abort = new AbortController();

  /**
   * @param {Model} model
   * @param {BlockId[]} blocks         whose seats are wanted (a block's own stream: none)
   * @param {Options} options
   * @param {string} lastEventId
   * @param {(message: Message) => void} receive
   */
  constructor(model, blocks, options, lastEventId, receive) {
    this.#model = model;
    this.#blocks = blocks;
    this.#about = model.about;			// that is what the id we were given is good for
    this.#options = options;
    this.#lastEventId = lastEventId;
    this.#receive = receive;
    // A machine that slept has timers that slept too: look at the wall clock when somebody is back.
    const { signal } = this.#abort;
    globalThis.document?.addEventListener('visibilitychange', () => this.#wake(), { signal });
    globalThis.addEventListener?.('offline', () => this.#offline(), { signal });
    globalThis.addEventListener?.('online', () => this.#online(), { signal });
    if (options.transport === 'poll') this.#startPolling(); else this.#open();
  }

  /** @returns {'sse'|'poll'} */
  get transport() { return this.#poll ? 'poll' : 'sse'; }

  close() {
    this.#abort.abort();
    this.#dropSource();
    this.#stopPolling();
    clearTimeout(this.#reopenTimer);
  }

  /** Seats of these blocks from now on; what is open goes on when it is enough. */
  want(/** @type {BlockId[]} */ blocks) {
    this.#blocks = blocks;
    this.#poll?.want(blocks);
    if (this.#source && !this.#model.covers(this.#about, blocks)) this.#open();
  }

  #open() {
    this.#dropSource();
    clearTimeout(this.#reopenTimer);
    this.#reopenTimer = undefined;
    // An id is good for the blocks that it was told for, and for fewer.
    if (!this.#model.covers(this.#about, this.#blocks)) this.#lastEventId = '';
    const { url, about } = this.#model.request(this.#blocks);
    this.#about = about;
    const address = new URL(url);
    // EventSource sends Last-Event-ID only when it reconnects by itself; a new one has to say it in the address.
    if (this.#lastEventId) address.searchParams.set('lastEventId', this.#lastEventId);
    const source = new EventSource(address.href.replaceAll('%2C', ','), { withCredentials: this.#options.credentials });
    this.#source = source;
    for (const type of EVENT_TYPES) {
      source.addEventListener(type, (event) => { if (source === this.#source) this.#heard(type, event); });
    }
    source.addEventListener('error', () => { if (source === this.#source) this.#failed(source.readyState === EventSource.CLOSED); });
    this.#expectWithin(this.#options.openMs);
  }

  #dropSource() {
    clearTimeout(this.#watchdog);
    this.#source?.close();
    this.#source = null;
  }

  #heard(/** @type {string} */ type, /** @type {MessageEvent} */ event) {
    let payload;
    try {
      payload = parseJson(event.data);
    } catch {
      this.#lastEventId = '';		// whatever that was, only a new init can be trusted now
      this.#dropSource();
      return this.#failed(false);
    }
    // The id stands on the last update of a poll; those before it must not count as complete.
    if (event.lastEventId) this.#lastEventId = event.lastEventId;
    this.#strikes = 0;
    this.#streamTries = 0;
    this.#stopPolling();
    this.#expectWithin(this.#options.quietMs);
    const message = { type, data: type === 'busy' ? payload : payload.data, id: this.#lastEventId };
    return this.#receive(type === 'init' ? { ...message, about: this.#about } : message);
  }

  #expectWithin(/** @type {number} */ ms) {
    clearTimeout(this.#watchdog);
    this.#heardAt = Date.now();
    this.#quietAfter = ms;
    this.#watchdog = setTimeout(() => this.#silent(), ms);
  }

  #silent() {
    this.#dropSource();
    this.#failed(false);
  }

  #wake() {
    if (document.visibilityState === 'visible' && this.#source && Date.now() - this.#heardAt > this.#quietAfter) this.#silent();
  }

  /** The browser says that there is no network: what is open is dead, whatever it seems. */
  #offline() {
    this.#dropSource();
    this.#stopPolling();
    this.#receive({ type: 'down' });
    this.#reopenLater();			// it may be wrong, and may forget to say `online`
  }

  #online() {
    if (this.#options.transport === 'poll') this.#startPolling();
    else if (!this.#source) this.#reopenSoon(1);
  }

  /** The stream failed: by an error, by a refusal (the browser gives up), or by saying nothing. */
  async #failed(/** @type {boolean} */ refused) {
    this.#strikes += 1;
    if (this.#source?.readyState === EventSource.CONNECTING && this.#strikes < this.#options.strikes && !this.#poll) {
      this.#receive({ type: 'down' });
      return this.#expectWithin(this.#options.quietMs);	// the browser tries again by itself after `retry:`
    }
    this.#dropSource();
    const enough = this.#poll !== null || this.#strikes >= this.#options.strikes;
    if (!this.#poll) this.#receive({ type: 'down' });
    const wait = refused ? await this.#askWhy() : 0;
    if (this.#abort.signal.aborted || this.#source) return undefined;
    if (!enough) return this.#reopenSoon(this.#strikes, wait);
    this.#reopenLater();
    return this.#startPolling();
  }

  /** EventSource does not tell why it was refused.  @returns {Promise<number>} for how long we are asked to stay away */
  async #askWhy() {
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), this.#options.openMs);
    try {
      const response = await fetch(this.#model.request(this.#blocks).url,
        { signal: stop.signal, cache: 'no-store', credentials: this.#options.credentials ? 'include' : 'same-origin' });
      if (response.ok) return 0;
      const why = await refusal(response);
      if (why.final) this.#gone(why);
      return why.retryAfter * 1000;
    } catch {
      return 0;
    } finally {
      clearTimeout(timer);
      stop.abort();			// it was a stream after all: enough of it
    }
  }

  #gone(/** @type {{status: number, message: string}} */ { status, message }) {
    if (this.#abort.signal.aborted) return;
    this.close();
    this.#receive({ type: 'gone', data: { status, message } });
  }

  #reopenSoon(/** @type {number} */ failures, atLeast = 0) {
    clearTimeout(this.#reopenTimer);
    this.#reopenTimer = setTimeout(() => this.#open(), atLeast + jitter(failures, this.#options));
  }

  #reopenLater() {
    clearTimeout(this.#reopenTimer);
    if (this.#options.transport === 'poll') {
      this.#reopenTimer = setTimeout(() => this.#startPolling(), this.#options.retryStreamMs);
      return;
    }
    const wait = this.#options.retryStreamMs * Math.min(10, 2 ** this.#streamTries);
    this.#streamTries += 1;
    this.#reopenTimer = setTimeout(() => this.#open(), wait * (0.5 + Math.random() / 2));
  }

  #startPolling() {
    if (this.#poll) return;
    this.#poll = new Poll(this.#model, this.#blocks, this.#options, this.#lastEventId, {
      answer: (message) => {
        if (message.id) this.#lastEventId = message.id;
        this.#receive(message);
      },
      failed: (error) => (error.final ? this.#gone(error) : this.#receive({ type: 'down', data: { status: error.status } })),
      // The server answers again after it did not: the stream will too.
      recovered: () => { if (this.#options.transport !== 'poll' && !this.#source) this.#reopenSoon(1); },
    });
  }

  #stopPolling() {
    this.#poll?.close();
    this.#poll = null;
  }
}
