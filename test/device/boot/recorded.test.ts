import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BootError, type BootLogs } from '../../../device/boot/extend.ts';
import {
  bootRecorded,
  readRecordedBoot,
  recordedBoots,
  startupLocalityOf,
} from '../../../device/boot/recorded.ts';
import { Tpm } from '../../../device/tpm/tpm.ts';
import { openWasmTpm } from '../../../device/tpm/transports/wasm.ts';
import { parseLog } from '../../../formats/eventlog/parse.ts';
import { checkLog } from '../../../formats/eventlog/replay.ts';
import { FormatError } from '../../../formats/format-error.ts';
import { Startup } from '../../../formats/tpm2/commands.ts';
import { TPM_SU } from '../../../formats/tpm2/constants.ts';
import type { HashName } from '../../../formats/tpm2/hash.ts';
import { expectedPcrs, hash, readEventLog } from '../../kit/eventlogs.ts';

const known: Record<(typeof recordedBoots)[number], { log: string; locality: number; banks: HashName[] }> = {
  'bios-setup.before': { log: 'eve/TpmLogs.last_good_log.bin', locality: 3, banks: ['sha256'] },
  'bios-setup.after': { log: 'eve/TpmLogs.last_failed_log.bin', locality: 3, banks: ['sha256'] },
  'update.before': { log: 'eve/empty_uri.last_good_log.bin', locality: 0, banks: ['sha1', 'sha256'] },
  'update.after': { log: 'eve/empty_uri.last_failed_log.bin', locality: 0, banks: ['sha1', 'sha256'] },
  'four-banks': {
    log: 'eve/binary_bios_measurement',
    locality: 0,
    banks: ['sha1', 'sha256', 'sha384', 'sha512'],
  },
};

async function withTpm(locality: number, use: (tpm: Tpm) => Promise<void>): Promise<void> {
  const transport = await openWasmTpm({ startup: false });
  try {
    const tpm = new Tpm(transport, { sole: true });
    transport.setLocality(locality);
    await tpm.execute(Startup, { startupType: TPM_SU.CLEAR });
    transport.setLocality(0);
    await use(tpm);
  } finally {
    await transport.close();
  }
}

for (const name of recordedBoots)
  test(`${name}: the TPM ends with the PCRs of the machine, and the log is the machine's`, async () => {
    const { log, locality, banks } = known[name];
    const bytes = await readRecordedBoot(name);
    assert.is(startupLocalityOf([bytes]), locality);
    await withTpm(locality, async (tpm) => {
      const all = [...(await tpm.capabilities()).banks.keys()];
      const extend = (pcr: number, digests: Partial<Record<HashName, Uint8Array>>) =>
        tpm.pcrExtend(pcr, digests);
      const logs = await bootRecorded({ logs: [bytes], banks: all, extend });
      assert.ok(Buffer.from(logs.biosLog).equals(readEventLog(log)));
      assert.is(logs.configLog, null);
      for (const bank of banks)
        for (const [pcr, value] of expectedPcrs(log, bank))
          assert.equal(Buffer.from((await tpm.pcrRead(bank, [pcr])).get(pcr) ?? []), Buffer.from(value));
    });
  });

test("a log of PCR 14 of its own follows the firmware's", async () => {
  const config = readEventLog('eve/measurefs_tpm_event_log');
  const bios = readEventLog('eve/binary_bios_measurement');
  await withTpm(0, async (tpm) => {
    const extend = (pcr: number, digests: Partial<Record<HashName, Uint8Array>>) =>
      tpm.pcrExtend(pcr, digests);
    const logs = await bootRecorded({ logs: [bios, config], banks: ['sha1', 'sha256'], extend });
    assert.equal(logs.configLog, config);
    const pcrs = await tpm.pcrRead('sha256', [0, 8, 14]);
    assert.ok(checkLog([parseLog(bios), parseLog(config)], pcrs, 'sha256', hash).ok);
  });
});

test('when the TPM fails in the middle, the log is cut to what it extended', async () => {
  const bytes = await readRecordedBoot('update.before');
  await withTpm(0, async (tpm) => {
    let left = 100;
    let logs: BootLogs | undefined;
    await bootRecorded({
      logs: [bytes],
      banks: ['sha256'],
      extend: async (pcr, digests) => {
        if (left-- === 0) throw new Error('out of reach');
        await tpm.pcrExtend(pcr, digests);
      },
    }).catch((error) => {
      if (!(error instanceof BootError)) throw error;
      logs = error.logs;
    });
    assert.ok(logs);
    const log = parseLog(logs?.biosLog ?? new Uint8Array());
    assert.is(log.truncated, undefined);
    assert.ok(checkLog([log], await tpm.pcrRead('sha256', [0, 1, 5, 8, 13, 14]), 'sha256', hash).ok);
  });
});

test('a TPM without SHA-256 and a log that was cut short are refused before the first extend', async () => {
  const bytes = await readRecordedBoot('update.before');
  const problems: unknown[] = [];
  let extended = 0;
  const extend = async () => {
    extended++;
  };
  await bootRecorded({ logs: [bytes], banks: ['sha1'], extend }).catch((error) => problems.push(error));
  await bootRecorded({ logs: [bytes.subarray(0, -1)], banks: ['sha256'], extend }).catch((error) =>
    problems.push(error),
  );
  assert.instance(problems[0], TypeError);
  assert.instance(problems[1], FormatError);
  assert.is(extended, 0);
});

test.run();
