// SPDX-License-Identifier: ISC
// A server as people write it in Node for the same task: an array of responses for each block, and a frame once a second.
//	node node-server.js PORT GROUPS EVENTS
import('node:http').then(({ createServer }) => {
  const [port, groups, events] = process.argv.slice(2).map(Number);
  const rooms = Array.from({ length: groups }, () => new Set());
  const init = `retry: 2000\n\nevent: init\ndata: ${JSON.stringify({ status: 200, data: { seats:
    Array.from({ length: 400 }, (_, i) => ({ id: 101 + i, status: 'AVAILABLE' })) } })}\nid: 1\n\n`;
  createServer((request, response) => {
    const room = rooms[Number(/\/blocks\/(\d+)/.exec(request.url)?.[1] ?? 0) % groups];
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    response.write(init);
    room.add(response);
    response.on('close', () => room.delete(response));
  }).listen(port, '127.0.0.1', 4096);
  let turn = 0;
  if (events) setInterval(() => {
    const room = rooms[turn % groups];
    let frame = '';
    for (let i = 0; i < events; i++) frame += `event: update\ndata: ${JSON.stringify({ status: 200, data: { seatId: 101 + (turn * 7 + i * 11) % 400, status: 'HOLD' } })}\n\n`;
    for (const response of room) response.write(frame);
    turn++;
  }, 1000 / groups);
});
