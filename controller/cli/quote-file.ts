// A quote and what belongs to it, as files: JSON with everything in it, or the raw structures of a TPM.
import { createHash, createPublicKey } from 'node:crypto';
import * as v from 'valibot';
import { FormatError } from '../../formats/format-error.ts';
import { decode } from '../../formats/tpm2/codec.ts';
import { TPM_ST } from '../../formats/tpm2/constants.ts';
import { digestSize, hashName } from '../../formats/tpm2/hash.ts';
import { selectedPcrs } from '../../formats/tpm2/pcrs.ts';
import { TPM2B_PUBLIC, TPMA_OBJECT, TPMS_ATTEST, TPMT_PUBLIC } from '../../formats/tpm2/structures.ts';
import type { Finding } from '../../machines/flow.ts';
import type { Submitted } from '../verify/appraisal.ts';
import type { LastClock } from '../verify/clock.ts';
import {
  type AttestationKey,
  attestationKey,
  bareKey,
  type StatedPcrs,
  speaksForItsTpm,
} from '../verify/quote.ts';
import { nameOf, readInput, unusable } from './input.ts';
import { pcrsOfJson, readPcrs } from './pcr-values.ts';

export interface QuoteFiles {
  signature?: string;
  key?: string;
  nonce?: string;
  anyNonce?: boolean;
  values?: string;
  log?: string[];
  last?: string;
}

const hexText = v.pipe(v.string(), v.regex(/^([0-9a-f]{2})*$/i, 'no bytes in hex'), v.maxLength(64 * 1024));
const QuoteJson = v.object({
  attest: hexText,
  signature: hexText,
  nonce: v.optional(v.nullable(hexText), null),
  pcrs: v.optional(v.record(v.string(), v.unknown()), {}),
  akPem: v.optional(v.nullable(v.string()), null),
  akPublic: v.optional(v.nullable(v.union([hexText, v.object({ attrs: v.optional(v.string()) })])), null),
});
type QuoteJson = v.InferOutput<typeof QuoteJson>;

/** Throws Failure input.quote, input.nonce, input.pcrs, input.unreadable. */
export function readQuoteFile(path: string, files: QuoteFiles): Submitted {
  const bytes = readInput(path);
  const isJson = /^\s*\{/.test(bytes.subarray(0, 100).toString('latin1'));
  const quote = isJson ? jsonQuote(bytes.toString('utf8'), nameOf(path)) : rawQuote(bytes, path, files);
  if (files.values !== undefined) quote.evidence.pcrs = valuesOf(files.values, quote.evidence.attest);
  if (files.key !== undefined && isJson) quote.key = keyOf(readInput(files.key), files.key);
  if (files.nonce !== undefined) quote.qualifyingData = nonceOf(files.nonce);
  if (files.anyNonce) quote.qualifyingData = extraData(quote.evidence.attest) ?? quote.qualifyingData;
  const logs = (files.log ?? []).map((log) => {
    const logBytes = readInput(log);
    return { bytes: logBytes, sha256: createHash('sha256').update(logBytes).digest('hex') };
  });
  return { ...quote, logs, last: files.last === undefined ? null : lastClock(files.last) };
}

type Quote = Pick<Submitted, 'evidence' | 'key' | 'qualifyingData'>;

function jsonQuote(text: string, name: string): Quote {
  let json: QuoteJson;
  try {
    json = v.parse(QuoteJson, JSON.parse(text));
  } catch (cause) {
    const issue = cause instanceof v.ValiError ? cause.issues[0] : undefined;
    const where = issue ? `${v.getDotPath(issue) ?? 'quote'}: ${issue.message}` : (cause as Error).message;
    throw noQuote(`${name} is no quote: ${where}`, cause);
  }
  let pcrs: StatedPcrs;
  try {
    pcrs = pcrsOfJson(json.pcrs);
  } catch (cause) {
    throw noQuote(`${name} is no quote: ${(cause as Error).message}`, cause);
  }
  const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex'));
  return {
    evidence: { attest: bytes(json.attest), signature: bytes(json.signature), pcrs },
    key: jsonKey(json),
    qualifyingData: json.nonce === null ? null : bytes(json.nonce),
  };
}

function jsonKey({ akPem, akPublic }: QuoteJson): AttestationKey | Finding {
  if (typeof akPublic === 'string')
    return usable(() => attestationKey(publicArea(Buffer.from(akPublic, 'hex'))));
  if (akPem === null) return unknownKey;
  return usable(() => {
    const attributes = akPublic?.attrs === undefined ? undefined : attributesOf(akPublic.attrs);
    if (attributes && !speaksForItsTpm(attributes))
      throw new RangeError('not a restricted signing key that was made in its TPM and stays there');
    return bareKey(createPublicKey(akPem));
  });
}

/** TPMA_OBJECT as a number. */
function attributesOf(text: string): TPMA_OBJECT {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 0 || number > 0xffffffff)
    throw new RangeError(`no attributes of a TPM's object: ${text.slice(0, 40)}`);
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, number);
  return decode(TPMA_OBJECT, bytes);
}

function rawQuote(attest: Uint8Array, path: string, { signature, key }: QuoteFiles): Quote {
  if (signature === undefined || key === undefined)
    throw unusable(`${nameOf(path)} is no JSON, and a raw quote needs its signature and its key`, {
      code: 'input.quote',
      hint: 'give them with --signature FILE --key FILE --nonce HEX --values FILE',
    });
  return {
    evidence: { attest: new Uint8Array(attest), signature: new Uint8Array(readInput(signature)), pcrs: {} },
    key: keyOf(readInput(key), key),
    qualifyingData: null,
  };
}

const unknownKey: Finding = {
  code: 'evidence.identity.unknown',
  text: 'No attestation key is given, so nobody can say whose quote this is',
};

/** A key in any of its forms. Throws Failure input.key where it is none of them. */
function keyOf(bytes: Buffer, path: string): AttestationKey | Finding {
  const isPem = bytes.subarray(0, 2000).includes('-----BEGIN');
  if (isPem) return usable(() => bareKey(createPublicKey(bytes)));
  let area: TPMT_PUBLIC;
  try {
    area = publicArea(bytes);
  } catch (cause) {
    throw unusable(`${path} is no key: ${cause instanceof Error ? cause.message : 'unreadable'}`, {
      code: 'input.key',
      hint: 'give a TPM2B_PUBLIC or TPMT_PUBLIC as the TPM made it, a PEM, or a certificate',
      cause,
    });
  }
  return usable(() => attestationKey(area));
}

/** A TPM2B_PUBLIC begins with its own size, a TPMT_PUBLIC with its type. */
function publicArea(bytes: Uint8Array): TPMT_PUBLIC {
  const size = bytes.length >= 2 ? new DataView(bytes.buffer, bytes.byteOffset).getUint16(0) : 0;
  return size === bytes.length - 2 ? decode(TPM2B_PUBLIC, bytes) : decode(TPMT_PUBLIC, bytes);
}

function usable(make: () => AttestationKey): AttestationKey | Finding {
  try {
    return make();
  } catch (error) {
    const why = error instanceof Error ? error.message : 'unreadable';
    return { code: 'evidence.identity.key', text: `The attestation key cannot vouch for anything: ${why}` };
  }
}

function nonceOf(text: string): Uint8Array {
  if (/^([0-9a-f]{2})+$/i.test(text)) return new Uint8Array(Buffer.from(text, 'hex'));
  throw unusable('--nonce is no bytes in hex', { code: 'input.nonce' });
}

/** A text file, or the values alone, one after the other, as tpm2_quote writes them. */
function valuesOf(path: string, attest: Uint8Array): StatedPcrs {
  const bytes = readInput(path);
  const selections = quoted(attest)?.attested.pcrSelect ?? [];
  const places = selections.flatMap((selection) => {
    const bank = hashName(selection.hash);
    return bank ? selectedPcrs(selection).map((pcr) => ({ bank, pcr })) : [];
  });
  if (bytes.length !== places.reduce((sum, { bank }) => sum + digestSize(bank), 0)) return readPcrs(path);
  const stated: Partial<Record<string, Map<number, Uint8Array>>> = {};
  let at = 0;
  for (const { bank, pcr } of places) {
    const value = new Uint8Array(bytes.subarray(at, at + digestSize(bank)));
    stated[bank] = (stated[bank] ?? new Map()).set(pcr, value);
    at += value.length;
  }
  return stated as StatedPcrs;
}

function lastClock(path: string): LastClock {
  const bytes = readInput(path);
  const isJson = /^\s*\{/.test(bytes.subarray(0, 100).toString('latin1'));
  const attest = quoted(isJson ? jsonQuote(bytes.toString('utf8'), path).evidence.attest : bytes);
  if (!attest) throw noQuote(`${path} is no quote`, undefined);
  const { resetCount, restartCount, clock } = attest.clockInfo;
  return { resetCount, restartCount, clock, firmware: attest.firmwareVersion };
}

function extraData(attest: Uint8Array): Uint8Array | undefined {
  return quoted(attest)?.extraData;
}

/** The quote in a TPMS_ATTEST, undefined where it is none; what is wrong with it, the appraisal says. */
function quoted(attest: Uint8Array) {
  try {
    const statement = decode(TPMS_ATTEST, attest);
    return statement.type === TPM_ST.ATTEST_QUOTE ? statement : undefined;
  } catch (error) {
    if (error instanceof FormatError) return undefined;
    throw error;
  }
}

function noQuote(text: string, cause: unknown) {
  return unusable(text, {
    code: 'input.quote',
    hint: 'a quote is JSON with attest, signature, nonce, pcrs and akPem; evc quote verify --help shows more',
    cause,
  });
}
