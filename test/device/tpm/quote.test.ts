import { verify } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hash } from '../../../device/tpm/hash.ts';
import { provisionKeys } from '../../../device/tpm/keys.ts';
import { publicKeyOf } from '../../../device/tpm/public-key.ts';
import { QuoteUnstable, quote } from '../../../device/tpm/quote.ts';
import type { Tpm } from '../../../device/tpm/tpm.ts';
import { decode, encode } from '../../../formats/tpm2/codec.ts';
import { PCR_Extend } from '../../../formats/tpm2/commands.ts';
import { TPM_ALG, TPM_GENERATED_VALUE, TPM_RH, TPM_ST } from '../../../formats/tpm2/constants.ts';
import { concat } from '../../../formats/tpm2/hash.ts';
import { encodeCommand } from '../../../formats/tpm2/message.ts';
import { handleName, qualifiedName } from '../../../formats/tpm2/names.ts';
import { pcrDigest, selectedPcrs } from '../../../formats/tpm2/pcrs.ts';
import { fixedWidth } from '../../../formats/tpm2/spki.ts';
import { TPMS_ATTEST, TPMT_SIGNATURE } from '../../../formats/tpm2/structures.ts';
import { rejects } from '../../kit/rejects.ts';
import { someDigest, withTpm } from '../../kit/tpm.ts';
import { isCommand, withFaults } from '../../kit/tpm-faults.ts';

const nonce = Buffer.from('0123456789abcdef0123456789abcdef');
const pcrs = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14];

test('[TPM2 P3 18.4] a quote verifies, and covers the values beside it', () =>
  withTpm(
    async (tpm, transport) => {
      const { ak } = await provisionKeys(tpm);
      for (const bank of ['sha256', 'sha1', 'sha384'] as const) {
        const result = await quote(tpm, ak, { qualifyingData: nonce, bank, pcrs });
        const attest = decode(TPMS_ATTEST, result.attest);
        const signature = decode(TPMT_SIGNATURE, result.signature);
        if (signature.sigAlg !== TPM_ALG.ECDSA || attest.type !== TPM_ST.ATTEST_QUOTE)
          throw new Error('no ECDSA quote');
        const { signatureR, signatureS } = signature.signature;
        const rs = concat(fixedWidth(signatureR, 32), fixedWidth(signatureS, 32));
        assert.ok(
          verify('sha256', result.attest, { key: publicKeyOf(ak.public), dsaEncoding: 'ieee-p1363' }, rs),
        );
        assert.is(attest.magic, TPM_GENERATED_VALUE);
        assert.equal(Buffer.from(attest.extraData), nonce);
        assert.equal(attest.qualifiedSigner, qualifiedName(hash, handleName(TPM_RH.ENDORSEMENT), ak.name));
        assert.equal(attest.attested.pcrSelect.map(selectedPcrs), [pcrs]);
        assert.equal([...result.pcrs.keys()], pcrs);
        assert.equal(
          pcrDigest(hash, 'sha256', attest.attested.pcrSelect, { [bank]: result.pcrs }),
          attest.attested.pcrDigest,
        );
      }
      // The key is under the endorsement hierarchy, so these are not obfuscated.
      await transport.powerCycle();
      await transport.powerCycle();
      const { attest } = await quote(tpm, ak, { qualifyingData: nonce, bank: 'sha256', pcrs });
      const { clockInfo, firmwareVersion } = decode(TPMS_ATTEST, attest);
      assert.equal(clockInfo.resetCount, (await tpm.readClock()).clockInfo.resetCount);
      assert.is(clockInfo.resetCount, 2);
      assert.is(firmwareVersion, (await tpm.capabilities()).firmwareVersion);
    },
    { extended: [0, 4, 7] },
  ));

/** Extends PCR 16 when the TPM is about to quote, `times` times. */
function disturbed(times: number, run: (tpm: Tpm) => Promise<void>): Promise<void> {
  let left = times;
  return withFaults(async (tpm, wire) => {
    const extend = encodeCommand({
      code: PCR_Extend.code,
      handles: [16],
      sessions: [
        {
          sessionHandle: TPM_RH.PW,
          nonce: new Uint8Array(),
          hmac: new Uint8Array(),
          sessionAttributes: {
            continueSession: true,
            auditExclusive: false,
            auditReset: false,
            decrypt: false,
            encrypt: false,
            audit: false,
          },
        },
      ],
      parameters: encode(PCR_Extend.parameters, {
        digests: [{ hashAlg: TPM_ALG.SHA256, digest: someDigest(1) }],
      }),
    });
    wire.fault = async (command, send) => {
      if (isCommand(command, 'Quote') && left-- > 0) await send(extend);
      return send(command);
    };
    await run(tpm);
  });
}

test('[N71] PCRs that change between reading and quoting are read again', () =>
  disturbed(4, async (tpm) => {
    const { ak } = await provisionKeys(tpm);
    const result = await quote(tpm, ak, { qualifyingData: nonce, bank: 'sha256', pcrs: [0, 16] });
    const attest = decode(TPMS_ATTEST, result.attest);
    if (attest.type !== TPM_ST.ATTEST_QUOTE) throw new Error('no quote');
    assert.equal(
      pcrDigest(hash, 'sha256', attest.attested.pcrSelect, { sha256: result.pcrs }),
      attest.attested.pcrDigest,
    );
    assert.equal(result.pcrs, await tpm.pcrRead('sha256', [0, 16]));
  }));

test('PCRs that never stay the same end in an error', () =>
  disturbed(1000, async (tpm) => {
    const { ak } = await provisionKeys(tpm);
    await rejects(
      quote(tpm, ak, { qualifyingData: nonce, bank: 'sha256', pcrs: [16] }),
      QuoteUnstable,
      (e) => e.message === 'PCRs changed during each of 5 quotes',
    );
  }));

test('what cannot be quoted is refused before anything is sent', () =>
  withFaults(async (tpm, wire) => {
    const { ak } = await provisionKeys(tpm);
    wire.forget();
    await rejects(
      quote(tpm, ak, { qualifyingData: nonce, bank: 'sha256', pcrs: [24] }),
      TypeError,
      (e) => e.message === 'no PCR 24',
    );
    await rejects(
      quote(tpm, ak, { qualifyingData: new Uint8Array(67), bank: 'sha256', pcrs: [0] }),
      TypeError,
      (e) => e.message === 'Quote.qualifyingData: has 67 bytes, at most 66',
    );
    assert.is(wire.count('Quote'), 0);
  }));

test.run();
