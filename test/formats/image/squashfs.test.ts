import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { FormatError } from '../../../formats/format-error.ts';
import { isSquashfs, squashfsUsed } from '../../../formats/image/squashfs.ts';
import { squashfsHeader } from '../../kit/pe.ts';

const gibibyte = 1024 ** 3;

test('as much is measured as the super block says, and not the padding', () => {
  assert.is(squashfsUsed(squashfsHeader(5000n), 8192), 5000);
  assert.is(squashfsUsed(squashfsHeader(96n), 96), 96);
  assert.is(squashfsUsed(squashfsHeader(BigInt(2 * gibibyte - 1)), 4 * gibibyte), 2 * gibibyte - 1);
  assert.ok(isSquashfs(squashfsHeader(96n)));
  assert.not(isSquashfs(squashfsHeader(96n, 'sqsh')));
});

const refusals: [name: string, field: string, header: Uint8Array, size: number][] = [
  ['2 GiB, of which GRUB measures nothing', 'bytes_used', squashfsHeader(BigInt(2 * gibibyte)), 3 * gibibyte],
  ['a size whose lower half looks small', 'bytes_used', squashfsHeader((1n << 32n) + 5000n), 5 * gibibyte],
  ['the largest size', 'bytes_used', squashfsHeader(0xffffffffffffffffn), 8192],
  ['nothing', 'bytes_used', squashfsHeader(0n), 8192],
  ['less than its own super block', 'bytes_used', squashfsHeader(95n), 8192],
  ['more than the file has', 'bytes_used', squashfsHeader(8193n), 8192],
  ['another byte order', 's_magic', squashfsHeader(5000n, 'sqsh'), 8192],
  ['another version', 's_major', squashfsHeader(5000n, 'hsqs', 3), 8192],
  ['a file shorter than a super block', 'super block', squashfsHeader(5000n).subarray(0, 95), 95],
  ['an empty file', 'super block', new Uint8Array(), 0],
];

for (const [name, field, header, size] of refusals)
  test(`refused: ${name}`, () => {
    assert.throws(
      () => squashfsUsed(header, size),
      (error: unknown) => error instanceof FormatError && error.path === `SquashFS.${field}`,
    );
  });

test.run();
