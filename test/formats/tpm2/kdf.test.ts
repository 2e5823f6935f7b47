import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hash, hmac } from '../../../device/tpm/hash.ts';
import type { HashName } from '../../../formats/tpm2/hash.ts';
import { kdfA, kdfE } from '../../../formats/tpm2/kdf.ts';
import { hex, toHex } from '../../kit/bytes.ts';

// Test vectors of google/go-tpm, tpm2/test/testvectors/kdfa.json and kdfe.json (Apache-2.0), those of whole bytes.
const vectorsA: [HashName, string, string, string, string, number, string][] = [
  [
    'sha1',
    'f33e8c7d0efe0f',
    'CFB',
    '002ba8440f2e389a7a086726c47b2bc332a0',
    'fb4746f1b68c0f75174fa7',
    400,
    '6e5d4c0212cb1f908c0aa34c91f74b3bf429eab89f0b532b1cc7f34f240ee100c63e0b4cf5bb0017e178ef8902a5bf18a3fd',
  ],
  [
    'sha1',
    'ff9af522feced768e90933b774c6fb35f6086054',
    'IDENTITY',
    '2a2c2392200800',
    '',
    512,
    '04384a8ae06d793d28c402c088c29185fb6de2bb3227df9a604edf7beb2f29b46ff5aa66150ffcfb5d6d9130db5bc59d644c0d6259d111ed8fe8b81547d07bfe',
  ],
  [
    'sha256',
    '',
    'SECRET',
    'fbf51f160255018bbc8efea4c36ac4fb4cbba34e9eff',
    '3cea0fdc2600',
    200,
    'a26c73dca13a265e09eec4b0abc4ecb2bf8d26db04e8823ee6',
  ],
  [
    'sha256',
    'e38573d849a5cfc9973f58b4535e42b7c08ef28b1b3e775375b5c66b9644be',
    'STORAGE',
    '00586dccbebc998087e4',
    '',
    552,
    '968f349b066ed26be3bd4e78333eb5c5b51c26ea376efe5dfaf061a2cf7f5eb82e4fcc2a30736e30f12b48ab17efd10576a4cf33450324b3f20011628df7a07c411f8c0f6c',
  ],
];
const vectorsE: typeof vectorsA = [
  [
    'sha1',
    'fffaefd2dcf59ac10ffee96d388ecc7fa0274b25',
    'INTEGRITY',
    'ff7876ca3325140c1739',
    'ffdaea80b8',
    320,
    '39bde917d4529cfb171ebb49c8aa83777481f50cf0df162c3f12b9c8ab21ddcbed2e8a8b688c8b66',
  ],
  [
    'sha1',
    '69',
    'SECRET',
    'c8892d83e51bcf3164c6b32c47',
    '0080adc707de8aaf7726f6dd4946406ea42f9d',
    576,
    'a7f5347219e2ea2ef0f46abf91865104a948eacd402b1d7ae48dde7ab1515e43e0b2d3006d9127d849c012e95191cfc77d829225967e0f49eba285abac2546ed1818383e7af21629',
  ],
  [
    'sha1',
    'c1633e4679',
    'CFB',
    '',
    'f40be602c2ac513197a3ad24bc',
    600,
    'e2557d17d21bea7a241f0d6355ae386177bbed8cbe9c4f1cd2024be869d5679493c8de7615fefef6356df7a728bce63431ce317be4f50284d2e10a9f3b24f9d249c1be118822129fbfe0a8',
  ],
  [
    'sha256',
    '6cbfdee9e66367b676',
    'STORAGE',
    'c303fe79ff',
    '79e34519a8a32f13d400',
    728,
    'e59560660988b3d66e3a76bcc96110cc199bfa0418dca315f7070619e04fa0b6cdb2912db3786aaa34f2cad7dcee560eed2b4c3f7566e533e4a3bba9c9364397dd2ce45a0b85dde5c83fea27b4fb20bb0125346d24e5d9321f81b2',
  ],
];

test('[TPM2 P1 11.4.10.2] KDFa', () => {
  for (const [algorithm, key, label, u, v, bits, result] of vectorsA)
    assert.is(toHex(kdfA(hmac, algorithm, hex(key), label, hex(u), hex(v), bits)), result);
});

test('[TPM2 P1 11.4.10.3] KDFe', () => {
  for (const [algorithm, z, label, u, v, bits, result] of vectorsE)
    assert.is(toHex(kdfE(hash, algorithm, hex(z), label, hex(u), hex(v), bits)), result);
});

test('a leading zero of Z counts', () => {
  const from = (z: string) => toHex(kdfE(hash, 'sha256', hex(z), 'SECRET', hex('01'), hex('02'), 256));
  assert.is.not(from('00aa'), from('aa'));
});

test('only whole bytes', () => {
  for (const bits of [0, -8, 7, 1.5])
    assert.throws(() => kdfA(hmac, 'sha256', hex(''), 'X', hex(''), hex(''), bits), TypeError);
});

test.run();
