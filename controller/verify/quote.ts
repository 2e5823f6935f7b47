// Quote: is this a statement of the enrolled TPM, made for this request, about exactly these PCR values?
// Every check fails closed, and what comes out holds covered values alone: nobody downstream can use another.
import { constants, createPublicKey, type KeyObject, timingSafeEqual, verify } from 'node:crypto';
import { FormatError } from '../../formats/format-error.ts';
import { decode } from '../../formats/tpm2/codec.ts';
import { TPM_ALG, TPM_GENERATED_VALUE, TPM_ST } from '../../formats/tpm2/constants.ts';
import { type HashName, hashName } from '../../formats/tpm2/hash.ts';
import { type PcrValues, pcrCount, pcrDigest, selectedPcrs } from '../../formats/tpm2/pcrs.ts';
import { fixedWidth, publicJwk } from '../../formats/tpm2/spki.ts';
import {
  type TPMA_OBJECT,
  type TPML_PCR_SELECTION,
  TPMS_ATTEST,
  type TPMT_PUBLIC,
  TPMT_SIGNATURE,
} from '../../formats/tpm2/structures.ts';
import type { Finding } from '../../machines/flow.ts';
import { hash } from './hash.ts';

/** PCR values that a sender states, bank by bank: unchecked. */
export type StatedPcrs = Partial<Record<HashName, PcrValues>>;

/** A quote as it was sent. */
export interface QuoteEvidence {
  /** TPMS_ATTEST: the signed bytes. */
  attest: Uint8Array;
  /** TPMT_SIGNATURE. */
  signature: Uint8Array;
  /** May state more than the quote covers; that is left out of the result. */
  pcrs: StatedPcrs;
}

/** What the verifier asked for, and of whom. */
export interface QuoteExpectation {
  key: AttestationKey;
  /** The nonce, or the hash that binds claims to it. Never empty. */
  qualifyingData: Uint8Array;
  /** Every PCR that the policy looks at. Never empty. */
  pcrs: readonly number[];
  /** Banks that the policy takes, the preferred one first. */
  banks?: readonly HashName[];
}

/** What a genuine quote says. */
export interface QuoteFacts {
  bank: HashName;
  /** The values that the signature covers, of this bank alone. */
  pcrs: PcrValues;
  /** The same of every bank that it covers, SHA-1 among them. */
  covered: StatedPcrs;
  /** PCRs of this bank that the sender stated and the quote does not cover: dropped. */
  notCovered: number[];
  /** Milliseconds that the TPM was powered. Not the time of day. */
  clock: bigint;
  resetCount: number;
  restartCount: number;
  /** False after a power cut, until the clock is sure again: no reason to distrust a device. */
  safe: boolean;
  firmwareVersion: bigint;
  /** Name of the signing key qualified by its hierarchy. */
  qualifiedSigner: Uint8Array;
}

export type QuoteCheck = { ok: true; quote: QuoteFacts } | { ok: false; refusals: Finding[] };

/** An attestation key, ready to verify with. Parsing one costs more than a signature: keep it. */
export interface AttestationKey {
  readonly key: KeyObject;
  /** TPM_ALG_ID of the one scheme that it signs with; null where it leaves the choice to who signs. */
  readonly scheme: number | null;
}

/**
 * @throws RangeError unless it is a restricted signing key that never left its TPM, on P-256 or P-384 or RSA of 2048
 * bits and more: any other key signs what its holder likes, a forged TPMS_ATTEST among it.
 */
export function attestationKey(publicArea: TPMT_PUBLIC): AttestationKey {
  if (!speaksForItsTpm(publicArea.objectAttributes))
    throw new RangeError('not a restricted signing key that was made in its TPM and stays there');
  // A name is what was proven, and SHA-1 gives two keys one name.
  const nameAlg = hashName(publicArea.nameAlg);
  if (!nameAlg || !strongBanks.includes(nameAlg))
    throw new RangeError('its name is of a hash that is too weak');
  const key = createPublicKey({ key: publicJwk(publicArea), format: 'jwk' });
  const { scheme } = (publicArea as RsaOrEccPublic).parameters.scheme;
  return { key: strong(key), scheme: scheme === TPM_ALG.NULL ? null : scheme };
}

/** Restricted to statements of a TPM that made it and that it never leaves [TPM2 Part 1, 25]. */
export function speaksForItsTpm(attributes: TPMA_OBJECT): boolean {
  const { restricted, sign, decrypt, fixedTPM, fixedParent, sensitiveDataOrigin } = attributes;
  return restricted && sign && !decrypt && fixedTPM && fixedParent && sensitiveDataOrigin;
}

type RsaOrEccPublic = Extract<TPMT_PUBLIC, { type: typeof TPM_ALG.RSA | typeof TPM_ALG.ECC }>;

/**
 * A key that is known without its public area, from a certificate or a PEM: that it is restricted to statements of its
 * TPM is the word of whoever handed it over. Throws RangeError for a kind or size that no quote is believed with.
 */
export function bareKey(key: KeyObject): AttestationKey {
  return { key: strong(key), scheme: null };
}

/** Bytes of a coordinate by curve. */
const curves = new Map<string | undefined, number>([
  ['prime256v1', 32],
  ['secp384r1', 48],
]);

function strong(key: KeyObject): KeyObject {
  const { namedCurve, modulusLength = 0, publicExponent = 0n } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case 'ec':
      if (!curves.has(namedCurve)) throw new RangeError(`curve ${namedCurve} is not supported`);
      return key;
    case 'rsa':
      if (modulusLength < 2048) throw new RangeError(`an RSA key of ${modulusLength} bits is too short`);
      if (publicExponent < 65537n) throw new RangeError(`an RSA exponent of ${publicExponent} is too small`);
      return key;
    default:
      throw new RangeError(`a key of type ${key.asymmetricKeyType} signs no quotes`);
  }
}

const strongBanks: readonly HashName[] = ['sha256', 'sha384', 'sha512'];

/**
 * Checks one quote [TPM2 Part 3, 18.4; Part 2, 10.12].
 *
 * All reasons that apply are returned, not the first alone. Throws TypeError for an expectation that would let anything
 * pass: no qualifying data, no PCRs, a weak bank.
 */
export function verifyQuote(evidence: QuoteEvidence, expected: QuoteExpectation): QuoteCheck {
  const banks = expected.banks ?? strongBanks;
  if (expected.qualifyingData.length === 0) throw new TypeError('a quote needs qualifying data');
  if (expected.pcrs.length === 0) throw new TypeError('a quote needs PCRs');
  if (banks.some((bank) => !strongBanks.includes(bank))) throw new TypeError('SHA-1 is no bank for a quote');

  const read = readQuote(evidence);
  if ('refusal' in read) return { ok: false, refusals: [read.refusal] };
  const { attest, signature } = read;
  const selections = attest.attested.pcrSelect;
  const choice = chooseBank(selections, expected.pcrs, banks);

  const refusals = [
    checkSignature(evidence.attest, signature, expected.key),
    checkQualifyingData(attest.extraData, expected.qualifyingData),
    ...('refusals' in choice ? choice.refusals : []),
    checkDigest(attest.attested, signature, evidence.pcrs),
  ].filter((refusal) => refusal !== undefined);
  if (refusals.length > 0 || 'refusals' in choice) return { ok: false, refusals };

  const { bank, covered } = choice;
  const stated = evidence.pcrs[bank] ?? new Map<number, Uint8Array>();
  const { clock, resetCount, restartCount, safe } = attest.clockInfo;
  return {
    ok: true,
    quote: {
      bank,
      pcrs: new Map([...stated].filter(([pcr]) => covered.has(pcr))),
      covered: coveredValues(selections, evidence.pcrs),
      notCovered: [...stated.keys()].filter((pcr) => !covered.has(pcr)),
      clock,
      resetCount,
      restartCount,
      safe,
      firmwareVersion: attest.firmwareVersion,
      qualifiedSigner: attest.qualifiedSigner,
    },
  };
}

function coveredValues(selections: TPML_PCR_SELECTION, stated: StatedPcrs): StatedPcrs {
  const values: StatedPcrs = {};
  for (const selection of selections) {
    const bank = hashName(selection.hash);
    const covered = new Set(selectedPcrs(selection));
    if (bank) values[bank] = new Map([...(stated[bank] ?? [])].filter(([pcr]) => covered.has(pcr)));
  }
  return values;
}

type QuoteAttest = Extract<TPMS_ATTEST, { type: typeof TPM_ST.ATTEST_QUOTE }>;

/** Magic and type first: the rest of the bytes means something else under another type. */
function readQuote({
  attest,
  signature,
}: QuoteEvidence): { attest: QuoteAttest; signature: TPMT_SIGNATURE } | { refusal: Finding } {
  const view = new DataView(attest.buffer, attest.byteOffset, attest.byteLength);
  const refuse = (code: string, text: string, seen?: string, allowed?: string) => ({
    refusal: { code, text, ...(seen ? { seen } : {}), ...(allowed ? { allowed } : {}) },
  });
  if (attest.length < 6) return refuse('evidence.quote.absent', 'There is no quote');
  const magic = view.getUint32(0);
  if (magic !== TPM_GENERATED_VALUE)
    return refuse(
      'evidence.quote.magic',
      'No TPM made this statement',
      hex32(magic),
      hex32(TPM_GENERATED_VALUE),
    );
  const type = view.getUint16(4);
  if (type !== TPM_ST.ATTEST_QUOTE)
    return refuse('evidence.quote.type', 'This is no quote', hex16(type), hex16(TPM_ST.ATTEST_QUOTE));
  try {
    return {
      attest: decode(TPMS_ATTEST, attest) as QuoteAttest,
      signature: decode(TPMT_SIGNATURE, signature),
    };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return refuse('evidence.quote.malformed', `The quote cannot be read: ${error.message}`);
  }
}

function checkSignature(
  attest: Uint8Array,
  signature: TPMT_SIGNATURE,
  attestationKey: AttestationKey,
): Finding | undefined {
  const algorithm = signatureHash(signature);
  if (!algorithm || !fits(signature, attestationKey))
    return {
      code: 'evidence.quote.algorithm',
      text: 'The quote is signed with an algorithm that the key or the policy does not allow',
      seen: `${hex16(signature.sigAlg)}${algorithm ? ` with ${algorithm}` : ''}`,
      allowed: 'ECDSA, RSASSA or RSAPSS with SHA-256, SHA-384 or SHA-512, as the key says',
    };
  return isSignature(attest, signature, algorithm, attestationKey.key)
    ? undefined
    : {
        code: 'evidence.quote.signature',
        text: 'The signature of the quote is not by the attestation key of this device',
      };
}

/** The hash of the signing scheme, undefined for SHA-1 and for what no quote is signed with. */
function signatureHash(signature: TPMT_SIGNATURE): HashName | undefined {
  if (signature.sigAlg === TPM_ALG.NULL || signature.sigAlg === TPM_ALG.HMAC) return undefined;
  const name = hashName(signature.signature.hash);
  return name && strongBanks.includes(name) ? name : undefined;
}

/** A key that states its scheme signs with that alone. */
function fits({ sigAlg }: TPMT_SIGNATURE, { key, scheme }: AttestationKey): boolean {
  const possible: number[] =
    key.asymmetricKeyType === 'ec' ? [TPM_ALG.ECDSA] : [TPM_ALG.RSASSA, TPM_ALG.RSAPSS];
  return possible.includes(sigAlg) && (scheme === null || scheme === sigAlg);
}

function isSignature(
  attest: Uint8Array,
  signature: TPMT_SIGNATURE,
  algorithm: HashName,
  key: KeyObject,
): boolean {
  switch (signature.sigAlg) {
    case TPM_ALG.ECDSA: {
      const size = curves.get(key.asymmetricKeyDetails?.namedCurve);
      if (size === undefined) return false;
      const { signatureR, signatureS } = signature.signature;
      try {
        const rs = Buffer.concat([fixedWidth(signatureR, size), fixedWidth(signatureS, size)]);
        return verify(algorithm, attest, { key, dsaEncoding: 'ieee-p1363' }, rs);
      } catch (error) {
        if (error instanceof RangeError) return false;
        throw error;
      }
    }
    case TPM_ALG.RSASSA:
      return verify(
        algorithm,
        attest,
        { key, padding: constants.RSA_PKCS1_PADDING },
        signature.signature.sig,
      );
    case TPM_ALG.RSAPSS: {
      // TPMs salt with the digest's length or with all the room there is [TPM2 Part 1, B.7].
      const saltLength = constants.RSA_PSS_SALTLEN_AUTO;
      const padding = constants.RSA_PKCS1_PSS_PADDING;
      return verify(algorithm, attest, { key, padding, saltLength }, signature.signature.sig);
    }
    default:
      return false;
  }
}

function checkQualifyingData(seen: Uint8Array, allowed: Uint8Array): Finding | undefined {
  if (seen.length === allowed.length && timingSafeEqual(seen, allowed)) return undefined;
  return {
    code: 'evidence.quote.nonce',
    text: 'The quote was not made for this request: it answers another nonce',
  };
}

/** The bank whose signed selection covers every PCR of the policy. What the sender says beside the quote counts nothing. */
function chooseBank(
  selections: TPML_PCR_SELECTION,
  wanted: readonly number[],
  banks: readonly HashName[],
): { bank: HashName; covered: ReadonlySet<number> } | { refusals: Finding[] } {
  const code = 'evidence.quote.bank';
  const ids = selections.map((selection) => selection.hash);
  const twice = ids.find((id, i) => ids.indexOf(id) !== i);
  if (twice !== undefined)
    return { refusals: [{ code, text: 'The quote selects one bank twice', seen: hex16(twice) }] };

  const covers = selections.map((selection) => ({
    bank: hashName(selection.hash),
    covered: new Set(selectedPcrs(selection)),
  }));
  const impossible = covers.flatMap(({ covered }) => [...covered]).find((pcr) => pcr >= pcrCount);
  if (impossible !== undefined)
    return {
      refusals: [
        { code: 'evidence.quote.selection', text: `There is no PCR ${impossible}`, pcr: impossible },
      ],
    };

  const usable = banks.flatMap((bank) => {
    const covered = covers.find((cover) => cover.bank === bank)?.covered;
    return covered ? [{ bank, covered }] : [];
  });
  const full = usable.find(({ covered }) => wanted.every((pcr) => covered.has(pcr)));
  if (full) return full;
  const [best] = usable;
  if (!best) {
    const seen = ids.map((id) => hashName(id) ?? hex16(id)).join(', ') || 'none';
    const text = 'The quote covers no PCR bank that the policy takes';
    return { refusals: [{ code, text, seen, allowed: banks.join(', ') }] };
  }
  return {
    refusals: wanted
      .filter((pcr) => !best.covered.has(pcr))
      .map((pcr) => ({
        code: 'evidence.quote.selection',
        text: `The quote does not cover PCR ${pcr}, and the policy needs it`,
        pcr,
        seen: [...best.covered].join(', '),
        allowed: wanted.join(', '),
      })),
  };
}

/** The signed digest is over exactly the stated values of the signed selection, in its order. */
function checkDigest(
  { pcrSelect, pcrDigest: signed }: QuoteAttest['attested'],
  signature: TPMT_SIGNATURE,
  stated: StatedPcrs,
): Finding | undefined {
  const algorithm = signatureHash(signature);
  // Refused as evidence.quote.algorithm.
  if (!algorithm) return undefined;
  try {
    const digest = pcrDigest(hash, algorithm, pcrSelect, stated);
    if (digest.length === signed.length && timingSafeEqual(digest, signed)) return undefined;
    return {
      code: 'evidence.quote.digest',
      text: 'The PCR values that were sent are not those that the TPM signed',
    };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return {
      code: 'evidence.quote.digest',
      text: `The signed PCR values were not all sent: ${error.message}`,
    };
  }
}

function hex16(value: number): string {
  return `0x${value.toString(16).padStart(4, '0')}`;
}

function hex32(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}
