// Small PE programs, for tests of how they are hashed.
import { createHash } from 'node:crypto';

export interface PeOptions {
  /** PE32 instead of PE32+. */
  narrow?: boolean;
  /** Bytes of each section, as they lie in the file. */
  sections?: readonly number[];
  /** Entries of the data directories; the fifth is that of the signatures. */
  directories?: number;
  /** Bytes behind the last section. */
  trailing?: number;
  /** Bytes of a table of signatures, at the very end. */
  certificates?: number;
  /** Another filling. */
  seed?: string;
}

/** Where the fields are that tests spoil. */
export interface PeLayout {
  bytes: Buffer;
  pe: number;
  optional: number;
  checksum: number;
  directoryCount: number;
  certificateEntry: number;
  sectionTable: number;
  headersEnd: number;
  certificatesAt: number;
}

export function buildPe(options: PeOptions = {}): PeLayout {
  const {
    narrow = false,
    sections = [1024, 512],
    directories = 16,
    trailing = 0,
    certificates = 0,
  } = options;
  const pe = 0x80;
  const optional = pe + 24;
  const directoriesAt = optional + (narrow ? 96 : 112);
  const sectionTable = directoriesAt + 8 * directories;
  const headersEnd = 0x400;
  const body = sections.reduce((sum, size) => sum + size, 0);
  const certificatesAt = headersEnd + body + trailing;
  const bytes = createHash('shake256', { outputLength: certificatesAt + certificates })
    .update(`pe ${options.seed ?? ''}`)
    .digest();
  bytes.fill(0, 0, headersEnd);
  bytes.write('MZ');
  bytes.writeUInt32LE(pe, 0x3c);
  bytes.write('PE\0\0', pe);
  bytes.writeUInt16LE(narrow ? 0x14c : 0x8664, pe + 4);
  bytes.writeUInt16LE(sections.length, pe + 6);
  bytes.writeUInt16LE(sectionTable - optional, pe + 20);
  bytes.writeUInt16LE(0x2022, pe + 22); // Characteristics: executable, DLL flag as EFI tools have it
  bytes.writeUInt16LE(narrow ? 0x10b : 0x20b, optional);
  bytes.writeUInt32LE(0x1000, optional + 16); // AddressOfEntryPoint
  bytes.writeUInt32LE(0x1000, optional + 32); // SectionAlignment
  bytes.writeUInt32LE(0x200, optional + 36); // FileAlignment
  bytes.writeUInt32LE(0x1000 * (sections.length + 1), optional + 56); // SizeOfImage
  bytes.writeUInt32LE(headersEnd, optional + 60);
  bytes.writeUInt32LE(0x12345678, optional + 64); // CheckSum
  bytes.writeUInt16LE(10, optional + 68); // Subsystem: EFI application
  bytes.writeUInt32LE(directories, directoriesAt - 4);
  const certificateEntry = directoriesAt + 32;
  if (certificates > 0) {
    bytes.writeUInt32LE(certificatesAt, certificateEntry);
    bytes.writeUInt32LE(certificates, certificateEntry + 4);
    // WIN_CERTIFICATE: length, revision 2, PKCS#7.
    bytes.writeUInt32LE(certificates, certificatesAt);
    bytes.writeUInt32LE(0x00020200, certificatesAt + 4);
  }
  let at = headersEnd;
  for (const [i, size] of sections.entries()) {
    const header = sectionTable + 40 * i;
    bytes.write(`.s${i}`, header);
    bytes.writeUInt32LE(size, header + 8);
    bytes.writeUInt32LE(0x1000 * (i + 1), header + 12);
    bytes.writeUInt32LE(size, header + 16);
    bytes.writeUInt32LE(at, header + 20);
    bytes.writeUInt32LE(0x60000020, header + 36); // code, may be run and read
    at += size;
  }
  const directoryCount = directoriesAt - 4;
  const checksum = optional + 64;
  return {
    bytes,
    pe,
    optional,
    checksum,
    directoryCount,
    certificateEntry,
    sectionTable,
    headersEnd,
    certificatesAt,
  };
}

/** A super block of SquashFS 4 with `used` bytes, in a file of `size`. */
export function squashfsHeader(used: bigint, magic = 'hsqs', major = 4): Buffer {
  const header = Buffer.alloc(96);
  header.write(magic);
  header.writeUInt16LE(major, 28);
  header.writeBigUInt64LE(used, 40);
  return header;
}
