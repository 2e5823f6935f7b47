import { mkdtempSync, rmSync } from 'node:fs';
import https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import WebSocket, { type ClientOptions } from 'ws';
import type { ApiServer } from '../../../controller/api/server.ts';
import { systemClock } from '../../../controller/clock.ts';
import { Evc } from '../../../controller/evc.ts';
import { DataFolder } from '../../../controller/options.ts';
import { createImage } from '../../../device/boot/image.ts';
import { referenceBoot } from '../../../device/boot/reference.ts';
import { apiOf } from '../../kit/api.ts';

interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Buffer;
  json: Record<string, unknown>;
}

const folder = mkdtempSync(join(tmpdir(), 'evc-api-'));
const data = new DataFolder(join(folder, 'evc'));
const image = Buffer.from('not much of an image, and enough to ask for parts of it');
let token = '';
let evc: Evc;
let api: ApiServer;
let imagePath = '';

test.before(async () => {
  token = (await data.init(['localhost'], Date.now())).token ?? '';
  evc = await Evc.open({
    data: data.path,
    clock: systemClock,
    publish: async () => undefined,
    imageBase: () => 'https://localhost',
  });
  api = await apiOf({ evc, folder }, { tokenHash: data.tokenHash() });
  const directory = join(folder, 'image');
  await createImage(directory, { version: '1.0.0' });
  const { logs } = await referenceBoot({ image: directory, slots: ['IMGA', 'IMGB'], config: folder });
  const uploaded = await call('POST', '/api/v1/uploads', image, {
    'content-type': 'application/octet-stream',
  });
  const added = await call('POST', '/api/v1/images', {
    version: '1.0.0',
    logs: logs.map((log) => Buffer.from(log).toString('base64')),
    upload: uploaded.json.upload,
  });
  assert.is(added.status, 201, added.body.toString());
  imagePath = `/images/${added.json.sha256}`;
});

test.after(async () => {
  await api.close();
  await evc.close();
  rmSync(folder, { recursive: true });
});

function call(
  method: string,
  path: string,
  body?: object | Buffer | string,
  headers: Record<string, string> = {},
  auth: string | null = token,
): Promise<Answer> {
  const bytes =
    body === undefined || Buffer.isBuffer(body) || typeof body === 'string' ? body : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const request = https.request(
      {
        host: '127.0.0.1',
        servername: 'localhost',
        port: api.port,
        method,
        path,
        ca: data.pki().root.toString(),
        agent: false,
        headers: {
          ...(auth === null ? {} : { authorization: `Bearer ${auth}` }),
          ...(bytes !== undefined && !('content-type' in headers)
            ? { 'content-type': 'application/json' }
            : {}),
          ...headers,
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.once('end', () => {
          const all = Buffer.concat(chunks);
          const isJson = `${response.headers['content-type']}`.includes('json');
          const json = (isJson ? JSON.parse(all.toString('utf8')) : {}) as Record<string, unknown>;
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body: all, json });
        });
      },
    );
    request.once('error', reject);
    request.end(bytes);
  });
}

const routes: [method: string, path: string, body?: object][] = [
  ['GET', '/api/v1/status'],
  ['GET', '/api/v1/devices'],
  ['GET', '/api/v1/devices/x'],
  ['GET', '/api/v1/devices/x/journal'],
  ['POST', '/api/v1/devices/x/accept', { reason: 'r' }],
  ['POST', '/api/v1/devices/x/accept-place', { reason: 'r' }],
  ['POST', '/api/v1/devices/x/retire', { reason: 'r' }],
  ['POST', '/api/v1/devices/x/reenrol', { reason: 'r' }],
  ['POST', '/api/v1/devices/x/upgrade', { version: '1.0.0' }],
  ['POST', '/api/v1/devices/x/move', { account: 'default' }],
  ['POST', '/api/v1/devices/x/rotate'],
  ['PUT', '/api/v1/devices/x/settings', { settings: {} }],
  ['GET', '/api/v1/accounts'],
  ['POST', '/api/v1/accounts', { id: 'a' }],
  ['PATCH', '/api/v1/accounts/none', { radius: 5 }],
  ['POST', '/api/v1/keys', { name: 'k' }],
  ['GET', '/api/v1/images'],
  ['POST', '/api/v1/images', { version: '1', logs: ['AAAA'] }],
  ['POST', '/api/v1/uploads'],
  ['GET', '/api/v1/events'],
  ['GET', '/api/v1/guests/recording'],
];

for (const [method, path, body] of routes) {
  test(`${method} ${path} wants the token`, async () => {
    const without = await call(method, path, body, {}, null);
    assert.is(without.status, 401);
    assert.is(without.json.code, 'auth.missing');
    assert.match(`${without.headers['content-type']}`, /^application\/problem\+json/);
    assert.match(`${without.headers['www-authenticate']}`, 'Bearer');
    for (const wrong of [`${token}x`, token.slice(1), 'x']) {
      const refused = await call(method, path, body, {}, wrong);
      assert.is(refused.status, 401);
      assert.is(refused.json.code, 'auth.wrong');
    }
  });
}

for (const [method, path, body] of routes.filter(([, path]) => path.includes('/devices/x'))) {
  test(`${method} ${path}: a device that nobody knows`, async () => {
    const answer = await call(method, path, body);
    assert.is(answer.status, 404);
    assert.is(answer.json.code, 'device.unknown');
  });
}

const bad: [
  what: string,
  method: string,
  path: string,
  body: object | string | undefined,
  status: number,
  code: string,
][] = [
  ['no reason', 'POST', '/api/v1/devices/x/accept', {}, 422, 'request.invalid'],
  ['an empty reason', 'POST', '/api/v1/devices/x/accept', { reason: '' }, 422, 'request.invalid'],
  [
    'more than was asked',
    'POST',
    '/api/v1/devices/x/accept',
    { reason: 'r', by: 'me' },
    422,
    'request.invalid',
  ],
  ['no JSON', 'POST', '/api/v1/devices/x/accept', '{', 400, 'request.malformed'],
  ['a list', 'POST', '/api/v1/accounts', [], 422, 'request.invalid'],
  ['no known kind', 'POST', '/api/v1/accounts', { id: 'b', kind: 'other' }, 422, 'request.invalid'],
  ['a name that is none', 'POST', '/api/v1/accounts', { id: '../b' }, 422, 'account.name'],
  ['an account that is there', 'POST', '/api/v1/accounts', { id: 'default' }, 409, 'account.exists'],
  ['an account that is not', 'PATCH', '/api/v1/accounts/none', { radius: 5 }, 404, 'account.unknown'],
  ['a radius of text', 'PATCH', '/api/v1/accounts/default', { radius: '5' }, 422, 'request.invalid'],
  ['a key for nobody', 'POST', '/api/v1/keys', { name: 'k', account: 'none' }, 404, 'account.unknown'],
  ['a key for no device', 'POST', '/api/v1/keys', { name: 'k', limit: 0 }, 422, 'request.invalid'],
  ['a log that is none', 'POST', '/api/v1/images', { version: '2', logs: ['AAAA'] }, 422, 'catalogue.log'],
  ['no logs', 'POST', '/api/v1/images', { version: '2', logs: [] }, 422, 'request.invalid'],
  [
    'an upload that is not there',
    'POST',
    '/api/v1/images',
    { version: '2', logs: ['AAAA'], upload: '00000000-0000-0000-0000-000000000000' },
    404,
    'upload.unknown',
  ],
  [
    'an upload outside of its folder',
    'POST',
    '/api/v1/images',
    { version: '2', logs: ['AAAA'], upload: '../../../../etc/passwd-00000000000000' },
    422,
    'request.invalid',
  ],
  ['a body too large', 'POST', '/api/v1/accounts', { id: 'x'.repeat(9_000_000) }, 413, 'request.too-large'],
  ['an upload as JSON', 'POST', '/api/v1/uploads', { a: 1 }, 415, 'request.content-type'],
  [
    'a certificate that is none',
    'POST',
    '/api/v1/ek-roots',
    { certificates: Buffer.from('no certificate').toString('base64') },
    422,
    'roots.unusable',
  ],
  ['no base64', 'POST', '/api/v1/ek-roots', { certificates: '---' }, 422, 'request.invalid'],
  ['nothing', 'POST', '/api/v1/ek-roots', {}, 422, 'request.invalid'],
  ['an id that is none', 'DELETE', '/api/v1/ek-roots/ffffffffffff', undefined, 404, 'roots.unknown'],
  [
    'a switch that is none',
    'POST',
    '/api/v1/accounts',
    { id: 'b', requireEkCertificate: 'perhaps' },
    422,
    'request.invalid',
  ],
  ['a route that is none', 'POST', '/api/v1/nothing', {}, 404, 'route.unknown'],
];

for (const [what, method, path, body, status, code] of bad) {
  test(`${method} ${path} with ${what} is refused by name`, async () => {
    const answer = await call(method, path, body);
    assert.is(answer.json.code, code);
    assert.is(answer.status, status);
    assert.is(answer.json.status, status);
    assert.ok(`${answer.json.detail}`.length > 0);
  });
}

test('what comes in is what goes out', async () => {
  const made = await call('POST', '/api/v1/accounts', { id: 'plant', kind: 'manufacturing' });
  assert.is(made.status, 201);
  const changed = await call('PATCH', '/api/v1/accounts/plant', {
    kind: 'production',
    locationLock: true,
    radius: 250,
  });
  assert.is(changed.status, 200);
  const { accounts } = (await call('GET', '/api/v1/accounts')).json as { accounts: { id: string }[] };
  assert.equal(
    accounts.find(({ id }) => id === 'plant'),
    {
      id: 'plant',
      kind: 'production',
      locationLock: true,
      radius: 250,
      moved: 'report',
      requireEkCertificate: false,
      approval: false,
    },
  );
  const key = await call('POST', '/api/v1/keys', { name: 'k', account: 'plant' });
  assert.match(`${key.json.key}`, 'PRIVATE KEY');
  assert.match(`${key.json.certificate}`, 'CERTIFICATE');
});

test('limits of lists are checked', async () => {
  for (const limit of ['0', '1001', 'all', '-1']) {
    assert.is((await call('GET', `/api/v1/devices?limit=${limit}`)).json.code, 'request.invalid');
  }
  assert.equal((await call('GET', '/api/v1/devices?limit=1')).json, { devices: [], next: null });
});

const ranges: [header: string, status: number, from?: number, to?: number][] = [
  ['bytes=0-4', 206, 0, 5],
  ['bytes=5-', 206, 5, image.length],
  ['bytes=-6', 206, image.length - 6, image.length],
  ['bytes=0-100000', 206, 0, image.length],
  [`bytes=${image.length - 1}-`, 206, image.length - 1, image.length],
  ['bytes=-100000', 206, 0, image.length],
  [`bytes=${image.length}-`, 416],
  ['bytes=-0', 416],
  // What is no range of one part is answered with everything [RFC 9110, 14.2].
  ['bytes=4-2', 200, 0, image.length],
  ['bytes=0-1,3-4', 200, 0, image.length],
  ['lines=0-1', 200, 0, image.length],
  ['bytes=-', 200, 0, image.length],
];

for (const [range, status, from, to] of ranges) {
  test(`an image, ${range}: ${status}`, async () => {
    const answer = await call('GET', imagePath, undefined, { range }, null);
    assert.is(answer.status, status);
    if (status === 416) {
      assert.is(answer.json.code, 'image.range');
      assert.is(answer.headers['content-range'], `bytes */${image.length}`);
      return;
    }
    assert.equal(answer.body, image.subarray(from, to));
    assert.is(Number(answer.headers['content-length']), (to ?? 0) - (from ?? 0));
    if (status === 206)
      assert.is(answer.headers['content-range'], `bytes ${from}-${(to ?? 0) - 1}/${image.length}`);
  });
}

test('images that are none', async () => {
  for (const name of ['0'.repeat(64), '..%2f..%2fetc%2fpasswd', 'x', '%2e%2e']) {
    const answer = await call('GET', `/images/${name}`, undefined, {}, null);
    assert.is(answer.status, 404, name);
  }
});

test('a token is known by its hash alone', async () => {
  const { readFileSync, readdirSync, statSync } = await import('node:fs');
  const told = readdirSync(data.path, { recursive: true }) as string[];
  const holders = told.filter((name) => {
    const path = join(data.path, name);
    return statSync(path).isFile() && readFileSync(path).includes(token);
  });
  assert.equal(holders, ['token']);
  assert.is(statSync(data.file('token')).mode & 0o777, 0o600);
});

test('the inspector’s page is there for everybody, with nothing in it', async () => {
  const { status, headers, body } = await call('GET', '/', undefined, {}, null);
  assert.is(status, 200);
  assert.match(`${headers['content-security-policy']}`, "default-src 'none'; script-src 'self'");
  assert.not.match(body.toString(), /<script>|https?:/);
  assert.equal((await call('GET', '/inspector.json', undefined, {}, null)).json.by, 'evc');
});

test('clients of Stately’s inspector are let in with the token, and with no other', async () => {
  const ca = data.pki().root.toString();
  const answerTo = (path: string) =>
    new Promise((resolve) => {
      const socket = new WebSocket(`wss://127.0.0.1:${api.port}${path}`, [], {
        ca,
        servername: 'localhost',
      } as ClientOptions);
      socket.on('open', () => resolve('open'));
      socket.on('unexpected-response', (_, response) => resolve(response.statusCode));
      socket.on('error', () => undefined);
      socket.on('close', () => undefined);
      socket.on('open', () => socket.close());
    });
  assert.is(await answerTo('/inspect'), 401);
  assert.is(await answerTo(`/inspect?token=${token}x`), 401);
  assert.is(await answerTo(`/api/v1/events?token=${token}`), 404);
  assert.is(await answerTo(`/inspect?token=${token}`), 'open');
  assert.is(await answerTo(`/inspect?token=${token}&device=nobody`), 'open');
});

test.run();
