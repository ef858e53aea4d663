// SPDX-License-Identifier: ISC
/** @typedef {import('./seatcast-line.js').BlockId} BlockId */

/**
 * @typedef {object} Owner  what the stream of this tab does for its sisters
 * @property {() => void} lead                       we hold the connection now
 * @property {() => void} resign                     somebody else does
 * @property {() => void} alone                      what we want is too much for one connection: leave and open our own
 * @property {(messages: any[]) => void} messages    from the leader, in order
 * @property {() => any} whole                       the state for one who comes later
 * @property {(whole: any) => void} adopt
 * @property {(blocks: BlockId[]) => void} wants     we lead: what all of us together want now
 */

const ROLL_CALL_MS = 400;

/**
 * Tabs - all tabs of a browser that show the same stream: one of them, the leader, has the connection.
 *
 * Who has the lock leads; the browser gives it to the next in the queue when a tab goes, however it goes.  A leader that
 * is silent for too long is asked, and its lock is taken when it does not answer: the browser may have frozen it.
 */
export class Tabs {
  #name; #owner; #quietMs; #most;
  #self = crypto.getRandomValues(new Uint32Array(2)).join('-');
  /** @type {BroadcastChannel|null} */ #channel;
  #leader = '';
  #leading = false;
  #release = () => {};
  #running = new AbortController();
  /** @type {ReturnType<typeof setTimeout>|undefined} */ #silenceTimer;
  /** @type {ReturnType<typeof setTimeout>|undefined} */ #tellTimer;
  /** @type {any[]} */ #untold = [];
  /** @type {BlockId[]} */ #ours;
  /** @type {Map<string, BlockId[]>} */ #theirs = new Map();
  #calling = false;

  /** Locks exist in secure contexts only (https, localhost); without them every tab has its own connection. */
  static possible() { return Boolean(globalThis.navigator?.locks) && typeof BroadcastChannel === 'function'; }

  /**
   * @param {string} name      of the stream
   * @param {BlockId[]} ours   what we want seats of
   * @param {{quietMs: number, most: number}} options  most: how many blocks one connection carries
   * @param {Owner} owner
   */
  constructor(name, ours, { quietMs, most }, owner) {
    this.#name = `seatcast ${name}`;
    this.#ours = ours;
    this.#owner = owner;
    this.#quietMs = quietMs;
    this.#most = most;
    const channel = new BroadcastChannel(this.#name);
    this.#channel = channel;
    channel.addEventListener('message', (event) => { if (channel === this.#channel) this.#heard(event.data); });
    this.#say('hello', { wants: ours });
    this.#queueForLead();
  }

  close() {
    this.#running.abort();
    this.#flush();
    if (!this.#leading) this.#say('bye');
    this.#resign();
    clearTimeout(this.#silenceTimer);
    this.#channel?.close();
    this.#channel = null;
  }

  /** What happened here, for the others: all of one task at once. */
  tell(/** @type {any} */ message) {
    this.#untold.push(message);
    this.#tellTimer ??= setTimeout(() => this.#flush(), 0);
  }

  tellWhole() {
    this.#flush();
    this.#say('whole', { whole: this.#owner.whole() });
  }

  want(/** @type {BlockId[]} */ blocks) {
    this.#ours = blocks;
    if (this.#leading) this.#add(); else this.#say('want', { wants: blocks });
  }

  /** What all want together; ours first. */
  get wants() {
    return [...new Set([this.#ours, ...this.#theirs.values()].flat())];
  }

  /** Everybody for himself: what one of us asks for, another may not be able to have.  @returns {boolean} whether there were others */
  dismiss() {
    const others = [...this.#theirs].filter(([, blocks]) => blocks.some((id) => !this.#ours.includes(id)));
    for (const [to] of others) this.#sendAway(to);
    return others.length > 0;
  }

  #sendAway(/** @type {string} */ to) {
    this.#theirs.delete(to);
    this.#say('alone', { to });
  }

  #flush() {
    clearTimeout(this.#tellTimer);
    this.#tellTimer = undefined;
    if (this.#untold.length) this.#say('events', { messages: this.#untold });
    this.#untold = [];
  }

  #say(/** @type {string} */ kind, content = {}) {
    this.#channel?.postMessage({ kind, from: this.#self, ...content });
  }

  async #queueForLead({ steal = false } = {}) {
    const { signal } = this.#running;
    try {
      await navigator.locks.request(this.#name, steal ? { steal } : { signal }, () => new Promise((resolve) => {
        if (signal.aborted) return resolve(undefined);
        this.#release = () => resolve(undefined);
        return this.#lead();
      }));
    } catch {
      // Stolen, because we were silent for too long; or stopped while waiting, and then there is nothing to do.
      if (signal.aborted) return;
      this.#resign();
      this.#owner.resign();
      this.#queueForLead();
    }
  }

  #lead() {
    if (this.#leading) return;
    clearTimeout(this.#silenceTimer);
    this.#leading = true;
    this.#leader = this.#self;
    this.#say('lead');
    this.#owner.lead();
  }

  #resign() {
    this.#leading = false;
    this.#release();
    this.#release = () => {};
  }

  #heard(/** @type {any} */ { kind, from, to, messages, whole, wants }) {
    if (to !== undefined && to !== this.#self) return;
    if (this.#leading) this.#asLeader(kind, from, wants); else this.#asFollower(kind, from, messages, whole);
  }

  #asLeader(/** @type {string} */ kind, /** @type {string} */ from, /** @type {BlockId[]} */ wants) {
    if (kind === 'bye') this.#theirs.delete(from);
    if (kind === 'hello' || kind === 'want' || kind === 'here') {
      this.#theirs.set(from, wants);
      this.#add();
    }
    if (kind === 'hello' || kind === 'ping') {
      this.#flush();
      this.#say('whole', { to: from, whole: this.#owner.whole() });
    }
  }

  #asFollower(/** @type {string} */ kind, /** @type {string} */ from, /** @type {any[]} */ messages, /** @type {any} */ whole) {
    if (kind === 'lead') {
      this.#leader = from;
      this.#say('here', { wants: this.#ours });
    }
    if (this.#leader === '' && ['whole', 'events', 'who', 'alone'].includes(kind)) this.#leader = from;
    // What an old leader said last may arrive after the new one's first words: too late to be true.
    if (from !== this.#leader) return;
    this.#watchLeader();
    if (kind === 'who') this.#say('here', { wants: this.#ours });
    if (kind === 'events') this.#owner.messages(messages);
    if (kind === 'whole') this.#owner.adopt(whole);
    if (kind === 'alone') this.#owner.alone();
  }

  /** Somebody wants something else.  Too much for one connection?  Ask who is still there; the last ones go alone. */
  #add() {
    if (this.#calling) return undefined;
    if (this.wants.length <= this.#most) return this.#owner.wants(this.wants);
    this.#calling = true;
    this.#theirs.clear();
    this.#say('who');
    setTimeout(() => {
      this.#calling = false;
      for (const [to] of [...this.#theirs].reverse()) if (this.wants.length > this.#most) this.#sendAway(to);
      if (this.#leading) this.#owner.wants(this.wants);
    }, ROLL_CALL_MS);
    return undefined;
  }

  #watchLeader() {
    clearTimeout(this.#silenceTimer);
    this.#silenceTimer = setTimeout(() => {
      this.#say('ping');
      this.#silenceTimer = setTimeout(() => this.#queueForLead({ steal: true }), 3_000 + Math.random() * 3_000);
    }, this.#quietMs * 1.5);
  }
}
