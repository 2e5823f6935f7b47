// Tokens of the API: a name that may be shown, and 32 random bytes that EVC knows by their hash alone.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

const size = 32;
const form = /^evc_([a-z0-9]{1,32})_[A-Za-z0-9_-]{43}$/;

/** The id of the token that set-up makes. */
export const firstTokenId = 'admin';

/** A new token, `evc_ID_SECRET`, and the hash to keep, hex. */
export function makeToken(id = firstTokenId): { token: string; hash: string } {
  const token = `evc_${id}_${randomBytes(size).toString('base64url')}`;
  return { token, hash: hashOf(token) };
}

/** Which token this says it is; null for what is none. */
export function tokenIdOf(token: string): string | null {
  return form.exec(token)?.[1] ?? null;
}

/** Compares in constant time; `hash` in hex. */
export function tokenMatches(token: string, hash: string): boolean {
  const wanted = Buffer.from(hash, 'hex');
  const shown = Buffer.from(hashOf(token), 'hex');
  return wanted.length === shown.length && timingSafeEqual(wanted, shown);
}

/** The token of an Authorization header [RFC 6750, 2.1]; null when it bears none. */
export function bearerOf(header: string | undefined): string | null {
  return /^Bearer ([A-Za-z0-9._~+/-]{1,200}=*)$/i.exec(header ?? '')?.[1] ?? null;
}

function hashOf(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}
