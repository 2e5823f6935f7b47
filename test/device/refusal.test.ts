import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BootError } from '../../device/boot/extend.ts';
import { reasonOf } from '../../device/refusal.ts';
import { TransportError } from '../../device/tpm/transport.ts';

const noLogs = { biosLog: new Uint8Array(), configLog: null };

test('a boot that its TPM does not confirm is refused for what the TPM did', () => {
  const cause = new TransportError('timeout', 'no response within 1 ms');
  const { code, text } = reasonOf(new BootError('the TPM did not confirm a measurement', noLogs, { cause }));
  assert.is(code, 'tpm.lost');
  assert.match(text, /did not confirm a measurement: the TPM is out of reach/);
});

test('a TPM that waits for its startup was reset, and a restart is what helps', () => {
  const { code, text } = reasonOf(Object.assign(new Error('refused'), { rcName: 'TPM_RC_INITIALIZE' }));
  assert.is(code, 'tpm.reset');
  assert.match(text, /restart the device/);
});

test.run();
