// The Authenticode hash of a program: what firmware, shim and GRUB extend into PCR 4 for it.
import type { BankDigests } from '../../formats/eventlog/eve-boot.ts';
import { authenticodeRanges, isPe, peHeaderSpan } from '../../formats/image/authenticode.ts';
import { hashFile, ofFile, startOf } from './file.ts';

/** Whether a file is a program, by its first bytes. */
export async function isProgram(path: string): Promise<boolean> {
  return isPe((await startOf(path, 2)).header);
}

/** Digests by bank. Throws CatalogueError image.file with field and offset for a malformed program. */
export function authenticode(path: string): Promise<BankDigests> {
  return ofFile(path, async () => {
    const { header, size } = await startOf(path, peHeaderSpan);
    return hashFile(path, authenticodeRanges(header, size));
  });
}
