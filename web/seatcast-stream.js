// SPDX-License-Identifier: ISC
import { Clock } from './seatcast-clock.js';
import { Line } from './seatcast-line.js';
import { Tabs } from './seatcast-tabs.js';

/** @typedef {import('./seatcast-line.js').Message} Message */
/** @typedef {import('./seatcast-line.js').BlockId} BlockId */
/** @typedef {'live'|'stale'|'offline'|'gone'} StreamState  gone is final: there is no such match or block */

/**
 * @typedef {object} StreamOptions
 * @property {boolean} [share]        one connection for all tabs of this browser (default true)
 * @property {boolean} [credentials]  send cookies to another origin (default false)
 * @property {'auto'|'poll'} [transport]  poll: never open a stream, for viewers behind a cache that can't carry one (auto)
 * @property {number} [openMs]        an opened stream has to say something within this time (10 s)
 * @property {number} [quietMs]       an open stream has to say something at least this often (20 s: a beat comes every 15)
 * @property {number} [strikes]       so many failures in a row: poll instead (3)
 * @property {number} [pollMs]        time between two polls (2 s)
 * @property {number} [retryStreamMs] polling: when to try the stream again; doubles up to ten times that (60 s)
 * @property {number} [backoffMs]     longest first wait before we reopen; doubles with every failure (2 s)
 * @property {number} [backoffCapMs]  longest wait of all (30 s)
 */

/**
 * @typedef {object} LifeEvents  what every stream says (CustomEvent; this is its `detail`)
 * @property {{state: StreamState, previous: StreamState, status?: number, message?: string}} state  status, message: why
 * @property {{asOf: Date}} stale                 the server lost its database; what we have is as of then
 * @property {{asOf: Date|null}} fresh            it is back and what we have is current
 * @property {{asOf: Date|null}} beat             nothing happened, and that is certain
 * @property {{status: number, message: string}} busy  the server can't take us now; we come back by ourselves
 */

/**
 * @typedef {object} Model  what a stream is about: a block or a match
 * @property {string} name                       the same for all tabs that can share
 * @property {boolean} known                     there was a complete state once
 * @property {BlockId[]} wants                   blocks whose seats this tab wants
 * @property {BlockId[]} about                   blocks whose seats we have
 * @property {number} most                       so many blocks go into one connection
 * @property {(blocks: BlockId[]) => {url: string, about: BlockId[]}} request
 * @property {(about: BlockId[], blocks: BlockId[]) => boolean} covers
 * @property {import('./seatcast-poll.js').Plan} poll
 * @property {(message: Message, emit: (name: string, detail: any) => void) => void} apply  init, update, count, poll
 * @property {() => any} take                    the detail of the next `seats` event
 * @property {() => any} whole
 * @property {(whole: any, emit: (name: string, detail: any) => void) => void} adopt
 */

/** @type {Readonly<Required<StreamOptions>>} */
export const DEFAULTS = Object.freeze({
  share: true, credentials: false, transport: 'auto', openMs: 10_000, quietMs: 20_000, strikes: 3,
  pollMs: 2_000, retryStreamMs: 60_000, backoffMs: 2_000, backoffCapMs: 30_000,
});

/**
 * LiveStream - the life that all streams have: shared by tabs, resumed, live or stale or offline, of a known age.
 * @template {object} Events
 */
export class LiveStream extends EventTarget {
  #model; #options;
  /** @type {StreamState} */ #state = 'offline';
  /** @type {{status: number, message: string}|null} */ #reason = null;
  #lastEventId = '';
  #goodAt = NaN;			// performance.now() when what we have was last known to be current
  #clock = new Clock();
  /** @type {ReturnType<typeof setTimeout>|undefined} */ #seatsTimer;
  /** @type {Line|null} */ #line = null;
  /** @type {Tabs|null} */ #tabs = null;
  #introduce = false;			// a new leader owes its followers one complete state
  #alone = false;
  #life = new AbortController();
  #emitter = (/** @type {string} */ name, /** @type {any} */ detail) => this.#emit(name, detail);

  /**
   * @param {Model} model
   * @param {StreamOptions} options
   */
  constructor(model, options) {
    super();
    this.#model = model;
    this.#options = { ...DEFAULTS, ...options };
    const { signal } = this.#life;
    // A page that is put to sleep must not keep the connection of those that are awake.
    globalThis.addEventListener?.('pagehide', () => this.#stop(), { signal });
    globalThis.addEventListener?.('pageshow', (event) => { if (event.persisted) this.#wakeUp(); }, { signal });
    globalThis.addEventListener?.('offline', () => this.#setState('offline'), { signal });
    globalThis.document?.addEventListener('freeze', () => this.#stop(), { signal });
    globalThis.document?.addEventListener('resume', () => this.#wakeUp(), { signal });
    this.#start();
  }

  get state() { return this.#state; }
  get lastEventId() { return this.#lastEventId; }

  /** Why it is gone; null while it is not. */
  get reason() { return this.#reason; }

  /** How seats come in: by our own 'sse', by our own 'poll', or 'shared' from another tab. */
  get transport() { return this.#line ? this.#line.transport : 'shared'; }

  /** Milliseconds since what we have was last known to be current: 0 when live, NaN when it never was. */
  get age() { return this.#state === 'live' ? 0 : performance.now() - this.#goodAt; }

  /** The database's clock, in milliseconds since 1970; our own as long as no beat has told it. */
  serverNow() { return this.#clock.now(); }

  /** A coarse hint (the Date header of an answer), used only until the database's own time is known. */
  hintClock(/** @type {number} */ time) { this.#clock.learn(time, false); }

  /** Ends everything; another tab takes over at once.  No event comes after this. */
  close() {
    this.#end();
    if (this.#state !== 'gone') this.#state = 'offline';
  }

  /**
   * @template {keyof Events & string} Name
   * @param {Name} name
   * @param {((event: CustomEvent<Events[Name]>) => void) | {handleEvent(event: CustomEvent<Events[Name]>): void} | null} listener
   * @param {boolean | AddEventListenerOptions} [options]
   */
  addEventListener(name, listener, options) {
    super.addEventListener(name, /** @type {any} */ (listener), options);
  }

  /**
   * @template {keyof Events & string} Name
   * @param {Name} name
   * @param {((event: CustomEvent<Events[Name]>) => void) | {handleEvent(event: CustomEvent<Events[Name]>): void} | null} listener
   * @param {boolean | EventListenerOptions} [options]
   */
  removeEventListener(name, listener, options) {
    super.removeEventListener(name, /** @type {any} */ (listener), options);
  }

  /** The model wants other blocks now. */
  want() {
    if (this.#tabs) this.#tabs.want(this.#model.wants);
    else this.#line?.want(this.#model.wants);
    this.#emitSeatsSoon();
  }

  // ---- who holds the connection ----

  #start() {
    if (this.#line || this.#tabs || this.#life.signal.aborted) return;
    if (!this.#options.share || this.#alone || !Tabs.possible()) return this.#lead(this.#model.wants);
    this.#tabs = new Tabs(this.#model.name, this.#model.wants, { quietMs: this.#options.quietMs, most: this.#model.most }, {
      lead: () => this.#lead(this.#tabs?.wants ?? this.#model.wants),
      resign: () => this.#dropLine(),
      alone: () => this.#goAlone(),
      messages: (messages) => { for (const message of messages) this.#fromLeader(message); },
      whole: () => this.#whole(),
      adopt: (whole) => this.#adopt(whole),
      wants: (blocks) => this.#line?.want(blocks),
    });
    return undefined;
  }

  #lead(/** @type {BlockId[]} */ blocks) {
    this.#introduce = this.#tabs !== null;
    this.#line = new Line(this.#model, blocks, this.#options, this.#lastEventId, (message) => this.#fromServer(message));
  }

  #dropLine() {
    this.#line?.close();
    this.#line = null;
  }

  #goAlone() {
    this.#alone = true;
    this.#stop();
    this.#start();
  }

  #stop() {
    this.#dropLine();
    this.#tabs?.close();
    this.#tabs = null;
  }

  #end() {
    this.#life.abort();
    this.#stop();
    clearTimeout(this.#seatsTimer);
  }

  /** Back from the browser's cache: what we show is as old as the sleep was long. */
  #wakeUp() {
    if (this.#line || this.#tabs) return;
    this.#setState('offline');
    this.#start();
  }

  #fromServer(/** @type {Message} */ message) {
    // The blocks of another tab may be what is unknown: then each asks for its own.
    if (message.type === 'gone' && this.#tabs?.dismiss()) return this.#lead(this.#model.wants);
    this.#tabs?.tell(message);
    this.#apply(message);
    // Followers may have heard a little more or less of the old leader than we did.  Our first complete frame
    // makes us current, so what we have from there on is right for all.
    const { type, id } = message;
    const complete = type === 'init' || type === 'beat' || type === 'poll' || ((type === 'update' || type === 'count') && id !== '');
    if (!this.#introduce || !complete) return undefined;
    this.#introduce = false;
    if (type !== 'init') this.#tabs?.tellWhole();	// an init is the whole already
    return undefined;
  }

  #fromLeader(/** @type {Message} */ message) {
    // Changes of something that we do not have yet would make a map with holes: its whole state is on its way.
    const holes = ['update', 'count'].includes(message.type) || (message.type === 'poll' && !message.data.full);
    if (this.#model.known || !holes) this.#apply(message);
  }

  #whole() {
    return {
      model: this.#model.known ? this.#model.whole() : null, id: this.#lastEventId, state: this.#state,
      age: this.#model.known ? this.age : NaN, now: this.serverNow(), clockIsExact: this.#clock.exact,
    };
  }

  #adopt(/** @type {any} */ { model, id, state, age, now, clockIsExact }) {
    if (model === null) return;		// the leader knows nothing yet either
    this.#lastEventId = id;
    this.#clock.learn(now, clockIsExact);
    this.#model.adopt(model, this.#emitter);
    this.#emitSeatsSoon();
    this.#goodAt = performance.now() - age;
    this.#setState(state);
  }

  // ---- what a message means ----

  #apply(/** @type {Message} */ message) {
    const { type, data, id } = message;
    if (id && (this.#model.known || type === 'init' || type === 'poll')) this.#lastEventId = id;
    const asOf = data?.asOf ? new Date(data.asOf) : null;
    switch (type) {
      case 'init':
        this.#take(message);
        this.#setState('live');
        break;
      case 'update':
      case 'count':
        this.#take(message);
        if (this.#state === 'offline') this.#setState('live');	// stale stays stale until `fresh`
        break;
      case 'poll':
        this.#take(message);
        if (data.oldMs) this.#staleSince(data.oldMs, asOf ?? new Date(this.serverNow() - data.oldMs)); else this.#good(this.#state === 'stale' ? 'fresh' : 'beat', asOf);
        break;
      case 'fresh':
        this.#good(type, asOf);
        break;
      case 'beat':
        // While the database is away beats go on, with an old asOf: they tell nothing about now.
        if (this.#state !== 'stale') this.#good(type, asOf);
        break;
      case 'stale':
        if (asOf) this.#staleSince(Math.max(0, this.serverNow() - asOf.getTime()), asOf);
        break;
      case 'busy':
        this.#setState('offline', data);
        this.#emit('busy', data);
        break;
      case 'down':
        this.#setState('offline', data);
        break;
      case 'gone':
        this.#gone(data);
        break;
      default:
    }
    if (this.#state === 'live') this.#goodAt = performance.now();
  }

  #take(/** @type {Message} */ message) {
    this.#model.apply(message, this.#emitter);
    if (message.type === 'init' || message.type === 'poll') this.#goodAt = performance.now();
    this.#emitSeatsSoon();
  }

  #good(/** @type {'fresh'|'beat'} */ type, /** @type {Date|null} */ asOf) {
    if (asOf) this.#clock.learn(asOf.getTime());
    if (this.#model.known) this.#setState('live');
    this.#emit(type, { asOf });
  }

  #staleSince(/** @type {number} */ age, /** @type {Date} */ asOf) {
    this.#goodAt = performance.now() - age;
    this.#setState('stale');
    this.#emit('stale', { asOf });
  }

  #gone(/** @type {{status: number, message: string}} */ why) {
    this.#reason = why;
    this.#end();
    this.#setState('gone', why);
  }

  /** A poll brings its updates as one bunch of tasks; the page wants to draw once. */
  #emitSeatsSoon() {
    this.#seatsTimer ??= setTimeout(() => {
      this.#seatsTimer = undefined;
      this.#emit('seats', this.#model.take());
    }, 0);
  }

  #setState(/** @type {StreamState} */ state, /** @type {{status?: number, message?: string}} */ { status, message } = {}) {
    const previous = this.#state;
    if (state === previous || previous === 'gone') return;
    this.#state = state;
    this.#emit('state', { state, previous, status, message });
  }

  #emit(/** @type {string} */ name, /** @type {any} */ detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
