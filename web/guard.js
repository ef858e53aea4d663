// SPDX-License-Identifier: ISC
/**
 * Guard - what is under a pointer keeps its meaning for a moment after a press.
 *
 * A second press, of a double click or of an impatient finger, lands where the first did; when that is another thing by
 * now (a basket became a receipt, a bar went away and a seat is there) it was not meant, and is swallowed.
 */
const CALM_MS = 600;
const SAME_PLACE_PX = 24;

export function guardPresses(page = document) {
  let last = { time: -Infinity, x: 0, y: 0, meaning: '' };
  page.addEventListener('click', (event) => {
    if (event.detail === 0) return;			// by keyboard or a screen reader: focus says what is meant
    const meaning = meaningOf(event.target);
    const unsettled = performance.now() - (settling.get(event.target.closest('[data-mode]')) ?? -Infinity) < CALM_MS;
    const near = Math.hypot(event.clientX - last.x, event.clientY - last.y) <= SAME_PLACE_PX;
    if (unsettled || (event.timeStamp - last.time < CALM_MS && near && meaning !== last.meaning)) {
      event.stopImmediatePropagation();
      event.preventDefault();
      last.time = event.timeStamp;			// whoever hammers has not looked yet
      return;
    }
    last = { time: event.timeStamp, x: event.clientX, y: event.clientY, meaning };
  }, { capture: true });
}

/** This part of the page has just become something else, by itself (or again what can be pressed): presses that were meant for what it was don't count. */
export function settle(node, on) { settling.set(node, on ? performance.now() : -Infinity); }

const settling = new WeakMap();
const names = new WeakMap();
let count = 0;

/** The same for the same control in the same condition. */
function meaningOf(target) {
  const control = target.closest('button, a, summary, select, [data-block]');
  if (!control) return '';
  if (!names.has(control)) names.set(control, count += 1);
  return `${names.get(control)} ${control.dataset.look ?? control.dataset.meaning ?? ''}`;
}
