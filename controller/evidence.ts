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

/** The evidence names a log by its hash, and it is not here: the device has to send it whole. */
export class LogUnknown extends Error {
  readonly code = 'evidence.log.unknown';
  constructor(text: string) {
    super(text);
    this.name = 'LogUnknown';
  }
}

/** A log that EVC has, by its SHA-256 in hex; null for any other. */
export type FindLog = (sha256: string) => Promise<Uint8Array | null>;

/** Reads stored evidence again. Throws WireError wire.malformed, LogUnknown. */
export function openEvidence(bytes: Uint8Array, find: FindLog): Promise<Presented> {
  return presentedOf(decodeMessage(ZAttestQuoteSchema, bytes), find);
}

/** Throws WireError wire.malformed, LogUnknown. */
export async function presentedOf(quote: ZAttestQuote, find: FindLog): Promise<Presented> {
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
    boot: {
      logs: [
        ...(await logPart('bios', quote.tpmBinaryEventLog, quote.tpmBinaryEventLogHash, find)),
        ...(await logPart('config', quote.configEventLog, quote.configEventLogHash, find)),
      ],
    },
  };
}

function versionsOf(quote: ZAttestQuote): Versions {
  const version = (type: AttestVersionType) =>
    (quote.versions.find(({ versionType }) => versionType === type)?.version ?? '').slice(0, longestVersion);
  return { image: version(AttestVersionType.EVE), firmware: version(AttestVersionType.FIRMWARE) };
}

/** A log as it was sent: packed, or as the hash of one that EVC has. */
async function logPart(
  kind: LogPart['kind'],
  packed: Uint8Array,
  reference: Uint8Array,
  find: FindLog,
): Promise<LogPart[]> {
  if (packed.length > 0) {
    const bytes = unpackLog(kind, packed);
    return [{ kind, bytes, sha256: createHash('sha256').update(bytes).digest('hex') }];
  }
  if (reference.length === 0) return [];
  if (reference.length !== 32)
    throw new WireError('wire.malformed', `the hash of the ${kind} log has ${reference.length} bytes`);
  const sha256 = Buffer.from(reference).toString('hex');
  const bytes = await find(sha256);
  if (!bytes) throw new LogUnknown(`EVC does not have the ${kind} log ${sha256}`);
  return [{ kind, bytes, sha256 }];
}

/** Throws WireError wire.malformed. */
export function unpackLog(what: string, packed: Uint8Array): Uint8Array {
  try {
    return gunzipSync(packed, { maxOutputLength: largestLog });
  } catch (cause) {
    throw new WireError(
      'wire.malformed',
      `the ${what} log is no gzip, or unpacks to over ${largestLog} bytes`,
      { cause },
    );
  }
}
