/**
 * seatcast - live seat status of one block, for any web page.
 *
 *   import { SeatStream } from './seatcast.js';
 *   const stream = new SeatStream('/api/matches/1/blocks/101/seats/status-stream');
 *   stream.addEventListener('seats', (event) => draw(event.detail.seats, event.detail.changed));
 *   stream.addEventListener('state', (event) => badge(event.detail.state));
 *
 * The one idea: everything that happens is a small message.  The tab that holds the connection (the leader)
 * applies each message and passes it on; its sisters (followers) apply the same messages.  So every tab has the
 * whole state and the last event id, and any of them can go on where the leader stopped.
 *
 * Ids are 64 bit.  JSON.parse would round those beyond 2^53, so they stay strings ("9223372036854775807"); all
 * others are numbers.  The same id always has the same form, so it always finds its Map entry.
 */

/** @typedef {number|string} SeatId */
/** @typedef {'AVAILABLE'|'HOLD'|'OCCUPIED'} SeatStatus */
/** @typedef {'live'|'stale'|'offline'} StreamState */
/** @typedef {{type: string, data?: any, id?: string}} Message */

/**
 * @typedef {object} SeatStreamOptions
 * @property {boolean} [share]        one connection for all tabs of this browser (default true)
 * @property {boolean} [credentials]  send cookies to another origin (default false)
 * @property {number} [openMs]        an opened stream has to say something within this time (10 s)
 * @property {number} [quietMs]       an open stream has to say something at least this often (35 s: two beats and a bit)
 * @property {number} [strikes]       so many failures in a row: poll the snapshot instead (3)
 * @property {number} [pollMs]        time between two polls (2 s)
 * @property {number} [retryStreamMs] polling: when to try the stream again; doubles up to ten times that (60 s)
 * @property {number} [backoffMs]     longest first wait before we reopen; doubles with every failure (2 s)
 * @property {number} [backoffCapMs]  longest wait of all (30 s)
 */

const DEFAULTS = Object.freeze({
  share: true, credentials: false, openMs: 10_000, quietMs: 35_000, strikes: 3,
  pollMs: 2_000, retryStreamMs: 60_000, backoffMs: 2_000, backoffCapMs: 30_000,
});

const EVENT_TYPES = ['init', 'update', 'stale', 'fresh', 'beat', 'busy'];
const CLOCK_STEP_MS = 5_000;

/**
 * JSON.parse that keeps ids beyond 2^53 as strings.  Inside a JSON string a quote is escaped, so `"id":` followed
 * by a digit can only be a key: a block whose name looks like JSON is safe.
 * @param {string} text
 */
export function parseJson(text) {
  return JSON.parse(text.replace(/"(id|seatId)":\s*(\d{16,})/g, (whole, key, digits) =>
    (Number.isSafeInteger(Number(digits)) ? whole : `"${key}":"${digits}"`)));
}

/** Where the snapshot of a stream is: the same address without /status-stream. */
function snapshotUrl(/** @type {string} */ streamUrl) {
  const url = new URL(streamUrl);
  url.pathname = url.pathname.replace(/\/status-stream$/, '');
  url.searchParams.delete('lastEventId');
  return url.href;
}

/** Full jitter: after a restart everybody comes back, and nobody at the same time. */
function jitter(failures, { backoffMs, backoffCapMs }) {
  return Math.random() * Math.min(backoffCapMs, backoffMs * 2 ** Math.max(0, failures - 1));
}

/**
 * Line - one connection to the server, kept up by all means: EventSource with a watchdog, and the snapshot by
 * polling where event streams do not get through.  Knows nothing of seats or tabs; gives messages to receive().
 */
class Line {
  #url; #options; #receive;
  #lastEventId;
  /** @type {EventSource|null} */ #source = null;
  #watchdog = 0; #reopenTimer = 0;
  #strikes = 0; #heardAt = Date.now(); #quietAfter = 0;
  #polling = false; #pollTimer = 0; #pollFailures = 0; #pollEtag = ''; #streamTries = 0;
  #abort = new AbortController();

  constructor(url, options, lastEventId, receive) {
    this.#url = url;
    this.#options = options;
    this.#lastEventId = lastEventId;
    this.#receive = receive;
    // A machine that slept has timers that slept too: look at the wall clock when somebody is back.
    const signal = this.#abort.signal;
    globalThis.document?.addEventListener('visibilitychange', () => this.#wake(), { signal });
    globalThis.addEventListener?.('online', () => this.#reopenSoon(1), { signal });
    this.#open();
  }

  get transport() { return this.#polling ? 'poll' : 'sse'; }

  close() {
    this.#abort.abort();
    this.#dropSource();
    this.#stopPolling();
    clearTimeout(this.#reopenTimer);
  }

  #open() {
    this.#dropSource();
    clearTimeout(this.#reopenTimer);
    this.#reopenTimer = 0;
    const url = new URL(this.#url);
    // EventSource sends Last-Event-ID only when it reconnects by itself; a new one has to say it in the address.
    if (this.#lastEventId) url.searchParams.set('lastEventId', this.#lastEventId);
    const source = new EventSource(url.href, { withCredentials: this.#options.credentials });
    this.#source = source;
    for (const type of EVENT_TYPES) {
      source.addEventListener(type, (event) => { if (source === this.#source) this.#heard(type, event); });
    }
    source.addEventListener('error', () => { if (source === this.#source) this.#failed(); });
    this.#expectWithin(this.#options.openMs);
  }

  #dropSource() {
    clearTimeout(this.#watchdog);
    this.#source?.close();
    this.#source = null;
  }

  #heard(type, event) {
    let payload;
    try {
      payload = parseJson(event.data);
    } catch {
      this.#lastEventId = '';		// whatever that was, only a new init can be trusted now
      this.#source?.close();
      return this.#failed();
    }
    // The id stands on the last update of a poll; those before it must not count as complete.
    if (event.lastEventId) this.#lastEventId = event.lastEventId;
    this.#strikes = 0;
    this.#streamTries = 0;
    this.#stopPolling();
    this.#expectWithin(this.#options.quietMs);
    this.#receive({ type, data: type === 'busy' ? payload : payload.data, id: this.#lastEventId });
  }

  #expectWithin(ms) {
    clearTimeout(this.#watchdog);
    this.#heardAt = Date.now();
    this.#quietAfter = ms;
    this.#watchdog = setTimeout(() => this.#silent(), ms);
  }

  #silent() {
    this.#source?.close();
    this.#failed();
  }

  #wake() {
    if (document.visibilityState === 'visible' && this.#source && Date.now() - this.#heardAt > this.#quietAfter) {
      this.#silent();
    }
  }

  /** The stream failed: by an error, by a refusal, or by saying nothing. */
  #failed() {
    this.#strikes += 1;
    const closed = this.#source?.readyState !== EventSource.CONNECTING;
    if (this.#polling || this.#strikes >= this.#options.strikes) {
      this.#dropSource();
      this.#reopenLater();
      return this.#startPolling();
    }
    this.#receive({ type: 'down' });
    if (closed) {
      this.#dropSource();
      this.#reopenSoon(this.#strikes);
    } else {
      this.#expectWithin(this.#options.quietMs);	// the browser tries again by itself after `retry:`
    }
  }

  #reopenSoon(failures) {
    clearTimeout(this.#reopenTimer);
    this.#reopenTimer = setTimeout(() => this.#open(), jitter(failures, this.#options));
  }

  #reopenLater() {
    const wait = this.#options.retryStreamMs * Math.min(10, 2 ** this.#streamTries);
    this.#streamTries += 1;
    clearTimeout(this.#reopenTimer);
    this.#reopenTimer = setTimeout(() => this.#open(), wait * (0.5 + Math.random() / 2));
  }

  #startPolling() {
    if (this.#polling) return;
    this.#polling = true;
    this.#pollFailures = 0;
    this.#pollEtag = '';
    this.#poll();
  }

  #stopPolling() {
    this.#polling = false;
    clearTimeout(this.#pollTimer);
  }

  async #poll() {
    let wait = this.#options.pollMs * (0.75 + Math.random() / 2);
    try {
      await this.#fetchSnapshot();
      // The server answers again after it did not: the stream will too.
      if (this.#pollFailures > 0 && this.#polling && !this.#source) this.#reopenSoon(1);
      this.#pollFailures = 0;
    } catch (error) {
      if (!this.#polling) return;
      this.#pollFailures += 1;
      wait = Math.max(500, jitter(this.#pollFailures, this.#options), (error.retryAfter || 0) * 1000);
      this.#receive({ type: 'down', data: { status: error.status } });
    }
    if (this.#polling) this.#pollTimer = setTimeout(() => this.#poll(), wait);
  }

  async #fetchSnapshot() {
    const headers = this.#pollEtag ? { 'If-None-Match': this.#pollEtag } : {};
    const response = await fetch(snapshotUrl(this.#url), {
      headers,
      credentials: this.#options.credentials ? 'include' : 'same-origin',
      signal: AbortSignal.timeout(this.#options.openMs),
    });
    if (response.status !== 200 && response.status !== 304) {
      throw Object.assign(new Error(`snapshot: ${response.status}`),
        { status: response.status, retryAfter: Number(response.headers.get('Retry-After')) });
    }
    const text = response.status === 200 ? await response.text() : '';
    if (!this.#polling) return;			// the stream came back while we waited
    if (response.status === 304) return this.#receive({ type: 'beat', data: {}, id: this.#lastEventId });
    this.#pollEtag = response.headers.get('ETag') ?? '';
    this.#receive({ type: 'init', data: parseJson(text).data, id: this.#lastEventId });
  }
}

/**
 * Clock - the database's time, from the asOf of beats.  asOf is the time of the last poll, so it is never ahead:
 * the largest difference to our own monotonic clock is the best one.  A clock that was set back shows as a big step.
 */
class Clock {
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

/**
 * SeatStream - the seats of one block, live.
 *
 * Events (CustomEvent; what follows is in `detail`):
 *   init    {seats: Map}                  every seat; may come again at any time and replaces all before
 *   update  {seatId, status, previous}    one seat
 *   stale   {asOf: Date}                  the server lost its database; the map is as of then
 *   fresh   {asOf: Date}                  it is back and the map is current
 *   beat    {asOf: Date|null}             nothing happened, and that is certain
 *   busy    {status, message}             the server can't take us now; we come back by ourselves
 *   state   {state, previous, status?}    live, stale or offline; status: what polling was refused with
 *   seats   {seats: Map, changed: Set}    the map after one or many of the above, at most once per task
 */
export class SeatStream extends EventTarget {
  #url; #options; #name;
  #self = crypto.getRandomValues(new Uint32Array(2)).join('-');
  /** @type {Map<SeatId, SeatStatus>} */ #seats = new Map();
  /** @type {StreamState} */ #state = 'offline';
  #lastEventId = '';
  #known = false;			// we had a complete map once
  #goodAt = NaN;			// performance.now() when the map was last known to be current
  #clock = new Clock();
  /** @type {Set<SeatId>} */ #changed = new Set();
  #seatsTimer = 0;

  /** @type {Line|null} */ #line = null;
  /** @type {BroadcastChannel|null} */ #channel = null;
  #leader = '';
  #introduce = false;			// a new leader owes its followers one complete state
  #release = () => {};
  /** @type {AbortController|null} */ #running = null;
  #silenceTimer = 0;
  #life = new AbortController();

  /**
   * @param {string|URL} url  .../api/matches/{matchId}/blocks/{blockId}/seats/status-stream
   * @param {SeatStreamOptions} [options]
   */
  constructor(url, options = {}) {
    super();
    this.#url = new URL(url, globalThis.location?.href).href;
    this.#options = { ...DEFAULTS, ...options };
    this.#name = `seatcast ${this.#url}`;
    const { signal } = this.#life;
    // A page that is put to sleep must not keep the connection of those that are awake.
    globalThis.addEventListener?.('pagehide', () => this.#stop(), { signal });
    globalThis.addEventListener?.('pageshow', (event) => { if (event.persisted) this.#wakeUp(); }, { signal });
    globalThis.document?.addEventListener('freeze', () => this.#stop(), { signal });
    globalThis.document?.addEventListener('resume', () => this.#wakeUp(), { signal });
    this.#start();
  }

  /** The current map.  It is ours: read it, do not change it. */
  get seats() { return this.#seats; }
  get state() { return this.#state; }
  get lastEventId() { return this.#lastEventId; }

  /** How seats come in: by our own 'sse', by our own 'poll', or 'shared' from another tab. */
  get transport() { return this.#line ? this.#line.transport : 'shared'; }

  /** Milliseconds since the map was last known to be current: 0 when live, NaN when it never was. */
  get age() { return this.#state === 'live' ? 0 : performance.now() - this.#goodAt; }

  /** The database's clock, in milliseconds since 1970; our own as long as no beat has told it. */
  serverNow() { return this.#clock.now(); }

  /** A coarse hint (the Date header of an answer), used only until the database's own time is known. */
  hintClock(/** @type {number} */ time) { this.#clock.learn(time, false); }

  /** Ends everything; another tab takes over at once.  No event comes after this. */
  close() {
    this.#life.abort();
    this.#stop();
    clearTimeout(this.#seatsTimer);
    this.#setState('offline', { silent: true });
  }

  // ---- tabs: who holds the connection ----

  #start() {
    if (this.#running || this.#life.signal.aborted) return;
    this.#running = new AbortController();
    if (!this.#canShare()) return this.#lead();
    const channel = new BroadcastChannel(this.#name);
    this.#channel = channel;
    channel.addEventListener('message', (event) => { if (channel === this.#channel) this.#fromTab(event.data); });
    this.#tell('hello');
    this.#queueForLead();
  }

  /** Back from the browser's cache: what we show is as old as the sleep was long. */
  #wakeUp() {
    if (this.#running) return;
    this.#setState('offline');
    this.#start();
  }

  #stop() {
    this.#running?.abort();
    this.#running = null;
    this.#resign();
    clearTimeout(this.#silenceTimer);
    this.#channel?.close();
    this.#channel = null;
    this.#leader = '';
  }

  /** Locks exist in secure contexts only (https, localhost); without them every tab has its own connection. */
  #canShare() {
    return this.#options.share && Boolean(globalThis.navigator?.locks) && typeof BroadcastChannel === 'function';
  }

  /** Whoever has the lock leads.  The browser gives it to the next in the queue when a tab goes, however it goes. */
  async #queueForLead({ steal = false } = {}) {
    const running = this.#running;
    const options = steal ? { steal } : { signal: running.signal };
    try {
      await navigator.locks.request(this.#name, options, () => new Promise((resolve) => {
        if (running.signal.aborted) return resolve(undefined);
        this.#release = () => resolve(undefined);
        this.#lead();
      }));
    } catch {
      // Stolen, because we were silent for too long; or stopped while waiting, and then there is nothing to do.
      if (running !== this.#running) return;
      this.#resign();
      this.#queueForLead();
    }
  }

  #lead() {
    if (this.#line) return;
    clearTimeout(this.#silenceTimer);
    this.#leader = this.#self;
    this.#introduce = this.#channel !== null;
    this.#tell('lead');
    this.#line = new Line(this.#url, this.#options, this.#lastEventId, (message) => this.#fromServer(message));
  }

  #resign() {
    this.#line?.close();
    this.#line = null;
    this.#release();
    this.#release = () => {};
  }

  #tell(kind, content = {}) {
    this.#channel?.postMessage({ kind, from: this.#self, ...content });
  }

  #fromServer(/** @type {Message} */ message) {
    this.#apply(message);
    // Followers may have heard a little more or less of the old leader than we did.  Our first complete frame
    // makes us current, so what we have from there on is right for all.
    const complete = message.type === 'init' || message.type === 'beat' || (message.type === 'update' && message.id !== '');
    this.#tell('event', { message });
    if (!this.#introduce || !complete) return;
    this.#introduce = false;
    if (message.type !== 'init') this.#tell('whole', { whole: this.#whole() });	// an init is the whole already
  }

  #fromTab({ kind, from, to, message, whole }) {
    if (this.#line) {
      if (kind === 'hello' || kind === 'ping') this.#tell('whole', { to: from, whole: this.#whole() });
      return;
    }
    if (kind === 'lead') this.#leader = from;
    if (kind === 'whole' && this.#leader === '') this.#leader = from;
    // What an old leader said last may arrive after the new one's first words: too late to be true.
    if (from !== this.#leader) return;
    this.#watchLeader();
    // Updates to a map that we do not have yet would make a map with holes: its whole state is on its way.
    if (kind === 'event' && (this.#known || message.type !== 'update')) this.#apply(message);
    if (kind === 'whole' && (to === undefined || to === this.#self)) this.#adopt(whole);
  }

  /** A leader that says nothing may be frozen by its browser.  Ask once; without an answer, take its place. */
  #watchLeader() {
    clearTimeout(this.#silenceTimer);
    this.#silenceTimer = setTimeout(() => {
      this.#tell('ping');
      this.#silenceTimer = setTimeout(() => this.#queueForLead({ steal: true }), 3_000 + Math.random() * 3_000);
    }, this.#options.quietMs * 1.5);
  }

  #whole() {
    return {
      seats: [...this.#seats], id: this.#lastEventId, state: this.#state,
      age: this.#known ? this.age : NaN, now: this.serverNow(), clockIsExact: this.#clock.exact,
    };
  }

  #adopt({ seats, id, state, age, now, clockIsExact }) {
    if (Number.isNaN(age)) return;		// the leader knows nothing yet either
    this.#lastEventId = id;
    this.#clock.learn(now, clockIsExact);
    this.#replaceSeats(seats);
    this.#goodAt = performance.now() - age;
    this.#setState(state);
  }

  // ---- seats: what a message means ----

  #apply(/** @type {Message} */ { type, data, id }) {
    if (id && (this.#known || type === 'init')) this.#lastEventId = id;
    const asOf = data?.asOf ? new Date(data.asOf) : null;
    switch (type) {
      case 'init':
        this.#replaceSeats(data.seats.map((seat) => [seat.id, seat.status]));
        this.#setState('live');
        break;
      case 'update':
        this.#updateSeat(data.seatId, data.status);
        if (this.#state === 'offline') this.#setState('live');	// stale stays stale until `fresh`
        break;
      case 'fresh':
      case 'beat':
        // While the database is away beats go on, with an old asOf: they tell nothing about now.
        if (type === 'beat' && this.#state === 'stale') break;
        if (asOf) this.#clock.learn(asOf.getTime());
        if (this.#known) this.#setState('live');
        this.#emit(type, { asOf });
        break;
      case 'stale':
        this.#goodAt = performance.now() - Math.max(0, this.serverNow() - asOf.getTime());
        this.#setState('stale');
        this.#emit('stale', { asOf });
        break;
      case 'busy':
        this.#setState('offline', data);
        this.#emit('busy', data);
        break;
      case 'down':
        this.#setState('offline', data);
        break;
      default:
    }
    if (this.#state === 'live') this.#goodAt = performance.now();
  }

  #replaceSeats(/** @type {[SeatId, SeatStatus][]} */ entries) {
    const next = new Map(entries);
    for (const [seatId, status] of next) if (this.#seats.get(seatId) !== status) this.#changed.add(seatId);
    for (const seatId of this.#seats.keys()) if (!next.has(seatId)) this.#changed.add(seatId);
    this.#seats = next;
    this.#known = true;
    this.#goodAt = performance.now();
    this.#emit('init', { seats: next });
    this.#emitSeatsSoon();
  }

  #updateSeat(seatId, status) {
    const previous = this.#seats.get(seatId);
    this.#seats.set(seatId, status);
    this.#changed.add(seatId);
    this.#emit('update', { seatId, status, previous });
    this.#emitSeatsSoon();
  }

  /** A poll brings its updates as one bunch of tasks; the page wants to draw once. */
  #emitSeatsSoon() {
    this.#seatsTimer ||= setTimeout(() => {
      this.#seatsTimer = 0;
      const changed = this.#changed;
      this.#changed = new Set();
      this.#emit('seats', { seats: this.#seats, changed });
    }, 0);
  }

  #setState(/** @type {StreamState} */ state, { status = undefined, silent = false } = {}) {
    const previous = this.#state;
    if (state === previous) return;
    this.#state = state;
    if (!silent) this.#emit('state', { state, previous, status });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
