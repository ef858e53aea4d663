import { parseJson } from './seatcast.js';

/** An answer that was not 2xx; status 0: there was no answer. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const get = async (path) => (await call(path)).data;

async function call(path, body) {
  const options = body === undefined ? {} : { method: 'POST', headers: { 'Content-Type': 'application/json' }, body };
  let response;
  try {
    response = await fetch(`/api${path}`, { ...options, signal: AbortSignal.timeout(10_000) });
  } catch (error) {
    throw new ApiError(0, error.message);
  }
  const text = await response.text();
  let answer = {};
  try { answer = text ? parseJson(text) : {}; } catch { /* a proxy's own page: the status says enough */ }
  if (!response.ok) throw new ApiError(response.status, answer.message ?? '');
  // Date is cut to whole seconds: counted to the end of that second, a countdown never shows more than there is.
  return { data: answer.data, date: Date.parse(response.headers.get('Date') ?? '') + 999 };
}

export const areas = async () => (await get('/site/areas')).areas;
export const sections = async (areaId) => (await get(`/site/areas/${areaId}/sections`)).sections;
export const blocks = async (sectionId) => (await get(`/site/sections/${sectionId}/blocks`)).blocks;
export const seats = async (blockId) => (await get(`/site/blocks/${blockId}/seats`)).seats;

export const streamUrl = (match, block) => `/api/matches/${match}/blocks/${block}/seats/status-stream`;

const allocation = (match) => `/matches/${match}/allocation/seats`;
export const hold = (match, seatId, userId) => call(`${allocation(match)}/${seatId}/hold`, JSON.stringify({ userId }));
export const release = (match, seatId, userId) => call(`${allocation(match)}/${seatId}/release`, JSON.stringify({ userId }));

// Written by hand because ids beyond 2^53 are strings here and numbers there.
export const confirm = (match, seatIds, userId) =>
  call(`${allocation(match)}/confirm`, `{"userId":${userId},"seatIds":[${seatIds.join(',')}]}`);
