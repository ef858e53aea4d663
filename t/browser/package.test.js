// SPDX-License-Identifier: ISC
/* The npm package: typed, packed, installed into an empty project, and as small as its README says.  Needs no browser. */
'use strict';
const { after, before, describe, test } = require('node:test');
const assert = require('node:assert/strict');
const { cpSync, mkdtempSync, mkdirSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { dirname, join } = require('node:path');
const { gzipSync } = require('node:zlib');
const { env, npm, shell } = require('./lib.js');

const SOURCE = join(__dirname, '../..');
const TSC = { compilerOptions: { strict: true, noEmit: true, allowJs: true, checkJs: true, jsx: 'react-jsx', skipLibCheck: false,
  target: 'es2022', module: 'es2022', moduleResolution: 'bundler', lib: ['es2023', 'dom', 'dom.iterable'], types: [] } };
let dir;
let project;
let tsc;

/** What tsc has to say about files of the empty project. */
async function check(files) {
  for (const [name, text] of Object.entries(files)) writeFileSync(join(project, name), text);
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ ...TSC, files: Object.keys(files) }));
  return shell(`cd '${project}' && '${tsc}' -p .`).then(() => '', (error) => error.message);
}

describe('npm package', { skip: !env.SEATCAST_PLAYWRIGHT && 'SEATCAST_PLAYWRIGHT not set' }, () => {
  before(async () => {
    dir = mkdtempSync(join(tmpdir(), 'seatcast-npm-'));
    tsc = join(dirname(dirname(npm('typescript'))), 'bin/tsc');
    for (const name of ['npm', 'web']) cpSync(join(SOURCE, name), join(dir, name), { recursive: true });
    mkdirSync(join(dir, 'npm/node_modules/.bin'), { recursive: true });
    symlinkSync(tsc, join(dir, 'npm/node_modules/.bin/tsc'));
    await shell(`cd '${dir}/npm' && npm pack --silent`);
    project = join(dir, 'project');
    mkdirSync(project);
    writeFileSync(join(project, 'package.json'), '{"name":"empty","private":true,"type":"module"}');
    const [archive] = readdirSync(join(dir, 'npm')).filter((name) => name.endsWith('.tgz'));
    await shell(`cd '${project}' && npm install --silent --offline --no-audit --no-fund '../npm/${archive}'`);
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  test('it has the version of the program, the code, the types, a README, and nothing else', () => {
    const packed = readdirSync(join(project, 'node_modules/seatcast'));
    const code = readdirSync(join(SOURCE, 'web')).filter((name) => /^seatcast.*\.js$/.test(name));
    assert.deepEqual(packed.sort(), [...code, ...code.map((name) => name.replace(/js$/, 'd.ts')), 'README.md', 'package.json'].sort());
    const [, version] = /AC_INIT\(\[seatcast\], \[([^\]]+)\]/.exec(readFileSync(join(SOURCE, 'configure.ac'), 'utf8'));
    assert.equal(JSON.parse(readFileSync(join(project, 'node_modules/seatcast/package.json'), 'utf8')).version, version);
  });

  test('an empty project can import it, on a server too', async () => {
    assert.equal(await shell(`cd '${project}' && node --input-type=module -e "import * as s from 'seatcast'; console.log(Object.keys(s).sort().join())"`),
      'MatchStream,SeatStream,parseJson\n');
  });

  test('events are typed: names, details, nothing implicit', async () => {
    assert.equal(await check({ 'events.ts': `
      import { MatchStream, SeatStream, type Counts, type SeatId, type SeatStatus } from 'seatcast';
      const block = new SeatStream({ match: 1, block: '101' }, { transport: 'poll' });
      block.addEventListener('seats', ({ detail }) => { const all: Map<SeatId, SeatStatus> = detail.seats; const ids: Set<SeatId> = detail.changed; void [all, ids]; });
      block.addEventListener('state', ({ detail }) => { if (detail.state === 'gone') console.log(detail.message); }, { once: true });
      const stadium = new MatchStream(new URL('https://a.example/api/matches/1/status-stream'), { share: false });
      stadium.addEventListener('count', ({ detail }) => { const left: number = detail.available; const before: Counts | undefined = detail.previous; void [left, before]; });
      stadium.watch([101, '9223372036854775807']);
      const one: SeatStatus | undefined = stadium.seatsOf(101)?.get(5);
      // @ts-expect-error  no such event
      block.addEventListener('seat', () => {});
      // @ts-expect-error  not of a block
      block.addEventListener('count', () => {});
      // @ts-expect-error  no such detail
      block.addEventListener('update', ({ detail }) => detail.seat);
      // @ts-expect-error  no such transport
      new SeatStream('/x', { transport: 'udp' });
      void one;` }), '');
  });

  test("the examples of the code's own header and of the README are right", async () => {
    const header = readFileSync(join(SOURCE, 'web/seatcast.js'), 'utf8').split(' */')[0].match(/^ \* {3}(.*)/gm).map((line) => line.slice(5)).join('\n');
    assert.match(header, /MatchStream/);
    const readme = readFileSync(join(SOURCE, 'npm/README.md'), 'utf8');
    const [plain] = /(?<=<script type="module">)[^]*?(?=<\/script>)/.exec(readme);
    const [react] = /(?<=```jsx)[^]*?(?=```)/.exec(readme);
    const [other] = /(?<=```js\n)[^]*?(?=```)/.exec(readme);
    assert.equal(await check({
      'header.ts': `${header.replaceAll("'./seatcast.js'", "'seatcast'")}
        declare function draw(seats: Map<any, string>, changed: Set<any>): void; declare function badge(state: string): void;
        declare function paint(blocks: Map<any, { available: number }>, changed: Set<any>): void;`,
      'plain.ts': `declare const seats: HTMLElement;\n${plain.replace("'/seatcast.js'", "'seatcast'")}`,
      'react.d.ts': `declare module 'react' {
        export function useState<T>(first: T): [T, (next: T) => void]; export function useEffect(f: () => () => void, on: unknown[]): void; }`,
      'hook.ts': react.replace('(match)', '(match: number)').replace('new Map()', 'new Map<any, any>()').replace("'offline'", "'offline' as string"),
      'other.ts': other,
    }), '');
  });

  test('its size, minified and compressed, is what the README says', async () => {
    const esbuild = require(npm('esbuild'));
    const { outputFiles: [{ contents }] } = await esbuild.build({ entryPoints: [join(project, 'node_modules/seatcast/seatcast.js')],
      bundle: true, minify: true, format: 'esm', write: false });
    const size = gzipSync(contents, { level: 9 }).length;
    const said = Number(/([\d.]+) KB, minified/.exec(readFileSync(join(SOURCE, 'npm/README.md'), 'utf8'))[1]) * 1000;
    assert.ok(size <= said && size > said * 0.85, `${size} bytes, ${said} said`);
  });
});
