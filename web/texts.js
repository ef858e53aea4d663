// SPDX-License-Identifier: ISC
/** Every word of the page in every language it speaks.  A value is a string, or a function where numbers go in. */
const ENGLISH = {
  skip: 'Skip to the seats', stadium: 'Stadium', allBlocks: 'All blocks', chooseMatch: 'Match', match: (id) => `Match ${id}`,
  view: 'View', asMap: 'Map', asList: 'List', zoom: 'Size', zoomIn: 'Larger', zoomOut: 'Smaller', fit: 'Fit',
  pitch: 'Pitch', map: (name) => `Seats of ${name}`, loading: 'Loading seats…',
  hint: 'Choose a seat to hold it, choose it again to give it back. Arrow keys move between seats.',
  pan: 'There are more seats to the sides: swipe, or pinch to see them all.',

  AVAILABLE: 'Available', HOLD: 'On hold', OCCUPIED: 'Sold', MINE: 'Held by you', BOUGHT: 'Bought by you', UNKNOWN: 'Not known yet',
  seat: (row, number, status) => `Row ${row} seat ${number}, ${status.toLowerCase()}`,
  place: (block, row, number) => `${block}, row ${row}, seat ${number}`,
  row: (row) => `Row ${row}`, rowLeft: (row, n) => `Row ${row}: ${n === 0 ? 'none' : n} available`,
  count: (n) => (n === 1 ? '1 seat' : `${n} seats`), list: (items) => items.join('; '),

  scale: 'Available:', level: { none: 'sold out', held: 'all on hold', few: 'few', some: 'some', many: 'many', empty: 'no seats' },
  left: (n, all) => `${n} of ${all} available`, blockLeft: (name, n, all) => `${name}: ${n} of ${all} seats available`,
  soldOut: 'Sold out.', allHeld: (n) => `Nothing is available now; ${n === 1 ? '1 seat is' : `${n} seats are`} on hold and may come back.`,
  noSeats: 'This block has no seats.', noBlock: 'There is no such block. Choose one in the stadium.',
  noMatch: 'There is no such match.', over: 'This match is over, or no longer on sale.', others: 'Choose another match:',
  noSite: 'The stadium could not be loaded. Trying again.',

  live: 'Live', stale: (age) => `${age} old`, offline: 'Offline', offlineAge: (age) => `Offline · ${age}`, gone: 'Not on sale',
  seconds: (n) => `${n} s`, minutes: (n) => `${n} min`,
  stateLive: 'The seats are live again.', stateStale: 'The seats may be out of date.', stateOffline: 'Connection lost. Trying again.',
  waiting: 'The seats are not live at the moment. Please wait a little.', busy: 'Many people are here now. We keep trying.',

  find: 'Find together', findHow: 'How many seats together', fewer: 'Fewer', more: 'More',
  found: (n) => (n === 1 ? 'One seat is held for you.' : `${n} seats next to each other are held for you.`),
  notFound: (n) => (n === 1 ? 'No seat is available in this block.' : `No ${n} seats next to each other are available in this block.`),

  basket: 'Your seats', nothing: 'No seat chosen yet.', timeLeft: 'Time left', until: (time) => `Held until ${time}.`,
  keep: (n) => `${n} more ${n === 1 ? 'minute' : 'minutes'}`, releaseAll: 'Give all back', remove: (what) => `Give back ${what}`,
  buy: (n) => (n === 1 ? 'Buy 1 seat' : `Buy ${n} seats`), receipt: (n) => (n === 1 ? 'This seat is yours' : `These ${n} seats are yours`), done: 'Done',
  onClose: 'If you close this page, your seats are given back.', onCloseKept: 'If you close this page, your seats stay held until the time is over.',

  held: (what) => `${what} is held for you.`, released: (what) => `${what} was given back.`, lost: (what) => `Your hold has ended: ${what}.`,
  ending: (seconds, minutes) => `Your hold ends in ${seconds} seconds. The button “${minutes}” keeps it.`, kept: (time) => `Your seats are held until ${time}.`,
  bought: (n) => `${n === 1 ? 'One seat is' : `${n} seats are`} yours. Thank you.`,
  onHold: 'This seat is on hold.', sold: 'This seat is sold.', faster: 'Somebody was faster.',
  limit: 'You can’t hold more seats.', noLonger: 'Your seats can’t be held any longer. Please buy them or give them back.',
  notBought: (what) => `Not bought: ${what} is no longer held by you.`, rest: (n) => (n ? `You can still buy the other ${n}.` : ''),
  notAllowed: 'The server does not allow that. Please sign in again.', failed: 'The server did not answer. Please try again.',
};

const KOREAN = {
  skip: '좌석으로 건너뛰기', stadium: '경기장', allBlocks: '전체 블록', chooseMatch: '경기', match: (id) => `경기 ${id}`,
  view: '보기', asMap: '배치도', asList: '목록', zoom: '크기', zoomIn: '크게', zoomOut: '작게', fit: '화면에 맞춤',
  pitch: '그라운드', map: (name) => `${name} 좌석`, loading: '좌석을 불러오는 중…',
  hint: '좌석을 누르면 선점되고, 다시 누르면 해제됩니다. 방향키로 좌석 사이를 이동할 수 있습니다.',
  pan: '좌우에 좌석이 더 있습니다. 옆으로 밀거나 두 손가락으로 오므려 전체를 볼 수 있습니다.',

  AVAILABLE: '예매 가능', HOLD: '선점 중', OCCUPIED: '판매 완료', MINE: '내가 선점', BOUGHT: '내가 구매', UNKNOWN: '확인 중',
  seat: (row, number, status) => `${row}열 ${number}번, ${status}`,
  place: (block, row, number) => `${block} ${row}열 ${number}번`,
  row: (row) => `${row}열`, rowLeft: (row, n) => `${row}열: ${n === 0 ? '예매 가능 좌석 없음' : `${n}석 예매 가능`}`,
  count: (n) => `${n}석`, list: (items) => items.join(', '),

  scale: '남은 좌석:', level: { none: '매진', held: '모두 선점 중', few: '적음', some: '보통', many: '많음', empty: '좌석 없음' },
  left: (n, all) => `${all}석 중 ${n}석 예매 가능`, blockLeft: (name, n, all) => `${name}: ${all}석 중 ${n}석 예매 가능`,
  soldOut: '매진되었습니다.', allHeld: (n) => `지금은 예매 가능한 좌석이 없습니다. 선점 중인 ${n}석은 다시 나올 수 있습니다.`,
  noSeats: '좌석이 없는 블록입니다.', noBlock: '해당 블록이 없습니다. 경기장에서 블록을 선택해 주세요.',
  noMatch: '해당 경기가 없습니다.', over: '종료되었거나 더 이상 판매하지 않는 경기입니다.', others: '다른 경기 선택:',
  noSite: '경기장 정보를 불러오지 못했습니다. 다시 시도합니다.',

  live: '실시간', stale: (age) => `${age} 전 상태`, offline: '연결 끊김', offlineAge: (age) => `연결 끊김 · ${age} 전`, gone: '판매하지 않음',
  seconds: (n) => `${n}초`, minutes: (n) => `${n}분`,
  stateLive: '좌석 현황이 다시 실시간입니다.', stateStale: '좌석 현황이 최신이 아닐 수 있습니다.', stateOffline: '연결이 끊겼습니다. 다시 연결하는 중입니다.',
  waiting: '지금은 실시간 현황이 아닙니다. 잠시만 기다려 주세요.', busy: '접속자가 많습니다. 계속 연결을 시도합니다.',

  find: '연석 찾기', findHow: '붙어 있는 좌석 수', fewer: '줄이기', more: '늘리기',
  found: (n) => (n === 1 ? '1석을 선점했습니다.' : `나란히 붙은 ${n}석을 선점했습니다.`),
  notFound: (n) => (n === 1 ? '이 블록에 예매 가능한 좌석이 없습니다.' : `이 블록에 나란히 붙은 ${n}석이 없습니다.`),

  basket: '내 좌석', nothing: '선택한 좌석이 없습니다.', timeLeft: '남은 시간', until: (time) => `${time}까지 선점됩니다.`,
  keep: (n) => `${n}분 연장`, releaseAll: '모두 해제', remove: (what) => `${what} 해제`,
  buy: (n) => `${n}석 구매`, receipt: (n) => `${n}석 구매 완료`, done: '확인',
  onClose: '이 페이지를 닫으면 선점한 좌석이 해제됩니다.', onCloseKept: '이 페이지를 닫아도 시간이 끝날 때까지 선점이 유지됩니다.',

  held: (what) => `${what}을 선점했습니다.`, released: (what) => `${what}을 해제했습니다.`, lost: (what) => `선점이 끝났습니다: ${what}.`,
  ending: (seconds, minutes) => `선점이 ${seconds}초 후에 끝납니다. ‘${minutes}’ 버튼으로 연장할 수 있습니다.`, kept: (time) => `${time}까지 선점이 연장되었습니다.`,
  bought: (n) => `${n}석을 구매했습니다. 감사합니다.`,
  onHold: '다른 분이 선점한 좌석입니다.', sold: '판매 완료된 좌석입니다.', faster: '다른 분이 한발 먼저 선점했습니다.',
  limit: '더 이상 선점할 수 없습니다.', noLonger: '선점 시간을 더 연장할 수 없습니다. 구매하거나 해제해 주세요.',
  notBought: (what) => `구매하지 못했습니다. 선점이 끝난 좌석: ${what}.`, rest: (n) => (n ? `나머지 ${n}석은 구매할 수 있습니다.` : ''),
  notAllowed: '허용되지 않은 요청입니다. 다시 로그인해 주세요.', failed: '서버가 응답하지 않습니다. 다시 시도해 주세요.',
};

export const language = navigator.language.toLowerCase().startsWith('ko') ? 'ko' : 'en';
export const texts = language === 'ko' ? KOREAN : ENGLISH;

/** "12 s", then "3 min". */
export function ageText(/** @type {number} */ ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  return seconds < 120 ? texts.seconds(seconds) : texts.minutes(Math.floor(seconds / 60));
}

/** "4:05" */
export function clockText(/** @type {number} */ ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

/** The time of day, without seconds. */
export function timeText(/** @type {number} */ time) {
  return new Date(time).toLocaleTimeString(language, { hour: 'numeric', minute: '2-digit' });
}

/** Of a name in two languages, "한국어 (English)", the reader's; any other name as it is. */
export function localName(/** @type {string} */ name) {
  const [, first, second] = /^(.*\S) \(([^()]*)\)$/.exec(name) ?? [];
  if (!first || isKorean(first) === isKorean(second)) return name;
  return isKorean(first) === (language === 'ko') ? first : second;
}

function isKorean(/** @type {string} */ text) { return /[\uac00-\ud7a3]/.test(text); }

/** Fills data-text and data-label of the page, so that the markup holds no words of its own. */
export function fillTexts(/** @type {Document} */ page) {
  page.documentElement.lang = language;
  for (const node of page.querySelectorAll('[data-text]')) node.textContent = texts[node.dataset.text];
  for (const node of page.querySelectorAll('[data-label]')) node.setAttribute('aria-label', texts[node.dataset.label]);
}
