// The hash and HMAC that `formats/tpm2` asks to be handed.
import { createHash, createHmac } from 'node:crypto';
import type { Hash, Hmac } from '../../formats/tpm2/hash.ts';

export const hash: Hash = (algorithm, data) => new Uint8Array(createHash(algorithm).update(data).digest());

export const hmac: Hmac = (algorithm, key, data) =>
  new Uint8Array(createHmac(algorithm, key).update(data).digest());
