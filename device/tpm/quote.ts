// A quote and the PCR values that it covers, read so that the two belong together.
import { decode, encode } from '../../formats/tpm2/codec.ts';
import { Quote } from '../../formats/tpm2/commands.ts';
import { TPM_ALG, TPM_ST } from '../../formats/tpm2/constants.ts';
import { type HashName, hashName } from '../../formats/tpm2/hash.ts';
import { type PcrValues, pcrDigest, pcrSelection } from '../../formats/tpm2/pcrs.ts';
import { TPML_PCR_SELECTION, TPMS_ATTEST, TPMT_SIGNATURE } from '../../formats/tpm2/structures.ts';
import type { Entity } from './execute.ts';
import { hash } from './hash.ts';
import type { Tpm } from './tpm.ts';

export interface QuoteOptions {
  /** The verifier's nonce, or a digest over it and what else the quote vouches for. At most 34 bytes fit every TPM. */
  qualifyingData: Uint8Array;
  bank: HashName;
  pcrs: readonly number[];
}

export interface QuoteResult {
  /** TPMS_ATTEST, as the TPM signed it. */
  attest: Uint8Array;
  /** TPMT_SIGNATURE. */
  signature: Uint8Array;
  /** The values whose digest is in the quote. */
  pcrs: PcrValues;
}

/** PCRs changed between reading and quoting, each time. */
export class QuoteUnstable extends Error {
  constructor() {
    super(`PCRs changed during each of ${attempts} quotes`);
    this.name = 'QuoteUnstable';
  }
}

const attempts = 5;

function hashOf(signature: TPMT_SIGNATURE): HashName {
  const algorithm =
    signature.sigAlg === TPM_ALG.NULL || signature.sigAlg === TPM_ALG.HMAC
      ? undefined
      : hashName(signature.signature.hash);
  if (!algorithm) throw new RangeError('the attestation key signs with a hash that cannot be computed here');
  return algorithm;
}

/**
 * Quotes PCRs of one bank with an attestation key. Reads and quotes again if a PCR changes in between.
 * @throws QuoteUnstable after five attempts.
 */
export async function quote(tpm: Tpm, ak: Entity, options: QuoteOptions): Promise<QuoteResult> {
  const { qualifyingData, bank } = options;
  const selection = [pcrSelection(bank, options.pcrs)];
  return tpm.exclusive(async () => {
    for (let attempt = 0; attempt < attempts; attempt++) {
      const pcrs = await tpm.pcrRead(bank, options.pcrs);
      const { quoted, signature } = await tpm.execute(Quote, {
        signHandle: ak,
        qualifyingData,
        inScheme: { scheme: TPM_ALG.NULL },
        PCRselect: selection,
      });
      const attest = decode(TPMS_ATTEST, quoted);
      if (attest.type !== TPM_ST.ATTEST_QUOTE)
        throw new RangeError('TPM2_Quote answered with something else');
      const { pcrSelect, pcrDigest: quotedDigest } = attest.attested;
      // A TPM quotes only registers that exist; fewer than asked for would be refused by every verifier.
      if (!same(encode(TPML_PCR_SELECTION, pcrSelect), encode(TPML_PCR_SELECTION, selection)))
        throw new RangeError(`this TPM does not quote PCRs ${options.pcrs.join(', ')} of its ${bank} bank`);
      const read = pcrDigest(hash, hashOf(signature), selection, { [bank]: pcrs });
      if (same(read, quotedDigest))
        return { attest: quoted, signature: encode(TPMT_SIGNATURE, signature), pcrs };
    }
    throw new QuoteUnstable();
  });
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
