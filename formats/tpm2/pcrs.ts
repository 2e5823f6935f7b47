// PCR selections: a bit for each register, lowest register in the lowest bit of the first byte [TPM2 Part 2, 10.6].
import { concat, digestSize, type Hash, type HashName, hashId, hashName } from './hash.ts';
import type { TPML_PCR_SELECTION, TPMS_PCR_SELECTION } from './structures.ts';

/** A PC Client TPM has 24 registers in each bank. */
export const pcrCount = 24;

/**
 * Selects registers of one bank.
 * @throws TypeError if a register is not one of 0 to 23.
 */
export function pcrSelection(bank: HashName, pcrs: Iterable<number>): TPMS_PCR_SELECTION {
  const pcrSelect = new Uint8Array(pcrCount / 8);
  for (const pcr of pcrs) {
    if (!Number.isInteger(pcr) || pcr < 0 || pcr >= pcrCount) throw new TypeError(`no PCR ${pcr}`);
    const byte = pcr >>> 3;
    pcrSelect[byte] = (pcrSelect[byte] as number) | (1 << (pcr & 7));
  }
  return { hash: hashId(bank), pcrSelect };
}

/** The registers of a selection, ascending. */
export function selectedPcrs(selection: { pcrSelect: Uint8Array }): number[] {
  const pcrs: number[] = [];
  for (const [i, byte] of selection.pcrSelect.entries())
    for (let bit = 0; bit < 8; bit++) if (byte & (1 << bit)) pcrs.push(8 * i + bit);
  return pcrs;
}

/** The registers of one bank in a list of selections, ascending and each once. */
export function selectedPcrsOf(bank: HashName, selections: TPML_PCR_SELECTION): number[] {
  const id = hashId(bank);
  const pcrs = new Set(selections.filter((s) => s.hash === id).flatMap(selectedPcrs));
  return [...pcrs].sort((a, b) => a - b);
}

/** Values of one bank by register. */
export type PcrValues = ReadonlyMap<number, Uint8Array>;

/**
 * The digest that Quote and PolicyPCR compute: all selected values, selection by selection and ascending in each
 * [TPM2 Part 1, 17.5]. `algorithm` is that of the signing scheme for a quote, of the session for a policy.
 * @throws RangeError if a selected value is missing or has a wrong size, or a bank's hash is unknown.
 */
export function pcrDigest(
  hash: Hash,
  algorithm: HashName,
  selections: TPML_PCR_SELECTION,
  banks: Partial<Record<HashName, PcrValues>>,
): Uint8Array {
  const values = selections.flatMap((selection) => {
    const bank = hashName(selection.hash);
    if (!bank) throw new RangeError(`cannot compute with bank 0x${selection.hash.toString(16)}`);
    return selectedPcrs(selection).map((pcr) => {
      const value = banks[bank]?.get(pcr);
      if (value?.length !== digestSize(bank)) throw new RangeError(`no ${bank} value of PCR ${pcr}`);
      return value;
    });
  });
  return hash(algorithm, concat(...values));
}
