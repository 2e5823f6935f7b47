// How much of a root file system EVE's GRUB measures (`measurefs`, PCR 13): as much as the super block says is used.
import { FormatError } from '../format-error.ts';

/** The super block of SquashFS 4 is the first bytes of the file. */
export const squashfsSuperBlock = 96;

/** `measurefs` reads the size into a signed integer of 32 bits: from here on it hashes nothing. */
const tooLarge = 2 ** 31;

/** Whether a file is a SquashFS by its first bytes. */
export function isSquashfs(header: Uint8Array): boolean {
  return header[0] === 0x68 && header[1] === 0x73 && header[2] === 0x71 && header[3] === 0x73;
}

/**
 * How many bytes from the start are hashed: `bytes_used` of the super block, without the padding behind it.
 *
 * @param header the first `squashfsSuperBlock` bytes of the file, or all of it
 * @param size of the file, bytes
 * @throws FormatError for what is no SquashFS 4, is cut short, is empty, or is so large that nothing of it is measured
 */
export function squashfsUsed(header: Uint8Array, size: number): number {
  if (header.length < squashfsSuperBlock)
    throw bad('super block', 0, `needs ${squashfsSuperBlock} bytes, have ${header.length}`);
  if (!isSquashfs(header)) throw bad('s_magic', 0, 'is not hsqs');
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  const version = view.getUint16(28, true);
  if (version !== 4) throw bad('s_major', 28, `version ${version}, and EVE has 4`);
  const used = view.getBigUint64(40, true);
  if (used < BigInt(squashfsSuperBlock)) throw bad('bytes_used', 40, `${used} bytes are no file system`);
  if (used >= BigInt(tooLarge))
    throw bad('bytes_used', 40, `${used} bytes: EVE's GRUB measures nothing of an image of 2 GiB and more`);
  if (used > BigInt(size))
    throw bad('bytes_used', 40, `${used} bytes, and the file has ${size}: it is cut short`);
  return Number(used);
}

function bad(field: string, offset: number, problem: string): FormatError {
  return new FormatError(`SquashFS.${field}`, offset, problem);
}
