/*
 * The page in a real browser, against a real server or the mock.
 *
 *   SEATCAST_URL          where the page is                              (required, or everything is skipped)
 *   SEATCAST_SQL          shell command that reads SQL on stdin          (required)
 *   SEATCAST_PLAYWRIGHT   path of playwright-core, if NODE_PATH does not lead to it
 *   SEATCAST_CHROMIUM     the browser (/usr/bin/chromium)
 *   SEATCAST_BLOCK        the block to play with (101); it needs seats 101 to 110 among its own
 *   SEATCAST_VIEWERS      shell command that prints the number of open streams; without it the metric
 *                         SEATCAST_VIEWERS_METRIC (seatcast_viewers) of SEATCAST_METRICS (<url>/metrics) is summed
 *   SEATCAST_DB_STOP, SEATCAST_DB_START, SEATCAST_RESTART, LIGHTTPD_RESTART   shell commands; tests without theirs are skipped
 *   SEATCAST_ARTEFACTS    directory for screenshots
 */
'use strict';
const { after, afterEach, before, beforeEach, describe, test } = require('node:test');
const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { mkdirSync } = require('node:fs');
const { join } = require('node:path');

const env = process.env;
const BASE = env.SEATCAST_URL;
const MATCH = 1;
const BLOCK = env.SEATCAST_BLOCK ?? '101';
const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];
const missing = ['SEATCAST_URL', 'SEATCAST_SQL'].filter((name) => !env[name]);
const skip = missing.length > 0 && `${missing.join(' and ')} not set`;

let browser;
let opened = [];		// contexts of the running test
let complaints = [];		// what the consoles of its pages said

// ---- the surroundings ----

function shell(command, input = '') {
  return new Promise((resolve, reject) => {
    const child = spawn('sh', ['-c', command], { stdio: ['pipe', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (part) => { output += part; });
    child.stderr.on('data', (part) => { output += part; });
    child.on('close', (code) => (code === 0 ? resolve(output) : reject(new Error(`${command}: exit ${code}: ${output}`))));
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}

const sql = (text) => shell(env.SEATCAST_SQL, `${text};\n`);

/** One statement for any status; `seconds` is how long a hold lasts. */
function allocate(seatIds, status, { userId = 999, seconds = 0 } = {}) {
  const expires = seconds ? `(now() AT TIME ZONE 'UTC') + interval '${seconds} seconds'` : 'NULL';
  return sql(`INSERT INTO allocations (match_id, block_id, seat_id, user_id, status, hold_expires_at)
    SELECT ${MATCH}, block_id, id, ${userId}, '${status}', ${expires} FROM seats WHERE id IN (${seatIds.join(',')})
    ON CONFLICT (match_id, seat_id) DO UPDATE SET user_id = EXCLUDED.user_id, status = EXCLUDED.status,
    hold_expires_at = EXCLUDED.hold_expires_at`);
}

/** By UPDATE: a deleted row would be noticed with the next reconcile only. */
const clean = () => sql(`UPDATE allocations SET status = 'AVAILABLE', user_id = NULL, hold_expires_at = NULL
  WHERE match_id = ${MATCH} AND block_id = ${BLOCK}`);

/** @returns {Promise<number|null>} open streams, null when the server does not tell */
async function viewers() {
  if (env.SEATCAST_VIEWERS) return Number(await shell(env.SEATCAST_VIEWERS));
  const name = env.SEATCAST_VIEWERS_METRIC ?? 'seatcast_viewers';
  const response = await fetch(env.SEATCAST_METRICS ?? new URL('/metrics', BASE));
  const values = [...(await response.text()).matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\d+)`, 'gm'))];
  return values.length ? values.reduce((sum, [, value]) => sum + Number(value), 0) : null;
}

async function until(check, what, ms = 5_000) {
  const end = Date.now() + ms;
  for (let last; ; ) {
    last = await check();
    if (last === true) return;
    if (Date.now() > end) assert.fail(`${what} (last: ${JSON.stringify(last)})`);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
}

// ---- windows and tabs ----

async function newWindow(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: 'en-US', ...options });
  opened.push(context);
  return context;
}

async function openPage(context, block = BLOCK) {
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) complaints.push(message.text()); });
  await page.goto(new URL(`/?match=${MATCH}&block=${block}`, BASE).href);
  await drawn(page);
  return page;
}

const drawn = (page) => page.locator('#map[data-state=live] .seat[data-look]').first().waitFor({ timeout: 10_000 });
const seat = (page, seatId) => page.locator(`#map [data-seat="${seatId}"]`);
const shows = (page, seatId, look, timeout = 3_000) =>
  page.locator(`#map [data-seat="${seatId}"][data-look=${look}]`).waitFor({ timeout });
const badge = (page, state, timeout) => page.locator(`#badge[data-state=${state}]`).waitFor({ timeout });

async function picture(page, name) {
  if (env.SEATCAST_ARTEFACTS) await page.screenshot({ path: join(env.SEATCAST_ARTEFACTS, `${name}.png`) });
}

describe('page', { skip, concurrency: 1 }, () => {
  before(async () => {
    const { chromium } = require(env.SEATCAST_PLAYWRIGHT ?? 'playwright-core');
    browser = await chromium.launch({ executablePath: env.SEATCAST_CHROMIUM ?? '/usr/bin/chromium', args: ARGS });
    if (env.SEATCAST_ARTEFACTS) mkdirSync(env.SEATCAST_ARTEFACTS, { recursive: true });
  });
  after(() => browser?.close());
  beforeEach(async () => {
    complaints = [];
    await clean();
  });
  afterEach(async () => {
    for (const context of opened) await context.close();
    opened = [];
  });

  test('init is drawn, with counts, a live badge and nothing on the console', async () => {
    await allocate([102], 'HOLD', { seconds: 60 });
    await allocate([103], 'OCCUPIED');
    const page = await openPage(await newWindow());
    await shows(page, 101, 'AVAILABLE');
    await shows(page, 102, 'HOLD');
    await shows(page, 103, 'OCCUPIED');
    await badge(page, 'live', 3_000);
    assert.equal(await page.locator('[data-legend=OCCUPIED] output').textContent(), '1');
    await page.locator(`#tree [data-block="${BLOCK}"][aria-current]`).waitFor();
    await picture(page, 'desktop');
    assert.deepEqual(complaints, []);
  });

  test('an update arrives within 1.5 s of its commit', async () => {
    const page = await openPage(await newWindow());
    await shows(page, 104, 'AVAILABLE');
    await allocate([104], 'OCCUPIED');
    await shows(page, 104, 'OCCUPIED', 1_500);
  });

  test('a hold in one window is seen in another, then released, then bought', async () => {
    const one = await openPage(await newWindow());
    const two = await openPage(await newWindow());
    await seat(one, 105).click();
    await shows(one, 105, 'MINE');
    await shows(two, 105, 'HOLD');
    assert.match(await one.locator('#countdown').textContent(), /^\d+:\d\d$/);
    await picture(one, 'hold');
    await seat(two, 105).click({ force: true });	// not his: a toast, and nothing changes
    await two.locator('.toast').waitFor();
    await seat(one, 105).click();
    await shows(two, 105, 'AVAILABLE');
    await one.locator('#basket').waitFor({ state: 'hidden' });
    await seat(one, 106).click();
    await shows(one, 106, 'MINE');
    await one.locator('#confirm').click();
    await shows(one, 106, 'BOUGHT');
    await shows(two, 106, 'OCCUPIED');
    assert.deepEqual(complaints, []);
  });

  test('own holds survive a reload', async () => {
    const page = await openPage(await newWindow());
    await seat(page, 105).click();
    await shows(page, 105, 'MINE');
    await page.reload();
    await shows(page, 105, 'MINE');
  });

  test('a hold that expires is available again, though nobody wrote', async () => {
    const page = await openPage(await newWindow());
    await allocate([107], 'HOLD', { seconds: 4 });
    await shows(page, 107, 'HOLD');
    await shows(page, 107, 'AVAILABLE', 6_000);
  });

  test('three tabs have one connection', async (t) => {
    if (await viewers() === null) return t.skip('the server tells no number of viewers');
    const context = await newWindow();
    const pages = [await openPage(context), await openPage(context), await openPage(context)];
    // Pages of the test before may still be counted for a moment, so wait for the number to come down.
    await until(async () => (await viewers()) === 1 || viewers(), 'one stream for three tabs');
    const transports = await Promise.all(pages.map((page) => page.evaluate(() => globalThis.seatcast.transport)));
    assert.deepEqual(transports.sort(), ['shared', 'shared', 'sse']);
    await allocate([108], 'OCCUPIED');
    for (const page of pages) await shows(page, 108, 'OCCUPIED');
    return undefined;
  });

  test('the leader closes: the others go on, without a gap and without a moment offline', async () => {
    const context = await newWindow();
    const leader = await openPage(context);
    const rest = [await openPage(context), await openPage(context)];
    assert.equal(await leader.evaluate(() => globalThis.seatcast.transport), 'sse');
    for (const page of rest) {
      await page.evaluate(() => {
        globalThis.states = [];
        globalThis.seatcast.addEventListener('state', (event) => globalThis.states.push(event.detail.state));
      });
    }
    await Promise.all([leader.close(), allocate([101, 102, 103], 'OCCUPIED')]);
    for (const page of rest) for (const id of [101, 102, 103]) await shows(page, id, 'OCCUPIED');
    await allocate([109], 'OCCUPIED');
    for (const page of rest) await shows(page, 109, 'OCCUPIED');
    const transports = await Promise.all(rest.map((page) => page.evaluate(() => globalThis.seatcast.transport)));
    assert.deepEqual(transports.sort(), ['shared', 'sse']);
    for (const page of rest) assert.deepEqual(await page.evaluate(() => globalThis.states), []);
  });

  test('a leader that lost its lock steps back, and somebody leads again', async () => {
    const context = await newWindow();
    const pages = [await openPage(context), await openPage(context)];
    await pages[1].evaluate(async () => {
      const { held } = await navigator.locks.query();
      const { name } = held.find((lock) => lock.name.startsWith('seatcast '));
      await navigator.locks.request(name, { steal: true }, () => new Promise((resolve) => { setTimeout(resolve, 300); }));
    });
    await allocate([104], 'OCCUPIED');
    for (const page of pages) await shows(page, 104, 'OCCUPIED', 5_000);
    const transports = await Promise.all(pages.map((page) => page.evaluate(() => globalThis.seatcast.transport)));
    assert.deepEqual(transports.sort(), ['shared', 'sse']);
  });

  test('a tab that comes later has the state at once, even with the server away',
    { skip: !(env.SEATCAST_DB_STOP && env.SEATCAST_DB_START) && 'SEATCAST_DB_STOP and SEATCAST_DB_START not set' }, async () => {
      const context = await newWindow();
      const page = await openPage(context);
      const url = `/api/matches/${MATCH}/blocks/${BLOCK}/seats/status-stream`;
      await allocate([103], 'OCCUPIED');
      await shows(page, 103, 'OCCUPIED');
      await shell(env.SEATCAST_DB_STOP);
      try {
        await badge(page, 'stale', 10_000);
        const bare = await context.newPage();		// the site's own tables are away as well: no page, only the stream
        await bare.goto(new URL('/page.css', BASE).href);
        const seen = await bare.evaluate(async (address) => {
          const { SeatStream } = await import('/seatcast.js');
          const stream = new SeatStream(address);
          await new Promise((resolve) => { stream.addEventListener('seats', resolve, { once: true }); });
          return [stream.transport, stream.state, stream.seats.get(103)];
        }, url);
        assert.deepEqual(seen, ['shared', 'stale', 'OCCUPIED']);
      } finally {
        await shell(env.SEATCAST_DB_START);
      }
      await badge(page, 'live', 20_000);
    });

  test('where event streams do not get through the snapshot is polled, and the stream tried again', async () => {
    const page = await openPage(await newWindow());
    await page.route('**/status-stream*', () => {});	// hangs, as behind a proxy that buffers
    await page.evaluate(async (url) => {
      const { SeatStream } = await import('/seatcast.js');
      globalThis.polled = new SeatStream(url, { share: false, openMs: 400, strikes: 2, backoffMs: 100, pollMs: 300, retryStreamMs: 1_500 });
    }, `/api/matches/${MATCH}/blocks/${BLOCK}/seats/status-stream`);
    await page.waitForFunction(() => globalThis.polled.transport === 'poll' && globalThis.polled.state === 'live');
    await allocate([110], 'OCCUPIED');
    await page.waitForFunction(() => globalThis.polled.seats.get(110) === 'OCCUPIED', null, { timeout: 5_000 });
    await page.unroute('**/status-stream*');
    await page.waitForFunction(() => globalThis.polled.transport === 'sse' && globalThis.polled.state === 'live', null, { timeout: 10_000 });
    await page.evaluate(() => globalThis.polled.close());
  });

  test('ids beyond 2^53 keep their digits', async () => {
    const page = await openPage(await newWindow());
    const ids = await page.evaluate(async () => {
      const { parseJson } = await import('/seatcast.js');
      return parseJson('[{"id":9223372036854775807,"name":"\\"id\\":9223372036854775807"},{"seatId":101},{"id":9007199254740991}]');
    });
    assert.deepEqual(ids, [{ id: '9223372036854775807', name: '"id":9223372036854775807' }, { seatId: 101 }, { id: 9007199254740991 }]);
  });

  test('keyboard: one tab stop, arrows move, Enter holds; names are spoken', async () => {
    const page = await openPage(await newWindow());
    assert.equal(await page.locator('#map [tabindex="0"]').count(), 1);
    await page.locator('#map [tabindex="0"]').focus();
    for (const key of ['End', 'ArrowDown', 'Home', 'ArrowRight']) await page.keyboard.press(key);
    const focused = page.locator('#map :focus');
    assert.equal(await focused.getAttribute('aria-label'), 'Row 2 seat 2, available');
    await page.keyboard.press('Enter');
    await page.locator('#map :focus[data-look=MINE]').waitFor();
    assert.equal(await focused.getAttribute('aria-label'), 'Row 2 seat 2, held by you');
  });

  test('a phone: no sideways scrolling, seats large enough for a finger', async () => {
    const page = await openPage(await newWindow({ viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true, colorScheme: 'dark' }));
    await seat(page, 101).tap();
    await shows(page, 101, 'MINE');
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
    const box = await seat(page, 101).evaluate((node) => node.offsetWidth);
    assert.ok(box >= 24, `a seat is ${box} px wide`);
    await picture(page, 'phone');
  });

  test('Korean where the browser is', async () => {
    const page = await openPage(await newWindow({ locale: 'ko-KR' }));
    assert.equal(await page.locator('html').getAttribute('lang'), 'ko');
    assert.equal(await page.locator('#badge-text').textContent(), '실시간');
    assert.match(await seat(page, 101).getAttribute('aria-label'), /열 .*번, 예매 가능/);
    await picture(page, 'korean');
  });

  test('a block named <script> shows its name', async () => {
    const evil = "<script>alert('seat')</script>";
    let page = await openPage(await newWindow());
    const chip = page.locator(`#tree [data-block="${BLOCK}"]`);
    const quote = (text) => text.replaceAll("'", "''");
    await chip.waitFor({ state: 'attached' });
    const name = await chip.textContent();
    await sql(`UPDATE blocks SET name = '${quote(evil)}' WHERE id = ${BLOCK}`);
    try {
      page = await openPage(await newWindow());
      await page.waitForFunction((text) => document.querySelector('h1').textContent === text, evil);
      assert.equal(await page.locator(`#tree [data-block="${BLOCK}"]`).textContent(), evil);
    } finally {
      await sql(`UPDATE blocks SET name = '${quote(name)}' WHERE id = ${BLOCK}`);
    }
    assert.deepEqual(complaints, []);
  });

  test('the database goes: stale, grey, not clickable; it returns: fresh, and what was missed',
    { skip: !(env.SEATCAST_DB_STOP && env.SEATCAST_DB_START) && 'SEATCAST_DB_STOP and SEATCAST_DB_START not set' }, async () => {
      const page = await openPage(await newWindow());
      await shell(env.SEATCAST_DB_STOP);
      try {
        await badge(page, 'stale', 10_000);
        assert.match(await page.locator('#badge-text').textContent(), /^\d+ s old$/);
        await seat(page, 101).click({ force: true });	// the grid says aria-disabled
        await page.locator('.toast').first().waitFor();
        assert.equal(await seat(page, 101).getAttribute('data-look'), 'AVAILABLE');
        await picture(page, 'stale');
      } finally {
        await shell(env.SEATCAST_DB_START);
      }
      await badge(page, 'live', 20_000);
      await allocate([101], 'OCCUPIED');
      await shows(page, 101, 'OCCUPIED', 5_000);
    });

  for (const [what, command] of [['seatcast', 'SEATCAST_RESTART'], ['the web server', 'LIGHTTPD_RESTART']]) {
    test(`${what} restarts: offline, then live again with the current seats`, { skip: !env[command] && `${command} not set` }, async () => {
      const page = await openPage(await newWindow());
      // A quick restart may be over before a locator looks: the page keeps the record.
      await page.evaluate(() => {
        globalThis.states = [];
        globalThis.seatcast.addEventListener('state', (event) => globalThis.states.push(event.detail.state));
      });
      await shell(env[command]);
      await page.waitForFunction(() => globalThis.states.includes('offline'), null, { timeout: 15_000 });
      await allocate([102], 'OCCUPIED');
      await badge(page, 'live', 40_000);
      await shows(page, 102, 'OCCUPIED', 5_000);
    });
  }
});
