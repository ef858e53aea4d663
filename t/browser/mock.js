#!/usr/bin/env node
/*
 * mock - the server of doc/SPEC.md sections 1 and 2 in one file, for work on web/ without the C program.
 *
 *   node t/browser/mock.js [PORT]            prints its address; without PORT: any free one
 *
 * POST /mock/sql takes the few statements that page.test.js writes (SEATCAST_SQL='curl -s --data-binary @- .../mock/sql');
 * POST /mock/db-stop, /mock/db-start, /mock/restart play the accidents; POST /mock/buyers turns random buyers on and off;
 * POST /mock/mute makes streams open and say nothing, as behind a proxy that buffers.
 */
'use strict';
const { createServer } = require('node:http');
const { readFile } = require('node:fs/promises');
const { extname, join, normalize } = require('node:path');

const WEB = join(__dirname, '../../web');
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8' };
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const POLL_MS = 500, STALE_MS = 3000, HISTORY = 200;
const BEAT_MS = Number(process.env.MOCK_BEAT_MS ?? 15_000);
const HOLD_MS = Number(process.env.MOCK_HOLD_MS ?? 300_000);

// ---- the "database" ----
const db = { up: true, areas: [], sections: [], blocks: [], seats: [], allocations: new Map() };

function build() {
  const areaNames = ['North Stand 북측', 'East Stand 동측', 'South Stand 남측', 'West Stand 서측'];
  let sectionId = 0;
  areaNames.forEach((name, a) => {
    db.areas.push({ id: a + 1, name });
    ['Lower Tier 하층', 'Middle Tier 중층', 'Upper Tier 상층'].forEach((tier, t) => {
      sectionId += 1;
      db.sections.push({ id: sectionId, areaId: a + 1, name: tier });
      for (let b = 0; b < 6 + t * 2 + (a % 2); b += 1) addBlock(sectionId, a, t, b);
    });
  });
}

function addBlock(sectionId, a, t, b) {
  const id = (a + 1) * 100 + t * 20 + b + 1;
  db.blocks.push({ id, sectionId, name: `${'NESW'[a]}${t * 20 + b + 1}` });
  const [rows, columns] = id === 102 ? [40, 50] : [20, 20];
  for (let i = 0; i < rows * columns; i += 1) {
    const seatId = id === 101 ? 101 + i : id === 103 && i === 0 ? '9223372036854775807' : id * 10_000 + i;
    db.seats.push({ id: seatId, blockId: id, rowNumber: Math.floor(i / columns) + 1, seatNumber: (i % columns) + 1 });
  }
}

const seatById = (id) => db.seats.find((seat) => String(seat.id) === String(id));
const key = (match, seatId) => `${match}/${seatId}`;

function statusOf(match, seatId, now = Date.now()) {
  const row = db.allocations.get(key(match, seatId));
  if (!row) return 'AVAILABLE';
  return row.status === 'HOLD' && row.expires !== null && row.expires <= now ? 'AVAILABLE' : row.status;
}

function runSql(sql) {
  for (const statement of sql.split(';')) {
    const insert = /INSERT INTO allocations.*SELECT (\d+), block_id, id, (\d+), '(\w+)', (NULL|.*interval '(\d+) seconds').*FROM seats WHERE id IN \(([^)]*)\)/s.exec(statement);
    const clean = /DELETE FROM allocations WHERE match_id = (\d+) AND block_id = (\d+)/.exec(statement);
    const rename = /UPDATE blocks SET name = '(.*)' WHERE id = (\d+)/.exec(statement);
    if (insert) {
      const [, match, userId, status, , seconds, ids] = insert;
      for (const id of ids.split(',')) {
        db.allocations.set(key(match, id.trim()), { userId: Number(userId), status, expires: seconds ? Date.now() + seconds * 1000 : null });
      }
    } else if (clean) {
      for (const seat of db.seats) if (String(seat.blockId) === clean[2]) db.allocations.delete(key(clean[1], seat.id));
    } else if (rename) {
      db.blocks.find((block) => String(block.id) === rename[2]).name = rename[1].replaceAll("''", "'");
    } else if (statement.trim()) {
      return `the mock does not know: ${statement}`;
    }
  }
  return '';
}

// ---- groups: one per match and block that somebody watches ----
const groups = new Map();
let boot = (Date.now() & 0xffffffff).toString(16);

function group(match, block) {
  const name = `${match}/${block}`;
  if (!groups.has(name)) {
    if (!db.up) return null;
    const seats = db.seats.filter((seat) => String(seat.blockId) === String(block));
    const g = { match, seats, status: new Map(), version: 0, changedAt: new Map(), viewers: new Set(), goodAt: Date.now(), stale: false };
    for (const seat of seats) g.status.set(seat.id, statusOf(match, seat.id));
    groups.set(name, g);
  }
  return groups.get(name);
}

const json = (status, data) => JSON.stringify({ status, data }).replace(/"(id|seatId)":"(\d+)"/g, '"$1":$2');
const initBody = (g) => json(200, { seats: g.seats.map((seat) => ({ id: seat.id, status: g.status.get(seat.id) })) });
const frame = (event, data, id) => `${id ? `id: ${id}\n` : ''}event: ${event}\ndata: ${data}\n\n`;
const asOf = (g) => ({ asOf: new Date(g.goodAt).toISOString() });

function updates(g, seatIds) {
  return seatIds.map((seatId, i) => frame('update', json(200, { seatId, status: g.status.get(seatId) }),
    i === seatIds.length - 1 ? `${boot}-${g.version}` : '')).join('');
}

function send(g, text) {
  for (const viewer of g.viewers) {
    if (!viewer.mute) viewer.response.write(text);
    viewer.at = Date.now();
  }
}

function poll(g) {
  const now = Date.now();
  if (!db.up) {
    if (!g.stale && now - g.goodAt > STALE_MS) {
      g.stale = true;
      send(g, frame('stale', json(503, asOf(g))));
    }
    return;
  }
  g.goodAt = now;
  const changed = g.seats.filter((seat) => statusOf(g.match, seat.id, now) !== g.status.get(seat.id)).map((seat) => seat.id);
  if (changed.length) {
    g.version += 1;
    for (const id of changed) { g.status.set(id, statusOf(g.match, id, now)); g.changedAt.set(id, g.version); }
    send(g, updates(g, changed));
  }
  if (g.stale) send(g, frame('fresh', json(200, asOf(g))));
  g.stale = false;
}

setInterval(() => {
  for (const g of groups.values()) {
    poll(g);
    for (const viewer of g.viewers) {
      if (Date.now() - viewer.at < BEAT_MS || viewer.mute) continue;
      viewer.response.write(frame('beat', json(200, asOf(g))));
      viewer.at = Date.now();
    }
  }
}, POLL_MS).unref();

let mute = false;
const counters = { streams: 0, resumed: 0, snapshots: 0 };

function openStream(request, response, match, block, url) {
  const g = group(match, block);
  response.writeHead(200, { 'Content-Type': 'text/event-stream; charset=utf-8', 'Cache-Control': 'no-store, no-transform' });
  if (!g) return response.end(`retry: 10000\n\n${frame('busy', '{"status":503,"message":"database away"}')}`);
  counters.streams += 1;
  const viewer = { response, at: Date.now(), mute };
  if (mute) response.flushHeaders(); else greet(g, response, request.headers['last-event-id'] ?? url.searchParams.get('lastEventId') ?? '');
  g.viewers.add(viewer);
  response.on('close', () => g.viewers.delete(viewer));
  return undefined;
}

function greet(g, response, last) {
  response.write(`retry: ${2000 + Math.floor(Math.random() * 1000)}\n\n`);
  const [lastBoot, lastVersion] = last.split('-');
  if (lastBoot !== boot || !(Number(lastVersion) <= g.version)) {
    response.write(frame('init', initBody(g), `${boot}-${g.version}`));
  } else {
    counters.resumed += 1;
    const missed = g.seats.filter((seat) => (g.changedAt.get(seat.id) ?? 0) > Number(lastVersion)).map((seat) => seat.id);
    response.write(missed.length ? updates(g, missed) : frame('beat', json(200, asOf(g))));
  }
  if (g.stale) response.write(frame('stale', json(503, asOf(g))));
}

// ---- HTTP ----
function answer(response, status, body, headers = {}) {
  response.writeHead(status, { 'Content-Type': 'application/json', ...headers });
  response.end(body);
}
const fail = (response, status, message) => answer(response, status, JSON.stringify({ status, message }));

function snapshot(request, response, match, block) {
  const g = group(match, block);
  if (!g) return fail(response, 503, 'database away');
  counters.snapshots += 1;
  const headers = { ETag: `"${boot}-${g.version}"`, 'Cache-Control': 'public, max-age=1, stale-while-revalidate=5' };
  if (request.headers['if-none-match'] === headers.ETag) return response.writeHead(304, headers).end();
  return answer(response, 200, initBody(g), headers);
}

function allocate(response, match, seatId, action, body) {
  if (!db.up) return fail(response, 503, 'database away');
  const row = db.allocations.get(key(match, seatId));
  const status = statusOf(match, seatId);
  const mine = status === 'HOLD' && row.userId === body.userId;
  if (action === 'hold') {
    if (status !== 'AVAILABLE' && !mine) return fail(response, 409, 'the seat is taken');
    const expires = Date.now() + HOLD_MS;
    db.allocations.set(key(match, seatId), { userId: body.userId, status: 'HOLD', expires });
    return answer(response, 200, json(200, { seatId, status: 'HOLD', holdExpiresAt: new Date(expires).toISOString() }));
  }
  if (!mine) return fail(response, 409, 'not held by this user');
  db.allocations.delete(key(match, seatId));
  return response.writeHead(204).end();
}

function confirm(response, match, { userId, seatIds }) {
  const all = seatIds.every((id) => statusOf(match, id) === 'HOLD' && db.allocations.get(key(match, id)).userId === userId);
  if (!all) return fail(response, 409, 'not all seats are held by this user');
  for (const id of seatIds) db.allocations.set(key(match, id), { userId, status: 'OCCUPIED', expires: null });
  return answer(response, 200, json(200, { confirmedSeats: seatIds.map((seatId) => ({ seatId, status: 'OCCUPIED' })) }));
}

const named = ({ id, name }) => ({ id, name });
const list = (response, field, rows) => answer(response, 200, json(200, { [field]: rows }));
const SITE = [
  [/^\/api\/site\/areas$/, (r) => list(r, 'areas', db.areas)],
  [/^\/api\/site\/areas\/(\d+)\/sections$/, (r, id) => list(r, 'sections', db.sections.filter((s) => String(s.areaId) === id).map(named))],
  [/^\/api\/site\/sections\/(\d+)\/blocks$/, (r, id) => list(r, 'blocks', db.blocks.filter((b) => String(b.sectionId) === id).map(named))],
  [/^\/api\/site\/blocks\/(\d+)\/seats$/, (r, id) => {
    const seats = db.seats.filter((seat) => String(seat.blockId) === id).map(({ blockId, ...seat }) => seat);
    return seats.length ? list(r, 'seats', seats) : fail(r, 404, 'no such block');
  }],
];

let buyers = null;
function toggleBuyers() {
  if (buyers) { clearInterval(buyers); buyers = null; return; }
  buyers = setInterval(() => {
    for (const block of [101, 102, 103]) {
      const seats = db.seats.filter((seat) => seat.blockId === block);
      const seat = seats[Math.floor(Math.random() * seats.length)];
      const fate = Math.random();
      if (fate < 0.2) db.allocations.delete(key(1, seat.id));
      else db.allocations.set(key(1, seat.id), { userId: 1, status: fate < 0.6 ? 'HOLD' : 'OCCUPIED', expires: fate < 0.6 ? Date.now() + 60_000 : null });
    }
  }, 60);
}

function mock(name, body, response) {
  if (name === 'sql') return response.end(runSql(body));
  if (name === 'db-stop') db.up = false;
  if (name === 'db-start') db.up = true;
  if (name === 'mute') mute = body !== 'off';
  if (name === 'buyers') toggleBuyers();
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

async function serveFile(path, response) {
  const name = path === '/' ? '/index.html' : normalize(path);
  try {
    const body = await readFile(join(WEB, name));
    response.writeHead(200, { 'Content-Type': TYPES[extname(name)] ?? 'application/octet-stream', 'Content-Security-Policy': CSP, 'Cache-Control': 'no-cache' });
    response.end(body);
  } catch {
    fail(response, 404, 'no such file');
  }
}

async function handle(request, response) {
  const url = new URL(request.url, 'http://mock');
  const path = url.pathname;
  let body = '';
  for await (const part of request) body += part;
  const stream = /^\/api\/matches\/(\d+)\/blocks\/(\d+)\/seats(\/status-stream)?$/.exec(path);
  const one = /^\/api\/matches\/(\d+)\/allocation\/seats\/(\d+)\/(hold|release)$/.exec(path);
  const all = /^\/api\/matches\/(\d+)\/allocation\/seats\/confirm$/.exec(path);
  const site = SITE.find(([pattern]) => pattern.test(path));
  if (path === '/metrics') return metrics(response);
  if (path.startsWith('/mock/')) return mock(path.slice(6), body, response);
  if (stream && (stream[1] !== '1' || !db.blocks.some((b) => String(b.id) === stream[2]))) return fail(response, 404, 'no such block');
  if (stream) return stream[3] ? openStream(request, response, stream[1], stream[2], url) : snapshot(request, response, stream[1], stream[2]);
  if (one && !seatById(one[2])) return fail(response, 404, 'no such seat');
  if (one) return allocate(response, one[1], seatById(one[2]).id, one[3], JSON.parse(body));
  // ids beyond 2^53 come as numbers: keep their digits
  if (all) return confirm(response, all[1], JSON.parse(body.replace(/(?<=[[,])(\d{16,})(?=[,\]])/g, '"$1"')));
  if (site) return site[1](response, ...site[0].exec(path).slice(1));
  return path.startsWith('/api/') ? fail(response, 404, 'unknown path') : serveFile(path, response);
}

build();
const server = createServer((request, response) => handle(request, response).catch((error) => fail(response, 400, error.message)));
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/`));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0));
