import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { baseCode, responseCode, responseCodes, TPM_RC } from '../../../formats/tpm2/response-codes.ts';

function stated(code: number): [string, string, number, boolean] {
  const { name, kind, number, retry } = responseCode(code);
  return [name, kind, number, retry];
}

test('[TPM2 P2 6.6] names, numbers and whether retrying helps', () => {
  assert.equal(stated(0x000), ['TPM_RC_SUCCESS', 'success', 0, false]);
  assert.equal(stated(0x01e), ['TPM_RC_BAD_TAG', 'error', 0, false]);
  assert.equal(stated(0x100), ['TPM_RC_INITIALIZE', 'error', 0, false]);
  assert.equal(stated(0x128), ['TPM_RC_PCR_CHANGED', 'error', 0, false]);
  assert.equal(stated(0x14c), ['TPM_RC_NV_DEFINED', 'error', 0, false]);
  assert.equal(stated(0x084), ['TPM_RC_VALUE', 'handle', 0, false]);
  assert.equal(stated(0x18b), ['TPM_RC_HANDLE', 'handle', 1, false]);
  assert.equal(stated(0x1c4), ['TPM_RC_VALUE', 'parameter', 1, false]);
  assert.equal(stated(0xfd5), ['TPM_RC_SIZE', 'parameter', 15, false]);
  assert.equal(stated(0x99d), ['TPM_RC_POLICY_FAIL', 'session', 1, false]);
  assert.equal(stated(0xa8e), ['TPM_RC_AUTH_FAIL', 'session', 2, false]);
  assert.equal(stated(0x902), ['TPM_RC_OBJECT_MEMORY', 'warning', 0, false]);
  assert.equal(stated(0x908), ['TPM_RC_YIELDED', 'warning', 0, true]);
  assert.equal(stated(0x909), ['TPM_RC_CANCELED', 'warning', 0, false]);
  assert.equal(stated(0x90a), ['TPM_RC_TESTING', 'warning', 0, true]);
  assert.equal(stated(0x910), ['TPM_RC_REFERENCE_H0', 'handle', 1, false]);
  assert.equal(stated(0x91e), ['TPM_RC_REFERENCE_S6', 'session', 7, false]);
  assert.equal(stated(0x920), ['TPM_RC_NV_RATE', 'warning', 0, true]);
  assert.equal(stated(0x921), ['TPM_RC_LOCKOUT', 'warning', 0, false]);
  assert.equal(stated(0x922), ['TPM_RC_RETRY', 'warning', 0, true]);
  assert.equal(stated(0x923), ['TPM_RC_NV_UNAVAILABLE', 'warning', 0, true]);
});

test('codes that no one defined still get an answer', () => {
  assert.equal(stated(0x501), ['0x501', 'vendor', 0, false]);
  assert.equal(stated(0x006), ['0x006', 'tpm1', 0, false]);
  assert.equal(stated(0x1ff), ['0x1ff', 'parameter', 1, false]);
  assert.equal(stated(0xa000a), ['0xa000a', 'layer', 0, false]);
});

test('a resource manager passes the code of the TPM on', () => {
  assert.equal(stated(0xb0143), ['TPM_RC_COMMAND_CODE', 'layer', 0, false]);
  assert.equal(stated(0xb0922), ['TPM_RC_RETRY', 'layer', 0, true]);
});

test('every named code is there once, under one name, with a sentence', () => {
  // BAD_TAG, errors, errors with a number, warnings, references to handles and sessions [TPM2 P2 table 17].
  assert.is(responseCodes.length, 1 + 34 + 33 + 15 + 14);
  assert.is(new Set(responseCodes.map(({ code }) => code)).size, responseCodes.length);
  assert.is(new Set(responseCodes.map(({ name }) => name)).size, responseCodes.length);
  for (const { name, sentence } of responseCodes) {
    assert.match(name, /^TPM_RC_[A-Z0-9_]+$/);
    assert.ok(sentence.length > 5);
  }
});

test('comparing ignores which handle, parameter or session it was', () => {
  for (let n = 0; n < 16; n++) {
    assert.is(baseCode(0x080 | 0x1d | (n << 8)), TPM_RC.POLICY_FAIL);
    assert.is(baseCode(0x0c0 | 0x04 | (n << 8)), TPM_RC.VALUE);
  }
  assert.is(baseCode(0x128), TPM_RC.PCR_CHANGED);
  assert.is(baseCode(0x922), TPM_RC.RETRY);
});

test('any 32 bits can be read', () => {
  fc.assert(
    fc.property(fc.nat({ max: 0xffffffff }), (code) => {
      const rc = responseCode(code);
      assert.is(rc.code, code);
      assert.ok(rc.name.length > 0 && rc.sentence.length > 0);
      assert.ok(rc.number >= 0 && rc.number <= 15);
    }),
    { numRuns: 5000 },
  );
});

test.run();
