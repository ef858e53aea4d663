// SPDX-License-Identifier: ISC
/* The page in a real browser, against a real server or the mock.  See lib.js for what it needs. */
'use strict';
const { after, afterEach, before, beforeEach, describe, test } = require('node:test');
const assert = require('node:assert/strict');
const { readFileSync } = require('node:fs');
const { BASE, BLOCK, Browser, MATCH, allocate, clean, env, npm, picture, shell, skip, sql, until, viewers } = require('./lib.js');

const browser = new Browser();
const NEIGHBOUR = String(Number(BLOCK) + 1);
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

async function openPage(context, query = `?match=${MATCH}&block=${BLOCK}`) {
  const page = await browser.tab(context, `/${query}`);
  await drawn(page);
  return page;
}

const drawn = (page) => page.locator('#map[data-state=live] .seat:not([data-look=UNKNOWN])').first().waitFor({ state: 'attached', timeout: 10_000 });
const seat = (page, seatId) => page.locator(`#map [data-seat="${seatId}"]`);
const shows = (page, seatId, look, timeout = 10_000) => page.locator(`#map [data-seat="${seatId}"][data-look=${look}]`).waitFor({ timeout });
const badge = (page, state, timeout) => page.locator(`#badge[data-state=${state}]`).waitFor({ timeout });
const mode = (page, name) => page.locator(`#basket[data-mode=${name}]`).waitFor({ timeout: 10_000 });
const toast = (page, text) => page.locator('.toast', { hasText: text }).first().waitFor({ timeout: 10_000 });
const statusOf = (page, seatId) => page.evaluate(([id, block]) => globalThis.seatcast.seatsOf(block).get(id), [seatId, BLOCK]);

async function hold(page, ...seatIds) {
  for (const id of seatIds) {
    await seat(page, id).click();
    await shows(page, id, 'MINE');
  }
}

/** Where a seat of the block is. */
async function placeOf(seatId) {
  const { data } = await (await fetch(new URL(`/api/site/blocks/${BLOCK}/seats`, BASE))).json();
  const { rowNumber: row, seatNumber: number } = data.seats.find((one) => one.id === seatId);
  return { row, number };
}

/** What axe has to say, one line each. */
async function axe(page) {
  await page.waitForFunction(() => getComputedStyle(document.querySelector('#map')).opacity === '1' || document.querySelector('#map').dataset.state !== 'live');
  await page.evaluate(readFileSync(npm('axe-core/axe.min.js'), 'utf8'));	// not as a script: the page's policy forbids it
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
  return violations.map((violation) => `${violation.id}: ${violation.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 120)} ${node.any[0]?.message ?? ''}`).join(' | ')}`);
}

describe('page', { skip, concurrency: 1 }, () => {
  before(() => browser.start());
  after(() => browser.stop());
  beforeEach(() => clean());
  afterEach(() => browser.tidy());

  test('seats, counts, the stadium and the name of the match are drawn; nothing on the console', async () => {
    await allocate([102], 'HOLD', { seconds: 60 });
    await allocate([103], 'OCCUPIED');
    const page = await openPage(await browser.window());
    await shows(page, 101, 'AVAILABLE');
    await shows(page, 102, 'HOLD');
    await shows(page, 103, 'OCCUPIED');
    await page.locator('[data-legend=HOLD] .number', { hasText: /^1$/ }).waitFor();
    const total = await page.locator('#map .seat').count();
    await page.locator(`#tree [data-block="${BLOCK}"][aria-current] .chip-left`, { hasText: String(total - 2) }).waitFor();
    assert.equal(await page.locator(`.wedge[data-block="${BLOCK}"]`).getAttribute('data-level'), 'many');
    assert.equal(await page.locator('.wedge:not([data-level])').count(), 0, 'every block has its colour');
    const { data } = await (await fetch(new URL('/api/matches', BASE))).json();
    const name = data.matches.find((one) => one.id === MATCH).name;
    assert.ok(name.includes(await page.locator('#match').textContent()));
    assert.deepEqual(browser.complaints, []);
    await picture(page, 'desktop');
  });

  test('an update arrives within 1.5 s of its commit, at the seat and in the stadium', async () => {
    const page = await openPage(await browser.window());
    const left = () => page.locator(`#tree [data-block="${BLOCK}"] .chip-left`).textContent();
    const before = Number(await left());
    await allocate([104], 'OCCUPIED');
    await shows(page, 104, 'OCCUPIED', 1_500);
    await until(async () => Number(await left()) === before - 1, 'the stadium counts it', 1_500);
  });

  test('a hold in one window is seen in another, then given back, then bought, each at once', async () => {
    const one = await openPage(await browser.window());
    const two = await openPage(await browser.window());
    await hold(one, 105);
    await shows(two, 105, 'HOLD');
    assert.match(await one.locator('#countdown').textContent(), /^\d+:\d\d$/);
    await picture(one, 'hold');
    await seat(two, 105).click({ force: true });	// not his: a toast, and nothing changes
    await two.locator('.toast').waitFor();
    await pause(700);
    await seat(one, 105).click();
    await shows(one, 105, 'AVAILABLE', 3_000);
    await shows(two, 105, 'AVAILABLE');
    await mode(one, 'empty');
    await hold(one, 106);
    await one.locator('#confirm').click();
    await mode(one, 'receipt');
    await shows(one, 106, 'BOUGHT', 3_000);
    await shows(two, 106, 'OCCUPIED');
    assert.equal(await one.locator('#basket-items li').count(), 1);
    assert.equal(await one.locator('.toast').count(), 0, 'no hold was lost');
    await picture(one, 'receipt');
    await pause(700);				// what has just changed is not to be pressed by mistake
    await one.locator('#done').click();
    await mode(one, 'empty');
    assert.deepEqual(browser.complaints.filter((text) => !text.includes('409')), []);
  });

  test('pressed twice: Confirm buys and holds nothing else; a seat is held and not given back', async () => {
    const page = await openPage(await browser.window());
    const posts = [];
    page.on('request', (request) => { if (request.method() === 'POST') posts.push(request.url().split('/').pop()); });
    await seat(page, 105).dblclick();
    await shows(page, 105, 'MINE');
    await pause(700);
    await shows(page, 105, 'MINE');
    await page.evaluate(() => {			// by the page's own clock: a press at the moment that the receipt is there
      const press = () => {
        const { x, y, width, height } = document.querySelector('#done').getBoundingClientRect();
        document.querySelector('#done').dispatchEvent(new MouseEvent('click', { bubbles: true, cancelable: true, detail: 1, clientX: x + width / 2, clientY: y + height / 2 }));
      };
      new MutationObserver(() => { if (document.querySelector('#basket').dataset.mode === 'receipt') press(); })
        .observe(document.querySelector('#basket'), { attributeFilter: ['data-mode'] });
    });
    await page.locator('#confirm').dblclick();
    await mode(page, 'receipt');
    await pause(700);
    assert.equal(await page.locator('#basket').getAttribute('data-mode'), 'receipt');
    assert.deepEqual(posts, ['hold', 'confirm']);
    await page.locator('#done').click();
    await mode(page, 'empty');
  });

  test('what cannot be bought is named and dropped, and the rest is offered', async () => {
    const page = await openPage(await browser.window());
    await hold(page, 101, 102);
    await page.route('**/seats/confirm', (route) => route.fulfill({ status: 409, contentType: 'application/json',
      body: '{"status":409,"message":"m","data":{"seats":[{"seatId":102,"reason":"not-yours"}]}}' }), { times: 1 });
    await page.locator('#confirm').click();
    const { row, number } = await placeOf(102);
    await toast(page, new RegExp(`Not bought: .*row ${row}, seat ${number}.* other 1`));
    await page.locator('#basket-items li').nth(1).waitFor({ state: 'detached' });
    await pause(700);
    await page.locator('#confirm').click();
    await mode(page, 'receipt');
    assert.match(await page.locator('#basket-items').textContent(), new RegExp(`row ${row}, seat ${number - 1}$`));
  });

  test('own holds: kept over a reload, known to another tab, given back when the page goes', async () => {
    const context = await browser.window();
    const page = await openPage(context);
    await hold(page, 105);
    await page.reload();
    await shows(page, 105, 'MINE');
    const other = await openPage(context);
    await shows(other, 105, 'MINE');
    await other.locator('#basket-items button').click();
    await shows(page, 105, 'AVAILABLE');
    await mode(page, 'empty');
    await pause(700);
    await hold(other, 106);
    await page.close({ runBeforeUnload: true });
    await pause(5_000);
    await shows(other, 106, 'MINE');		// not the last tab
    const watcher = await openPage(await browser.window());
    await shows(watcher, 106, 'HOLD');
    await other.goto('about:blank');
    await shows(watcher, 106, 'AVAILABLE', 10_000);
  });

  test('time: a warning before the end, and five more minutes', async () => {
    const page = await openPage(await browser.window());
    await hold(page, 107);
    const ends = (change = 0) => page.evaluate(([match, by]) => {
      const key = `seatcast holds ${match}`;
      const saved = JSON.parse(localStorage.getItem(key));
      saved.holds[0][1].expiresAt += by;
      if (by) localStorage.setItem(key, JSON.stringify(saved));
      return saved.holds[0][1].expiresAt;
    }, [String(MATCH), change]);
    const first = await ends(-250_000);
    await page.reload();
    await toast(page, /Your hold ends in \d+ seconds/);
    await until(async () => /ends in/.test(await page.locator('#say').textContent()), 'it is spoken');
    await page.locator('#keep').click();
    await toast(page, /held until/);
    assert.ok(await ends() - first > 250_000);
    await shows(page, 107, 'MINE');
  });

  test('a hold that expires is available again, though nobody wrote', async () => {
    const page = await openPage(await browser.window());
    await allocate([107], 'HOLD', { seconds: 4 });
    await shows(page, 107, 'HOLD');
    await shows(page, 107, 'AVAILABLE', 10_000);
  });

  test('another block: the same connection, no moment offline, holds elsewhere still watched', async () => {
    const page = await openPage(await browser.window());
    await page.evaluate(() => {
      globalThis.states = [];
      globalThis.seatcast.addEventListener('state', (event) => globalThis.states.push(event.detail.state));
    });
    await hold(page, 108);
    await page.locator(`.wedge[data-block="${NEIGHBOUR}"]`).click();
    await page.locator(`#tree [data-block="${NEIGHBOUR}"][aria-current]`).waitFor();
    await page.waitForFunction((block) => globalThis.seatcast.seatsOf(block)?.size === document.querySelectorAll('#map .seat:not([data-look=UNKNOWN])').length, NEIGHBOUR);
    assert.equal(new URL(page.url()).searchParams.get('block'), NEIGHBOUR);
    await until(async () => (await viewers() ?? 1) === 1 || viewers(), 'one stream');
    await allocate([108], 'OCCUPIED');
    await toast(page, /Your hold has ended/);
    await mode(page, 'empty');
    assert.deepEqual(await page.evaluate(() => globalThis.states), []);
    await page.goBack();
    await shows(page, 108, 'OCCUPIED');
  });

  test('n together: next to each other, in one request; the next best when somebody is faster', async () => {
    const page = await openPage(await browser.window());
    const asked = [];
    await page.route('**/allocation/seats/hold', (route) => {
      const { seatIds } = route.request().postDataJSON();
      asked.push(seatIds);
      if (asked.length > 1) return route.continue();
      return route.fulfill({ status: 409, contentType: 'application/json', body: `{"status":409,"message":"m","data":{"seats":[{"seatId":${seatIds[1]},"reason":"held"}]}}` });
    });
    await page.locator('#more').click();
    await page.locator('#find').click();
    await toast(page, '3 seats next to each other');
    assert.equal(asked.length, 2);
    assert.ok(!asked[1].includes(asked[0][1]));
    const places = await page.locator('#map .seat[data-look=MINE]').evaluateAll((nodes) => nodes.map((node) => /Row (\d+) seat (\d+)/.exec(node.ariaLabel).slice(1).map(Number)));
    assert.equal(places.length, 3);
    assert.equal(new Set(places.map(([row]) => row)).size, 1);
    assert.equal(places[2][1] - places[0][1], 2);
  });

  test('a limit is told as a limit', async () => {
    const page = await openPage(await browser.window());
    await page.route('**/allocation/seats/hold', (route) => route.fulfill({ status: 409, contentType: 'application/json',
      body: '{"status":409,"message":"m","data":{"seats":[{"seatId":101,"reason":"limit"}]}}' }));
    await seat(page, 101).click();
    await toast(page, 'You can’t hold more seats');
    await pause(700);
    await seat(page, 101).click();
    await toast(page, 'You can’t hold more seats');	// the same again is shown again
    assert.equal(await page.locator('.toast').count(), 1);
  });

  test('a match that does not exist says so, offers others, and asks no more', async () => {
    const context = await browser.window();
    const page = await browser.tab(context, `/?match=999999&block=${BLOCK}`);
    let requests = 0;
    page.on('request', () => { requests += 1; });
    await badge(page, 'gone', 10_000);
    await page.locator('#note', { hasText: 'There is no such match.' }).waitFor();
    await page.locator('#others a').first().waitFor();
    const before = requests;
    await pause(3_000);
    assert.equal(requests, before);
    await picture(page, 'gone');
  });

  test('a block that does not exist, one without seats, one that is sold out: each says what it is', async () => {
    const context = await browser.window();
    const unknown = await browser.tab(context, `/?match=${MATCH}&block=999999`);
    await unknown.locator('#note', { hasText: 'There is no such block' }).waitFor();
    await badge(unknown, 'live', 10_000);
    await sql("INSERT INTO blocks (id, section_id, name) VALUES (900, 1, 'Empty') ON CONFLICT (id) DO NOTHING");
    const empty = await browser.tab(await browser.window(), `/?match=${MATCH}&block=900`);
    await empty.locator('#note', { hasText: 'no seats' }).waitFor();
    const page = await openPage(context);
    const all = await page.locator('#map .seat').evaluateAll((nodes) => nodes.map((node) => node.dataset.seat));
    await allocate(all, 'OCCUPIED');
    await page.locator('#note', { hasText: 'Sold out' }).waitFor();
    await page.locator(`.wedge[data-block="${BLOCK}"][data-level=none]`).waitFor();
    assert.equal(await page.locator(`#tree [data-block="${BLOCK}"] .chip-left`).textContent(), 'sold out');
    await picture(page, 'sold-out');
    await allocate(all.slice(0, 2), 'HOLD', { seconds: 60 });
    await page.locator('#note', { hasText: '2 seats are on hold' }).waitFor();
  });

  test('keyboard: one tab stop, arrows move, Enter holds; names are spoken; focus is never lost', async () => {
    const page = await openPage(await browser.window());
    assert.equal(await page.locator('#map [tabindex="0"]').count(), 1);
    await page.locator('#map [tabindex="0"]').focus();
    for (const key of ['End', 'ArrowDown', 'Home', 'ArrowRight']) await page.keyboard.press(key);
    const focused = page.locator('#map :focus');
    assert.equal(await focused.getAttribute('aria-label'), 'Row 2 seat 2, available');
    await page.keyboard.press('Enter');
    await page.locator('#map :focus[data-look=MINE]').waitFor();
    assert.equal(await focused.getAttribute('aria-label'), 'Row 2 seat 2, held by you');
    await until(async () => /row 2, seat 2 is held for you/.test(await page.locator('#say').textContent()), 'the hold is spoken');
    const focusIs = (selector) => page.waitForFunction((wanted) => document.activeElement.matches(wanted), selector, { timeout: 10_000 });
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('Enter');
    await page.locator('#basket-items button').nth(1).focus();
    await page.keyboard.press('Enter');
    await focusIs('#basket-items button');
    await page.locator('#confirm').focus();
    await page.keyboard.press('Enter');
    await mode(page, 'receipt');
    await focusIs('#basket-title');
    await page.keyboard.press('Enter');		// a second one means nothing
    await page.locator('#done').focus();
    await page.keyboard.press('Enter');
    await focusIs('#basket-title');
  });

  test('the list: rows with what is left, seats for thumbs; what goes stays at its place', async () => {
    await allocate([102], 'OCCUPIED');
    const { row } = await placeOf(102);
    const page = await openPage(await browser.window(PHONE));
    await page.locator('#as-list').tap();
    await page.locator('.seat-row summary', { hasText: `Row ${row}: 19 available` }).tap();
    const pick = (id) => page.locator(`.pick[data-seat="${id}"]`);
    assert.equal(await pick(102).count(), 0);
    const { height, width } = await pick(103).boundingBox();
    assert.ok(height >= 44 && width >= 44, `${width} x ${height}`);
    await allocate([103], 'OCCUPIED');
    await page.locator('.pick[data-seat="103"][data-look=OCCUPIED]').waitFor();
    await page.locator('.seat-row summary', { hasText: `Row ${row}: 18 available` }).waitFor();
    await pick(104).tap();
    await page.locator('.pick[data-seat="104"][data-look=MINE]').waitFor();
    await picture(page, 'list');
    await page.setViewportSize({ width: 360, height: 2400 });	// or the bar at the bottom covers something
    assert.deepEqual(await axe(page), []);
  });

  test('a phone: no sideways scrolling, seats for a finger, pinch and pan, every control on the screen', async () => {
    const page = await openPage(await browser.window({ ...PHONE, colorScheme: 'dark' }));
    await seat(page, 101).tap();
    await shows(page, 101, 'MINE');
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
    const width = () => seat(page, 101).evaluate((node) => node.offsetWidth);
    assert.ok(await width() >= 24, `a seat is ${await width()} px wide`);
    assert.equal(await page.locator('#pan').isVisible(), true, 'columns that are not seen are spoken of');
    await page.locator('#stage').scrollIntoViewIfNeeded();
    const box = await page.locator('#stage').boundingBox();
    const touch = await page.context().newCDPSession(page);
    const fingers = (type, gap) => touch.send('Input.dispatchTouchEvent', { type, touchPoints: type === 'touchEnd' ? [] : [-1, 1].map((side) => ({ x: box.x + box.width / 2 + side * gap, y: box.y + 100, id: side + 1 })) });
    const before = await width();
    await fingers('touchStart', 30);
    for (const gap of [40, 50, 60]) await fingers('touchMove', gap);
    await fingers('touchEnd');
    await page.waitForFunction((was) => document.querySelector('#map .seat').offsetWidth > was * 1.5, before);
    const label = await page.locator('.row-label.start').first().boundingBox();
    assert.ok(label.x >= box.x - 2 && label.x < box.x + 40, 'row numbers stay in sight');
    await picture(page, 'phone');
    for (const id of ['confirm', 'release-all', 'keep', 'as-list', 'find']) {
      const { x, width: w, height } = await page.locator(`#${id}`).boundingBox();
      assert.ok(x >= 0 && x + w <= 360 && height >= 24, `${id}: ${x} ${w} ${height}`);
    }
  });

  test('axe finds nothing: light, dark, with seats in the basket, as a receipt, gone', async () => {
    await allocate([103], 'OCCUPIED');
    await allocate([104], 'HOLD', { seconds: 60 });
    const page = await openPage(await browser.window());
    await hold(page, 101);
    assert.deepEqual(await axe(page), []);
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.locator('#confirm').click();
    await mode(page, 'receipt');
    assert.deepEqual(await axe(page), []);
    const gone = await browser.tab(await browser.window(), '/?match=999999');
    await badge(gone, 'gone', 10_000);
    assert.deepEqual(await axe(gone), []);
  });

  test('announcements are few: one region, and no ticker', async () => {
    const page = await openPage(await browser.window());
    assert.equal(await page.locator('[aria-live]:not([aria-live=off]), [role=status], [role=alert], output').count(), 2, 'the region, and how many together');
    await page.evaluate(() => {
      globalThis.said = [];
      new MutationObserver(() => globalThis.said.push(document.querySelector('#say').textContent)).observe(document.querySelector('#say'), { childList: true, characterData: true, subtree: true });
    });
    for (let i = 0; i < 8; i += 1) {
      await allocate([101 + i], 'OCCUPIED');
      await shows(page, 101 + i, 'OCCUPIED');
    }
    assert.ok((await page.evaluate(() => globalThis.said)).length <= 1);
  });

  test('Korean where the browser is: one word for each thing', async () => {
    const page = await openPage(await browser.window({ locale: 'ko-KR' }));
    assert.equal(await page.locator('html').getAttribute('lang'), 'ko');
    assert.equal(await page.locator('#badge-text').textContent(), '실시간');
    assert.match(await seat(page, 101).getAttribute('aria-label'), /열 .*번, 예매 가능/);
    assert.equal(await page.locator('#zoom-fit').textContent(), '화면에 맞춤');
    assert.doesNotMatch(await page.locator('body').textContent(), /시청자/);
    await picture(page, 'korean');
  });

  test('forced colours: marks instead of numbers, borders instead of colours', async () => {
    await allocate([102], 'OCCUPIED');
    await allocate([103], 'HOLD', { seconds: 60 });
    const page = await openPage(await browser.window({ forcedColors: 'active' }));
    await shows(page, 102, 'OCCUPIED');
    const of = (id) => seat(page, id).evaluate((node) => [getComputedStyle(node).fontSize, getComputedStyle(node).borderStyle, getComputedStyle(node, '::after').content]);
    assert.deepEqual(await of(102), ['0px', 'dotted', '"×"']);
    assert.equal((await of(103))[1], 'dashed');
    await picture(page, 'forced-colours');
  });

  test('a block named <script> shows its name', async () => {
    const evil = "<script>alert('seat')</script>";
    const quote = (text) => text.replaceAll("'", "''");
    const { data } = await (await fetch(new URL('/api/site/stadium', BASE))).json();
    const { name } = data.areas.flatMap((area) => area.sections).flatMap((section) => section.blocks).find((block) => String(block.id) === BLOCK);
    await sql(`UPDATE blocks SET name = '${quote(evil)}' WHERE id = ${BLOCK}`);
    try {
      const page = await openPage(await browser.window());
      await page.waitForFunction((text) => document.querySelector('h1').textContent === text, evil);
      assert.equal(await page.locator(`#tree [data-block="${BLOCK}"] span`).first().textContent(), evil);
    } finally {
      await sql(`UPDATE blocks SET name = '${quote(name)}' WHERE id = ${BLOCK}`);
    }
    assert.deepEqual(browser.complaints, []);
  });

  test('the database goes: stale, grey, not clickable; it returns: fresh, and what was missed',
    { skip: !(env.SEATCAST_DB_STOP && env.SEATCAST_DB_START) && 'SEATCAST_DB_STOP and SEATCAST_DB_START not set' }, async () => {
      const page = await openPage(await browser.window());
      await shell(env.SEATCAST_DB_STOP);
      try {
        await badge(page, 'stale', 10_000);
        assert.match(await page.locator('#badge-text').textContent(), /^\d+ s old$/);
        await seat(page, 101).click({ force: true });	// the grid says aria-disabled
        await toast(page, 'not live');
        assert.equal(await statusOf(page, 101), 'AVAILABLE');
        await picture(page, 'stale');
      } finally {
        await shell(env.SEATCAST_DB_START);
      }
      await badge(page, 'live', 20_000);
      await allocate([101], 'OCCUPIED');
      await shows(page, 101, 'OCCUPIED', 10_000);
    });

  for (const [what, command] of [['seatcast', 'SEATCAST_RESTART'], ['the web server', 'LIGHTTPD_RESTART']]) {
    test(`${what} restarts: offline, then live again with the current seats`, { skip: !env[command] && `${command} not set` }, async () => {
      const page = await openPage(await browser.window());
      // A quick restart may be over before a locator looks: the page keeps the record.
      await page.evaluate(() => {
        globalThis.states = [];
        globalThis.seatcast.addEventListener('state', (event) => globalThis.states.push(event.detail.state));
      });
      await shell(env[command]);
      await page.waitForFunction(() => globalThis.states.includes('offline'), null, { timeout: 15_000 });
      await allocate([102], 'OCCUPIED');
      await badge(page, 'live', 40_000);
      await shows(page, 102, 'OCCUPIED', 10_000);
    });
  }
});
