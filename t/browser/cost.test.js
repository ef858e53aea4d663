/*
 * What the page costs, and under a prefix: against mock.js, which can change 200 seats a second.  Counted are layouts and style
 * passes, which do not depend on the machine; the processor's share is printed, and has a limit that only a fault exceeds.
 */
'use strict';
const { after, afterEach, before, describe, test } = require('node:test');
const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { readFileSync, readdirSync } = require('node:fs');
const { join } = require('node:path');
const { Browser, env, until } = require('./lib.js');

const browser = new Browser();
const SECONDS = 5;
const mocks = [];

/** @returns {Promise<string>} the address of a mock of its own */
function startMock(more = {}) {
  const mock = spawn(process.execPath, [join(__dirname, 'mock.js')], { env: { ...process.env, ...more }, stdio: ['ignore', 'pipe', 'inherit'] });
  mocks.push(mock);
  return new Promise((resolve) => { mock.stdout.once('data', (line) => resolve(String(line).trim())); });
}

/** Seconds of processor time of all Chromium's processes below this one. */
function processorTime() {
  const stats = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    try {
      const [head, rest] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(/\) (?=\S \d)/);
      const field = rest.split(' ');
      return [{ pid, parent: field[1], chromium: /chrom/.test(head), time: (Number(field[11]) + Number(field[12])) / 100 }];
    } catch { return []; }		// it has ended meanwhile
  });
  const parent = new Map(stats.map((one) => [one.pid, one.parent]));
  const ours = (pid) => pid === String(process.pid) || (parent.has(pid) && ours(parent.get(pid)));
  return stats.filter((one) => one.chromium && ours(one.pid)).reduce((sum, one) => sum + one.time, 0);
}

describe('cost', { skip: !env.SEATCAST_PLAYWRIGHT && 'SEATCAST_PLAYWRIGHT not set', concurrency: 1 }, () => {
  before(() => browser.start());
  after(async () => {
    await browser.stop();
    for (const mock of mocks) mock.kill();
  });
  afterEach(() => browser.tidy());

  test('2,000 seats and 200 changes a second: a few layouts, no long work', async (t) => {
    const base = await startMock();
    const page = await browser.tab(await browser.window(), `${base}?match=1&block=102`);
    await page.locator('#map[data-state=live] .seat[data-look=AVAILABLE]').first().waitFor();
    await page.request.post(`${base}mock/rush`, { data: '310,102' });	// one in three changes nothing
    await page.evaluate(() => {
      globalThis.updates = 0;
      globalThis.longest = 0;
      globalThis.seatcast.addEventListener('update', () => { globalThis.updates += 1; });
      new PerformanceObserver((list) => { for (const entry of list.getEntries()) globalThis.longest = Math.max(globalThis.longest, entry.duration); }).observe({ type: 'longtask' });
    });
    await until(() => page.evaluate(() => globalThis.updates > 200), 'the rush has begun', 10_000);
    const devtools = await page.context().newCDPSession(page);
    await devtools.send('Performance.enable');
    const metrics = async () => Object.fromEntries((await devtools.send('Performance.getMetrics')).metrics.map(({ name, value }) => [name, value]));
    await page.evaluate(() => { globalThis.updates = 0; globalThis.longest = 0; });
    const [from, cpu, at] = [await metrics(), processorTime(), Date.now()];
    await new Promise((resolve) => { setTimeout(resolve, SECONDS * 1000); });
    const [to, spent, seconds] = [await metrics(), processorTime() - cpu, (Date.now() - at) / 1000];
    const { updates, longest } = await page.evaluate(() => ({ updates: globalThis.updates, longest: globalThis.longest }));
    const layouts = (to.LayoutCount - from.LayoutCount) / seconds;
    const styles = (to.RecalcStyleCount - from.RecalcStyleCount) / seconds;
    t.diagnostic(`${(updates / seconds).toFixed(0)} updates a second: ${(spent / seconds * 100).toFixed(1)} % of a core, longest task ${longest.toFixed(0)} ms (0: below 50), ${layouts.toFixed(1)} layouts and ${styles.toFixed(1)} style passes a second`);
    assert.ok(updates / seconds > 50, `${updates} updates`);
    assert.ok(layouts < 15 && styles < 15, `${layouts} layouts, ${styles} style passes a second`);
    assert.ok(spent / seconds < 0.5, `${spent} s of processor time in ${seconds} s`);
  });

  test('a load: one request for the stadium, one stream', async (t) => {
    const base = await startMock();
    const page = await (await browser.window()).newPage();
    const paths = [];
    page.on('request', (request) => paths.push(new URL(request.url()).pathname));
    await page.goto(`${base}?match=1&block=101`);
    await page.locator('#map[data-state=live] .seat[data-look=AVAILABLE]').first().waitFor();
    const bytes = await page.evaluate(() => performance.getEntriesByType('resource').reduce((sum, entry) => sum + entry.transferSize, performance.getEntriesByType('navigation')[0].transferSize));
    const api = paths.filter((path) => path.startsWith('/api/')).sort();
    t.diagnostic(`${paths.length} requests, ${api.length} of them to the API; ${bytes} bytes besides the stream`);
    assert.deepEqual(api, ['/api/matches', '/api/matches/1/status-stream', '/api/site/blocks/101/seats', '/api/site/stadium']);
  });

  test('under a prefix: page, client and API are found from where the files are', async () => {
    const base = (await startMock({ MOCK_PREFIX: '/tickets' })).replace(/\/$/, '/tickets/');
    const page = await browser.tab(await browser.window(), `${base}?match=1&block=101`);
    await page.locator('#map[data-state=live] .seat[data-look=AVAILABLE]').first().click();
    await page.locator('#basket[data-mode=holding]').waitFor();
    await page.evaluate(async (url) => {
      const { SeatStream } = await import(url);
      globalThis.s = new SeatStream({ match: 1, block: 101 });
    }, `${base}seatcast.js`);
    await page.waitForFunction(() => globalThis.s.state === 'live');
    assert.deepEqual(browser.complaints, []);
  });
});
