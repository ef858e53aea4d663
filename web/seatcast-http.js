// SPDX-License-Identifier: ISC
/* What bytes and answers mean, and how long to wait: nothing here opens a connection. */

/**
 * JSON.parse that keeps ids beyond 2^53 as strings.  Inside a JSON string a quote is escaped, so `"id":` followed
 * by a digit can only be a key: a block whose name looks like JSON is safe.
 * @param {string} text
 * @returns {any}
 */
export function parseJson(text) {
  return JSON.parse(text.replace(/"(id|seatId|blockId)":\s*(\d{16,})/g, (whole, key, digits) =>
    (Number.isSafeInteger(Number(digits)) ? whole : `"${key}":"${digits}"`)));
}

/** Full jitter: after a restart everybody comes back, and nobody at the same time. */
export function jitter(/** @type {number} */ failures, /** @type {{backoffMs: number, backoffCapMs: number}} */ { backoffMs, backoffCapMs }) {
  return Math.random() * Math.min(backoffCapMs, backoffMs * 2 ** Math.max(0, failures - 1));
}

/**
 * What an answer that is not 200 means.  A 404 of seatcast's own (its envelope says the same) is its last word: there is no such match or block.
 * A 404 from somebody in between is not: somebody may be changing a configuration.
 * @param {Response} response
 * @returns {Promise<Error & {status: number, final: boolean, retryAfter: number}>}
 */
export async function refusal(response) {
  const { status } = response;
  let said;
  try { said = JSON.parse(await response.text()); } catch { /* not ours */ }
  const final = said?.status === status && [400, 404, 410].includes(status);
  return Object.assign(new Error(said?.message ?? `status ${status}`), { status, final, retryAfter: Number(response.headers.get('Retry-After')) || 0 });
}
