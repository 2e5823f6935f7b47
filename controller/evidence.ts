// Evidence on its way from the wire to a verdict: bounded, unpacked, and nothing of it believed.
import { createHash } from 'node:crypto';
import { gunzipSync } from 'node:zlib';
import { decodeMessage } from '../formats/wire/envelope.ts';
import {
  AttestVersionType,
  TpmHashAlgo,
  type ZAttestQuote,
  ZAttestQuoteSchema,
} from '../formats/wire/eve_pb.ts';
import { WireError } from '../formats/wire/wire-error.ts';
import type { LogPart, Versions } from '../machines/flow.ts';
import type { Presented } from './verify/verify.ts';

/** A log unpacks to no more than this, bytes: gzip makes a thousand times as much out of what it is given. */
const largestLog = 4 * 1024 * 1024;
const mostPcrs = 64;
const longestVersion = 200;

/** Reads stored evidence again. Throws WireError wire.malformed. */
export function openEvidence(bytes: Uint8Array): Presented {
  return presentedOf(decodeMessage(ZAttestQuoteSchema, bytes));
}

/** Throws WireError wire.malformed. */
export function presentedOf(quote: ZAttestQuote): Presented {
  if (quote.pcrValues.length > mostPcrs) {
    throw new WireError(
      'wire.malformed',
      `${quote.pcrValues.length} PCR values, where ${mostPcrs} are the most`,
    );
  }
  const pcrs = new Map<number, Uint8Array>();
  for (const { index, hashAlgo, value } of quote.pcrValues) {
    if (hashAlgo !== TpmHashAlgo.SHA256) continue;
    if (pcrs.has(index)) throw new WireError('wire.malformed', `PCR ${index} is stated twice`);
    pcrs.set(index, value);
  }
  return {
    attest: quote.attestData,
    signature: quote.tpmtSignature,
    nonce: quote.nonce,
    claims: quote.claims.length > 0 ? quote.claims : null,
    pcrs,
    versions: versionsOf(quote),
    boot: { logs: [...logPart('bios', quote.tpmBinaryEventLog), ...logPart('config', quote.configEventLog)] },
  };
}

function versionsOf(quote: ZAttestQuote): Versions {
  const version = (type: AttestVersionType) =>
    (quote.versions.find(({ versionType }) => versionType === type)?.version ?? '').slice(0, longestVersion);
  return { image: version(AttestVersionType.EVE), firmware: version(AttestVersionType.FIRMWARE) };
}

function logPart(kind: LogPart['kind'], packed: Uint8Array): LogPart[] {
  if (packed.length === 0) return [];
  try {
    const bytes = gunzipSync(packed, { maxOutputLength: largestLog });
    return [{ kind, bytes, sha256: createHash('sha256').update(bytes).digest('hex') }];
  } catch (cause) {
    throw new WireError(
      'wire.malformed',
      `the ${kind} log is no gzip, or unpacks to over ${largestLog} bytes`,
      { cause },
    );
  }
}
