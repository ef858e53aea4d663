// SPDX-License-Identifier: ISC
/**
 * Leaving - whoever closes the page gives his seats back; whoever reloads it, or has it open in another tab, keeps them.
 *
 * A page that goes can't tell which of these it is.  So it leaves a word with a service worker, which looks a moment later
 * whether a page is there.  Where a browser has none (no https, a private window), seats stay held until their time is over.
 */
export class Leaving {
  #worker = null;

  /** @param {() => {match: string, url: string, body: string}|null} release  the request that gives everything back; null: there is nothing */
  constructor(release) {
    const where = new URL('leave-worker.js', import.meta.url);
    globalThis.navigator.serviceWorker?.register(where).then((registration) => {
      this.#worker = registration.active ?? registration.waiting ?? registration.installing;
    }, () => {});
    addEventListener('pagehide', () => {
      const request = release();
      if (request) this.#worker?.postMessage(request);
    });
  }

  /** Whether closing the page gives seats back. */
  get gives() { return this.#worker !== null; }
}
