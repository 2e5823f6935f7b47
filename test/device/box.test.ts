import { createECDH, createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openBox as evcOpens } from '../../controller/box.ts';
import { openBox, sealBox } from '../../device/box.ts';
import { pointOf } from '../../device/link/certificates.ts';
import { reasonOf } from '../../device/refusal.ts';
import { StateFolder } from '../../device/state.ts';
import { DeviceTpm } from '../../device/tpm/device-tpm.ts';
import type { BoxPurpose } from '../../formats/wire/box.ts';
import { inFolder } from '../kit/folders.ts';
import { withTpm } from '../kit/tpm.ts';

const pair = () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
const evc = pair();
const evcPoint = pointOf(createPublicKey(evc));
const purposes: BoxPurpose[] = ['integrity token', 'vault key in transit', 'vault key for the TPM'];

function evcRefuses(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return (error as { code?: string }).code ?? `${error}`;
  }
  return 'opened';
}

test('what a device seals EVC opens, for its purpose, context and key alone', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 200 }),
      fc.constantFrom(...purposes),
      fc.string({ maxLength: 80 }),
      (plain, purpose, context) => {
        const box = sealBox(evcPoint, plain, purpose, context);
        assert.equal(Uint8Array.from(evcOpens(evc, box, purpose, context)), plain);
        for (const other of purposes.filter((one) => one !== purpose))
          assert.is(
            evcRefuses(() => evcOpens(evc, box, other, context)),
            'wire.malformed',
          );
        assert.is(
          evcRefuses(() => evcOpens(evc, box, purpose, `${context}x`)),
          'wire.malformed',
        );
        assert.is(
          evcRefuses(() => evcOpens(pair(), box, purpose, context)),
          'wire.malformed',
        );
      },
    ),
    { numRuns: 30 },
  );
});

test('no byte of a box can be changed, and none is the same twice', () => {
  const box = sealBox(evcPoint, Buffer.from('secret'), 'integrity token', 'd');
  assert.not.equal(sealBox(evcPoint, Buffer.from('secret'), 'integrity token', 'd'), box);
  const opened: number[] = [];
  for (let at = 0; at < box.length; at++) {
    const changed = Uint8Array.from(box, (byte, index) => (index === at ? byte ^ 1 : byte));
    const code = evcRefuses(() =>
      assert.is(evcOpens(evc, changed, 'integrity token', 'd').toString(), 'secret'),
    );
    if (code === 'opened') opened.push(at);
    else assert.is(code, 'wire.malformed', `byte ${at}`);
  }
  // The tags of its four fields: this reader of protobuf does not look at their wire types.
  assert.equal(opened, [0, 2, 69, 83]);
});

test('a point that is not on the curve', () => {
  const box = Buffer.from(sealBox(evcPoint, Buffer.from('x'), 'integrity token', 'd'));
  const at = box.indexOf(4, 4);
  box.fill(7, at + 1, at + 65);
  assert.is(
    evcRefuses(() => evcOpens(evc, box, 'integrity token', 'd')),
    'wire.malformed',
  );
});

test('a box for the TPM opens with the TPM', () =>
  inFolder((folder) =>
    withTpm(async (tpm) => {
      const device = new DeviceTpm(tpm, new StateFolder(folder));
      const point = await device.boxPoint();
      const plain = randomBytes(32);
      const box = sealBox(point, plain, 'vault key for the TPM', 'id key');
      const open = (bytes: Uint8Array, purpose: BoxPurpose, context: string) =>
        openBox(point, (ephemeral) => device.agree(ephemeral), bytes, purpose, context);
      assert.equal(await open(box, 'vault key for the TPM', 'id key'), plain);
      const code = async (work: Promise<unknown>) =>
        reasonOf(
          await work.then(
            () => new Error('opened'),
            (cause: unknown) => cause,
          ),
        ).code;
      assert.is(await code(open(box, 'integrity token', 'id key')), 'box.unreadable');
      assert.is(await code(open(box, 'vault key for the TPM', 'id other')), 'box.unreadable');
      assert.is(
        await code(
          open(
            box.map((byte, index) => (index === box.length - 1 ? byte ^ 1 : byte)),
            'vault key for the TPM',
            'id key',
          ),
        ),
        'box.unreadable',
      );
      assert.is(await code(open(box.subarray(1), 'vault key for the TPM', 'id key')), 'wire.malformed');
      const other = createECDH('prime256v1').generateKeys();
      assert.is(
        await code(
          open(sealBox(other, plain, 'vault key for the TPM', 'id key'), 'vault key for the TPM', 'id key'),
        ),
        'box.unreadable',
      );
    }),
  ));

test.run();
