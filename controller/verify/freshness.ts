// Freshness: the quote answers the nonce that EVC made for this attempt, and vouches for the claims beside it. That the
// nonce was out, in time and unused is the record's own decision; it took the nonce with the first quote that bore it.
import { createHash } from 'node:crypto';
import { fromBinary } from '@bufbuild/protobuf';
import {
  AttestGPSInput,
  AttestVersionType,
  ClaimsSchema,
  type Claims as WireClaims,
} from '../../formats/wire/eve_pb.ts';
import type { Claims, Finding, Location } from '../../machines/flow.ts';

export type FreshnessCheck =
  | {
      ok: true;
      /** What the quote's extraData has to be. */
      qualifyingData: Uint8Array;
      claims: Claims | null;
    }
  | { ok: false; refusals: Finding[] };

const largest = 2048;
const longestVersion = 200;
/** Metres. A wider circle says nothing of a place: locked, it would hold everything, and it would clear any movement. */
const coarsestFix = 100_000;

/** `claims` as sent; null for a quote that carries the nonce alone. Never throws. */
export function verifyFreshness(
  nonce: Uint8Array,
  nonceHash: string,
  claims: Uint8Array | null,
): FreshnessCheck {
  const sent = createHash('sha256').update(nonce).digest('hex');
  // Both are hashes that the device may know, so nothing leaks by comparing them plainly.
  if (sent !== nonceHash) {
    return refuse('evidence.nonce.other', 'The evidence names another nonce than the one of this attempt');
  }
  if (claims === null) return { ok: true, qualifyingData: nonce, claims: null };
  const read = readClaims(claims);
  if (!read) return refuse('evidence.claims.malformed', 'The claims beside the quote cannot be read');
  return {
    ok: true,
    qualifyingData: createHash('sha256').update(nonce).update(claims).digest(),
    claims: read,
  };
}

/** null for bytes that are no claims. */
export function readClaims(bytes: Uint8Array): Claims | null {
  if (bytes.length > largest) return null;
  let claims: WireClaims;
  try {
    claims = fromBinary(ClaimsSchema, bytes);
  } catch {
    // Not protobuf: the caller says so.
    return null;
  }
  if (claims.tokenHash.length !== 32) return null;
  const version = (type: AttestVersionType) =>
    (claims.versions.find(({ versionType }) => versionType === type)?.version ?? '').slice(0, longestVersion);
  return {
    versions: { image: version(AttestVersionType.EVE), firmware: version(AttestVersionType.FIRMWARE) },
    location: readLocation(claims),
    tokenHash: Buffer.from(claims.tokenHash).toString('hex'),
  };
}

function readLocation({ location }: WireClaims): Location | null {
  if (location?.gpsInput !== AttestGPSInput.ATTEST_GPS_INPUT_PRESENT) return null;
  const { latitude, longitude, accuracy, at } = location;
  const onEarth =
    Math.abs(latitude) <= 90 && Math.abs(longitude) <= 180 && accuracy >= 0 && accuracy <= coarsestFix;
  return onEarth ? { latitude, longitude, accuracy, at: Number(at) } : null;
}

function refuse(code: string, text: string): FreshnessCheck {
  return { ok: false, refusals: [{ code, text }] };
}
