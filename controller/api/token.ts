// The administrator's token: 32 random bytes that EVC knows by their hash alone.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

const size = 32;

/** A new token, base64url, and the hash to keep, hex. */
export function makeToken(): { token: string; hash: string } {
  const token = randomBytes(size).toString('base64url');
  return { token, hash: hashOf(token) };
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
