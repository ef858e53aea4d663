// SPDX-License-Identifier: ISC
/** Rows of seats in order, each seat with its column: what map, list and finding seats together share. */
export function arrange(seats) {
  const byRow = new Map();
  for (const seat of seats) {
    if (!byRow.has(seat.rowNumber)) byRow.set(seat.rowNumber, []);
    byRow.get(seat.rowNumber).push({ id: seat.id, row: seat.rowNumber, number: seat.seatNumber, column: 0 });
  }
  const rows = [...byRow].sort(([a], [b]) => a - b).map(([, row]) => row.sort((a, b) => a.number - b.number));
  const low = rows.reduce((least, row) => Math.min(least, row[0].number), Infinity);
  const span = rows.reduce((most, row) => Math.max(most, row.at(-1).number), 0) - low + 1;
  const longest = rows.reduce((most, row) => Math.max(most, row.length), 1);
  // Seat numbers are columns, so that gaps show as gaps; where numbers run wild, the order is enough.
  const byNumber = span <= longest * 2;
  for (const row of rows) row.forEach((seat, index) => { seat.column = byNumber ? seat.number - low + 1 : index + 1; });
  return { rows, columns: byNumber ? Math.max(1, span) : longest };
}

/**
 * Together - the best n free seats next to each other in a block, best first.
 *
 * Good is near the pitch and near the middle; bad is to leave a single free seat that nobody wants.
 */
export function together(rows, free, n) {
  const runs = [...rows].flatMap((row, index) => windows(row, free, n).map((seats) => ({ seats, cost: cost(row, free, seats, index / Math.max(1, rows.length - 1)) })));
  return runs.sort((a, b) => a.cost - b.cost).map((run) => run.seats);
}

function windows(row, free, n) {
  const found = [];
  for (let at = 0; at + n <= row.length; at += 1) {
    const seats = row.slice(at, at + n);
    const close = seats.every((seat, i) => free(seat) && (i === 0 || seat.number === seats[i - 1].number + 1));
    if (close) found.push(seats);
  }
  return found;
}

function cost(row, free, seats, depth) {
  const middle = (row[0].column + row.at(-1).column) / 2;
  const width = Math.max(1, row.at(-1).column - row[0].column);
  const off = Math.abs((seats[0].column + seats.at(-1).column) / 2 - middle) / width;
  const at = row.indexOf(seats[0]);
  const lonely = [at - 1, at + seats.length].filter((i) => isFree(row, free, i) && !isFree(row, free, i + (i < at ? -1 : 1))).length;
  return depth + off * 1.5 + lonely * 0.3;
}

function isFree(row, free, i) { return row[i] !== undefined && free(row[i]); }
