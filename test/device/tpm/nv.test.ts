import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TpmError } from '../../../device/tpm/execute.ts';
import { provisionKeys } from '../../../device/tpm/keys.ts';
import {
  defineNv,
  defineNvCounter,
  incrementNv,
  readNv,
  readNvCounter,
  readNvPublic,
  undefineNv,
  writeNv,
} from '../../../device/tpm/nv.ts';
import { SessionError } from '../../../device/tpm/session.ts';
import { NV_DefineSpace, NV_Write } from '../../../formats/tpm2/commands.ts';
import { TPM_ALG, TPM_RH } from '../../../formats/tpm2/constants.ts';
import { TPMA_NV } from '../../../formats/tpm2/structures.ts';
import { rejects } from '../../kit/rejects.ts';
import { withTpm } from '../../kit/tpm.ts';
import { changed, withFaults } from '../../kit/tpm-faults.ts';

const index = 0x01800000;

test('[TPM2 P3 31] an index: define, write, read, undefine; larger than one command takes', () =>
  withFaults(async (tpm, wire) => {
    const { srk } = await provisionKeys(tpm);
    const largest = await tpm.nvBufferMax();
    for (const salt of [undefined, srk])
      for (const size of [1, largest - 1, largest, largest + 1, 2048]) {
        await defineNv(tpm, index, size);
        await rejects(readNv(tpm, index, salt), TpmError, (e) => e.rcName === 'TPM_RC_NV_UNINITIALIZED');
        const data = Uint8Array.from(randomBytes(size));
        wire.forget();
        await writeNv(tpm, index, data, salt);
        assert.equal(await readNv(tpm, index, salt), data);
        assert.is(wire.count('NV_Write'), Math.ceil(size / largest));
        await writeNv(
          tpm,
          index,
          data.map((byte) => byte ^ 0xff),
          salt,
        );
        assert.is((await readNv(tpm, index))[0], (data[0] as number) ^ 0xff);
        assert.is((await readNvPublic(tpm, index)).dataSize, size);
        await undefineNv(tpm, index);
      }
    await rejects(readNv(tpm, index), TpmError, (e) => e.rcName === 'TPM_RC_HANDLE');
  }));

test('only whole indices are written, and none is defined twice', () =>
  withTpm(async (tpm) => {
    await defineNv(tpm, index, 32);
    await rejects(
      writeNv(tpm, index, new Uint8Array(31)),
      TypeError,
      (e) => e.message === '31 bytes for an NV index of 32 bytes',
    );
    await rejects(defineNv(tpm, index, 32), TpmError, (e) => e.rcName === 'TPM_RC_NV_DEFINED');
    await rejects(defineNv(tpm, index + 1, 60_000), TpmError, (e) => e.rcName === 'TPM_RC_SIZE');
  }));

test('a counter goes up and never back, not even when it is defined anew', () =>
  withTpm(async (tpm, transport) => {
    const { srk } = await provisionKeys(tpm);
    await defineNvCounter(tpm, index);
    const first = await incrementNv(tpm, index, srk);
    assert.is(await incrementNv(tpm, index), first + 1n);
    assert.is(await readNvCounter(tpm, index, srk), first + 1n);
    await transport.powerCycle();
    assert.is(await readNvCounter(tpm, index), first + 1n);
    await undefineNv(tpm, index);
    await defineNvCounter(tpm, index);
    assert.ok((await incrementNv(tpm, index)) > first + 1n);
    await rejects(writeNv(tpm, index, new Uint8Array(8)), TpmError, (e) => e.rcName === 'TPM_RC_ATTRIBUTES');
    await defineNv(tpm, index + 1, 4);
    await writeNv(tpm, index + 1, new Uint8Array(4));
    await rejects(readNvCounter(tpm, index + 1), RangeError, (e) => e.message === '0x1800001 is no counter');
  }));

test('what was read in a session was not changed on the way', () =>
  withFaults(async (tpm, wire) => {
    const { srk } = await provisionKeys(tpm);
    await defineNv(tpm, index, 32);
    await writeNv(tpm, index, new Uint8Array(32));
    wire.fault = changed('NV_Read', (response) => {
      response[20] = 1;
    });
    await rejects(readNv(tpm, index, srk), SessionError, (e) => e.code === 'hmac-mismatch');
    assert.is(
      (await readNv(tpm, index)).some((byte) => byte === 1),
      true,
      'without a session nobody notices',
    );
  }));

test('certificates of the manufacturer: written by the platform, read with whatever the index allows', () =>
  withTpm(async (tpm) => {
    const certificate = Uint8Array.from(randomBytes(1300));
    for (const [nvIndex, reader] of [
      [0x01c0000a, 'OWNERREAD'],
      [0x01c00002, 'AUTHREAD'],
    ] as const) {
      await tpm.execute(NV_DefineSpace, {
        authHandle: TPM_RH.PLATFORM,
        auth: new Uint8Array(),
        publicInfo: {
          nvIndex,
          nameAlg: TPM_ALG.SHA256,
          attributes: TPMA_NV.of('PPWRITE', 'PPREAD', reader, 'NO_DA', 'PLATFORMCREATE'),
          authPolicy: new Uint8Array(),
          dataSize: certificate.length,
        },
      });
      for (const offset of [0, 1024])
        await tpm.execute(NV_Write, {
          authHandle: TPM_RH.PLATFORM,
          nvIndex,
          data: certificate.subarray(offset, offset + 1024),
          offset,
        });
      assert.equal(await readNv(tpm, nvIndex), certificate);
    }
  }));

test.run();
