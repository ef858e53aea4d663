/** The page: puts the stream, the map, the overview and the basket together.  Each of them is usable alone. */
import { SeatStream } from './seatcast.js';
import * as api from './api.js';
import { Holds, ownUserId } from './holds.js';
import { Overview } from './overview.js';
import { SeatMap } from './seatmap.js';
import { ageText, fillTexts, texts } from './texts.js';

const SUMMARY_EVERY_MS = 6_000;
const RETRY_MS = 3_000;
const LOOKS = ['AVAILABLE', 'HOLD', 'OCCUPIED', 'MINE', 'BOUGHT'];
const PLAIN_ID = /^[1-9]\d{0,18}$/;

const $ = (id) => document.getElementById(id);
const parameter = (name) => {
  const value = new URLSearchParams(location.search).get(name) ?? '';
  return PLAIN_ID.test(value) ? value : '';
};

fillTexts(document);
const match = parameter('match') || '1';
const userId = ownUserId();
const holds = new Holds(match);
const map = new SeatMap($('map'), $('stage'), choose);
const overview = new Overview($('tree'), $('bowl'), (block) => go(block.id));
/** @type {SeatStream|null} */
let stream = null;
let blockId = '';
let blockName = '';
let sinceSummary = 0;

$('match').textContent = texts.match(match);
drawLegend();
$('zoom-in').addEventListener('click', () => map.zoom(1));
$('zoom-out').addEventListener('click', () => map.zoom(-1));
$('zoom-fit').addEventListener('click', () => map.zoomToFit());
$('confirm').addEventListener('click', confirmAll);
$('release-all').addEventListener('click', releaseAll);
addEventListener('popstate', () => openBlock(parameter('block') || overview.first()?.id));
setInterval(tick, 500);
setInterval(summarise, SUMMARY_EVERY_MS);
start();

async function start() {
  if (parameter('block')) openBlock(parameter('block'));
  while (!await overview.load().then(() => true, () => false)) {
    toast(texts.noSite);
    await pause(RETRY_MS);
  }
  if (!blockId && overview.first()) openBlock(overview.first().id);
  nameBlock();
}

function go(id) {
  const url = new URL(location.href);
  url.searchParams.set('block', String(id));
  history.pushState(null, '', url);
  openBlock(id);
}

// ---- one block ----

async function openBlock(id) {
  if (id === undefined || String(id) === blockId) return;
  stream?.close();
  stream = null;
  blockId = String(id);
  map.clear();
  nameBlock();
  note(texts.loading);
  showState();
  const seats = await loadSeats(blockId);
  if (blockId !== String(id) || !seats) return;	// somebody chose another one meanwhile
  note('');
  map.draw(seats);
  watch();
}

async function loadSeats(id) {
  while (blockId === id) {
    try {
      return await api.seats(id);
    } catch (error) {
      const permanent = error.status === 404 || error.status === 400;
      note(permanent ? texts.noBlock : texts.failed);
      if (permanent) return null;
      await pause(RETRY_MS);
    }
  }
  return null;
}

function watch() {
  stream = new SeatStream(api.streamUrl(match, blockId));
  let first = true;
  stream.addEventListener('seats', ({ detail }) => {
    drawSeats(detail.changed, !first);
    first = false;
  });
  stream.addEventListener('state', ({ detail }) => {
    showState();
    if (detail.status === 404) note(texts.noBlock);
    $('summary').textContent = { live: texts.stateLive, stale: texts.stateStale, offline: texts.stateOffline }[detail.state];
  });
  stream.addEventListener('busy', () => toast(texts.busy));
  globalThis.seatcast = stream;			// to play with in the console
}

function nameBlock() {
  const path = overview.find(blockId);
  blockName = path?.block.name ?? blockId;
  $('block-name').textContent = blockName || '…';
  $('trail').textContent = path ? `${path.area.name} › ${path.section.name}` : '';
  $('map').setAttribute('aria-label', texts.map(blockName));
  document.title = blockName ? `${blockName} · seatcast` : 'seatcast';
  overview.mark(blockId);
}

function note(text) {
  $('empty').textContent = text;
  $('empty').hidden = text === '';
}

// ---- drawing ----

function lookOf(seatId) {
  if (holds.has(seatId)) return 'MINE';
  const status = stream?.seats.get(seatId) ?? 'AVAILABLE';
  return status === 'OCCUPIED' && holds.hasBought(seatId) ? 'BOUGHT' : status;
}

function drawSeats(changed, flash) {
  let lost = 0;
  for (const seatId of changed) {
    if (holds.observe(seatId, stream.seats.get(seatId) ?? 'AVAILABLE')) lost += 1;
    map.show(seatId, lookOf(seatId), { flash });
  }
  if (flash) sinceSummary += changed.size;
  if (lost) toast(texts.lost);
  drawCounts();
  drawBasket();
}

function redraw(seatIds) {
  for (const seatId of seatIds) map.show(seatId, lookOf(seatId));
  drawCounts();
  drawBasket();
}

function drawLegend() {
  $('legend').replaceChildren(...LOOKS.map((look) => {
    const item = document.createElement('li');
    item.dataset.legend = look;
    const sample = document.createElement('span');
    sample.className = 'seat sample';
    sample.dataset.look = look;
    sample.setAttribute('aria-hidden', 'true');
    const label = document.createElement('span');
    label.textContent = texts[look];
    const count = document.createElement('output');
    count.textContent = '–';
    item.append(sample, label, count);
    return item;
  }));
}

function counts() {
  const total = Object.fromEntries(LOOKS.map((look) => [look, 0]));
  for (const seatId of stream?.seats.keys() ?? []) total[lookOf(seatId)] += 1;
  return total;
}

function drawCounts() {
  for (const [look, count] of Object.entries(counts())) {
    $('legend').querySelector(`[data-legend=${look}] output`).textContent = String(count);
  }
}

function showState() {
  const state = stream?.state ?? 'offline';
  const age = stream?.age ?? NaN;
  $('map').dataset.state = state;
  $('map').setAttribute('aria-disabled', String(state !== 'live'));
  $('badge').dataset.state = state;
  const old = Number.isNaN(age) ? '' : ageText(age);
  const text = { live: texts.live, stale: texts.stale(old), offline: old ? texts.offlineAge(old) : texts.offline }[state];
  if ($('badge-text').textContent !== text) $('badge-text').textContent = text;
}

function drawBasket() {
  $('basket').hidden = holds.size === 0;
  document.body.classList.toggle('has-basket', holds.size > 0);
  $('basket-count').textContent = texts.count(holds.size);
  const labels = holds.labels;
  $('basket-seats').textContent = labels.slice(0, 6).join(', ') + (labels.length > 6 ? ' …' : '');
  drawCountdown();
}

function drawCountdown() {
  const next = holds.next();
  if (!next) return;
  const left = Math.max(0, next.expiresAt - now());
  const seconds = Math.ceil(left / 1000);
  $('countdown').textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
  $('basket').classList.toggle('hurry', left < 30_000);
  $('ring').style.setProperty('--left', String(Math.min(1, left / Math.max(1, next.lasts))));
}

function now() { return stream?.serverNow() ?? Date.now(); }

function tick() {
  showState();
  const over = holds.expire(now());
  if (over.length) {
    redraw(over);
    toast(texts.lost);
  }
  drawCountdown();
}

/** At most one sentence every few seconds: a screen reader is not a ticker. */
function summarise() {
  if (!sinceSummary) return;
  const { AVAILABLE, HOLD, OCCUPIED, MINE, BOUGHT } = counts();
  $('summary').textContent = texts.changed(sinceSummary, AVAILABLE, HOLD + MINE, OCCUPIED + BOUGHT);
  sinceSummary = 0;
}

function toast(text) {
  if ([...$('toasts').children].some((node) => node.textContent === text)) return;
  const node = document.createElement('p');
  node.className = 'toast';
  node.textContent = text;
  $('toasts').append(node);
  setTimeout(() => node.remove(), 4_000);
}

function pause(ms) { return new Promise((resolve) => { setTimeout(resolve, ms); }); }

// ---- holding, releasing, buying ----

async function choose(seat) {
  if (stream?.state !== 'live') return toast(texts.waiting);
  if (seat.node.classList.contains('pending')) return undefined;
  const look = lookOf(seat.id);
  if (look === 'HOLD') return toast(texts.taken);
  if (look === 'OCCUPIED' || look === 'BOUGHT') return toast(texts.sold);
  map.pending(seat.id, true);
  await (look === 'MINE' ? releaseSeat(seat.id) : holdSeat(seat));
  map.pending(seat.id, false);
  redraw([seat.id]);
  return undefined;
}

async function holdSeat(seat) {
  try {
    const { data, date } = await api.hold(match, seat.id, userId);
    stream?.hintClock(date);
    holds.add(seat.id, texts.seatShort(seat.row, seat.number), Date.parse(data.holdExpiresAt), now());
    if (stream?.seats.get(seat.id) === 'HOLD') holds.observe(seat.id, 'HOLD');
  } catch (error) {
    toast(error.status === 409 ? texts.taken : texts.failed);
  }
}

async function releaseSeat(seatId) {
  try {
    await api.release(match, seatId, userId);
    holds.drop(seatId);
  } catch (error) {
    if (error.status === 409) holds.drop(seatId);
    toast(error.status === 409 ? texts.conflict : texts.failed);
  }
}

async function releaseAll() {
  const ids = holds.ids;
  await Promise.all(ids.map(releaseSeat));
  redraw(ids);
}

async function confirmAll() {
  const ids = holds.ids;
  $('confirm').disabled = true;
  try {
    const { data } = await api.confirm(match, ids, userId);
    holds.buy(data.confirmedSeats.map((seat) => seat.seatId));
    toast(texts.bought(data.confirmedSeats.length));
  } catch (error) {
    toast(error.status === 409 ? texts.confirmConflict : texts.failed);
  }
  $('confirm').disabled = false;
  redraw(ids);
}
