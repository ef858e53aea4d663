// SPDX-License-Identifier: ISC
/* seatcast.js alone, in pages that have nothing else: SeatStream and MatchStream.  See lib.js for what it needs. */
'use strict';
const { after, afterEach, before, beforeEach, describe, test } = require('node:test');
const assert = require('node:assert/strict');
const { BLOCK, Browser, MATCH, allocate, clean, env, shell, skip, until, viewers } = require('./lib.js');

const browser = new Browser();
const STREAM = `/api/matches/${MATCH}/blocks/${BLOCK}/seats/status-stream`;
const NEIGHBOUR = Number(BLOCK) + 1;
const stops = env.SEATCAST_DB_STOP && env.SEATCAST_DB_START;
const noStops = { skip: !stops && 'SEATCAST_DB_STOP and SEATCAST_DB_START not set' };

/** A page without scripts of its own, with a stream in `globalThis.s` and all states that it was in. */
async function blank(context) { return browser.tab(context, '/page.css'); }

async function open(page, what, where, options = {}) {
  await page.evaluate(async ([name, address, more]) => {
    const seatcast = await import('/seatcast.js');
    globalThis.s = new seatcast[name](address, more);
    globalThis.states = [];
    globalThis.events = [];
    globalThis.s.addEventListener('state', ({ detail }) => globalThis.states.push(detail.state));
    for (const type of ['init', 'update', 'count', 'stale', 'fresh', 'beat', 'busy']) globalThis.s.addEventListener(type, () => globalThis.events.push(type));
  }, [what, where, options]);
}

async function watching(what, where, options, context) {
  const page = await blank(context ?? await browser.window());
  await open(page, what, where, options);
  await page.waitForFunction(() => globalThis.s.state === 'live');
  return page;
}

const has = (page, seatId, status, timeout = 10_000) => page.waitForFunction(([id, wanted, block]) =>
  (globalThis.s.seats ?? globalThis.s.seatsOf(block))?.get(id) === wanted, [seatId, status, BLOCK], { timeout });
const state = (page, wanted, timeout = 10_000) => page.waitForFunction((name) => globalThis.s.state === name, wanted, { timeout });
const get = (page, property) => page.evaluate((name) => globalThis.s[name], property);

describe('seatcast.js', { skip, concurrency: 1 }, () => {
  before(() => browser.start());
  after(() => browser.stop());
  beforeEach(() => clean());
  afterEach(() => browser.tidy());

  test('a block: by its address or by ids, from wherever the file is', async () => {
    const page = await watching('SeatStream', { match: MATCH, block: BLOCK });
    await allocate([101], 'OCCUPIED');
    await has(page, 101, 'OCCUPIED', 1_500);
    const same = await watching('SeatStream', STREAM);
    await has(same, 101, 'OCCUPIED');
  });

  test('a match: counts of every block, seats of those that are watched, changed without a moment offline', async () => {
    const page = await watching('MatchStream', { match: MATCH, blocks: [Number(BLOCK)] });
    const counts = () => page.evaluate((id) => globalThis.s.blocks.get(id), Number(BLOCK));
    const total = Object.values(await counts()).reduce((a, b) => a + b);
    assert.equal(total, await page.evaluate((id) => globalThis.s.seatsOf(id).size, BLOCK));
    await allocate([102], 'HOLD', { seconds: 60 });
    await has(page, 102, 'HOLD', 1_500);
    await page.waitForFunction((id) => globalThis.s.blocks.get(id).hold === 1, Number(BLOCK));
    assert.equal(await page.evaluate((id) => globalThis.s.seatsOf(id), NEIGHBOUR), undefined);
    await page.evaluate((ids) => globalThis.s.watch(ids), [NEIGHBOUR]);
    await page.waitForFunction((id) => globalThis.s.seatsOf(id)?.size > 0, NEIGHBOUR);
    assert.deepEqual(await page.evaluate(() => globalThis.states.slice(1)), [], 'no state but live');
    assert.equal(await viewers() ?? 1, 1);
  });

  test('tabs of a match share one connection, each with its blocks', async () => {
    const context = await browser.window();
    const one = await watching('MatchStream', { match: MATCH, blocks: [BLOCK] }, {}, context);
    const two = await watching('MatchStream', { match: MATCH, blocks: [NEIGHBOUR] }, {}, context);
    await two.waitForFunction((id) => globalThis.s.seatsOf(id)?.size > 0, NEIGHBOUR);
    assert.deepEqual([await get(one, 'transport'), await get(two, 'transport')], ['sse', 'shared']);
    await until(async () => (await viewers() ?? 1) === 1 || viewers(), 'one stream');
    await Promise.all([one.close(), allocate([103], 'OCCUPIED')]);
    await two.evaluate((ids) => globalThis.s.watch(ids), [BLOCK, NEIGHBOUR]);
    await has(two, 103, 'OCCUPIED');
    assert.deepEqual(await two.evaluate(() => globalThis.states.filter((name) => name !== 'live')), []);
  });

  test('a connection carries sixteen blocks: what is beyond has its own', async () => {
    const context = await browser.window();
    const stadium = await (await fetch(new URL('/api/site/stadium', env.SEATCAST_URL))).json();
    const ids = stadium.data.areas.flatMap((area) => area.sections.flatMap((section) => section.blocks.map((block) => block.id)));
    const one = await watching('MatchStream', { match: MATCH, blocks: ids.slice(0, 10) }, {}, context);
    const two = await watching('MatchStream', { match: MATCH, blocks: ids.slice(10, 20) }, {}, context);
    await two.waitForFunction((id) => globalThis.s.seatsOf(id)?.size > 0, ids[19]);
    assert.deepEqual([await get(one, 'transport'), await get(two, 'transport')], ['sse', 'sse']);
    const error = await two.evaluate((all) => { try { globalThis.s.watch(all); } catch (e) { return e.name; } return ''; }, ids.slice(0, 17));
    assert.equal(error, 'RangeError');
  });

  for (const [what, where, change] of [['SeatStream', STREAM, `/api/matches/${MATCH}/blocks/999999/seats/status-stream`],
    ['MatchStream', `/api/matches/${MATCH}/status-stream?blocks=${BLOCK}`, '/api/matches/999999/status-stream']]) {
    test(`${what}: what does not exist is gone, says why, and nothing is asked again`, async () => {
      const page = await blank(await browser.window());
      let requests = 0;
      page.on('request', (request) => { if (request.url().includes('999999')) requests += 1; });
      await open(page, what, change);
      await state(page, 'gone');
      const { status, message } = await get(page, 'reason');
      assert.equal(status, 404);
      assert.ok(message.length > 0);
      const before = requests;
      await page.evaluate(() => dispatchEvent(new Event('online')));
      await new Promise((resolve) => { setTimeout(resolve, 2_500); });
      assert.ok(requests === before && requests <= 2, `${requests} requests`);
      await open(page, what, where);
      await state(page, 'live');
    });

    test(`${what}: the browser's "offline" counts at once, and "online" brings what was missed`, async () => {
      const context = await browser.window();
      const page = await watching(what, where, {}, context);
      const sister = await watching(what, where, {}, context);
      await context.setOffline(true);
      await state(page, 'offline', 3_000);
      await state(sister, 'offline', 3_000);
      await allocate([104], 'OCCUPIED');
      await context.setOffline(false);
      await has(page, 104, 'OCCUPIED');
      await has(sister, 104, 'OCCUPIED');
      await state(sister, 'live');
    });

    test(`${what}: transport poll follows, says how old it is, and has no stream`, noStops, async () => {
      const page = await watching(what, where, { transport: 'poll', pollMs: 300 });
      assert.equal(await get(page, 'transport'), 'poll');
      await allocate([105], 'OCCUPIED');
      await has(page, 105, 'OCCUPIED', 10_000);
      assert.equal(await page.evaluate(() => globalThis.events.includes('beat')), true);
      if (await viewers() !== null) assert.equal(await viewers(), 0);
      await shell(env.SEATCAST_DB_STOP);
      try {
        await state(page, 'stale', 12_000);
        assert.ok(await get(page, 'age') >= 3_000);
      } finally {
        await shell(env.SEATCAST_DB_START);
      }
      await state(page, 'live', 20_000);
      await allocate([106], 'OCCUPIED');
      await has(page, 106, 'OCCUPIED', 10_000);
    });

    test(`${what}: where streams do not get through it polls, and tries the stream again`, async () => {
      const page = await blank(await browser.window());
      await page.route('**/status-stream*', () => {});	// hangs, as behind a proxy that buffers
      await open(page, what, where, { share: false, openMs: 400, strikes: 2, backoffMs: 100, pollMs: 300, retryStreamMs: 1_500 });
      await page.waitForFunction(() => globalThis.s.transport === 'poll' && globalThis.s.state === 'live');
      await allocate([110], 'OCCUPIED');
      await has(page, 110, 'OCCUPIED');
      await page.unroute('**/status-stream*');
      await page.waitForFunction(() => globalThis.s.transport === 'sse' && globalThis.s.state === 'live', null, { timeout: 10_000 });
      await allocate([110], 'AVAILABLE');
      await has(page, 110, 'AVAILABLE');
    });

    test(`${what}: a stream that says nothing is noticed by its watchdog`, async () => {
      const page = await watching(what, where, { share: false, quietMs: 700 });
      await page.waitForFunction(() => globalThis.states.includes('offline'), null, { timeout: 5_000 });
    });
  }

  test('the watchdog is 20 s: a beat comes every 15', async () => {
    const page = await blank(await browser.window());
    const { DEFAULTS } = await page.evaluate(() => import('/seatcast-stream.js').then(({ DEFAULTS: all }) => ({ DEFAULTS: all })));
    assert.equal(DEFAULTS.quietMs, 20_000);
  });

  test('a cache that answers with all seats of before is not believed', async () => {
    const page = await blank(await browser.window());
    const answer = (second, status, full) => JSON.stringify({ status: 200, data: { id: `x-${second}`, asOf: new Date(Date.now() + second * 1_000).toISOString(), ...(full && { full }), seats: [{ id: 101, status }] } });
    const answers = [answer(5, 'OCCUPIED', true), answer(3, 'AVAILABLE', true), answer(6, 'HOLD', false)];
    await page.route('**/changes?*', (route) => route.fulfill({ status: 200, contentType: 'application/json', body: answers.length > 1 ? answers.shift() : answers[0] }));
    await page.evaluate((where) => import('/seatcast.js').then(({ SeatStream }) => {
      globalThis.seen = [];
      globalThis.s = new SeatStream(where, { transport: 'poll', pollMs: 100, share: false, backoffMs: 100 });
      globalThis.s.addEventListener('seats', ({ detail }) => globalThis.seen.push(detail.seats.get(101)));
    }), STREAM);
    await has(page, 101, 'HOLD');
    assert.equal(await page.evaluate(() => globalThis.seen.includes('AVAILABLE')), false);
  });

  test('ids beyond 2^53 keep their digits', async () => {
    const page = await blank(await browser.window());
    const ids = await page.evaluate(async () => {
      const { parseJson } = await import('/seatcast.js');
      return parseJson('[{"id":9223372036854775807,"name":"\\"id\\":9223372036854775807"},{"seatId":101},{"id":9007199254740991},{"blockId":9223372036854775806}]');
    });
    assert.deepEqual(ids, [{ id: '9223372036854775807', name: '"id":9223372036854775807' }, { seatId: 101 }, { id: 9007199254740991 }, { blockId: '9223372036854775806' }]);
  });
});
