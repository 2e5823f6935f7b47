// The hash that formats/ asks for.
import { hash as nodeHash } from 'node:crypto';
import type { Hash } from '../../formats/tpm2/hash.ts';

export const hash: Hash = (algorithm, data) => nodeHash(algorithm, data, 'buffer');
