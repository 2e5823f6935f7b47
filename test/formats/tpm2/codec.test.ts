import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { FormatError } from '../../../formats/format-error.ts';
import {
  buffer,
  type Codec,
  type Decoded,
  decode,
  encode,
  fixed,
  flags,
  i32,
  list,
  named,
  shortBytes,
  sized,
  sizedOrEmpty,
  struct,
  tagged,
  u8,
  u16,
  u32,
  u64,
  yesNo,
} from '../../../formats/tpm2/codec.ts';
import { hex, toHex } from '../../kit/bytes.ts';

const Inner = struct('Inner', { count: u16, data: buffer('Data', 4) });
const Choice = tagged('Choice', { before: u8, kind: u16, after: u8 }, 'kind', {
  1: { number: u32 },
  2: { inner: Inner, flag: yesNo },
  3: {},
});
const Flags = flags('Flags', u16, { first: 0, second: 3, level: [4, 7] });
const Outer = struct('Outer', {
  big: u64,
  signed: i32,
  flags: Flags,
  choices: list('Choices', Choice, 3),
  wrapped: sized('Wrapped', Inner),
  maybe: sizedOrEmpty('Maybe', Inner),
  few: shortBytes('Few', 1, 3),
  tail: fixed(2),
});
type Outer = Decoded<typeof Outer>;

const value: Outer = {
  big: 0xfedcba9876543210n,
  signed: -2,
  flags: { ...Flags.of('second'), level: 9 },
  choices: [
    { before: 1, kind: 1, after: 2, number: 0xffffffff },
    { before: 3, kind: 2, after: 4, inner: { count: 5, data: hex('aabb') }, flag: true },
    { before: 6, kind: 3, after: 7 },
  ],
  wrapped: { count: 8, data: hex('') },
  maybe: undefined,
  few: hex('c0ffee'),
  tail: hex('dead'),
};
const bytes = hex(`fedcba9876543210 fffffffe 0098
  00000003  01 0001 02 ffffffff  03 0002 04 0005 0002 aabb 01  06 0003 07
  0004 0008 0000  0000  03 c0ffee  dead`);

function refused(codec: Codec<unknown>, text: string, message: string): void {
  assert.throws(
    () => decode(codec, hex(text)),
    (error: unknown) => error instanceof FormatError && error.message === message,
    message,
  );
}

function mistake(run: () => unknown, message: string): void {
  assert.throws(run, (error: unknown) => error instanceof TypeError && error.message === message, message);
}

test('a described structure encodes and decodes', () => {
  assert.is(toHex(encode(Outer, value)), toHex(bytes));
  assert.equal(decode(Outer, bytes), value);
});

test('every truncation and every extra byte is refused', () => {
  for (let length = 0; length < bytes.length; length++)
    assert.throws(
      () => decode(Outer, bytes.subarray(0, length)),
      (e: unknown) => e instanceof FormatError,
    );
  refused(u8, '0102', 'UINT8 at byte 1: 1 bytes left over');
});

test('errors name path, offset and what is wrong', () => {
  refused(Inner, '0001 0003 aabb', 'Inner.data at byte 4: need 3 bytes, have 2');
  refused(Inner, '0001 0005 aabbccddee', 'Inner.data at byte 2: size is 5, at most 4');
  refused(Inner, '00', 'Inner.count at byte 0: need 2 bytes, have 1');
  refused(list('Choices', Choice, 3), '00000004', 'Choices at byte 0: count is 4, at most 3');
  refused(
    list('Choices', Choice, 3),
    '00000001 00 0009 00',
    'Choices[0].kind at byte 5: 0x9 selects nothing in Choice',
  );
  refused(
    list('Choices', Choice, 3),
    '00000001 00 0002 00 0000 0000 02',
    'Choices[0].flag at byte 12: must be 0 or 1, is 2',
  );
  refused(
    sized('Wrapped', Inner),
    '0005 0008 0000 00',
    'Wrapped at byte 6: size is 5, but Inner ends after 4 bytes',
  );
  refused(sized('Wrapped', Inner), '0005 0008 0000', 'Wrapped at byte 2: need 5 bytes, have 4');
  refused(sized('Wrapped', Inner), '0003 0008 0000', 'Wrapped.data at byte 4: need 2 bytes, have 1');
  refused(Flags, '0106', 'Flags at byte 0: reserved bits 0x106 are set');
  refused(shortBytes('Few', 1, 3), '00', 'Few at byte 0: size is 0, must be 1 to 3');
  refused(shortBytes('Few', 1, 3), '04', 'Few at byte 0: size is 4, must be 1 to 3');
});

test('a count allocates nothing before its bound is checked', () => {
  refused(list('Many', u8, 0xffffffff), 'ffffffff', 'Many[0] at byte 4: need 1 bytes, have 0');
});

test('an inner structure cannot read beyond the size around it', () => {
  const Two = struct('Two', { a: sized('A', Inner), rest: fixed(4) });
  refused(Two, '0004 0001 0004 aabbccdd', 'Two.a.data at byte 6: need 4 bytes, have 0');
});

test('values that do not fit are the mistake of the caller', () => {
  mistake(() => encode(u8, 256), 'UINT8: needs an unsigned integer of 8 bits');
  mistake(() => encode(u16, 1.5), 'UINT16: needs an unsigned integer of 16 bits');
  mistake(() => encode(u32, -1), 'UINT32: needs an unsigned integer of 32 bits');
  mistake(() => encode(u64, 1n << 64n), 'UINT64: needs an unsigned bigint of 64 bits');
  mistake(() => encode(u64, 5 as unknown as bigint), 'UINT64: needs an unsigned bigint of 64 bits');
  mistake(() => encode(i32, 2 ** 31), 'INT32: needs a signed integer of 32 bits');
  mistake(() => encode(yesNo, 1 as unknown as boolean), 'TPMI_YES_NO: needs a boolean');
  mistake(() => encode(Inner, { count: 0, data: hex('0102030405') }), 'Inner.data: has 5 bytes, at most 4');
  mistake(() => encode(Inner, { count: 0 } as Decoded<typeof Inner>), 'Inner.data: is missing');
  mistake(() => encode(fixed(2), hex('01')), 'BYTE[2]: needs 2 bytes, has 1');
  mistake(() => encode(list('Two', u8, 2), [1, 2, 3]), 'Two: has 3 items, at most 2');
  mistake(() => encode(list('Two', u8, 2), [1, 999]), 'Two[1]: needs an unsigned integer of 8 bits');
  mistake(() => encode(Flags, { ...Flags.of(), level: 16 }), 'Flags: level is out of range');
  mistake(
    () => encode(Choice, { before: 0, kind: 4, after: 0 } as unknown as Decoded<typeof Choice>),
    'Choice.kind: selects nothing in Choice',
  );
});

test('integers keep all their bits', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), (n) => {
      const encoded = encode(u64, n);
      assert.is(toHex(encoded), n.toString(16).padStart(16, '0'));
      assert.is(decode(u64, encoded), n);
    }),
  );
  fc.assert(fc.property(fc.integer(), (n) => assert.is(decode(i32, encode(i32, n)), n)));
  fc.assert(fc.property(fc.nat({ max: 0xffffffff }), (n) => assert.is(decode(u32, encode(u32, n)), n)));
});

test('whatever decodes encodes to the same bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (input) => {
      let decoded: Outer | undefined;
      try {
        decoded = decode(Outer, input);
      } catch (error) {
        assert.instance(error, FormatError);
        return;
      }
      assert.equal(encode(Outer, decoded), input);
    }),
    { numRuns: 2000 },
  );
  // Random bytes seldom get far; changed good ones do.
  fc.assert(
    fc.property(fc.nat(bytes.length - 1), fc.nat(255), (at, byte) => {
      const input = bytes.slice();
      input[at] = byte;
      try {
        assert.equal(encode(Outer, decode(Outer, input)), input);
      } catch (error) {
        assert.instance(error, FormatError);
      }
    }),
    { numRuns: 5000 },
  );
});

test('a decoded value does not share memory with the message', () => {
  const message = hex('0001 0002 aabb');
  const decoded = decode(Inner, message);
  message.fill(0);
  assert.equal(decoded.data, hex('aabb'));
});

test('a long structure grows its buffer', () => {
  const data = new Uint8Array(5000).fill(7);
  assert.equal(decode(buffer('Long', 6000), encode(buffer('Long', 6000), data)), data);
});

test('named integers pass values without a name', () => {
  const Colour = named('Colour', u8, { RED: 1 });
  assert.is(decode(Colour, hex('02')), 2);
});

test.run();
