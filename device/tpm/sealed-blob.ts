// A sealed object at rest: what the TPM needs to load it, and what a person needs to see why it does not open.

import { FormatError } from '../../formats/format-error.ts';
import { decode, encode, list, struct, u8, u16, u32 } from '../../formats/tpm2/codec.ts';
import { digestSize, type HashName, hashId, hashName } from '../../formats/tpm2/hash.ts';
import { type PcrValues, pcrCount } from '../../formats/tpm2/pcrs.ts';
import {
  TPM_ALG_ID,
  TPM2B_DIGEST,
  TPM2B_PRIVATE,
  TPM2B_PUBLIC,
  type TPMT_PUBLIC,
} from '../../formats/tpm2/structures.ts';

export interface SealedBlob {
  version: 1;
  public: TPMT_PUBLIC;
  /** Encrypted by the storage root key of one TPM, of no use to any other. */
  privateBytes: Uint8Array;
  bank: HashName;
  /** The PCR values that it was sealed to. Nothing vouches for them: they explain a failure, they decide nothing. */
  pcrs: PcrValues;
}

const version = 1;
const magic = 0x45534c42; // ESLB

const record = struct('SealedBlob', {
  magic: u32,
  version: u16,
  bank: TPM_ALG_ID,
  pcrs: list('pcrs', struct('pcr', { pcr: u8, value: TPM2B_DIGEST }), pcrCount),
  public: TPM2B_PUBLIC,
  private: TPM2B_PRIVATE,
});

export function encodeSealedBlob(blob: SealedBlob): Uint8Array {
  return encode(record, {
    magic,
    version: blob.version,
    bank: hashId(blob.bank),
    pcrs: [...blob.pcrs].map(([pcr, value]) => ({ pcr, value })),
    public: blob.public,
    private: blob.privateBytes,
  });
}

/** @throws FormatError if these bytes are no sealed blob, or one of a version not known here. */
export function decodeSealedBlob(bytes: Uint8Array): SealedBlob {
  const fields = decode(record, bytes);
  if (fields.magic !== magic) throw new FormatError('SealedBlob.magic', 0, 'is no sealed blob');
  if (fields.version !== version)
    throw new FormatError('SealedBlob.version', 4, `is ${fields.version}, known is ${version}`);
  const bank = hashName(fields.bank);
  if (!bank) throw new FormatError('SealedBlob.bank', 6, `no bank 0x${fields.bank.toString(16)}`);
  if (!hashName(fields.public.nameAlg)) throw new FormatError('SealedBlob.public.nameAlg', 8, 'is unknown');
  const pcrs = new Map(fields.pcrs.map(({ pcr, value }) => [pcr, value]));
  if (pcrs.size !== fields.pcrs.length || [...pcrs.keys()].some((pcr) => pcr >= pcrCount))
    throw new FormatError('SealedBlob.pcrs', 8, 'names a PCR twice, or one that does not exist');
  if ([...pcrs.values()].some((value) => value.length !== digestSize(bank)))
    throw new FormatError('SealedBlob.pcrs', 8, `has a value that is no ${bank} digest`);
  return { version, public: fields.public, privateBytes: fields.private, bank, pcrs };
}
