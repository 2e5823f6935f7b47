// Hash algorithms of PCR banks: TPM_ALG_ID and digest size [TPM2 P2 6.3, TCG Algorithm Registry].

export const banks = {
  sha1: { algorithm: 0x0004, size: 20 },
  sha256: { algorithm: 0x000b, size: 32 },
  sha384: { algorithm: 0x000c, size: 48 },
  sha512: { algorithm: 0x000d, size: 64 },
  sm3_256: { algorithm: 0x0012, size: 32 },
  sha3_256: { algorithm: 0x0027, size: 32 },
  sha3_384: { algorithm: 0x0028, size: 48 },
  sha3_512: { algorithm: 0x0029, size: 64 },
} as const;

/** A PCR bank, by the name of its hash algorithm. */
export type Bank = keyof typeof banks;

/** The hash function of a bank. Synchronous and passed in, so that this folder runs in a browser as well. */
export type Hash = (bank: Bank, data: Uint8Array) => Uint8Array;

const byAlgorithm = new Map<number, Bank>(
  (Object.keys(banks) as Bank[]).map((bank) => [banks[bank].algorithm, bank]),
);

/** The bank of a TPM_ALG_ID, undefined for an algorithm this code does not know. */
export function bankOf(algorithm: number): Bank | undefined {
  return byAlgorithm.get(algorithm);
}
