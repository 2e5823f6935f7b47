// The machine as a board: what it has booted, with the files of a machine below another root and a TPM of ours.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { PlatformSlots } from '../../device/baseos/platform-slots.ts';
import { SlotStore } from '../../device/baseos/slots.ts';
import { RealBoard } from '../../device/board-real.ts';
import { bootRecorded } from '../../device/boot/recorded.ts';
import { systemClock } from '../../device/clock.ts';
import { Refusal } from '../../device/refusal.ts';
import { StateFolder } from '../../device/state.ts';
import { hash } from '../../device/tpm/hash.ts';
import { Tpm } from '../../device/tpm/tpm.ts';
import { openWasmTpm } from '../../device/tpm/transports/wasm.ts';
import { logLimits, parseLog } from '../../formats/eventlog/parse.ts';
import { replay } from '../../formats/eventlog/replay.ts';
import { readEventLog } from '../kit/eventlogs.ts';
import { inFolder } from '../kit/folders.ts';
import { someDigest } from '../kit/tpm.ts';

const bootId = '4aa4529f-75f3-42b0-9daa-79f5bb2ea729';
const recorded = readEventLog('eve/binary_bios_measurement');

interface Machine {
  /** A new life of the agent on it. */
  agent(options?: { measureConfig?: boolean }): RealBoard;
  tpm: Tpm;
  /** Below its root. */
  write(path: string, content: string | Uint8Array): void;
  folder(path: string): string;
  pcr14(): Promise<string>;
}

async function onMachine(work: (machine: Machine) => Promise<void>): Promise<void> {
  await inFolder(async (root) => {
    const chip = await openWasmTpm();
    const folder = (path: string) => join(root, path);
    const write = (path: string, content: string | Uint8Array) => {
      mkdirSync(dirname(folder(path)), { recursive: true });
      writeFileSync(folder(path), content);
    };
    write('proc/sys/kernel/random/boot_id', `${bootId}\n`);
    write('etc/os-release', 'IMAGE_VERSION=1.0.0\n');
    write('config/server', 'mqtts://evc\n');
    write('config/root-certificate.pem', 'root');
    const tpm = new Tpm(chip);
    try {
      await work({
        agent: ({ measureConfig = false } = {}) =>
          new RealBoard({
            // It may let go of the TPM, and do nothing else to it.
            open: async () => ({ send: (command) => chip.send(command), close: async () => {} }),
            slots: new PlatformSlots(new SlotStore(new StateFolder(folder('persist'))), null),
            config: folder('config'),
            clock: systemClock,
            measureConfig,
            paths: {
              root,
              biosLog: folder('bios'),
              configLog: folder('persist/status/measurefs_tpm_event_log'),
            },
          }),
        tpm,
        write,
        folder,
        pcr14: async () => Buffer.from((await tpm.pcrRead('sha256', [14])).get(14) ?? '').toString('hex'),
      });
      assert.ok(chip.powered, 'nobody turned the TPM off');
    } finally {
      await chip.close();
    }
  });
}

const led = (...logs: Uint8Array[]) =>
  Buffer.from(
    replay(
      logs.map((log) => parseLog(log)),
      'sha256',
      hash,
    ).pcrs.get(14) ?? '',
  ).toString('hex');

test('what booted: id, versions, slot and the log of the firmware', () =>
  onMachine(async ({ agent, write }) => {
    write('bios', recorded);
    write('sys/class/dmi/id/bios_vendor', 'Dell Inc.\n');
    const board = agent();
    const boot = await board.boot();
    assert.equal(
      [boot.id, boot.board, boot.slot, boot.versions, boot.image, boot.missing],
      [bootId, 'real', 'IMGA', { image: '1.0.0', firmware: 'Dell Inc.' }, null, []],
    );
    assert.equal(
      boot.logs.map(({ kind, bytes }) => [kind, bytes.length]),
      [['bios', recorded.length]],
    );
    await board.openTpm();
    await board.powerOff();
    assert.equal((await agent().boot()).id, bootId);
  }));

const missing: [what: string, make: (machine: Machine) => void, code: string, text: RegExp][] = [
  ['absent', () => {}, 'board.log-absent', /bios, is not there or empty$/],
  ['empty', ({ write }) => write('bios', ''), 'board.log-absent', /is not there or empty$/],
  [
    'unreadable',
    ({ folder }) => mkdirSync(folder('bios')),
    'board.log-unreadable',
    /cannot be read: EISDIR$/,
  ],
  [
    'oversized',
    ({ write }) => write('bios', new Uint8Array(logLimits.size + 1)),
    'board.log-oversized',
    new RegExp(`has over ${logLimits.size} bytes$`),
  ],
];
for (const [what, make, code, text] of missing)
  test(`a log of the firmware that is ${what} is said to be, and the rest goes on`, () =>
    onMachine(async (machine) => {
      make(machine);
      const boot = await machine.agent().boot();
      assert.equal(
        [boot.logs, boot.missing.map(({ kind, why }) => [kind, why.code])],
        [[], [['bios', code]]],
      );
      assert.match(boot.missing[0]?.why.text ?? '', text);
    }));

test('a kernel that does not say which boot it is: board.no-boot-id', () =>
  onMachine(async ({ agent, write }) => {
    write('proc/sys/kernel/random/boot_id', 'nonsense');
    const code = await agent()
      .boot()
      .catch((error: unknown) => (error instanceof Refusal ? error.code : error));
    assert.is(code, 'board.no-boot-id');
  }));

// ---- PCR 14

test('/config is measured once a boot, however often the agent starts', () =>
  onMachine(async ({ agent, pcr14, folder, write }) => {
    const first = await agent({ measureConfig: true }).boot();
    const [log] = first.logs.filter(({ kind }) => kind === 'config');
    assert.ok(log);
    const value = await pcr14();
    assert.is(value, led(log.bytes));
    assert.equal(
      new Uint8Array(readFileSync(folder('persist/status/measurefs_tpm_event_log'))),
      new Uint8Array(log.bytes),
    );
    // The configuration of this boot is what was measured, whatever became of it since.
    write('config/server', 'mqtts://elsewhere\n');
    const again = await agent({ measureConfig: true }).boot();
    assert.is(again.logs[0]?.sha256, log.sha256);
    assert.is(await pcr14(), value);
  }));

test('shim was there before: its events come first', () =>
  onMachine(async ({ agent, tpm, pcr14, write }) => {
    const shim = readEventLog('ovmf/deb2022-crb-shim-grub-sb/binary_bios_measurements');
    write('bios', shim);
    const banks = [...(await tpm.capabilities()).banks.keys()];
    await bootRecorded({ logs: [shim], banks, extend: (pcr, digests) => tpm.pcrExtend(pcr, digests) });
    assert.is(await pcr14(), led(shim));
    const boot = await agent({ measureConfig: true }).boot();
    assert.equal(boot.missing, []);
    assert.is(await pcr14(), led(...boot.logs.map(({ bytes }) => bytes)));
  }));

test('killed after any measurement: the next life finishes, and the log leads to PCR 14', async () => {
  let points = 0;
  for (let cut = 0; cut < 20; cut++) {
    let done = false;
    await onMachine(async ({ agent, tpm, pcr14 }) => {
      const board = agent({ measureConfig: true });
      const real = await board.openTpm();
      let left = cut;
      const extend = real.pcrExtend.bind(real);
      real.pcrExtend = (...args) => {
        if (left-- <= 0) return new Promise<never>((_, reject) => setImmediate(reject, new Error('killed')));
        return extend(...args);
      };
      const first = await board.boot();
      done = first.missing.every(({ kind }) => kind !== 'config');
      const second = await agent({ measureConfig: true }).boot();
      assert.equal(
        second.missing.filter(({ kind }) => kind === 'config'),
        [],
      );
      assert.is(await pcr14(), led(...second.logs.map(({ bytes }) => bytes)));
      assert.ok(tpm);
    });
    if (done) break;
    points++;
  }
  assert.ok(points >= 2, `${points} points`);
});

test('somebody else measured into PCR 14: board.config-log, and nothing is added', () =>
  onMachine(async ({ agent, tpm, pcr14 }) => {
    await tpm.pcrExtend(14, { sha256: someDigest(14) });
    const before = await pcr14();
    const boot = await agent({ measureConfig: true }).boot();
    assert.equal(
      boot.missing.map(({ kind, why }) => [kind, why.code]),
      [
        ['bios', 'board.log-absent'],
        ['config', 'board.config-log'],
      ],
    );
    assert.is(await pcr14(), before);
  }));

test('EVE measured /config itself: its log is taken as it is', () =>
  onMachine(async ({ agent, write, pcr14 }) => {
    write('persist/status/measurefs_tpm_event_log', 'log');
    const { logs } = await agent().boot();
    assert.equal(
      logs.map(({ kind, bytes }) => [kind, Buffer.from(bytes).toString()]),
      [['config', 'log']],
    );
    assert.match(await pcr14(), /^0+$/);
  }));

test.run();
