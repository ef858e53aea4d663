/** Every word of the page in every language it speaks.  A value is a string, or a function where numbers go in. */
const ENGLISH = {
  skip: 'Skip to the seats', overview: 'Stadium', zoom: 'Size', zoomIn: 'Larger', zoomOut: 'Smaller', fit: 'Fit',
  pitch: 'Pitch', basket: 'Your seats', left: 'Held for', releaseAll: 'Release', confirm: 'Confirm',
  hint: 'Choose a seat to hold it, choose it again to let it go. Arrow keys move between seats.',
  match: (id) => `Match ${id}`, map: (name) => `Seats of ${name}`,
  AVAILABLE: 'Available', HOLD: 'On hold', OCCUPIED: 'Sold', MINE: 'Held by you', BOUGHT: 'Yours',
  seat: (row, number, status) => `Row ${row} seat ${number}, ${status.toLowerCase()}`,
  seatShort: (row, number) => `${row}–${number}`, row: (row) => `Row ${row}`,
  live: 'Live', stale: (age) => `${age} old`, offline: 'Offline', offlineAge: (age) => `Offline · ${age}`,
  seconds: (n) => `${n} s`, minutes: (n) => `${n} min`,
  count: (n) => (n === 1 ? '1 seat' : `${n} seats`),
  changed: (n, free, held, sold) => `${n} ${n === 1 ? 'seat' : 'seats'} changed: ${free} available, ${held} on hold, ${sold} sold.`,
  stateLive: 'The seats are live.', stateStale: 'The seats may be out of date.', stateOffline: 'Connection lost. Trying again.',
  waiting: 'The seats are not live at the moment. Please wait a little.',
  taken: 'Somebody was faster: this seat is on hold.', sold: 'This seat is sold.', lost: 'A hold has ended.',
  conflict: 'That did not work: the seat is no longer held by you.', confirmConflict: 'Not bought: a hold has ended. Please check your seats.',
  bought: (n) => `${n === 1 ? 'The seat is' : `${n} seats are`} yours.`,
  failed: 'The server did not answer. Please try again.', busy: 'Many people are here now. We keep trying.',
  noBlock: 'There is no such match or block.', noSite: 'The stadium could not be loaded. Trying again.', loading: 'Loading seats…',
};

const KOREAN = {
  skip: '좌석으로 건너뛰기', overview: '경기장', zoom: '크기', zoomIn: '크게', zoomOut: '작게', fit: '맞춤',
  pitch: '그라운드', basket: '내 좌석', left: '선점 남은 시간', releaseAll: '선점 해제', confirm: '구매 확정',
  hint: '좌석을 누르면 선점되고, 다시 누르면 해제됩니다. 방향키로 좌석 사이를 이동할 수 있습니다.',
  match: (id) => `경기 ${id}`, map: (name) => `${name} 좌석`,
  AVAILABLE: '예매 가능', HOLD: '선점 중', OCCUPIED: '판매 완료', MINE: '내가 선점', BOUGHT: '내 좌석',
  seat: (row, number, status) => `${row}열 ${number}번, ${status}`,
  seatShort: (row, number) => `${row}열 ${number}번`, row: (row) => `${row}열`,
  live: '실시간', stale: (age) => `${age} 전 상태`, offline: '연결 끊김', offlineAge: (age) => `연결 끊김 · ${age} 전`,
  seconds: (n) => `${n}초`, minutes: (n) => `${n}분`,
  count: (n) => `${n}석`,
  changed: (n, free, held, sold) => `${n}석 변경: 예매 가능 ${free}, 선점 중 ${held}, 판매 완료 ${sold}.`,
  stateLive: '좌석 현황이 실시간입니다.', stateStale: '좌석 현황이 최신이 아닐 수 있습니다.', stateOffline: '연결이 끊겼습니다. 다시 연결하는 중입니다.',
  waiting: '지금은 실시간 현황이 아닙니다. 잠시만 기다려 주세요.',
  taken: '다른 분이 먼저 선점한 좌석입니다.', sold: '판매 완료된 좌석입니다.', lost: '선점 시간이 끝난 좌석이 있습니다.',
  conflict: '처리하지 못했습니다. 더 이상 선점한 좌석이 아닙니다.', confirmConflict: '구매하지 못했습니다. 선점이 끝난 좌석이 있으니 확인해 주세요.',
  bought: (n) => `${n}석을 구매했습니다.`,
  failed: '서버가 응답하지 않습니다. 다시 시도해 주세요.', busy: '접속자가 많습니다. 계속 연결을 시도합니다.',
  noBlock: '해당 경기나 구역이 없습니다.', noSite: '경기장 정보를 불러오지 못했습니다. 다시 시도합니다.', loading: '좌석을 불러오는 중…',
};

export const language = navigator.language.toLowerCase().startsWith('ko') ? 'ko' : 'en';
export const texts = language === 'ko' ? KOREAN : ENGLISH;

/** "12 s", then "3 min". */
export function ageText(/** @type {number} */ ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  return seconds < 120 ? texts.seconds(seconds) : texts.minutes(Math.floor(seconds / 60));
}

/** Fills data-text and data-label of the page, so that the markup holds no words of its own. */
export function fillTexts(/** @type {Document} */ page) {
  page.documentElement.lang = language;
  for (const node of page.querySelectorAll('[data-text]')) node.textContent = texts[node.dataset.text];
  for (const node of page.querySelectorAll('[data-label]')) node.setAttribute('aria-label', texts[node.dataset.label]);
}
