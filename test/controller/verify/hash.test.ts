import { createHash } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hash } from '../../../controller/verify/hash.ts';
import { digestSize, type HashName } from '../../../formats/tpm2/hash.ts';

const data = Buffer.from('measured');

test('every bank: a new array of the digest alone, or the start of the one that is given, and no byte beside it', () => {
  for (const bank of ['sha1', 'sha256', 'sha384', 'sha512'] satisfies HashName[]) {
    const digest = new Uint8Array(createHash(bank).update(data).digest());
    const size = digestSize(bank);
    assert.equal(hash(bank, data), digest, bank);
    const into = new Uint8Array(size + 2).fill(7);
    assert.is(hash(bank, data, into), into);
    assert.equal(into, Uint8Array.of(...digest, 7, 7), bank);
  }
});

test.run();
