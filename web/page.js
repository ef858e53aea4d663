// SPDX-License-Identifier: ISC
/** The page: puts the stream, the stadium, the block and the basket together.  Each of them is usable alone. */
import { MatchStream } from './seatcast.js';
import { Announcer } from './announce.js';
import * as api from './api.js';
import { Basket } from './basket.js';
import { Block } from './block.js';
import { Desk } from './desk.js';
import { $, element, pause, write } from './dom.js';
import { guardPresses } from './guard.js';
import { Holds, ownUserId } from './holds.js';
import { Leaving } from './leave.js';
import { Looks } from './looks.js';
import { address, levelOf, Stadium, total } from './stadium.js';
import { ageText, fillTexts, localName, texts, timeText } from './texts.js';

const RETRY_MS = 3_000;
const TELL_STATE_MS = 2_000;		// a moment offline is not worth a sentence
const MOST_BLOCKS = 16;			// of one stream
const MOST_TOGETHER = 8;
const PLAIN_ID = /^[1-9]\d{0,18}$/;

const parameter = (name) => {
  const value = new URLSearchParams(location.search).get(name) ?? '';
  return PLAIN_ID.test(value) ? value : '';
};

fillTexts(document);
guardPresses();
const match = parameter('match') || '1';
const userId = ownUserId();
const announcer = new Announcer($('say'), $('toasts'));
const holds = new Holds(match);
/** @type {MatchStream|null} */
let stream = null;
let spoken = 'live';			// the state that was told last
const pending = new Set();		// seats that the server is asked about
const looks = new Looks(() => stream, holds, redraw);
const now = () => stream?.serverNow() ?? Date.now();
const desk = new Desk({ match, userId, holds, looks, announcer, clock: { now, hint: (date) => stream?.hintClock(date) } });
const block = new Block({ choose, lookOf: (seatId, blockId) => looks.of(seatId, blockId) });
const stadium = new Stadium({ tree: $('tree'), bowl: $('bowl'), readout: $('readout') }, go);
const leaving = new Leaving(() => (holds.size ? { match, ...api.releaseRequest(match, userId, holds.ids) } : null));
const basket = new Basket({ holds, now, announcer, leaving, onRemove: (seatId) => desk.release([seatId]) });

drawScale();
basket.draw();
showState();
document.body.dataset.ready = '';
$('all-blocks').open = matchMedia('(min-width: 56rem)').matches;
$('confirm').addEventListener('click', buy);
$('release-all').addEventListener('click', () => desk.release(holds.ids));
$('keep').addEventListener('click', async () => { if (await desk.keep()) announcer.toast(texts.kept(timeText(holds.next().expiresAt))); });
$('find').addEventListener('click', find);
for (const [id, step] of [['fewer', -1], ['more', 1]]) {
  $(id).addEventListener('click', () => { $('how-many').value = String(Math.min(MOST_TOGETHER, Math.max(1, Number($('how-many').value) + step))); });
}
$('matches').addEventListener('change', () => { location.search = `?match=${$('matches').value}`; });
holds.addEventListener('elsewhere', ({ detail }) => redraw(detail));
addEventListener('popstate', () => openBlock(parameter('block') || stadium.first));
setInterval(tick, 500);
start();

async function start() {
  nameMatch();
  const loaded = loadStadium();
  await Promise.race([loaded, pause(RETRY_MS)]);	// a stream needs no stadium, but then knows better what to watch
  openBlock(parameter('block') || stadium.first);
  await loaded;
  if (!block.id && !parameter('block')) openBlock(stadium.first);
  else nameBlock();
}

async function loadStadium() {
  while (true) {
    try {
      return stadium.draw(await api.stadium());
    } catch {
      announcer.toast(texts.noSite);
      await pause(RETRY_MS);
    }
  }
}

async function nameMatch() {
  const all = await api.matches().catch(() => []);
  const name = (id) => localName(all.find((one) => String(one.id) === id)?.name ?? texts.match(id));
  $('match').textContent = name(match);
  $('matches').replaceChildren(...all.map((one) => new Option(localName(one.name), String(one.id), false, String(one.id) === match)));
  if (!all.some((one) => String(one.id) === match)) $('matches').prepend(new Option(name(match), match, false, true));
  const choice = all.length > 1;
  $('matches').hidden = !choice;
  $('match').hidden = choice;
  nameBlock();
}

// ---- the stream ----

function watch(blocks) {
  stream = new MatchStream({ match, blocks });
  stream.addEventListener('seats', ({ detail }) => news(detail));
  stream.addEventListener('state', ({ detail }) => stateChanged(detail));
  stream.addEventListener('busy', () => announcer.toast(texts.busy));
  globalThis.seatcast = stream;			// to play with in the console
}

/** The block that is shown, and those that have seats of ours. */
function wanted() {
  const here = stadium.known && !stadium.find(block.id) ? [] : [block.id];
  return [...new Set([...here, ...holds.blocks].filter(Boolean).map(String))].slice(0, MOST_BLOCKS);
}

function watchWanted() {
  const blocks = wanted();
  if (!stream) watch(blocks);
  else if (stream.watched.map(String).join() !== blocks.join()) stream.watch(blocks);
}

function news({ blocks, counted, seats, changed }) {
  if (counted.size) stadium.update(counted, blocks);
  for (const [blockId, seatIds] of changed) {
    const ended = [];
    for (const seatId of seatIds) {
      const status = seats.get(blockId)?.get(seatId) ?? 'AVAILABLE';
      looks.heard(seatId, status);
      const hold = holds.observe(seatId, status);
      if (hold) ended.push(hold);
    }
    if (ended.length) lost(ended);
    if (String(blockId) === String(block.id)) block.news(seatIds);
  }
  drawCounts();
}

function stateChanged({ state, previous }) {
  showState();
  if (state === 'gone') return gone(previous);
  setTimeout(() => {
    if (stream.state !== state || spoken === state) return;
    spoken = state;
    announcer.mention({ live: texts.stateLive, stale: texts.stateStale, offline: texts.stateOffline }[state]);
  }, TELL_STATE_MS);
  return undefined;
}

/** There is no such match, or none any more; or it was the block that nobody knows. */
async function gone(previous) {
  if (stream.watched.length) {
    block.clear(texts.noBlock);
    nameBlock();
    return watch([]);
  }
  const over = previous !== 'offline' || stream.blocks.size > 0;
  block.clear(over ? texts.over : texts.noMatch);
  announcer.say(over ? texts.over : texts.noMatch);
  const others = (await api.matches().catch(() => [])).filter((one) => String(one.id) !== match);
  $('others').replaceChildren(...others.map((one) => {
    const item = element('li');
    const link = element('a', '', localName(one.name));
    link.href = `?match=${one.id}`;
    item.append(link);
    return item;
  }));
  $('others').hidden = others.length === 0;
  return undefined;
}

// ---- one block ----

function go(id) {
  history.pushState(null, '', address(id));
  openBlock(id);
  if (matchMedia('(max-width: 56rem)').matches) {
    $('all-blocks').open = false;
    $('block-name').scrollIntoView({ block: 'start' });
  }
}

async function openBlock(id) {
  if (id === undefined || String(id) === String(block.id)) return;
  if (stream?.state === 'gone') return;
  if (stadium.known && !stadium.find(id)) {
    block.clear(texts.noBlock);
    watchWanted();
    nameBlock(id);
    return;
  }
  const opened = block.open(stadium.find(id)?.block.id ?? id);
  nameBlock();
  watchWanted();
  await opened;
  drawCounts();
  const counts = countsHere();
  if (counts && String(block.id) === String(id)) announcer.mention(texts.blockLeft(block.name, counts.available, total(counts)));
}

function nameBlock(id = block.id) {
  const path = stadium.find(id);
  block.name = path?.block.name ?? String(block.id);
  write($('block-name'), block.id ? block.name : $('match').textContent);
  write($('trail'), path ? `${path.area.name} › ${path.section.name}` : '');
  $('map').setAttribute('aria-label', texts.map(block.name));
  const name = $('match').textContent;
  document.title = [block.name, name, 'seatcast'].filter(Boolean).join(' · ');
  stadium.mark(id);
}

function countsHere() { return stream?.blocks.get(stadium.find(block.id)?.block.id ?? block.id); }

function drawCounts() {
  const here = holds.all.filter((hold) => String(hold.blockId) === String(block.id)).length;
  const bought = [...(stream?.seatsOf(block.id || 0)?.keys() ?? [])].filter((seatId) => holds.hasBought(seatId)).length;
  const counts = countsHere();
  block.counts(counts, here, bought);
  if (!counts && stream?.blocks.size) block.noSeats();
}

/** These may look different: draw them. */
function redraw(seatIds) {
  block.redraw(seatIds);
  basket.draw();
  drawCounts();
  watchWanted();
}

function showState() {
  const state = stream?.state ?? 'offline';
  const age = stream?.age ?? NaN;
  if ($('map').dataset.state !== state) {
    $('map').dataset.state = state;
    $('map').setAttribute('aria-disabled', String(state !== 'live'));
    $('badge').dataset.state = state;
  }
  const old = Number.isNaN(age) ? '' : ageText(age);
  write($('badge-text'), { live: texts.live, stale: texts.stale(old), offline: old ? texts.offlineAge(old) : texts.offline, gone: texts.gone }[state]);
}

function drawScale() {
  $('scale').replaceChildren(element('li', 'scale-title', texts.scale), ...['many', 'some', 'few', 'held', 'none'].map((level) => {
    const item = element('li', '', texts.level[level]);
    item.dataset.level = level;
    return item;
  }));
}

function tick() {
  showState();
  const over = holds.expire(now());
  if (over.length) lost(over);
  basket.tick();
}

function lost(ended) {
  announcer.toast(texts.lost(texts.list(ended.map(({ block: name, row, number }) => texts.place(name, row, number)))));
  redraw(ended.map((hold) => hold.seatId).filter(Boolean));
}

// ---- holding, releasing, buying ----

function described(seat) { return { id: seat.id, where: { blockId: block.id, block: block.name, row: seat.row, number: seat.number } }; }

async function choose(seat) {
  if (stream?.state !== 'live') return announcer.toast(texts.waiting);
  const look = looks.of(seat.id, block.id);
  if (look === 'HOLD') return announcer.toast(texts.onHold);
  if (look === 'OCCUPIED' || look === 'BOUGHT') return announcer.toast(texts.sold);
  if (look === 'UNKNOWN' || pending.has(seat.id)) return undefined;
  pending.add(seat.id);
  block.map.pending(seat.id, true);
  await (look === 'MINE' ? desk.release([seat.id]) : desk.hold([described(seat)]));
  pending.delete(seat.id);
  block.map.pending(seat.id, false);
  return redraw([seat.id]);
}

async function find() {
  if (stream?.state !== 'live') return announcer.toast(texts.waiting);
  const n = Number($('how-many').value);
  const proposals = block.proposals(n).map((seats) => seats.map(described));
  const found = await once('find', () => desk.holdFirst(proposals, n));
  if (!found) return undefined;
  return block.map.seat(found[0].id)?.node.scrollIntoView({ block: 'nearest', inline: 'center' });
}

async function buy() {
  const bought = await once('confirm', () => desk.buy());
  if (bought) basket.receipt(bought);
  redraw(bought?.map((seat) => seat.seatId) ?? []);
}

/** One at a time.  The button keeps the focus: one that is disabled would lose it. */
async function once(id, act) {
  if (pending.has(id)) return null;
  pending.add(id);
  $(id).setAttribute('aria-disabled', 'true');
  const result = await act();
  pending.delete(id);
  $(id).removeAttribute('aria-disabled');
  return result;
}
