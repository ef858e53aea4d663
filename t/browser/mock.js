#!/usr/bin/env node
// SPDX-License-Identifier: ISC
/*
 * mock - the server of doc/SPEC.md sections 1 and 2 in one file, for work on web/ without the C program.
 *
 *   node t/browser/mock.js [PORT]            prints its address; without PORT: any free one
 *
 * POST /mock/sql takes the few statements that page.test.js writes (SEATCAST_SQL='curl -s --data-binary @- .../mock/sql');
 * POST /mock/db-stop, /mock/db-start, /mock/restart play the accidents; POST /mock/buyers turns random buyers on and off;
 * POST /mock/mute makes streams open and say nothing, as behind a proxy that buffers; POST /mock/rush N,BLOCK changes N seats
 * a second of one block.  MOCK_PREFIX=/tickets mounts all of it there.
 */
'use strict';
const { createServer } = require('node:http');
const { readFile } = require('node:fs/promises');
const { extname, join, normalize } = require('node:path');
const { gzipSync } = require('node:zlib');

const WEB = join(__dirname, '../../web');
const PREFIX = process.env.MOCK_PREFIX ?? '';
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8' };
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const POLL_MS = 500, STALE_MS = 3000, MAX_BLOCKS = 16;
const BEAT_MS = Number(process.env.MOCK_BEAT_MS ?? 15_000);
const HOLD_MS = Number(process.env.MOCK_HOLD_MS ?? 300_000);
const MAX_HOLDS = Number(process.env.MOCK_MAX_HOLDS ?? 0);

// ---- the "database" ----
const db = { up: true, matches: [{ id: 1, name: '홈 대 원정 (Home vs away)' }, { id: 2, name: '결승 (Final)' }], areas: [], sections: [], blocks: [], seats: [], allocations: new Map() };

function build() {
  const areaNames = ['북측 (North Stand)', '동측 (East Stand)', '남측 (South Stand)', '서측 (West Stand)'];
  let sectionId = 0;
  areaNames.forEach((name, a) => {
    db.areas.push({ id: a + 1, name });
    ['하층 (Lower Tier)', '중층 (Middle Tier)', '상층 (Upper Tier)'].forEach((tier, t) => {
      sectionId += 1;
      db.sections.push({ id: sectionId, areaId: a + 1, name: tier });
      for (let b = 0; b < 6 + t * 2 + (a % 2); b += 1) addBlock(sectionId, a, t, b);
    });
  });
  addBlock(sectionId, 3, 3, 0, 0);		// a block that has no seats
  for (const [index, seat] of db.seats.entries()) {
    const share = (seat.blockId * 37) % 101 / 100;
    const sold = seat.blockId === 104 || (seat.blockId > 104 && (index * 7919 >> 1) % 1000 < share * 1000);
    if (sold) db.allocations.set(key(1, seat.id), { userId: 5, status: 'OCCUPIED', expires: null });
  }
}

function addBlock(sectionId, a, t, b, rowCount) {
  const id = (a + 1) * 100 + t * 20 + b + 1;
  db.blocks.push({ id, sectionId, name: `${'NESW'[a]}${t * 20 + b + 1}` });
  const [rows, columns] = rowCount !== undefined ? [rowCount, 20] : id === 102 ? [40, 50] : [20, 20];
  for (let i = 0; i < rows * columns; i += 1) {
    const seatId = id === 101 ? 101 + i : id === 103 && i === 0 ? '9223372036854775807' : id * 10_000 + i;
    db.seats.push({ id: seatId, blockId: id, rowNumber: Math.floor(i / columns) + 1, seatNumber: (i % columns) + 1 });
  }
}

const seatIndex = new Map();
const seatById = (id) => seatIndex.get(String(id));
const key = (match, seatId) => `${match}/${seatId}`;

function statusOf(match, seatId, now = Date.now()) {
  const row = db.allocations.get(key(match, seatId));
  if (!row) return 'AVAILABLE';
  return row.status === 'HOLD' && row.expires !== null && row.expires <= now ? 'AVAILABLE' : row.status;
}

function runSql(sql) {
  for (const statement of sql.split(';')) {
    const insert = /INSERT INTO allocations.*SELECT (\d+), block_id, id, (\d+), '(\w+)', (NULL|.*interval '(\d+) seconds').*FROM seats WHERE id IN \(([^)]*)\)/s.exec(statement);
    const clean = /UPDATE allocations SET status = 'AVAILABLE'.*WHERE match_id = (\d+)\s+AND block_id = (\d+)/s.exec(statement);
    const rename = /UPDATE blocks SET name = '(.*)' WHERE id = (\d+)/.exec(statement);
    const block = /INSERT INTO blocks .*VALUES \((\d+), (\d+), '(.*)'\)/.exec(statement);
    if (block) {
      const [, id, sectionId, name] = block;
      if (!db.blocks.some((b) => b.id === Number(id))) db.blocks.push({ id: Number(id), sectionId: Number(sectionId), name });
    } else if (insert) {
      const [, match, userId, status, , seconds, ids] = insert;
      for (const id of ids.split(',')) {
        db.allocations.set(key(match, id.trim()), { userId: Number(userId), status, expires: seconds ? Date.now() + seconds * 1000 : null });
      }
    } else if (clean) {
      for (const seat of seatsOf(clean[2])) db.allocations.delete(key(clean[1], seat.id));
    } else if (rename) {
      db.blocks.find((block) => String(block.id) === rename[2]).name = rename[1].replaceAll("''", "'");
    } else if (statement.trim()) {
      return `the mock does not know: ${statement}`;
    }
  }
  return '';
}

// ---- groups: one per match that somebody watches; a block is a view of it ----
const groups = new Map();
const seatsOf = (block) => db.seats.filter((seat) => String(seat.blockId) === String(block));
let boot = (Date.now() & 0xffffffff).toString(16);

function group(match) {
  if (!groups.has(match)) {
    if (!db.up) return null;
    const g = { match, status: new Map(), counts: new Map(), version: 0, seatAt: new Map(), countAt: new Map(), viewers: new Set(), goodAt: Date.now(), stale: false };
    for (const seat of db.seats) {
      const status = statusOf(match, seat.id);
      g.status.set(seat, status);
      if (!g.counts.has(seat.blockId)) g.counts.set(seat.blockId, { available: 0, hold: 0, occupied: 0 });
      g.counts.get(seat.blockId)[COUNT[status]] += 1;
    }
    groups.set(match, g);
  }
  return groups.get(match);
}

const COUNT = { AVAILABLE: 'available', HOLD: 'hold', OCCUPIED: 'occupied' };
const digits = (text) => text.replace(/"(id|seatId|blockId)":"(\d+)"/g, '"$1":$2');
const json = (status, data) => digits(JSON.stringify({ status, data }));
const frame = (event, data, id) => `event: ${event}\ndata: ${data}\n${id ? `id: ${id}\n` : ''}\n`;
const asOf = (g) => ({ asOf: new Date(g.goodAt).toISOString() });
const idOf = (g) => `${boot}-${g.version}`;
const blockRows = (g) => [...g.counts].sort(([a], [b]) => a - b).map(([id, counts]) => ({ id, ...counts }));
const seatRow = (g, view) => (seat) => (view.match ? { id: seat.id, blockId: seat.blockId, status: g.status.get(seat) } : { id: seat.id, status: g.status.get(seat) });

function initOf(g, view) {
  const seats = view.seats.map(seatRow(g, view));
  return json(200, view.match ? { blocks: blockRows(g), seats } : { seats });
}

/** What changed after a version, as frames; the id is on the last. */
function news(g, view, after) {
  const updates = view.seats.filter((seat) => (g.seatAt.get(seat) ?? 0) > after)
    .map((seat) => ['update', { seatId: seat.id, ...(view.match && { blockId: seat.blockId }), status: g.status.get(seat) }]);
  const counts = !view.match ? [] : blockRows(g).filter(({ id }) => (g.countAt.get(id) ?? 0) > after)
    .map(({ id, ...rest }) => ['count', { blockId: id, ...rest }]);
  const all = [...updates, ...counts];
  return all.map(([type, data], i) => frame(type, json(200, data), i === all.length - 1 ? idOf(g) : '')).join('');
}

function write(viewer, text) {
  if (!text) return;
  if (!viewer.mute) viewer.response.write(text);
  viewer.at = Date.now();
}

function poll(g) {
  const now = Date.now();
  if (!db.up) {
    if (!g.stale && now - g.goodAt > STALE_MS) {
      g.stale = true;
      for (const viewer of g.viewers) write(viewer, frame('stale', json(503, asOf(g))));
    }
    return;
  }
  g.goodAt = now;
  const changed = db.seats.filter((seat) => statusOf(g.match, seat.id, now) !== g.status.get(seat));
  if (changed.length) g.version += 1;
  for (const seat of changed) {
    const counts = g.counts.get(seat.blockId);
    counts[COUNT[g.status.get(seat)]] -= 1;
    g.status.set(seat, statusOf(g.match, seat.id, now));
    counts[COUNT[g.status.get(seat)]] += 1;
    g.seatAt.set(seat, g.version);
    g.countAt.set(seat.blockId, g.version);
  }
  for (const viewer of g.viewers) {
    if (changed.length) write(viewer, news(g, viewer.view, g.version - 1));
    if (g.stale) write(viewer, frame('fresh', json(200, asOf(g))));
  }
  g.stale = false;
}

setInterval(() => {
  for (const g of groups.values()) {
    poll(g);
    for (const viewer of g.viewers) {
      if (Date.now() - viewer.at >= BEAT_MS && !viewer.mute) write(viewer, frame('beat', json(200, asOf(g))));
    }
  }
}, POLL_MS).unref();

let mute = false;
const counters = { streams: 0, resumed: 0, snapshots: 0, changes: 0 };

function openStream(request, response, g, view, url) {
  response.writeHead(200, { 'Content-Type': 'text/event-stream; charset=utf-8', 'Cache-Control': 'no-store, no-transform' });
  if (!g) return response.end(`retry: 10000\n\n${frame('busy', '{"status":503,"message":"database away"}')}`);
  counters.streams += 1;
  const viewer = { response, at: Date.now(), mute, view };
  if (mute) response.flushHeaders(); else greet(g, viewer, request.headers['last-event-id'] ?? url.searchParams.get('lastEventId') ?? '');
  g.viewers.add(viewer);
  response.on('close', () => g.viewers.delete(viewer));
  return undefined;
}

/** The version that an id of ours names; undefined: of another time, or none. */
function versionOf(g, id) {
  const [lastBoot, version] = id.split('-');
  return lastBoot === boot && Number(version) <= g.version ? Number(version) : undefined;
}

function greet(g, { response, view }, last) {
  response.write(`retry: ${2000 + Math.floor(Math.random() * 1000)}\n\n`);
  const version = versionOf(g, last);
  if (version === undefined) {
    response.write(frame('init', initOf(g, view), idOf(g)));
  } else {
    counters.resumed += 1;
    response.write(news(g, view, version) || frame('beat', json(200, asOf(g))));
  }
  if (g.stale) response.write(frame('stale', json(503, asOf(g))));
}

// ---- HTTP ----
function answer(response, status, body, headers = {}) {
  response.writeHead(status, { 'Content-Type': 'application/json', ...headers });
  response.end(body);
}
const fail = (response, status, message) => answer(response, status, JSON.stringify({ status, message }));

const freshness = (g) => ({ 'Cache-Control': 'public, max-age=1, stale-while-revalidate=5',
  Age: String(Math.floor((Date.now() - g.goodAt) / 1000)), 'As-Of': asOf(g).asOf });

function snapshot(request, response, g, body) {
  if (!g) return fail(response, 503, 'database away');
  counters.snapshots += 1;
  const headers = { ETag: `"${idOf(g)}"`, ...freshness(g) };
  if (request.headers['if-none-match'] === headers.ETag) return response.writeHead(304, headers).end();
  return answer(response, 200, body(), headers);
}

function changes(response, g, view, since) {
  if (!g) return fail(response, 503, 'database away');
  counters.changes += 1;
  const version = versionOf(g, since);
  const seats = view.seats.filter((seat) => version === undefined || (g.seatAt.get(seat) ?? 0) > version).map(seatRow(g, view));
  return answer(response, 200, json(200, { id: idOf(g), ...asOf(g), ...(version === undefined && { full: true }), seats }), freshness(g));
}

/** Why this user can't do that to this seat; '' when he can. */
function objection(match, seatId, action, userId) {
  const row = db.allocations.get(key(match, seatId));
  const status = statusOf(match, seatId);
  const mine = status === 'HOLD' && row.userId === userId;
  if (action !== 'hold') return mine ? '' : 'not-yours';
  return status === 'AVAILABLE' || mine ? '' : status === 'HOLD' ? 'held' : 'sold';
}

const heldBy = (match, userId) => [...db.allocations].filter(([name, row]) => name.startsWith(`${match}/`) && row.userId === userId && row.status === 'HOLD' && row.expires > Date.now()).length;

/** hold, release, confirm: all or nothing. */
function allocate(response, match, action, { userId, seatIds }, single) {
  if (!db.up) return fail(response, 503, 'database away');
  const seats = seatIds.map((seatId) => ({ seatId, reason: objection(match, seatId, action, userId) })).filter(({ reason }) => reason);
  if (!seats.length && action === 'hold' && MAX_HOLDS && heldBy(match, userId) + seatIds.filter((id) => statusOf(match, id) !== 'HOLD').length > MAX_HOLDS) {
    seats.push(...seatIds.map((seatId) => ({ seatId, reason: 'limit' })));
  }
  if (seats.length) return answer(response, 409, digits(JSON.stringify({ status: 409, message: 'not all of these seats', data: { seats } })));
  const expires = Date.now() + HOLD_MS;
  for (const id of seatIds) {
    if (action === 'release') db.allocations.delete(key(match, id));
    else db.allocations.set(key(match, id), { userId, status: action === 'hold' ? 'HOLD' : 'OCCUPIED', expires: action === 'hold' ? expires : null });
  }
  if (groups.has(match)) poll(groups.get(match));	// what went through here is at every viewer at once
  if (action === 'release') return response.writeHead(204).end();
  const rows = seatIds.map((seatId) => ({ seatId, status: action === 'hold' ? 'HOLD' : 'OCCUPIED', ...(action === 'hold' && { holdExpiresAt: new Date(expires).toISOString() }) }));
  return answer(response, 200, json(200, single ? rows[0] : { [action === 'hold' ? 'heldSeats' : 'confirmedSeats']: rows }));
}

const named = ({ id, name }) => ({ id, name });
const list = (response, field, rows) => answer(response, 200, json(200, { [field]: rows }));
const stadium = () => ({ areas: db.areas.map(({ id, name }) => ({ id, name,
  sections: db.sections.filter((s) => s.areaId === id).map((s) => ({ ...named(s), blocks: db.blocks.filter((b) => b.sectionId === s.id).map(named) })) })) });
const SITE = [
  [/^\/api\/site\/stadium$/, (r) => answer(r, 200, json(200, stadium()), { 'Cache-Control': 'public, max-age=60', ETag: '"s"' })],
  [/^\/api\/matches$/, (r) => list(r, 'matches', db.matches)],
  [/^\/api\/site\/areas$/, (r) => list(r, 'areas', db.areas)],
  [/^\/api\/site\/areas\/(\d+)\/sections$/, (r, id) => list(r, 'sections', db.sections.filter((s) => String(s.areaId) === id).map(named))],
  [/^\/api\/site\/sections\/(\d+)\/blocks$/, (r, id) => list(r, 'blocks', db.blocks.filter((b) => String(b.sectionId) === id).map(named))],
  [/^\/api\/site\/blocks\/(\d+)\/seats$/, (r, id) => {
    const seats = seatsOf(id).map(({ blockId, ...seat }) => seat);
    return db.blocks.some((b) => String(b.id) === id) ? list(r, 'seats', seats) : fail(r, 404, 'no such block');
  }],
];

let buyers = null;
function toggleBuyers(perSecond = 16, blocks = [101, 102, 103]) {
  if (buyers) { clearInterval(buyers); buyers = null; return; }
  const choice = blocks.map(seatsOf);
  buyers = setInterval(() => {
    for (let n = 0; n < perSecond / 8; n += 1) {
      const seats = choice[Math.floor(Math.random() * choice.length)];
      const seat = seats[Math.floor(Math.random() * seats.length)];
      const fate = Math.random();
      if (fate < 0.2) db.allocations.delete(key('1', seat.id));
      else db.allocations.set(key('1', seat.id), { userId: 1, status: fate < 0.6 ? 'HOLD' : 'OCCUPIED', expires: fate < 0.6 ? Date.now() + 60_000 : null });
    }
  }, 125);
}

function mock(name, body, response) {
  if (name === 'sql') return response.end(runSql(body));
  if (name === 'db-stop') db.up = false;
  if (name === 'db-start') db.up = true;
  if (name === 'mute') mute = body !== 'off';
  if (name === 'buyers') toggleBuyers();
  if (name === 'rush') toggleBuyers(...body.split(',').map(Number).map((n, i) => (i ? [n] : n)));
  if (name === 'restart') {
    boot = (Number.parseInt(boot, 16) + 1).toString(16);
    for (const g of groups.values()) for (const viewer of g.viewers) viewer.response.destroy();
    groups.clear();
  }
  return response.end('ok\n');
}

function metrics(response) {
  const viewers = [...groups.values()].reduce((sum, g) => sum + g.viewers.size, 0);
  response.end(`seatcast_viewers ${viewers}\n${Object.entries(counters).map(([name, n]) => `mock_${name}_total ${n}\n`).join('')}`);
}

async function serveFile(path, request, response) {
  const name = path === '/' ? '/index.html' : normalize(path);
  try {
    const body = await readFile(join(WEB, name));
    const zip = /gzip/.test(request.headers['accept-encoding'] ?? '');
    response.writeHead(200, { 'Content-Type': TYPES[extname(name)] ?? 'application/octet-stream', 'Content-Security-Policy': CSP, 'Cache-Control': 'no-cache', ...(zip && { 'Content-Encoding': 'gzip' }) });
    response.end(zip ? gzipSync(body) : body);
  } catch {
    fail(response, 404, 'no such file');
  }
}

// ids beyond 2^53 come as numbers: keep their digits, and find ours in the form that they have here
const parseBody = (body) => JSON.parse(body.replace(/(?<=[[,])(\d{16,})(?=[,\]])/g, '"$1"') || '{}');
const known = (ids) => ids.map((id) => seatById(id)?.id);

async function handle(request, response) {
  const url = new URL(request.url, 'http://mock');
  let body = '';
  for await (const part of request) body += part;
  if (url.pathname.startsWith('/mock/')) return mock(url.pathname.slice(6), body, response);
  if (!url.pathname.startsWith(`${PREFIX}/`)) return fail(response, 404, 'outside');
  const path = url.pathname.slice(PREFIX.length);
  const block = /^\/api\/matches\/(\d+)\/blocks\/(\d+)\/seats(?:\/(status-stream|changes))?$/.exec(path);
  const whole = /^\/api\/matches\/(\d+)\/(status-stream|blocks)$/.exec(path);
  const one = /^\/api\/matches\/(\d+)\/allocation\/seats\/(\d+)\/(hold|release)$/.exec(path);
  const all = /^\/api\/matches\/(\d+)\/allocation\/seats\/(hold|release|confirm)$/.exec(path);
  const site = SITE.find(([pattern]) => pattern.test(path));
  const match = (block ?? whole ?? one ?? all)?.[1];
  if (path === '/metrics') return metrics(response);
  if (match && !db.matches.some(({ id }) => String(id) === match)) return fail(response, 404, 'no such match');
  if (block && !db.blocks.some((b) => String(b.id) === block[2])) return fail(response, 404, 'no such block');
  if (block) {
    const g = group(match);
    const view = { match: false, seats: seatsOf(block[2]) };
    if (block[3] === 'status-stream') return openStream(request, response, g, view, url);
    return block[3] ? changes(response, g, view, url.searchParams.get('since') ?? '') : snapshot(request, response, g, () => initOf(g, view));
  }
  if (whole) {
    const blocks = (url.searchParams.get('blocks') ?? '').split(',').filter(Boolean);
    if (blocks.length > MAX_BLOCKS || new Set(blocks).size < blocks.length || blocks.some((id) => !/^[1-9]\d*$/.test(id))) return fail(response, 400, 'blocks');
    if (!blocks.every((id) => db.blocks.some((b) => String(b.id) === id))) return fail(response, 404, 'no such block');
    const g = group(match);
    const view = { match: true, seats: db.seats.filter((seat) => blocks.includes(String(seat.blockId))) };
    return whole[2] === 'blocks' ? snapshot(request, response, g, () => json(200, { blocks: blockRows(g) })) : openStream(request, response, g, view, url);
  }
  if (one || all) {
    const what = parseBody(body);
    const seatIds = known(one ? [one[2]] : what.seatIds);
    if (seatIds.includes(undefined)) return fail(response, 404, 'no such seat');
    return allocate(response, match, (one ?? all)[one ? 3 : 2], { userId: what.userId, seatIds }, Boolean(one));
  }
  if (site) return site[1](response, ...site[0].exec(path).slice(1));
  return path.startsWith('/api/') ? fail(response, 404, 'unknown path') : serveFile(path, request, response);
}

build();
for (const seat of db.seats) seatIndex.set(String(seat.id), seat);
const server = createServer((request, response) => handle(request, response).catch((error) => fail(response, 400, error.message)));
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/`));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0));
