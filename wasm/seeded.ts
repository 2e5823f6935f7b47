// A TPM that gives the same answers each time, for tests alone. Whoever knows the seed knows every key, and two runs
// sign different messages with the same ECDSA nonce, which gives the private key away. So it is no option of anything:
// a program has to import this file, and it works in the test runner's environment only.
import { createCipheriv, createHash } from 'node:crypto';

/** An entropy hook that repeats itself. Throws unless EVE_ATTEST_TEST is 1, which only the test runner sets. */
export function seededEntropy(seed: string): (bytes: Uint8Array) => void {
  if (process.env.EVE_ATTEST_TEST !== '1')
    throw new Error('a seeded TPM has no secrets: it exists in tests only (EVE_ATTEST_TEST is not set)');
  const key = createHash('sha256').update(seed).digest();
  const stream = createCipheriv('aes-256-ctr', key, Buffer.alloc(16));
  return (bytes) => bytes.set(stream.update(Buffer.alloc(bytes.length)));
}
