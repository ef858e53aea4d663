// SPDX-License-Identifier: ISC
/** Requests to the server that this file came from, under whatever prefix. */
import { parseJson } from './seatcast.js';

const ROOT = new URL('./api/', import.meta.url);

/** An answer that was not 2xx; status 0: there was no answer.  seats: which were the reason, where the server says. */
export class ApiError extends Error {
  constructor(status, message, seats = []) {
    super(message);
    this.status = status;
    this.seats = seats;
  }
}

async function call(path, body) {
  const options = body === undefined ? {} : { method: 'POST', headers: { 'Content-Type': 'application/json' }, body };
  let response;
  try {
    response = await fetch(new URL(path, ROOT), { ...options, signal: AbortSignal.timeout(10_000) });
  } catch (error) {
    throw new ApiError(0, error.message);
  }
  const text = await response.text();
  let answer = {};
  try { answer = text ? parseJson(text) : {}; } catch { /* a proxy's own page: the status says enough */ }
  if (!response.ok) throw new ApiError(response.status, answer.message ?? '', answer.data?.seats);
  // Date is cut to whole seconds: counted to the end of that second, a countdown never shows more than there is.
  return { data: answer.data, date: Date.parse(response.headers.get('Date') ?? '') + 999 };
}

export const matches = async () => (await call('matches')).data.matches;
export const stadium = async () => (await call('site/stadium')).data.areas;
export const seats = async (blockId) => (await call(`site/blocks/${blockId}/seats`)).data.seats;

const allocation = (match, action) => `matches/${match}/allocation/seats/${action}`;

// Written by hand because ids beyond 2^53 are strings here and numbers there.
const request = (userId, seatIds) => `{"userId":${userId},"seatIds":[${seatIds.join(',')}]}`;

export const hold = (match, userId, seatIds) => call(allocation(match, 'hold'), request(userId, seatIds));
export const release = (match, userId, seatIds) => call(allocation(match, 'release'), request(userId, seatIds));
export const confirm = (match, userId, seatIds) => call(allocation(match, 'confirm'), request(userId, seatIds));

/** The same as release, for somebody else to send. */
export const releaseRequest = (match, userId, seatIds) =>
  ({ url: new URL(allocation(match, 'release'), ROOT).href, body: request(userId, seatIds) });
