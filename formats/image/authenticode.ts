// What firmware hashes of a PE program before it starts it: everything but the checksum and the signatures.
import { FormatError } from '../format-error.ts';

/** Bytes of a file from `start` up to and without `end`. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** The headers of a program lie in these first bytes of its file. */
export const peHeaderSpan = 64 * 1024;

/** The linkers' own limit; firmware and loaders refuse more. */
const maxSections = 96;
/** Entry of the attribute certificate table in the data directories. */
const security = 4;

/** Whether a file is a program by its first two bytes; anything else that starts with them is a malformed one. */
export function isPe(header: Uint8Array): boolean {
  return header[0] === 0x4d && header[1] === 0x5a;
}

/**
 * The ranges whose hash, in this order, is the PE image hash ["Windows Authenticode Portable Executable Signature
 * Format", 2008, "Calculating the PE Image Hash"], which firmware extends into PCR 4 [PFP 3.3.4.5].
 *
 * @param header the first bytes of the file: all of them, or `peHeaderSpan`
 * @param size of the file, bytes
 * @throws FormatError with field and offset for a file that cannot be a program, or that two readers would hash
 *   differently: sections outside the file or one over the other, signatures that do not end the file
 */
export function authenticodeRanges(header: Uint8Array, size: number): Range[] {
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  const u16 = (at: number, field: string) => view.getUint16(need(at, 2, field), true);
  const u32 = (at: number, field: string) => view.getUint32(need(at, 4, field), true);
  const need = (at: number, length: number, field: string) => {
    if (at + length <= header.length) return at;
    throw bad(field, at, `lies outside the first ${header.length} bytes`);
  };

  if (u16(0, 'e_magic') !== 0x5a4d) throw bad('e_magic', 0, 'is not MZ');
  const pe = u32(0x3c, 'e_lfanew');
  if (pe < 0x40) throw bad('e_lfanew', 0x3c, `${pe} is inside the DOS header`);
  if (u32(pe, 'Signature') !== 0x4550) throw bad('Signature', pe, 'is not PE');
  const sectionCount = u16(pe + 6, 'NumberOfSections');
  if (sectionCount === 0 || sectionCount > maxSections)
    throw bad('NumberOfSections', pe + 6, `${sectionCount}, from 1 to ${maxSections}`);
  const optionalSize = u16(pe + 20, 'SizeOfOptionalHeader');
  const optional = pe + 24;
  const magic = u16(optional, 'Magic');
  if (magic !== 0x10b && magic !== 0x20b)
    throw bad('Magic', optional, `0x${magic.toString(16)} is neither PE32 nor PE32+`);
  const directories = optional + (magic === 0x10b ? 96 : 112);
  const directoryCount = u32(directories - 4, 'NumberOfRvaAndSizes');
  if (directoryCount > 16) throw bad('NumberOfRvaAndSizes', directories - 4, `${directoryCount}, at most 16`);
  if (directories + 8 * directoryCount > optional + optionalSize)
    throw bad('SizeOfOptionalHeader', pe + 20, `${optionalSize} bytes do not hold the data directories`);
  const sectionTable = optional + optionalSize;
  const headersEnd = u32(optional + 60, 'SizeOfHeaders');
  if (headersEnd < sectionTable + 40 * sectionCount || headersEnd > size)
    throw bad(
      'SizeOfHeaders',
      optional + 60,
      `${headersEnd} bytes do not hold the headers, or not in the file`,
    );

  const checksum = optional + 64;
  const entry = directories + 8 * security;
  const signed = directoryCount > security;
  const ranges: Range[] = [
    { start: 0, end: checksum },
    ...(signed
      ? [
          { start: checksum + 4, end: entry },
          { start: entry + 8, end: headersEnd },
        ]
      : [{ start: checksum + 4, end: headersEnd }]),
  ];

  const sections = Array.from({ length: sectionCount }, (_, i) => {
    const at = sectionTable + 40 * i;
    const length = u32(at + 16, `Sections[${i}].SizeOfRawData`);
    const start = u32(at + 20, `Sections[${i}].PointerToRawData`);
    if (length > 0 && start + length > size)
      throw bad(
        `Sections[${i}].SizeOfRawData`,
        at + 16,
        `ends at ${start + length}, and the file at ${size}`,
      );
    return { start, end: start + length, at, field: `Sections[${i}].PointerToRawData` };
  })
    .filter(({ start, end }) => end > start)
    .sort((a, b) => a.start - b.start);
  let end = headersEnd;
  for (const section of sections) {
    if (section.start < end)
      throw bad(section.field, section.at + 20, `${section.start} lies inside what comes before it`);
    end = section.end;
    ranges.push({ start: section.start, end });
  }

  const certificates = signed
    ? certificateTable(u32(entry, 'CertificateTable'), u32(entry + 4, 'CertificateTable.Size'))
    : 0;
  // Data behind the sections; where it starts is counted in bytes that were hashed, gaps between sections or not.
  const hashed = sections.reduce((sum, section) => sum + section.end - section.start, headersEnd);
  if (size - certificates < end) throw bad('CertificateTable', entry, 'the signatures lie inside a section');
  if (size - certificates > hashed) ranges.push({ start: hashed, end: size - certificates });
  return ranges;

  function certificateTable(start: number, length: number): number {
    if (length === 0) return 0;
    if (start + length !== size)
      throw bad('CertificateTable', entry, `ends at ${start + length}, and the file at ${size}`);
    return length;
  }
}

function bad(field: string, offset: number, problem: string): FormatError {
  return new FormatError(`PE.${field}`, offset, problem);
}
