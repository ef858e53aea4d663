// SPDX-License-Identifier: ISC
/*
 * What the browser tests have in common: the surroundings by shell commands, a browser, windows and tabs.
 *
 *   SEATCAST_URL          where the page is                              (required, or everything is skipped)
 *   SEATCAST_SQL          shell command that reads SQL on stdin          (required)
 *   SEATCAST_PLAYWRIGHT   path of playwright-core, if NODE_PATH does not lead to it; its neighbours are the other packages
 *   SEATCAST_CHROMIUM     the browser (/usr/bin/chromium)
 *   SEATCAST_BLOCK        the block to play with (101); it needs seats 101 to 110 among its own
 *   SEATCAST_VIEWERS_METRIC  the metric that counts open streams (seatcast_viewers), in SEATCAST_METRICS (<url>/metrics)
 *   SEATCAST_DB_STOP, SEATCAST_DB_START, SEATCAST_RESTART, LIGHTTPD_RESTART   shell commands; tests without theirs are skipped
 *   SEATCAST_ARTEFACTS    directory for screenshots
 */
'use strict';
const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { mkdirSync } = require('node:fs');
const { dirname, join } = require('node:path');

const env = process.env;
const BASE = env.SEATCAST_URL;
const MATCH = 1;
const BLOCK = env.SEATCAST_BLOCK ?? '101';
const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];
const missing = ['SEATCAST_URL', 'SEATCAST_SQL'].filter((name) => !env[name]);
const skip = missing.length > 0 && `${missing.join(' and ')} not set`;

/** A package that stands beside playwright-core. */
function npm(name) {
  return env.SEATCAST_PLAYWRIGHT ? require.resolve(name, { paths: [dirname(env.SEATCAST_PLAYWRIGHT), dirname(dirname(env.SEATCAST_PLAYWRIGHT))] }) : require.resolve(name);
}

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
const clean = (block = BLOCK) => sql(`UPDATE allocations SET status = 'AVAILABLE', user_id = NULL, hold_expires_at = NULL
  WHERE match_id = ${MATCH} AND block_id = ${block}`);

/** @returns {Promise<number|null>} open streams, null when the server does not tell */
async function viewers() {
  const name = env.SEATCAST_VIEWERS_METRIC ?? 'seatcast_viewers';
  const response = await fetch(env.SEATCAST_METRICS ?? new URL('/metrics', BASE));
  const values = [...(await response.text()).matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\d+)`, 'gm'))];
  return values.length ? values.reduce((sum, [, value]) => sum + Number(value), 0) : null;
}

async function until(check, what, ms = 10_000) {
  const end = Date.now() + ms;
  for (let last; ; ) {
    last = await check();
    if (last === true) return;
    if (Date.now() > end) assert.fail(`${what} (last: ${JSON.stringify(last)})`);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
}

// ---- windows and tabs ----

/** A browser for a suite; closes after each test what that has opened. */
class Browser {
  #browser; #opened = [];
  complaints = [];		// what the consoles of the running test's pages said

  async start() {
    const { chromium } = require(env.SEATCAST_PLAYWRIGHT ?? 'playwright-core');
    this.#browser = await chromium.launch({ executablePath: env.SEATCAST_CHROMIUM ?? '/usr/bin/chromium', args: ARGS });
    if (env.SEATCAST_ARTEFACTS) mkdirSync(env.SEATCAST_ARTEFACTS, { recursive: true });
  }

  async window(options = {}) {
    const context = await this.#browser.newContext({ viewport: { width: 1280, height: 900 }, locale: 'en-US', ...options });
    this.#opened.push(context);
    return context;
  }

  async tab(context, path) {
    const page = await context.newPage();
    page.on('pageerror', (error) => this.complaints.push(String(error)));
    page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) this.complaints.push(message.text()); });
    await page.goto(new URL(path, BASE).href);
    return page;
  }

  async tidy() {
    for (const context of this.#opened) await context.close();
    this.#opened = [];
    this.complaints = [];
  }

  stop() { return this.#browser?.close(); }
}

async function picture(page, name) {
  if (env.SEATCAST_ARTEFACTS) await page.screenshot({ path: join(env.SEATCAST_ARTEFACTS, `${name}.png`) });
}

module.exports = { BASE, BLOCK, Browser, MATCH, allocate, clean, env, npm, picture, shell, skip, sql, until, viewers };
