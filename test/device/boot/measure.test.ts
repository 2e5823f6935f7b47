import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { verifyLog } from '../../../controller/verify/log.ts';
import { BootError, type BootLogs } from '../../../device/boot/extend.ts';
import { createImage } from '../../../device/boot/image.ts';
import { type BootOptions, configMeasurements, measureBoot } from '../../../device/boot/measure.ts';
import { Tpm } from '../../../device/tpm/tpm.ts';
import { openWasmTpm } from '../../../device/tpm/transports/wasm.ts';
import { diffLogs } from '../../../formats/eventlog/diff.ts';
import { defaultSettings } from '../../../formats/eventlog/eve-boot.ts';
import { bootFacts } from '../../../formats/eventlog/facts.ts';
import { parseLog } from '../../../formats/eventlog/parse.ts';
import { type CheckedLog, checkLog, initialPcr, replay } from '../../../formats/eventlog/replay.ts';
import { Startup } from '../../../formats/tpm2/commands.ts';
import { TPM_SU } from '../../../formats/tpm2/constants.ts';
import type { HashName } from '../../../formats/tpm2/hash.ts';
import { hash, sent } from '../../kit/eventlogs.ts';

const allPcrs = Array.from({ length: 16 }, (_, pcr) => pcr);
let directory: string;

test.before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'eve-boot-'));
});
test.after(() => rm(directory, { recursive: true }));

async function configOf(files: Record<string, string>): Promise<string> {
  const config = await mkdtemp(join(directory, 'config-'));
  for (const [path, content] of Object.entries(files)) {
    await mkdir(join(config, path, '..'), { recursive: true });
    await writeFile(join(config, path), content);
  }
  return config;
}

/** A TPM that was just switched on, started from `locality`. */
async function withTpm<T>(locality: number, use: (tpm: Tpm, banks: HashName[]) => Promise<T>): Promise<T> {
  const transport = await openWasmTpm({ startup: false });
  try {
    const tpm = new Tpm(transport, { sole: true });
    transport.setLocality(locality);
    await tpm.execute(Startup, { startupType: TPM_SU.CLEAR });
    transport.setLocality(0);
    return await use(tpm, [...(await tpm.capabilities()).banks.keys()]);
  } finally {
    await transport.close();
  }
}

interface Boot extends Partial<Omit<BootOptions, 'image' | 'configDirectory'>> {
  version?: string;
  firmwareVersion?: string;
  cmdline?: string;
  config?: Record<string, string>;
}

/** Boots and lets the verifier judge the log against the PCRs of the TPM. */
async function boot({
  version = '14.4.0',
  firmwareVersion,
  cmdline,
  config = {},
  ...options
}: Boot): Promise<CheckedLog> {
  const image = await createImage(join(directory, version), {
    version,
    ...(firmwareVersion ? { firmwareVersion } : {}),
    ...(cmdline ? { cmdline } : {}),
  });
  const configDirectory = await configOf(config);
  return withTpm(options.startupLocality ?? 0, async (tpm, banks) => {
    const extend: BootOptions['extend'] = (pcr, digests) => tpm.pcrExtend(pcr, digests);
    const logs = await measureBoot({ slot: 'IMGA', ...options, image, configDirectory, banks, extend });
    for (const bank of banks) {
      const replayed = replay(
        [logs.biosLog, logs.configLog as Uint8Array].map((log) => parseLog(log)),
        bank,
        hash,
      );
      for (const [pcr, value] of await tpm.pcrRead(bank, allPcrs))
        assert.equal(
          Buffer.from(replayed.pcrs.get(pcr) ?? initialPcr(pcr, bank)),
          Buffer.from(value),
          `${bank} ${pcr}`,
        );
    }
    const verdict = verifyLog(sent(logs.biosLog, logs.configLog as Uint8Array), {
      bank: 'sha256',
      pcrs: await tpm.pcrRead('sha256', allPcrs),
    });
    if (!verdict.ok) throw new Error(JSON.stringify(verdict.refusals));
    return verdict.log;
  });
}

const changes = (before: CheckedLog, after: CheckedLog) => [
  ...new Set(diffLogs(before, after).map(({ pcr, code }) => `${pcr} ${code}`)),
];

test('the log of a boot leads to the PCRs of the TPM, in every bank, and the verifier believes it', async () => {
  const log = await boot({ config: { server: 'evc.example', 'device.key.pem': 'secret' } });
  assert.equal(
    [...new Set(log.events.map(({ pcr }) => pcr))].sort((a, b) => a - b),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14],
  );
  const facts = bootFacts(log);
  assert.is(facts.firmwareVersion, '1.0.0');
  assert.is(facts.secureBoot, 'off');
  assert.match(facts.rootfsHash ?? '', /^[0-9a-f]{64}$/);
});

test('two boots of one image are equal', async () => {
  const config = { server: 'evc.example' };
  assert.equal(diffLogs(await boot({ config }), await boot({ config })), []);
});

test('a start from locality 3 is logged, and PCR 0 starts from it', async () => {
  const log = await boot({ startupLocality: 3 });
  assert.equal(changes(await boot({}), log), []);
  assert.not.equal(log.pcrs.get(0), (await boot({})).pcrs.get(0));
});

test('each change of a machine shows in its PCR and by its name', async () => {
  const before = await boot({});
  const cases: [Boot, string[]][] = [
    [
      { version: '14.5.0', slot: 'IMGB', trying: true },
      [
        '5 log.gpt-changed',
        '8 log.boot-slot-changed',
        '8 log.grub-command-changed',
        '8 log.kernel-cmdline-changed',
        '9 log.kernel-changed',
        '9 log.initrd-changed',
        '13 log.rootfs-changed',
      ],
    ],
    [
      { cmdline: 'console=tty0 init=/bin/sh' },
      ['8 log.grub-command-changed', '8 log.kernel-cmdline-changed'],
    ],
    [{ firmwareVersion: '1.1.0' }, ['0 log.firmware-changed', '1 log.platform-tables-changed']],
    [{ settings: { ...defaultSettings, enteredSetup: true } }, ['1 log.bios-setup-entered']],
    [{ settings: { ...defaultSettings, secureBoot: true } }, ['7 log.secure-boot-changed']],
    [
      {
        settings: {
          ...defaultSettings,
          bootEntries: [{ number: 1, description: 'USB', file: '\\x.efi' }, ...defaultSettings.bootEntries],
        },
      },
      ['1 log.boot-order-changed', '1 log.boot-entry-added'],
    ],
    [{ config: { authorized_keys: 'ssh-ed25519 AAAA' } }, ['14 log.config-file-added']],
    [{ config: { 'device.cert.pem': 'x' } }, ['14 log.config-file-added']],
    [
      { config: { 'grub.cfg': 'set_getty\n' } },
      ['8 log.grub-command-changed', '8 log.kernel-argument-added', '14 log.config-file-added'],
    ],
  ];
  for (const [change, expected] of cases) assert.equal(changes(before, await boot(change)), expected);
});

test('/config: sorted by bytes, secrets by existence alone, watched files when they are absent', async () => {
  const config = await configOf({
    'z.txt': 'z',
    Ä: 'umlaut',
    'DevicePortConfig/a.json': '{}',
    'onboard.key.pem': 'secret',
    [`${'d'.repeat(200)}/${'e'.repeat(200)}/${'f'.repeat(200)}`]: '',
  });
  const texts = (await configMeasurements(config)).map(({ data }) => Buffer.from(data).toString());
  const sha256 = (text: string) => Buffer.from(hash('sha256', Buffer.from(text))).toString('hex');
  assert.equal(texts, [
    `file:/config/DevicePortConfig/a.json exist:true content-hash:${sha256('{}')}`,
    'file:/config/DevicePortConfig/override.json exist:false',
    'file:/config/GlobalConfig/global.json exist:false',
    'file:/config/bootstrap-config.pb exist:false',
    `file:${'f'.repeat(200)} exist:true content-hash:${sha256('')}`,
    'file:/config/device.cert.pem exist:false',
    'file:/config/device.key.pem exist:false',
    'file:/config/ftpm.tar.xz exist:false',
    'file:/config/onboard.cert.pem exist:false',
    'file:/config/onboard.key.pem exist:true',
    'file:/config/soft_serial exist:false',
    'file:/config/tpm_credential exist:false',
    `file:/config/z.txt exist:true content-hash:${sha256('z')}`,
    `file:/config/Ä exist:true content-hash:${sha256('umlaut')}`,
  ]);
});

/** Boots with a TPM that stops after some extends. */
async function stoppedAfter(extends_: number): Promise<void> {
  const image = await createImage(join(directory, 'stopped'), { version: '14.4.0' });
  const configDirectory = await configOf({ server: 'x' });
  await withTpm(0, async (tpm, banks) => {
    let left = extends_;
    let logs: BootLogs | undefined;
    try {
      await measureBoot({
        image,
        configDirectory,
        slot: 'IMGA',
        banks,
        extend: async (pcr, digests) => {
          if (left-- === 0) throw new Error('out of reach');
          await tpm.pcrExtend(pcr, digests);
        },
      });
    } catch (error) {
      if (!(error instanceof BootError)) throw error;
      assert.is((error.cause as Error).message, 'out of reach');
      logs = error.logs;
    }
    assert.ok(logs, 'the boot did not stop');
    const parts = [logs?.biosLog, logs?.configLog].filter((log) => log && log.length > 0) as Uint8Array[];
    const pcrs = await tpm.pcrRead('sha256', allPcrs);
    assert.ok(
      checkLog(
        parts.map((log) => parseLog(log)),
        pcrs,
        'sha256',
        hash,
      ).ok,
      `after ${extends_}`,
    );
  });
}

test('when the TPM fails in the middle, the logs hold exactly what it extended', async () => {
  for (const count of [0, 1, 7, 20, 40, 50]) await stoppedAfter(count);
});

test('a file that is missing stops a boot before the first extend', async () => {
  const image = await createImage(join(directory, 'missing'), { version: '14.4.0' });
  await rm(image.files.kernel.path);
  let extended = 0;
  const extend = async () => {
    extended++;
  };
  const configDirectory = await configOf({});
  let code: string | undefined;
  await measureBoot({ image, configDirectory, slot: 'IMGA', banks: ['sha256'], extend }).catch((error) => {
    code = error.code;
  });
  assert.equal([code, extended], ['ENOENT', 0]);
});

test.run();
