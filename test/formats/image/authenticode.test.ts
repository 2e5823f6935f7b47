import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { FormatError } from '../../../formats/format-error.ts';
import { authenticodeRanges, isPe, peHeaderSpan } from '../../../formats/image/authenticode.ts';
import { buildPe, type PeLayout, type PeOptions } from '../../kit/pe.ts';

function hashOf(bytes: Buffer): string {
  const hash = createHash('sha256');
  for (const { start, end } of authenticodeRanges(bytes.subarray(0, peHeaderSpan), bytes.length))
    hash.update(bytes.subarray(start, end));
  return hash.digest('hex');
}

function refused(bytes: Buffer, field: string, size = bytes.length): void {
  try {
    authenticodeRanges(bytes.subarray(0, peHeaderSpan), size);
  } catch (error) {
    assert.instance(error, FormatError);
    assert.is((error as FormatError).path, `PE.${field}`, (error as FormatError).message);
    return;
  }
  assert.unreachable(`${field} should have been refused`);
}

test('all of a program is hashed but its checksum and the entry of its signatures', () => {
  for (const narrow of [false, true]) {
    const { bytes, checksum, certificateEntry } = buildPe({ narrow });
    assert.ok(isPe(bytes));
    const expected = createHash('sha256')
      .update(bytes.subarray(0, checksum))
      .update(bytes.subarray(checksum + 4, certificateEntry))
      .update(bytes.subarray(certificateEntry + 8))
      .digest('hex');
    assert.is(hashOf(bytes), expected);
  }
});

test('every other byte counts, and none of those', () => {
  const { bytes, checksum, certificateEntry, certificatesAt } = buildPe({ trailing: 16, certificates: 64 });
  const before = hashOf(bytes);
  const fields = (at: number) =>
    (at >= checksum && at < checksum + 4) || (at >= certificateEntry && at < certificateEntry + 8);
  for (let at = 0x400; at < bytes.length; at += 7) {
    bytes[at] = (bytes[at] as number) ^ 1;
    assert.is(hashOf(bytes) === before, at >= certificatesAt, `byte ${at}`);
    bytes[at] = (bytes[at] as number) ^ 1;
  }
  for (let at = checksum; at < checksum + 4; at++) {
    assert.ok(fields(at));
    bytes[at] = (bytes[at] as number) ^ 0xff;
  }
  assert.is(hashOf(bytes), before);
});

test('signing changes nothing: the table of signatures and its entry are left out', () => {
  const plain = buildPe({ trailing: 8 });
  const signed = buildPe({ trailing: 8, certificates: 128 });
  // The filling depends on nothing but its place.
  assert.is(hashOf(signed.bytes), hashOf(plain.bytes));
});

test('sections are hashed as they lie in the file, in whatever order the table has them', () => {
  const { bytes, sectionTable } = buildPe();
  const before = authenticodeRanges(bytes, bytes.length).slice(3);
  const [first, second] = [
    bytes.subarray(sectionTable, sectionTable + 40),
    bytes.subarray(sectionTable + 40, sectionTable + 80),
  ];
  const swapped = Buffer.concat([second, first]);
  swapped.copy(bytes, sectionTable);
  assert.equal(authenticodeRanges(bytes, bytes.length).slice(3), before);
});

test('without a directory for signatures the headers are hashed in two pieces', () => {
  const { bytes } = buildPe({ directories: 4 });
  assert.is(authenticodeRanges(bytes, bytes.length).length, 4);
});

test('data behind the sections start where as many bytes were hashed, gaps or not', () => {
  const { bytes, sectionTable, headersEnd } = buildPe({ sections: [512, 512], trailing: 100 });
  assert.equal(authenticodeRanges(bytes, bytes.length).at(-1), {
    start: headersEnd + 1024,
    end: headersEnd + 1124,
  });
  // The second section 32 bytes further on: 32 bytes of it are hashed twice, as the specification has it.
  bytes.writeUInt32LE(headersEnd + 544, sectionTable + 40 + 20);
  assert.equal(authenticodeRanges(bytes, bytes.length).slice(-2), [
    { start: headersEnd + 544, end: headersEnd + 1056 },
    { start: headersEnd + 1024, end: headersEnd + 1124 },
  ]);
});

const spoilt: [name: string, field: string, spoil: (pe: PeLayout) => void, options?: PeOptions][] = [
  ['no MZ', 'e_magic', ({ bytes }) => bytes.write('ZM')],
  ['header inside the DOS header', 'e_lfanew', ({ bytes }) => bytes.writeUInt32LE(4, 0x3c)],
  ['header beyond what is read', 'Signature', ({ bytes }) => bytes.writeUInt32LE(0xfffffff0, 0x3c)],
  ['no PE', 'Signature', ({ bytes, pe }) => bytes.write('NE', pe)],
  ['no section', 'NumberOfSections', ({ bytes, pe }) => bytes.writeUInt16LE(0, pe + 6)],
  ['too many sections', 'NumberOfSections', ({ bytes, pe }) => bytes.writeUInt16LE(0xffff, pe + 6)],
  [
    'an optional header of nothing',
    'SizeOfOptionalHeader',
    ({ bytes, pe }) => bytes.writeUInt16LE(0, pe + 20),
  ],
  ['neither PE32 nor PE32+', 'Magic', ({ bytes, optional }) => bytes.writeUInt16LE(0x107, optional)],
  [
    'too many directories',
    'NumberOfRvaAndSizes',
    ({ bytes, directoryCount }) => bytes.writeUInt32LE(0xffffffff, directoryCount),
  ],
  [
    'headers that end too soon',
    'SizeOfHeaders',
    ({ bytes, optional }) => bytes.writeUInt32LE(0x100, optional + 60),
  ],
  [
    'headers that end behind the file',
    'SizeOfHeaders',
    ({ bytes, optional }) => bytes.writeUInt32LE(0x7fffffff, optional + 60),
  ],
  [
    'a section behind the file',
    'Sections[1].SizeOfRawData',
    ({ bytes, sectionTable }) => bytes.writeUInt32LE(0xffffffff, sectionTable + 40 + 16),
  ],
  [
    'a section inside the headers',
    'Sections[0].PointerToRawData',
    ({ bytes, sectionTable }) => bytes.writeUInt32LE(0x10, sectionTable + 20),
  ],
  [
    'sections one over the other',
    'Sections[1].PointerToRawData',
    ({ bytes, sectionTable }) => bytes.writeUInt32LE(0x500, sectionTable + 40 + 20),
  ],
  [
    'signatures that do not end the file',
    'CertificateTable',
    ({ bytes, certificateEntry }) => bytes.writeUInt32LE(8, certificateEntry + 4),
    { certificates: 64 },
  ],
  [
    'signatures behind the file',
    'CertificateTable',
    ({ bytes, certificateEntry }) => bytes.writeUInt32LE(0xffffffff, certificateEntry),
    { certificates: 64 },
  ],
  [
    'signatures over a section',
    'CertificateTable',
    ({ bytes, certificateEntry }) => {
      bytes.writeUInt32LE(bytes.length - 200, certificateEntry);
      bytes.writeUInt32LE(200, certificateEntry + 4);
    },
    { certificates: 64 },
  ],
];

for (const [name, field, spoil, options] of spoilt)
  test(`malformed: ${name}`, () => {
    const pe = buildPe(options);
    spoil(pe);
    refused(pe.bytes, field);
  });

test('a program that is cut short anywhere is refused, or is another one', () => {
  const { bytes } = buildPe({ certificates: 64 });
  const whole = hashOf(bytes);
  for (let end = 0; end < bytes.length; end++) {
    try {
      assert.is.not(hashOf(bytes.subarray(0, end)), whole);
    } catch (error) {
      assert.instance(error, FormatError, `cut at ${end}: ${error}`);
    }
  }
});

test('whatever the bytes are, there is an answer or a clear error, and every range lies in the file', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(0x3ff), fc.nat(255)), { maxLength: 12 }),
      fc.nat(4096),
      (changes, size) => {
        const { bytes } = buildPe();
        for (const [at, value] of changes) bytes[at] = value;
        try {
          for (const { start, end } of authenticodeRanges(bytes, size))
            assert.ok(start >= 0 && start <= end && end <= size, `${start} to ${end} of ${size}`);
        } catch (error) {
          assert.instance(error, FormatError);
        }
      },
    ),
  );
});

test.run();
