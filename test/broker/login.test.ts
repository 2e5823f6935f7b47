import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LoginCheck, type LoginResult } from '../../broker/login.ts';
import { base64url, type LoginClaims, loginInput, loginToken } from '../../formats/wire/login.ts';
import { honestClaims, type SoftDevice, signRaw, softDevice, tokenOf } from '../kit/logins.ts';

const now = Date.UTC(2026, 5, 1);
const minute = 60;
const device = await softDevice();
const other = await softDevice();
const channel = randomBytes(32);

const checker = (retired = false) => new LoginCheck({ now: () => now, retired: async () => retired });
const reason = (result: LoginResult) => (result.ok ? 'let in' : result.reason);

interface Attempt {
  user?: string | undefined;
  token?: string;
  claims?: Partial<LoginClaims>;
  /** Of the TLS channel that the broker sees. */
  channel?: Uint8Array | null;
  by?: SoftDevice;
  check?: LoginCheck;
}

async function attempt(what: Attempt = {}): Promise<string> {
  const { by = device, check = checker() } = what;
  const seen = what.channel ?? null;
  const token = what.token ?? tokenOf(by, { ...honestClaims(by, now, seen), ...what.claims });
  return reason(await check.check('user' in what ? what.user : by.id, Buffer.from(token), seen));
}

test('an honest login, with a channel and without', async () => {
  assert.is(await attempt(), 'let in');
  assert.is(await attempt({ channel }), 'let in');
});

test('no user name, no password', async () => {
  assert.is(await attempt({ user: undefined }), 'login.missing');
  assert.is(await attempt({ user: '' }), 'login.missing');
  assert.is(reason(await checker().check(device.id, undefined, null)), 'login.missing');
});

test('a user name that is no device, and a password that is no login', async () => {
  assert.is(await attempt({ user: 'admin' }), 'login.malformed');
  for (const token of ['', 'a', '..', '...', 'a.b.c', 'e30.e30.e30', 'x'.repeat(5000)]) {
    assert.is(await attempt({ token: token || ' ' }), 'login.malformed');
  }
  const parts = tokenOf(device, honestClaims(device, now)).split('.');
  assert.is(await attempt({ token: parts.slice(0, 2).join('.') }), 'login.malformed');
  assert.is(await attempt({ token: [...parts, 'more'].join('.') }), 'login.malformed');
  assert.is(await attempt({ token: [parts[0], parts[1], parts[2]?.slice(4)].join('.') }), 'login.malformed');
});

test('an algorithm other than ES256, and none', async () => {
  for (const alg of ['none', 'HS256', 'ES384', undefined]) {
    const header = base64url(
      Buffer.from(
        JSON.stringify({ alg, typ: 'JWT', x5c: [Buffer.from(device.certificate).toString('base64')] }),
      ),
    );
    const input = `${header}.${base64url(Buffer.from(JSON.stringify(honestClaims(device, now))))}`;
    assert.is(
      await attempt({ token: loginToken(input, signRaw(device.key, Buffer.from(input))) }),
      'login.malformed',
    );
  }
});

test('the certificate of another device, another subject, and what is no certificate', async () => {
  assert.is(await attempt({ user: other.id }), 'login.certificate');
  assert.is(await attempt({ claims: { sub: other.id } }), 'login.certificate');
  // With another certificate in the header the id is another one.
  const borrowed = { ...device, certificate: other.certificate };
  assert.is(await attempt({ token: tokenOf(borrowed, honestClaims(device, now)) }), 'login.certificate');
  const input = loginInput(honestClaims(device, now), randomBytes(50));
  assert.is(
    await attempt({ token: loginToken(input, signRaw(device.key, Buffer.from(input))) }),
    'login.certificate',
  );
});

test('a signature of another key, of other claims, and of a key on another curve', async () => {
  assert.is(
    await attempt({ token: tokenOf(device, honestClaims(device, now), other.key) }),
    'login.signature',
  );
  const [header, , signature] = tokenOf(device, honestClaims(device, now)).split('.');
  const [, claims] = tokenOf(device, honestClaims(device, now)).split('.');
  assert.is(await attempt({ token: `${header}.${claims}.${signature}` }), 'login.signature');
  const zero = loginToken(loginInput(honestClaims(device, now), device.certificate), new Uint8Array(64));
  assert.is(await attempt({ token: zero }), 'login.signature');
  for (const curve of ['P-384', 'secp256k1']) {
    const odd = await softDevice(curve);
    const token = loginToken(loginInput(honestClaims(odd, now), odd.certificate), randomBytes(64));
    assert.ok(['login.signature', 'login.certificate'].includes(await attempt({ by: odd, token })));
  }
});

test('a login for another audience', async () => {
  assert.is(await attempt({ claims: { aud: 'someone else' } }), 'login.audience');
  assert.is(await attempt({ claims: { aud: '' }, channel }), 'login.audience');
});

test('without a channel the time counts', async () => {
  const iat = now / 1000;
  const at = (from: number, life = 60) => attempt({ claims: { iat: iat + from, exp: iat + from + life } });
  assert.is(await at(4 * minute), 'let in');
  assert.is(await at(-4 * minute), 'let in');
  assert.is(await at(6 * minute), 'login.time');
  assert.is(await at(-7 * minute), 'login.time');
  assert.is(await at(0, 61), 'login.time');
  assert.is(await at(0, 10 * 365 * 24 * 3600), 'login.time');
});

test('a login that is bound to a channel is worth nothing on another one, and on this one at any time', async () => {
  const claims = honestClaims(device, 0, channel);
  assert.is(await attempt({ claims, channel }), 'let in');
  assert.is(await attempt({ claims, channel: randomBytes(32) }), 'login.channel');
  const { cb: _bound, ...unbound } = claims;
  assert.is(await attempt({ token: tokenOf(device, unbound), channel }), 'login.channel');
  assert.is(await attempt({ claims: { cb: '' }, channel }), 'login.channel');
});

test('a login is used once', async () => {
  const check = checker();
  const token = tokenOf(device, honestClaims(device, now));
  assert.is(await attempt({ check, token }), 'let in');
  assert.is(await attempt({ check, token }), 'login.replayed');
  assert.is(await attempt({ check }), 'let in');
  // Another device may have had the same idea of an id.
  const { jti } = honestClaims(device, now);
  assert.is(await attempt({ check, claims: { jti } }), 'let in');
  assert.is(await attempt({ check, claims: { jti }, by: other }), 'let in');
});

test('a refused login does not use its id up', async () => {
  const check = checker();
  const token = tokenOf(device, honestClaims(device, now));
  const [header, claims, signature = ''] = token.split('.');
  const forged = `${header}.${claims}.${signature.slice(0, -4)}AAAA`;
  assert.is(await attempt({ check, token: forged }), 'login.signature');
  assert.is(await attempt({ check, token }), 'let in');
});

test('a device out of service', async () => {
  assert.is(await attempt({ check: checker(true) }), 'login.retired');
  assert.is(await attempt({ check: checker(true), channel }), 'login.retired');
});

test('no byte of a login can be changed', async () => {
  const token = Buffer.from(tokenOf(device, honestClaims(device, now)));
  for (let at = 0; at < token.length; at += 3) {
    const changed = Buffer.from(token);
    changed[at] = changed[at] === 0x41 ? 0x42 : 0x41;
    if (Buffer.compare(changed, token) === 0) continue;
    const result = reason(await checker().check(device.id, changed, null));
    // The last character of base64 holds bits that no byte is made of.
    if (result === 'let in') assert.ok(at >= token.length - 2, `byte ${at}`);
  }
});

test.run();
