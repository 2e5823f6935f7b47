// deadline: 120 s
// An EVC that goes away in the middle, or takes its time: what the command says, and what it leaves.
import { generateKeyPairSync } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import type { RequestListener } from 'node:http';
import https from 'node:https';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ApiClient, patience } from '../../../controller/cli/client.ts';
import type { Failure } from '../../../controller/cli/failure.ts';
import { EvcBench } from '../../kit/controller.ts';
import { Running, runToEnd } from '../../kit/process.ts';

const folder = mkdtempSync(join(tmpdir(), 'evc-away-'));
const root = join(folder, 'root.pem');
const bench = await EvcBench.open();
const { pki } = bench.evc;
writeFileSync(root, pki.root.toString());
let serve: RequestListener = () => undefined;
const server = https.createServer(
  {
    key: pki.server.key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    cert: pki.server.certificate.toString(),
  },
  (request, response) => serve(request, response),
);
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
const url = `https://localhost:${(server.address() as AddressInfo).port}`;
test.after(async () => {
  server.closeAllConnections();
  server.close();
  await bench.close();
  rmSync(folder, { recursive: true });
});

const answered = (): never => {
  throw new Error('it was answered');
};

const where = ['--url', url, '--root', root];
const env = { EVC_TOKEN: 'evc_x' };

test('events that EVC ends are out of reach; those that a person ends are done', async () => {
  let goAway = () => {};
  serve = (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write('event: ready\ndata: {}\n\nevent: step\ndata: {"device":"d"}\n\n');
    goAway = () => response.destroy();
  };
  const asked = new Running('evc', ['events', '--json', ...where], env);
  await asked.line(/"device":"d"/);
  assert.is(await asked.stop('SIGINT'), 0);
  const left = new Running('evc', ['events', '--json', ...where], env);
  await left.line(/"device":"d"/);
  goAway();
  assert.is(await left.ended, 3);
  assert.match(left.lines.join('\n'), /evc: EVC ended what it told {2}\[evc\.unreachable\]\nhint: /);
});

test('an export that ends in the middle leaves the one of before, and nothing beside it', async () => {
  const to = join(folder, 'safe.pub.pem');
  const out = join(folder, 'exports', 'keys.jwe');
  const link = join(folder, 'link.jwe');
  writeFileSync(to, generateKeyPairSync('x25519').publicKey.export({ type: 'spki', format: 'pem' }));
  mkdirSync(join(folder, 'exports'));
  writeFileSync(out, 'of before', { mode: 0o644 });
  symlinkSync(out, link);
  const old = () => readFileSync(out, 'utf8');
  let pages = 0;
  let seen = '';
  serve = (_request, response) => {
    seen = old();
    if (++pages === 2) return response.destroy();
    const next = pages % 2 === 1 ? 'more' : null;
    response.end(JSON.stringify({ sealed: `page ${pages}`, devices: 1, keys: 1, lost: 0, next }));
  };
  const exported = () => runToEnd('evc', ['escrow', 'export', '--to', to, '-o', link, ...where], env);
  const lost = await exported();
  assert.is(lost.code, 3, lost.stderr);
  assert.is(old(), 'of before');
  assert.equal(readdirSync(join(folder, 'exports')), ['keys.jwe']);
  const done = await exported();
  assert.is(done.code, 0, done.stderr);
  assert.is(seen, 'of before', 'it stands until the last page is here');
  assert.is(old(), 'page 3\npage 4\n');
  assert.is(statSync(out).mode & 0o777, 0o600);
  assert.equal(readdirSync(join(folder, 'exports')), ['keys.jwe']);
  assert.ok(lstatSync(link).isSymbolicLink());
  const device = join(folder, 'full');
  symlinkSync('/dev/full', device);
  const full = await runToEnd('evc', ['escrow', 'export', '--to', to, '-o', device, ...where], env);
  assert.match(full.stderr, /full cannot be written: ENOSPC.*\[output\.failed\]/);
  assert.is(full.code, 1);
});

test('a change has more time than a question, and one that takes longer may still be under way', async () => {
  assert.equal(patience, { question: 30_000, change: 600_000 });
  const brief = { question: 200, change: 900 };
  const api = new ApiClient(url, 'evc_x', pki.root.toString(), brief);
  let delay = 500;
  serve = (_request, response) => {
    setTimeout(() => response.end('{}'), delay);
  };
  const failureOf = async (asked: Promise<unknown>) =>
    asked.then(answered, (error: Failure) => {
      assert.equal([error.code, error.exitCode], ['evc.unreachable', 3], `${error}`);
      return `${error.message}\n${error.hint}`;
    });
  assert.equal(await api.send('POST', '/api/v1/accounts', {}), {});
  assert.match(await failureOf(api.get('/api/v1/accounts')), /out of reach: no answer within 0\.2 s\n/);
  delay = 2000;
  const late = [
    api.send('POST', '/api/v1/accounts', {}),
    api.send('PATCH', '/api/v1/accounts/x', {}),
    api.upload(root),
  ];
  for (const text of await Promise.all(late.map(failureOf)))
    assert.match(text, /has not answered within 0\.9 s, and may still be doing it\n.*evc audit/);
  api.close();
});

test('who does not even say hello is out of reach, whatever was to be asked', async () => {
  const mute = createServer(() => undefined);
  await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve));
  const { port } = mute.address() as AddressInfo;
  const brief = { question: 200, change: 30_000 };
  const api = new ApiClient(`https://127.0.0.1:${port}`, 'evc_x', pki.root.toString(), brief);
  const failure = await api.send('POST', '/api/v1/accounts', {}).then(answered, (error) => error);
  assert.match(failure.message, /out of reach: no answer within 0\.2 s/);
  api.close();
  mute.close();
});

test.run();
