// From power on to a believed boot: a device boots, its TPM quotes, the verifier checks.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { verifyLog } from '../../../controller/verify/log.ts';
import { attestationKey, type QuoteCheck, verifyQuote } from '../../../controller/verify/quote.ts';
import { createImage } from '../../../device/boot/image.ts';
import { measureBoot } from '../../../device/boot/measure.ts';
import { bootRecorded, readRecordedBoot } from '../../../device/boot/recorded.ts';
import { provisionKeys } from '../../../device/tpm/keys.ts';
import { quote } from '../../../device/tpm/quote.ts';
import type { Tpm } from '../../../device/tpm/tpm.ts';
import type { HashName } from '../../../formats/tpm2/hash.ts';
import { sent } from '../../kit/eventlogs.ts';
import { withTpm } from '../../kit/tpm.ts';

const nonce = Buffer.from('0123456789abcdef0123456789abcdef');
const pcrs = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14];

const extendInto = (tpm: Tpm) => (pcr: number, digests: Partial<Record<HashName, Uint8Array>>) =>
  tpm.pcrExtend(pcr, digests);

async function quoteOf(tpm: Tpm): Promise<Extract<QuoteCheck, { ok: true }>['quote']> {
  const { ak } = await provisionKeys(tpm);
  const evidence = await quote(tpm, ak, { qualifyingData: nonce, bank: 'sha256', pcrs });
  const check = verifyQuote(
    { ...evidence, pcrs: { sha256: evidence.pcrs } },
    { key: attestationKey(ak.public), qualifyingData: nonce, pcrs },
  );
  if (!check.ok) throw new Error(JSON.stringify(check.refusals));
  return check.quote;
}

test('a boot of an image is believed, one whose log leaves a PCR out is not', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'eve-verify-'));
  try {
    await writeFile(join(directory, 'server'), 'evc.example');
    const image = await createImage(await mkdtemp(join(tmpdir(), 'eve-image-')), { version: '14.4.0' });
    await withTpm(async (tpm) => {
      const banks = [...(await tpm.capabilities()).banks.keys()];
      const { biosLog, configLog } = await measureBoot({
        image,
        configDirectory: directory,
        slot: 'IMGA',
        banks,
        extend: extendInto(tpm),
      });
      const { bank, pcrs: quoted } = await quoteOf(tpm);
      assert.ok(verifyLog(sent(biosLog, configLog as Uint8Array), { bank, pcrs: quoted }).ok);
      const alone = verifyLog(sent(biosLog), { bank, pcrs: quoted });
      assert.equal(alone.ok ? [] : alone.refusals.map(({ code, pcr }) => [code, pcr]), [
        ['evidence.log.pcr-without-events', 14],
      ]);
    });
    await rm(image.directory, { recursive: true });
  } finally {
    await rm(directory, { recursive: true });
  }
});

test('a recorded boot is believed with its own log, and not with that of another boot', () =>
  withTpm(async (tpm) => {
    const log = await readRecordedBoot('update.after');
    await bootRecorded({ logs: [log], banks: ['sha1', 'sha256'], extend: extendInto(tpm) });
    const { bank, pcrs: quoted } = await quoteOf(tpm);
    assert.ok(verifyLog(sent(log), { bank, pcrs: quoted }).ok);
    const other = verifyLog(sent(await readRecordedBoot('update.before')), { bank, pcrs: quoted });
    assert.equal(
      other.ok ? [] : other.refusals.map(({ code, pcr }) => `${code} ${pcr}`),
      [5, 8, 9, 13].map((pcr) => `evidence.log.mismatch ${pcr}`),
    );
  }));

test('something extended after the boot, and in no log, is a mismatch', () =>
  withTpm(async (tpm) => {
    const log = await readRecordedBoot('update.after');
    await bootRecorded({ logs: [log], banks: ['sha256'], extend: extendInto(tpm) });
    await tpm.pcrExtend(14, { sha256: new Uint8Array(32).fill(1) });
    const { bank, pcrs: quoted } = await quoteOf(tpm);
    const check = verifyLog(sent(log), { bank, pcrs: quoted });
    assert.equal(check.ok ? [] : check.refusals.map(({ code, pcr }) => [code, pcr]), [
      ['evidence.log.mismatch', 14],
    ]);
  }));

test('a machine whose firmware measured nothing is refused, whatever log it shows', () =>
  withTpm(async (tpm) => {
    const { bank, pcrs: quoted } = await quoteOf(tpm);
    const check = verifyLog(sent(await readRecordedBoot('update.after')), { bank, pcrs: quoted });
    assert.equal(check.ok ? [] : check.refusals.map(({ code, pcr }) => [code, pcr]), [
      ['evidence.pcr.not-extended', 0],
      ['evidence.pcr.not-extended', 4],
    ]);
  }));

test.run();
