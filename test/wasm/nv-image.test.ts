import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { NvImageError, nvImageSize, openNvImage, sealNvImage } from '../../wasm/nv-image.ts';
import { nvSize, WasmTpm } from '../../wasm/tpm.ts';

const key = randomBytes(32);
const layout = new WasmTpm().layout;
const nv = randomBytes(nvSize);
const image = sealNvImage(nv, layout, key);

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    assert.instance(error, NvImageError);
    return (error as NvImageError).code;
  }
  return 'opened';
}

function changed(offset: number): Uint8Array {
  const copy = Uint8Array.from(image);
  copy[offset] = (copy[offset] ?? 0) ^ 1;
  return copy;
}

test('what goes in comes out', () => {
  assert.is(image.length, nvImageSize);
  assert.equal(Buffer.from(openNvImage(image, layout, key)), nv);
});

test('nothing of the memory is in the image, and no two images are alike', () => {
  assert.not(Buffer.from(image).includes(nv.subarray(0, 16)));
  const again = sealNvImage(nv, layout, key);
  assert.not.equal(again.subarray(42, 54), image.subarray(42, 54), 'nonce');
  assert.not.equal(again.subarray(54, 118), image.subarray(54, 118));
});

test('another key, and a change of any region, does not open', () => {
  assert.is(
    refusal(() => openNvImage(image, layout, randomBytes(32))),
    'sealed',
  );
  const regions: [number, string][] = [
    [0, 'format'],
    [7, 'format'],
    [8, 'version'],
    [9, 'version'],
    [10, 'layout'],
    [41, 'layout'],
    [42, 'sealed'],
    [53, 'sealed'],
    [54, 'sealed'],
    [54 + nvSize - 1, 'sealed'],
    [54 + nvSize, 'sealed'],
    [nvImageSize - 1, 'sealed'],
  ];
  for (const [offset, code] of regions)
    assert.is(
      refusal(() => openNvImage(changed(offset), layout, key)),
      code,
      `byte ${offset}`,
    );
});

test('an image of another layout is refused, even with its layout field made to fit', () => {
  const other = randomBytes(32);
  const foreign = sealNvImage(nv, other, key);
  assert.is(
    refusal(() => openNvImage(foreign, layout, key)),
    'layout',
  );
  foreign.set(layout, 10);
  assert.is(
    refusal(() => openNvImage(foreign, layout, key)),
    'sealed',
  );
});

test('an image cut anywhere, or grown, is refused for its size', () => {
  for (const size of [0, 5, 8, 9, 10, 41, 42, 53, 54, 55, 30_000, 54 + nvSize, nvImageSize - 1])
    assert.is(
      refusal(() => openNvImage(image.subarray(0, size), layout, key)),
      'truncated',
      `${size} bytes`,
    );
  assert.is(
    refusal(() => openNvImage(Buffer.concat([image, Buffer.of(0)]), layout, key)),
    'truncated',
  );
});

test('errors name the way out and no secret', () => {
  for (const bytes of [changed(0), changed(9), changed(10), changed(60), image.subarray(0, 100)])
    try {
      openNvImage(bytes, layout, key);
      assert.unreachable();
    } catch (error) {
      const { message } = error as Error;
      assert.match(message, /; (give|use|put back)/);
      assert.not.match(message, new RegExp(key.toString('hex')));
    }
});

test('a key of another size is the caller’s mistake', () => {
  assert.throws(() => sealNvImage(nv, layout, randomBytes(16)), /32 bytes, not 16/);
  assert.throws(() => openNvImage(image, layout, randomBytes(31)), /32 bytes, not 31/);
});

test.run();
