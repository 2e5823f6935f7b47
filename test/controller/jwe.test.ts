// JWE: the published example of its key agreement, every kind of key, and all that is refused.
import {
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
} from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { concatKdf, decryptJwe, encryptJwe, JweError, openerOf, recipientOf } from '../../controller/jwe.ts';

interface Pair {
  publicKey: KeyObject;
  privateKey: KeyObject;
}

const pairs: Record<string, Pair> = {
  'P-256': generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  'P-384': generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  'P-521': generateKeyPairSync('ec', { namedCurve: 'P-521' }),
  X25519: generateKeyPairSync('x25519'),
  RSA: generateKeyPairSync('rsa', { modulusLength: 2048 }),
};
const plain = Buffer.from('a key of a vault');

const refusedAs = (code: string, work: () => unknown, about = '') => {
  try {
    work();
  } catch (error) {
    assert.instance(error, JweError, `${error}`);
    assert.is((error as JweError).code, code, `${about}: ${error}`);
    return;
  }
  assert.unreachable(`${about} should have been refused as ${code}`);
};

test('the key of the example in RFC 7518, appendix C', () => {
  const alice = {
    kty: 'EC',
    crv: 'P-256',
    x: 'gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0',
    y: 'SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps',
    d: '0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo',
  };
  const bob = {
    kty: 'EC',
    crv: 'P-256',
    x: 'weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ',
    y: 'e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck',
  };
  const z = diffieHellman({
    privateKey: createPrivateKey({ key: alice, format: 'jwk' }),
    publicKey: createPublicKey({ key: bob, format: 'jwk' }),
  });
  const key = concatKdf(z, 'A128GCM', 16, { apu: 'Alice', apv: 'Bob' });
  assert.is(key.toString('base64url'), 'VqqN6vgjbSBcIijNcacQGg');
});

for (const [name, { publicKey, privateKey }] of Object.entries(pairs)) {
  test(`${name}: what is encrypted for a key opens with it alone, and unchanged alone`, () => {
    const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
    const jwe = encryptJwe(recipientOf(pem), plain);
    assert.equal(decryptJwe(privateKey, jwe), plain);
    assert.is.not(encryptJwe(recipientOf(pem), plain), jwe, 'never the same twice');
    for (const [other, pair] of Object.entries(pairs))
      if (other !== name) refusedAs('other', () => decryptJwe(pair.privateKey, jwe), `${name} by ${other}`);
    const same = name === 'X25519' ? generateKeyPairSync('x25519') : null;
    if (same) refusedAs('other', () => decryptJwe(same.privateKey, jwe), 'another of its kind');
    const parts = jwe.split('.');
    for (const [i, part] of parts.entries()) {
      if (part === '') continue;
      const at = i === 0 ? part.length - 3 : 1;
      const changed = part[at] === 'A' ? 'B' : 'A';
      const wrong = parts.with(i, part.slice(0, at) + changed + part.slice(at + 1)).join('.');
      try {
        decryptJwe(privateKey, wrong);
        assert.unreachable(`part ${i} was changed`);
      } catch (error) {
        assert.instance(error, JweError, `part ${i}: ${error}`);
      }
    }
  });
}

test('a private key with a passphrase opens with it, and its public half is taken of it', () => {
  const { privateKey } = pairs.X25519 as Pair;
  const pem = privateKey
    .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'open' })
    .toString();
  const jwe = encryptJwe((pairs.X25519 as Pair).publicKey, plain);
  assert.equal(decryptJwe(openerOf(pem, 'open'), jwe), plain);
  refusedAs('key', () => openerOf(pem), 'without a passphrase');
  refusedAs('key', () => openerOf(pem, 'shut'), 'with another passphrase');
  const bare = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  assert.is(recipientOf(bare).type, 'public');
});

test('keys that are none, too short, or for signing are refused', () => {
  const pemOf = ({ publicKey }: Pair) => publicKey.export({ type: 'spki', format: 'pem' }).toString();
  refusedAs('key', () => recipientOf('no key'));
  refusedAs('key', () => recipientOf(pemOf(generateKeyPairSync('rsa', { modulusLength: 1024 }))), 'RSA 1024');
  refusedAs('key', () => recipientOf(pemOf(generateKeyPairSync('ed25519'))), 'Ed25519');
  refusedAs('key', () => recipientOf(pemOf(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }))), 'k1');
});

test('other ways to encrypt, and what is no JWE, are refused', () => {
  const { publicKey, privateKey } = pairs.X25519 as Pair;
  const [head = '', ...rest] = encryptJwe(publicKey, plain).split('.');
  const header = JSON.parse(Buffer.from(head, 'base64url').toString()) as Record<string, unknown>;
  const withHeader = (change: object) =>
    [Buffer.from(JSON.stringify({ ...header, ...change })).toString('base64url'), ...rest].join('.');
  for (const change of [
    { alg: 'dir' },
    { alg: 'none' },
    { enc: 'A128CBC-HS256' },
    { crit: ['x'] },
    { zip: 'DEF' },
    { epk: 'x' },
    { filler: 'x'.repeat(3000) },
  ])
    refusedAs('form', () => decryptJwe(privateKey, withHeader(change)), JSON.stringify(change).slice(0, 30));
  refusedAs('other', () => decryptJwe(privateKey, withHeader({ kid: 'x' })), 'the header is authenticated');
  for (const jwe of ['', 'a.b', `${head}.a.b.c`, `!.${rest.join('.')}`, `${head}....`])
    refusedAs('form', () => decryptJwe(privateKey, jwe), jwe.slice(0, 20));
});

test.run();
