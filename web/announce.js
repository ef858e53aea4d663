// SPDX-License-Identifier: ISC
/**
 * Announcements - toasts for eyes, one quiet live region for ears.  Whole sentences, few, and the visitor's own first:
 * what is said of others waits until nothing was said for a while, and is dropped rather than late.
 */
const TOAST_MS = 5_000;
const QUIET_MS = 8_000;
const GAP_MS = 700;			// a region that changes twice at once is read once

export class Announcer {
  #region; #toasts;
  #queue = [];
  #saidAt = -Infinity;
  #timer = null;

  constructor(region, toasts) {
    this.#region = region;
    this.#toasts = toasts;
  }

  /** For the ears: about the visitor's own seats. */
  say(text) {
    if (this.#queue.at(-1) !== text) this.#queue.push(text);
    this.#timer ??= setTimeout(() => this.#next(), 50);
  }

  /** For the ears, if there is time. */
  mention(text) {
    if (this.#queue.length === 0 && performance.now() - this.#saidAt > QUIET_MS) this.say(text);
  }

  /** For both.  The same again shows again. */
  toast(text) {
    for (const node of this.#toasts.children) if (node.textContent === text) node.remove();
    const node = document.createElement('p');
    node.className = 'toast';
    node.textContent = text;
    this.#toasts.append(node);
    setTimeout(() => node.remove(), TOAST_MS);
    this.say(text);
  }

  #next() {
    this.#timer = null;
    const text = this.#queue.shift();
    if (text === undefined) return;
    // The same sentence twice has to be a change.
    this.#region.textContent = this.#region.textContent === text ? `${text}\u00a0` : text;
    this.#saidAt = performance.now();
    if (this.#queue.length) this.#timer = setTimeout(() => this.#next(), GAP_MS);
  }
}
