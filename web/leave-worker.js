// SPDX-License-Identifier: ISC
/* What is left of a page that was closed: gives its seats back, unless a page of the same match is there (see leave.js). */
const RELOAD_MS = 4_000;		// so long may a reload take

addEventListener('message', (event) => event.waitUntil(settle(event.data)));
addEventListener('install', () => self.skipWaiting());
addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));

async function settle({ match, url, body }) {
  await new Promise((resolve) => { setTimeout(resolve, RELOAD_MS); });
  const pages = await self.clients.matchAll({ type: 'window', includeUncontrolled: true });
  if (pages.some((page) => (new URL(page.url).searchParams.get('match') ?? '1') === match)) return;
  await fetch(url, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
}
