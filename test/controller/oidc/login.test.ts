// deadline: 120 s
// People log in at a real provider: with a role from what it says of them, for a time, and in no other way.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ApiBench } from '../../kit/api.ts';
import { LoginBench, page, roles } from '../../kit/login-bench.ts';
import { clientId, clientSecret } from '../../kit/provider.ts';

const hour = 3_600_000;

type Answer = Awaited<ReturnType<LoginBench['finish']>>;

function refused({ status, json, headers, body }: Answer, expected: number, code: string): void {
  assert.equal([status, json.code], [expected, code], body.toString());
  assert.match(`${headers['content-type']}`, /^application\/problem\+json/);
  assert.not.match(`${headers['set-cookie']}`, 'evc-session');
}

let bench: LoginBench;
test.before(async () => {
  bench = await LoginBench.open();
  assert.is((await bench.set()).status, 200);
});
test.after(async () => {
  await bench.close();
});

test('without a provider nobody logs in, and one that does not answer is not taken', async () => {
  const api = await ApiBench.open();
  try {
    refused(await api.call('GET', '/oidc/login', { token: null }), 404, 'oidc.unset');
    refused(await api.call('GET', '/oidc/callback?code=a&state=b', { token: null }), 404, 'oidc.unset');
    const wish = { issuer: 'http://127.0.0.1:9', clientId, roles };
    const set = (more: object) => api.call('PUT', '/api/v1/oidc', { body: { ...wish, ...more } });
    refused(await set({}), 503, 'oidc.unreachable');
    refused(await set({ issuer: 'http://idp.example.com' }), 422, 'oidc.issuer');
    refused(await set({ issuer: 'https://a:b@idp.example.com' }), 422, 'oidc.issuer');
    refused(await set({ publicUrl: 'http://evc.example.com' }), 422, 'oidc.public-url');
    refused(await set({ publicUrl: 'https://evc.example.com/evc' }), 422, 'oidc.public-url');
    const rule = { value: 'a', role: 'viewer', accounts: ['nowhere'] };
    refused(await set({ roles: [rule] }), 404, 'account.unknown');
    refused(await api.call('GET', '/api/v1/oidc'), 404, 'oidc.unset');
    assert.is(JSON.parse((await api.call('GET', '/inspector.json')).body.toString()).logins, false);
  } finally {
    await api.close();
  }
});

test('a person has the role that the provider gives, in the page and nowhere else, and is named by the audit log', async () => {
  const cookie = await bench.session('ann');
  const who = await bench.as(cookie, 'GET', '/api/v1/whoami');
  assert.equal([who.json.name, who.json.role, who.json.accounts], ['oidc:ann', 'admin', null]);
  assert.is(who.json.expires, bench.api.evc.clock.now() + 8 * hour);
  refused(await bench.as(cookie, 'GET', '/api/v1/whoami', {}), 403, 'auth.cross-site');
  refused(await bench.as(cookie, 'GET', '/api/v1/whoami', { 'x-evc-page': '0' }), 403, 'auth.cross-site');
  const secret = cookie.split('=')[1] ?? '';
  refused(await bench.api.call('GET', '/api/v1/whoami', { token: secret }), 401, 'auth.wrong');
  refused(await bench.as(`${cookie.slice(0, -1)}~`, 'GET', '/api/v1/whoami'), 401, 'auth.session');
  refused(await bench.as('__Host-evc-session=x', 'GET', '/api/v1/whoami'), 401, 'auth.session');
  const added = await bench.as(cookie, 'POST', '/api/v1/accounts', page, { id: 'of-ann' });
  assert.is(added.status, 201, added.body.toString());
  const { json } = await bench.api.call('GET', '/api/v1/audit?limit=10');
  const entries = json.entries as { by: string; what: string; subject: string }[];
  assert.ok(
    entries.some(
      ({ by, what, subject }) => by === 'oidc:ann' && what === 'account.added' && subject === 'of-ann',
    ),
  );
  assert.ok(entries.some(({ by, what }) => by === 'oidc:ann' && what === 'session.began'));
});

test('a person of some accounts sees nothing of others, and does what an operator may', async () => {
  const cookie = await bench.session('ben');
  const who = await bench.as(cookie, 'GET', '/api/v1/whoami');
  assert.equal([who.json.name, who.json.role, who.json.accounts], ['oidc:ben', 'operator', ['factory']]);
  refused(await bench.as(cookie, 'GET', '/api/v1/tokens'), 403, 'auth.role');
  refused(await bench.as(cookie, 'GET', '/metrics'), 403, 'auth.scope');
});

test('whoever is of no group that is named has no role, and gets nothing', async () => {
  refused(await bench.person('cat'), 403, 'oidc.no-role');
  refused(await bench.person('dan'), 403, 'oidc.no-role');
  // An object is no list of values.
  refused(await bench.person('eve'), 403, 'oidc.no-role');
  const { json } = await bench.api.call('GET', '/api/v1/sessions');
  assert.equal(
    (json.sessions as { subject: string }[]).filter(({ subject }) => subject > 'c'),
    [],
  );
});

test('an answer counts in the browser that asked, once, and with its own state', async () => {
  const [mine, other] = [await bench.begin(), await bench.begin()];
  const back = await bench.provider.logIn(mine.url, 'ann');
  refused(await bench.finish(back, ''), 400, 'oidc.state');
  refused(await bench.finish(back, other.cookie), 400, 'oidc.state');
  refused(await bench.finish(back, `${mine.cookie.slice(0, -2)}AA`), 400, 'oidc.state');
  const changed = new URL(back);
  changed.searchParams.set('state', 'of somebody else');
  refused(await bench.finish(changed, mine.cookie), 400, 'oidc.state');
  const twice = new URL(back);
  twice.searchParams.append('state', back.searchParams.get('state') ?? '');
  refused(await bench.finish(twice, mine.cookie), 400, 'oidc.state');
  assert.is((await bench.finish(back, mine.cookie)).status, 303);
  refused(await bench.finish(back, mine.cookie), 400, 'oidc.state');
});

test('a code that was used, or was made for another question, is not taken', async () => {
  const mine = await bench.begin();
  const back = await bench.provider.logIn(mine.url, 'ann');
  assert.is((await bench.finish(back, mine.cookie)).status, 303);
  const next = await bench.begin();
  const replayed = new URL(back);
  replayed.searchParams.set('state', new URL(next.url).searchParams.get('state') ?? '');
  refused(await bench.finish(replayed, next.cookie), 401, 'oidc.code');
  // The code of somebody else, put into a login of one's own: PKCE tells them apart.
  const [theirs, own] = [await bench.begin(), await bench.begin()];
  const injected = await bench.provider.logIn(theirs.url, 'ann');
  injected.searchParams.set('state', new URL(own.url).searchParams.get('state') ?? '');
  refused(await bench.finish(injected, own.cookie), 401, 'oidc.code');
});

test('a nonce of another login, and another issuer in the answer, are refused', async () => {
  const mine = await bench.begin();
  const asked = new URL(mine.url);
  asked.searchParams.set('nonce', 'of-another-login');
  refused(await bench.finish(await bench.provider.logIn(asked.href, 'ann'), mine.cookie), 401, 'oidc.token');
  const other = await bench.begin();
  const back = await bench.provider.logIn(other.url, 'ann');
  back.searchParams.set('iss', 'https://idp.example.com');
  refused(await bench.finish(back, other.cookie), 401, 'oidc.token');
});

test('a person who does not go on at the provider is not logged in', async () => {
  const { url, cookie } = await bench.begin();
  refused(await bench.finish(await bench.provider.logIn(url, null), cookie), 403, 'oidc.denied');
  const again = await bench.begin();
  const back = await bench.provider.logIn(again.url, null);
  const browser = await bench.finish(back, again.cookie, { accept: 'text/html,*/*' });
  assert.equal([browser.status, browser.headers.location], [303, '/#refused=oidc.denied']);
});

test('a login that takes too long, and a session that has run out, count no more', async () => {
  const late = await LoginBench.open();
  try {
    await late.set({ hours: 1 });
    const mine = await late.begin();
    const back = await late.provider.logIn(mine.url, 'ann');
    late.api.evc.clock.advanceTo(late.api.evc.clock.now() + 600_000);
    refused(await late.finish(back, mine.cookie), 400, 'oidc.expired');
    const answer = await late.person('ann');
    const [, set = ''] = [answer.headers['set-cookie']].flat();
    const cookie = set.split(';')[0] ?? '';
    assert.is((await late.as(cookie, 'GET', '/api/v1/whoami')).status, 200);
    late.api.evc.clock.advanceTo(late.api.evc.clock.now() + hour);
    refused(await late.as(cookie, 'GET', '/api/v1/whoami'), 401, 'auth.session-over');
    await late.api.evc.evc.sessions.sweep();
    assert.equal((await late.api.call('GET', '/api/v1/sessions')).json.sessions, []);
    refused(await late.as(cookie, 'GET', '/api/v1/whoami'), 401, 'auth.session');
  } finally {
    await late.close();
  }
});

test('an ID token that has run out is not believed, and claims in it count as those beside it', async () => {
  const brief = await LoginBench.open({ inIdToken: true, idTokenLasts: 60 });
  try {
    await brief.set({ roleClaim: 'realm_access.roles', hours: 8 });
    const cookie = await brief.session('dan');
    assert.is((await brief.as(cookie, 'GET', '/api/v1/whoami')).json.role, 'operator');
    // EVC's clock is what counts; the provider's is off by more than what is borne.
    brief.api.evc.clock.advanceTo(brief.api.evc.clock.now() + 95_000);
    refused(await brief.person('dan'), 401, 'oidc.token');
  } finally {
    await brief.close();
  }
});

test('logging out ends the session and what is read with it; so does an administrator, and another provider', async () => {
  const cookie = await bench.session('ann');
  const out = await bench.as(cookie, 'POST', '/api/v1/logout', page, {});
  assert.is(out.status, 200, out.body.toString());
  assert.match(`${out.headers['set-cookie']}`, /^__Host-evc-session=; Path=\/; Max-Age=0;/);
  refused(await bench.as(cookie, 'GET', '/api/v1/whoami'), 401, 'auth.session');
  const ended = await bench.session('ben');
  const { id } = (await bench.as(ended, 'GET', '/api/v1/whoami')).json;
  let streams = 0;
  bench.api.evc.evc.streams.until(`${id}`, () => streams++);
  const gone = await bench.api.call('POST', `/api/v1/sessions/${id}/end`, { body: { reason: 'left' } });
  assert.equal([gone.status, streams], [200, 1]);
  refused(await bench.as(ended, 'GET', '/api/v1/whoami'), 401, 'auth.session');
  const last = await bench.session('ann');
  assert.is((await bench.set({ hours: 2 })).status, 200);
  refused(await bench.as(last, 'GET', '/api/v1/whoami'), 401, 'auth.session');
  assert.is((await bench.set()).status, 200);
});

test('logging out leads to where the provider ends its session, with the ID token, and back', async () => {
  const cookies = new Map<string, string>();
  const [first, again, last] = [await bench.begin(), await bench.begin(), await bench.begin()];
  const cookie = bench.sessionIn(
    await bench.finish(await bench.provider.logIn(first.url, 'ann', cookies), first.cookie),
  );
  // The provider knows this browser: nobody is asked.
  assert.ok((await bench.provider.logIn(again.url, null, cookies)).searchParams.has('code'));
  const stored = ['evc.db', 'evc.db-wal'].map((name) => readFileSync(join(bench.api.evc.folder, name)));
  const out = await bench.as(cookie, 'POST', '/api/v1/logout', page, {});
  assert.is(out.status, 200, out.body.toString());
  const leave = new URL(`${out.json.provider}`);
  assert.equal(
    [leave.origin, leave.searchParams.get('client_id'), leave.searchParams.get('post_logout_redirect_uri')],
    [bench.provider.issuer, clientId, `${bench.api.url}/`],
  );
  const idToken = leave.searchParams.get('id_token_hint') ?? '';
  const [, claims = '', signature = ''] = idToken.split('.');
  assert.is(JSON.parse(Buffer.from(claims, 'base64url').toString()).sub, 'ann');
  for (const bytes of stored)
    for (const piece of [claims, signature]) assert.is(bytes.includes(piece), false, 'it is kept sealed');
  const audit = (await bench.api.call('GET', '/api/v1/audit?limit=1000')).body;
  assert.not.ok(audit.includes(claims) || audit.includes('hint'));
  assert.is((await bench.provider.logOut(leave.href, cookies)).href, `${bench.api.url}/`);
  const asked = await bench.provider.logIn(last.url, null, cookies);
  assert.is(asked.searchParams.get('error'), 'access_denied', 'the provider asks who it is again');
});

test('an answer with the way out is told once, however often the request is sent', async () => {
  const cookie = await bench.session('ann');
  const headers = { ...page, 'idempotency-key': 'leaves-once' };
  const out = await bench.as(cookie, 'POST', '/api/v1/logout', headers, {});
  assert.match(`${out.json.provider}`, 'id_token_hint=');
  const stored = ['evc.db', 'evc.db-wal'].map((name) => readFileSync(join(bench.api.evc.folder, name)));
  for (const bytes of stored) assert.is(bytes.includes('id_token_hint'), false);
});

test('a provider without a log-out, or that is gone, keeps nobody logged in here', async () => {
  const bare = await LoginBench.open({ logoutUris: undefined });
  try {
    assert.is((await bare.set()).status, 200);
    const [cookie, other] = [await bare.session('ann'), await bare.session('ann')];
    const out = await bare.as(cookie, 'POST', '/api/v1/logout', page, {});
    assert.equal([out.status, out.json.provider], [200, null]);
    refused(await bare.as(cookie, 'GET', '/api/v1/whoami'), 401, 'auth.session');
    await bare.provider.close();
    // What the provider says of itself is asked anew.
    bare.api.evc.clock.advanceTo(bare.api.evc.clock.now() + 2 * hour);
    const gone = await bare.as(other, 'POST', '/api/v1/logout', page, {});
    assert.equal([gone.status, gone.json.provider], [200, null]);
    refused(await bare.as(other, 'GET', '/api/v1/whoami'), 401, 'auth.session');
  } finally {
    await bare.close();
  }
});

test('a session from before there was a hint, and one of a long ID token, are logged out without it', async () => {
  const { sessions } = bench.api.evc.evc;
  const person = { issuer: bench.provider.issuer, subject: 'old', username: '' };
  const begun = await sessions.begin(person, { role: 'viewer', accounts: null, lasts: hour, hint: null });
  const kept = await bench.api.evc.evc.store.get<object>('session', begun.session.id);
  const { hint: _, ...old } = kept as { hint: null };
  await bench.api.evc.evc.store.put('session', begun.session.id, old);
  const cookie = `__Host-evc-session=${begun.secret}`;
  const out = await bench.as(cookie, 'POST', '/api/v1/logout', page, {});
  const { searchParams } = new URL(`${out.json.provider}`);
  assert.equal([searchParams.get('client_id'), searchParams.has('id_token_hint')], [clientId, false]);
  const long = await LoginBench.open({
    inIdToken: true,
    people: { ann: { groups: ['evc-admins', 'x'.repeat(4000)] } },
  });
  try {
    assert.is((await long.set()).status, 200);
    const left = await long.as(await long.session('ann'), 'POST', '/api/v1/logout', page, {});
    assert.is(new URL(`${left.json.provider}`).searchParams.has('id_token_hint'), false);
  } finally {
    await long.close();
  }
});

test('of one person ten sessions are kept', async () => {
  const { sessions } = bench.api.evc.evc;
  const person = { issuer: 'x', subject: 'many', username: '' };
  const begin = () => sessions.begin(person, { role: 'viewer', accounts: null, lasts: hour, hint: null });
  const first = await begin();
  for (let i = 0; i < 10; i++) {
    bench.api.evc.clock.advanceTo(bench.api.evc.clock.now() + 1);
    await begin();
  }
  const kept = (await sessions.list()).filter(({ subject }) => subject === 'many');
  assert.is(kept.length, 10);
  assert.not.ok(kept.some(({ id }) => id === first.session.id));
});

test('a wrong secret of EVC is told apart from a wrong person', async () => {
  await bench.set({ clientSecret: 'another' });
  const { url, cookie } = await bench.begin();
  refused(await bench.finish(await bench.provider.logIn(url, 'ann'), cookie), 502, 'oidc.client');
  await bench.set();
});

test('the secret of the client, and those of sessions, stand nowhere in clear', async () => {
  const cookie = await bench.session('ann');
  const told = await Promise.all(
    ['/api/v1/oidc', '/api/v1/audit?limit=1000', '/api/v1/sessions'].map((path) =>
      bench.api.call('GET', path),
    ),
  );
  assert.match(told[0]?.body.toString() ?? '', '"confidential":true');
  const session = cookie.split('_').at(-1) ?? '';
  const stored = ['evc.db', 'evc.db-wal'].map((name) => readFileSync(join(bench.api.evc.folder, name)));
  for (const bytes of [...told.map(({ body }) => body), ...stored])
    for (const secret of [clientSecret, session]) assert.is(bytes.includes(secret), false);
  assert.ok(
    stored.some((bytes) => bytes.includes('session.began')),
    'what is stored was looked at',
  );
});

test.run();
