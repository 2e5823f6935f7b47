// deadline: 120 s
// The client that is made of the document, against the server: what it may rely on.
import createClient from 'openapi-fetch';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { paths } from '../../../docs/api/client.ts';
import { ApiBench } from '../../kit/api.ts';
import { stepOf, summary } from '../../kit/stores.ts';

const bench = await ApiBench.open();
const { evc } = bench.evc;
const { trusted, uud, board } = await bench.devices();
const minute = 60_000;

test.after(async () => {
  await bench.close();
  await board.close();
});

/** openapi-fetch wants a fetch; this one goes over TLS with EVC's own root. */
function clientOf(token: string) {
  return createClient<paths>({
    baseUrl: 'https://localhost',
    headers: { authorization: `Bearer ${token}` },
    fetch: async (request) => {
      const { pathname, search } = new URL(request.url);
      const text = await request.text();
      const headers = Object.fromEntries(request.headers);
      const call = { token: null, headers, ...(text === '' ? {} : { body: text }) };
      const answer = await bench.call(request.method, `${pathname}${search}`, call);
      const empty = answer.status === 204 || answer.status === 304;
      return new Response(empty ? null : new Uint8Array(answer.body), {
        status: answer.status,
        headers: Object.entries(answer.headers).map(([name, value]) => [name, `${value}`]),
      });
    },
  });
}

const admin = clientOf(bench.admin);
const of = (device: string) => ({ params: { path: { device } } });
const codeOf = ({ error }: { error?: unknown }) => (error as { code?: string } | undefined)?.code;

test('a device is asked for by any of its names, and again only when it has changed', async () => {
  const { data, response } = await admin.GET('/api/v1/devices/{device}', of('edge-01'));
  assert.equal([data?.device, data?.trust, data?.facts.pcrs.length], [uud.id, 'uud', 3]);
  const tag = response.headers.get('etag') ?? '';
  assert.is(tag, `"${data?.revision}"`);
  const again = await admin.GET('/api/v1/devices/{device}', {
    ...of(uud.id),
    headers: { 'if-none-match': tag },
  });
  assert.is(again.response.status, 304);
  const other = await admin.GET('/api/v1/devices/{device}', {
    ...of(uud.id),
    headers: { 'if-none-match': '"0"' },
  });
  assert.is(other.response.status, 200);
});

test('lists are filtered, and read page by page to their end', async () => {
  const get = async (query: { filter?: string; after?: string; limit?: number }) =>
    (await admin.GET('/api/v1/devices', { params: { query } })).data;
  assert.equal(
    (await get({ filter: 'trust:uud' }))?.devices.map(({ serial }) => serial),
    ['edge-01'],
  );
  assert.equal((await get({ filter: '-trust:uud account:fact*' }))?.devices.length, 1);
  const first = await get({ limit: 1 });
  assert.is(first?.devices.length, 1);
  const second = await get({ limit: 1, after: first?.next ?? '' });
  assert.equal([first?.devices[0]?.device, second?.devices[0]?.device].sort(), [trusted.id, uud.id].sort());
  assert.is(second?.next, null);
  const wrong = await admin.GET('/api/v1/devices', { params: { query: { filter: 'trust:good' } } });
  assert.equal([wrong.response.status, codeOf(wrong)], [422, 'filter.invalid']);
  const limit = await admin.GET('/api/v1/devices', { params: { query: { limit: 0 } } });
  assert.equal([limit.response.status, codeOf(limit)], [422, 'request.invalid']);
});

test('a filter that fits one device in thousands finds it, over as many pages as it takes', async () => {
  for (let i = 0; i < 2500; i++) {
    const device = `f${i.toString(16).padStart(63, '0')}`;
    await evc.store.commit(
      stepOf(device, 0, { summary: { ...summary, serial: `many-${i}`, account: 'many' } }),
    );
  }
  const found: string[] = [];
  for (let after = ''; ; ) {
    const query = { filter: 'serial:many-2499,many-3', limit: 1, ...(after === '' ? {} : { after }) };
    const { data } = await admin.GET('/api/v1/devices', { params: { query } });
    found.push(...(data?.devices.map(({ serial }) => serial) ?? []));
    if (!data?.next) break;
    after = data.next;
  }
  assert.equal(found, ['many-3', 'many-2499']);
});

test('a decision holds to what was looked at, or is not made', async () => {
  const { data } = await admin.GET('/api/v1/devices/{device}/changes', of(uud.id));
  assert.is(data?.software?.to?.image, '6.6.6');
  assert.equal(
    data?.software?.pcrs.map(({ pcr }) => pcr),
    (await evc.operator.show(uud.id)).facts.pcrs,
  );
  assert.ok(data?.software?.pcrs.every(({ baseline, shown }) => baseline !== shown));
  const body = { reason: 'a change of ours', attempt: data?.software?.attempt ?? '' };
  const accept = (more: { attempt?: string }, tag: string) =>
    admin.POST('/api/v1/devices/{device}/accept', {
      ...of(uud.id),
      body: { ...body, ...more },
      headers: { 'if-match': tag },
    });
  const stale = await accept({}, '"1"');
  assert.equal([stale.response.status, codeOf(stale)], [412, 'precondition.failed']);
  const unquoted = await accept({}, '1');
  assert.equal([unquoted.response.status, codeOf(unquoted)], [422, 'request.invalid']);
  const other = await accept({ attempt: 'another' }, `"${data?.revision}"`);
  assert.equal([other.response.status, codeOf(other)], [409, 'device.other-attempt']);
  const { acceptance } = (await evc.runner.read(uud.id))?.context ?? {};
  assert.is(acceptance, null, 'none of these changed anything');
  const done = await accept({}, `"${data?.revision}"`);
  assert.is(done.response.status, 200);
  assert.ok((done.data?.revision ?? 0) > (data?.revision ?? 0));
  assert.is(done.response.headers.get('etag'), `"${done.data?.revision}"`);
});

test('events are those of the devices that the token may see, and of those alone that were asked for', async () => {
  await evc.accounts.add({
    id: 'other',
    kind: 'production',
    locationLock: false,
    radius: 9,
    moved: 'report',
  });
  const other = await bench.token('others', 'viewer', ['other']);
  const read = (query: string, token: string) => bench.follow(`/api/v1/events${query}`, token);
  const streams = await Promise.all([
    read('', bench.admin),
    read('', other),
    read(`?device=${trusted.id}`, bench.admin),
    read('?account=factory', bench.admin),
    read('?account=other', bench.admin),
  ]);
  await evc.operator.rotateKey(uud.id);
  await evc.operator.rotateKey(trusted.id);
  const seen = await Promise.all(streams.map((stream) => stream.until(/"type":"rotation.asked"/g, 2, 300)));
  assert.equal(seen, [2, 0, 1, 2, 0]);
  assert.is(
    (await bench.call('GET', '/api/v1/events?account=factory', { token: other })).json.code,
    'account.unknown',
  );
});

test('what was decided is in the audit log: who, when, what, why, before and after', async () => {
  const { data } = await admin.GET('/api/v1/audit', { params: { query: { device: 'edge-01', limit: 2 } } });
  const [, entry] = data?.entries ?? [];
  assert.equal(
    [entry?.by, entry?.what, entry?.subject, entry?.account, entry?.reason],
    ['admin', 'state.accepted', uud.id, 'factory', 'a change of ours'],
  );
  assert.is(entry?.at, bench.evc.clock.now());
  const before = entry?.before as { accepted: unknown };
  const after = entry?.after as { accepted: unknown; shown: { attempt: string } };
  assert.equal([before.accepted, after.accepted], [null, after.shown.attempt]);
});

test('an account is changed on the version that was looked at alone', async () => {
  const at = { params: { path: { account: 'factory' } } };
  const { response } = await admin.GET('/api/v1/accounts/{account}', at);
  const headers = { 'if-match': response.headers.get('etag') ?? '' };
  const first = await admin.PATCH('/api/v1/accounts/{account}', { ...at, body: { radius: 5 }, headers });
  assert.is(first.data?.radius, 5);
  const second = await admin.PATCH('/api/v1/accounts/{account}', { ...at, body: { radius: 6 }, headers });
  assert.equal([second.response.status, codeOf(second)], [412, 'precondition.failed']);
  assert.is((await evc.accounts.get('factory')).radius, 5);
});

test('a request that is sent again is answered again, and done once', async () => {
  const headers = { 'idempotency-key': 'one' };
  const body = { id: 'twice' };
  const first = await admin.POST('/api/v1/accounts', { body, headers });
  const again = await admin.POST('/api/v1/accounts', { body, headers });
  assert.equal([first.response.status, again.response.status], [201, 201]);
  assert.equal(again.data, first.data);
  assert.is(again.response.headers.get('idempotency-replayed'), 'true');
  const other = await admin.POST('/api/v1/accounts', { body: { id: 'thrice' }, headers });
  assert.equal([other.response.status, codeOf(other)], [422, 'idempotency.other']);
  const refused = { 'idempotency-key': 'two' };
  assert.is(codeOf(await admin.POST('/api/v1/accounts', { body, headers: refused })), 'account.exists');
  // What was refused changed nothing, and the key is free for the request that is right.
  const right = await admin.POST('/api/v1/accounts', { body: { id: 'right' }, headers: refused });
  assert.is(right.response.status, 201);
  bench.evc.clock.advanceTo(bench.evc.clock.now() + 25 * 60 * minute);
  assert.is(codeOf(await admin.POST('/api/v1/accounts', { body, headers })), 'account.exists', 'a day later');
});

test('of ten that come at once with one key, one is carried out', async () => {
  const body = { name: 'many', account: 'factory' };
  const answers = await Promise.all(
    Array.from({ length: 10 }, () =>
      admin.POST('/api/v1/keys', { body, headers: { 'idempotency-key': 'ten' } }),
    ),
  );
  assert.is(answers.filter(({ response }) => response.status === 201).length, 1);
  const codes = answers.map(codeOf).filter((code) => code !== undefined);
  assert.ok(codes.every((code) => code === 'idempotency.running' || code === 'idempotency.told'));
  assert.is((await evc.keys.list()).filter(({ name }) => name === 'many').length, 1);
});

test('a secret that was told stands nowhere', async () => {
  const headers = { 'idempotency-key': 'secret' };
  const { data } = await admin.POST('/api/v1/tokens', { body: { name: 'told', role: 'viewer' }, headers });
  const again = await admin.POST('/api/v1/tokens', { body: { name: 'told', role: 'viewer' }, headers });
  assert.is(codeOf(again), 'idempotency.told');
  const secret = data?.token ?? '';
  assert.ok(secret.length > 40);
  for (const kind of ['token', 'idempotency', 'onboarding-key'] as const)
    assert.not.match(JSON.stringify(await evc.store.all(kind)), secret);
  const audit = JSON.stringify(await evc.store.audits({ limit: 1000 }));
  assert.not.match(audit, secret);
  assert.not.match(audit, /PRIVATE KEY|"hash"/);
});

test('tokens run out, and are taken back', async () => {
  const now = bench.evc.clock.now();
  const short = clientOf(await bench.token('short', 'viewer', null, now + minute));
  const back = clientOf(await bench.token('back', 'operator'));
  assert.is((await short.GET('/api/v1/whoami')).data?.name, 'short');
  assert.is((await back.GET('/api/v1/whoami')).data?.role, 'operator');
  bench.evc.clock.advanceTo(now + minute);
  const over = await short.GET('/api/v1/whoami');
  assert.equal([over.response.status, codeOf(over)], [401, 'auth.expired']);
  const at = { params: { path: { token: 'back' } }, body: { reason: 'no longer here' } };
  const revoked = await admin.POST('/api/v1/tokens/{token}/revoke', at);
  assert.is(revoked.data?.revoked?.by, 'admin');
  const gone = await back.GET('/api/v1/whoami');
  assert.equal([gone.response.status, codeOf(gone)], [401, 'auth.revoked']);
  assert.is(codeOf(await admin.POST('/api/v1/tokens/{token}/revoke', at)), 'token.unknown');
  const one = await admin.POST('/api/v1/tokens', { body: { name: 'short', role: 'viewer' } });
  assert.is(codeOf(one), 'token.exists');
});

test('who reads on reads no further once the token is taken back', async () => {
  const token = await bench.token('reader', 'viewer');
  const paths = ['/api/v1/events', `/api/v1/devices/${uud.id}/recording`, '/api/v1/guests/recording'];
  const ended = await Promise.all(paths.map((path) => bench.reading(path, token)));
  await evc.tokens.revoke('reader', { by: 'test' });
  await Promise.all(ended.map(({ end }) => end));
});

test('the token of set-up is the one whose hash the data folder has', async () => {
  const { makeToken } = await import('../../../controller/api/token.ts');
  const { token, hash } = makeToken();
  await evc.tokens.revoke('admin', { by: 'test' });
  assert.is(await evc.tokens.check(bench.admin), 'auth.revoked');
  await evc.tokens.first(hash);
  assert.is(await evc.tokens.check(bench.admin), 'auth.wrong');
  const caller = await evc.tokens.check(token);
  assert.is(typeof caller === 'string' ? caller : caller.role, 'admin');
});

test.run();
