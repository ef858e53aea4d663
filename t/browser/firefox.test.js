/*
 * The page and seatcast.js in Firefox, by WebDriver BiDi: what may differ between browsers (EventSource, locks, service
 * workers, sharing between tabs).  The rest is in page.test.js.  See lib.js for what it needs; SEATCAST_FIREFOX is the browser.
 */
'use strict';
const { after, afterEach, before, beforeEach, describe, test } = require('node:test');
const assert = require('node:assert/strict');
const { BASE, BLOCK, MATCH, allocate, clean, env, npm, skip, until } = require('./lib.js');

let browser;
let page;

async function openTab() {
  const tab = await browser.newPage();
  await tab.setViewport({ width: 1280, height: 900 });
  await tab.goto(new URL(`/?match=${MATCH}&block=${BLOCK}`, BASE).href);
  await tab.waitForSelector('#map[data-state=live] .seat:not([data-look=UNKNOWN])', { timeout: 15_000 });
  return tab;
}

const shows = (tab, seatId, look) => tab.waitForSelector(`#map [data-seat="${seatId}"][data-look=${look}]`, { timeout: 10_000 });
const press = (tab, selector) => tab.$eval(selector, (node) => node.click());
const transport = (tab) => tab.evaluate(() => globalThis.seatcast.transport);

describe('Firefox', { skip, concurrency: 1 }, () => {
  before(async () => {
    const puppeteer = require(npm('puppeteer-core'));
    browser = await puppeteer.launch({ browser: 'firefox', executablePath: env.SEATCAST_FIREFOX ?? '/usr/bin/firefox-esr', headless: true, args: [] });
  });
  after(() => browser?.close());
  beforeEach(async () => {
    await clean();
    page = await openTab();
    await page.evaluate(() => localStorage.clear());
  });
  afterEach(async () => { for (const tab of (await browser.pages()).slice(1)) await tab.close(); });

  test('seats and stadium are drawn, and an update arrives', async () => {
    assert.equal(await page.$eval('#badge', (node) => node.dataset.state), 'live');
    assert.equal(await page.$$eval('.wedge:not([data-level])', (all) => all.length), 0);
    await allocate([104], 'OCCUPIED');
    await shows(page, 104, 'OCCUPIED');
  });

  test('hold, and buy: at once, with a receipt', async () => {
    await press(page, '#map [data-seat="105"]');
    await shows(page, 105, 'MINE');
    await press(page, '#confirm');
    await page.waitForSelector('#basket[data-mode=receipt]', { timeout: 10_000 });
    await shows(page, 105, 'BOUGHT');
  });

  test('two seats together, and the list', async () => {
    await press(page, '#find');
    await page.waitForSelector('#basket[data-mode=holding] #basket-items li + li', { timeout: 10_000 });
    await press(page, '#as-list');
    await page.waitForSelector('.seat-row[data-left=some]', { timeout: 5_000 });
  });

  test('tabs share one connection; who is left goes on', async () => {
    const other = await openTab();
    await until(async () => (await transport(other)) === 'shared', 'shared');
    await page.close();
    await until(async () => (await transport(other)) === 'sse', 'the other leads', 10_000);
    await allocate([106], 'OCCUPIED');
    await shows(other, 106, 'OCCUPIED');
  });

  test('another block, over the same stream', async () => {
    const next = String(Number(BLOCK) + 1);
    await page.evaluate((id) => document.querySelector(`#tree [data-block="${id}"]`).click(), next);
    await page.waitForFunction((id) => globalThis.seatcast.seatsOf(id)?.size === document.querySelectorAll('#map .seat:not([data-look=UNKNOWN])').length, { timeout: 10_000 }, next);
  });

  test('a match that does not exist is gone', async () => {
    await page.goto(new URL('/?match=999999', BASE).href);
    await page.waitForSelector('#badge[data-state=gone]', { timeout: 15_000 });
  });
});
