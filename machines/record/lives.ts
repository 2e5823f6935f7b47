// How long things last, and how many are kept.
import { hour, minute, second } from '../waiting.ts';

/** From a nonce to the quote that bears it, ms. */
export const nonceLife = 2 * minute;
/** From a credential to its proof, ms. */
export const challengeLife = 5 * minute;
/** From an approval to the end of trust, ms. */
export const trustLife = 24 * hour;
/** What a refused device is asked to wait at least, ms. */
export const refusedRetryAfter = 2 * second;
/** Wrong proofs before a new credential is needed. */
export const proofTries = 5;
/** Former baselines that are kept. */
export const historyLength = 20;
/** Versions of the escrowed key that the record lists. */
export const escrowLength = 4;
