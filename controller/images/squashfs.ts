// The hash of a root file system as EVE's GRUB measures it into PCR 13.
import { isSquashfs, squashfsSuperBlock, squashfsUsed } from '../../formats/image/squashfs.ts';
import { hashFile, ofFile, startOf } from './file.ts';

/** Whether a file is a SquashFS, by its first bytes. */
export async function isRootfs(path: string): Promise<boolean> {
  return isSquashfs((await startOf(path, 4)).header);
}

/**
 * SHA-256 over the part that is measured. Throws CatalogueError image.file for what is no SquashFS, is cut short, or has
 * 2 GiB and more: of such an image EVE's GRUB hashes nothing, and every one of them looks alike.
 */
export function rootfsHash(path: string): Promise<Uint8Array> {
  return ofFile(path, async () => {
    const { header, size } = await startOf(path, squashfsSuperBlock);
    const { sha256 } = await hashFile(path, [{ start: 0, end: squashfsUsed(header, size) }], ['sha256']);
    return sha256 as Uint8Array;
  });
}
