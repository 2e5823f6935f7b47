// What a person reads about a device: its TPM, who vouches for it, and what was seen in its place.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { deviceText, journalText, statusText, whyText } from '../../../controller/cli/devices.ts';
import { tableWidth } from '../../../controller/cli/print.ts';
import type { DeviceView } from '../../../controller/operator.ts';
import { whyLine } from '../../../controller/record/facts.ts';
import { noFacts } from '../../../formats/filter/row.ts';

const now = Date.UTC(2026, 5, 1, 12);
const minute = 60_000;
const ekName = `000b${'ab'.repeat(32)}`;
const akName = `000b${'cd'.repeat(32)}`;

const certificate = {
  vendor: 'Nuvoton',
  model: 'NPCT75x',
  version: '00070002',
  serial: '0102',
  issuer: 'CN=EK CA',
  chain: ['CN=EK CA', 'CN=Root'],
  notAfter: Date.UTC(2040, 0, 1),
  sha256: 'aa',
};

const device: DeviceView = {
  device: '12'.repeat(32),
  serial: 'edge-01',
  revision: 3,
  uuid: 'u',
  labels: [],
  facts: noFacts,
  lock: { locationLock: false, radius: 100, moved: 'report' },
  account: 'default',
  trust: 'trusted',
  seen: now,
  states: { enrolment: 'certified', integrity: 'trusted', location: 'notLocked' },
  verdict: {
    attempt: 'a',
    at: now - minute,
    accepted: true,
    genuine: true,
    grounds: 'baseline',
    findings: [],
    pcrs: {},
    versions: { image: '1.0.0', firmware: 'fw' },
  },
  baseline: null,
  upgrade: null,
  upgraded: null,
  place: { locked: null, seen: null },
  escrow: [],
  ekTrust: 'vendor',
  tpm: { ekName, akName, certificate },
  refusedEnrolment: null,
  boot: null,
  config: 1,
  online: true,
};

const stranger: DeviceView['refusedEnrolment'] = {
  code: 'enrol.other-tpm',
  text: 'this device is enrolled with another TPM; a person has to allow its re-enrolment',
  ekName: `000b${'ee'.repeat(32)}`,
  akName: `000b${'ff'.repeat(32)}`,
  since: now - 90 * minute,
  at: now - 30 * minute,
  count: 4,
};

test('the TPM: vendor, model, who vouches for it, chain, serial number', () => {
  const text = deviceText(device, now);
  assert.match(text, /^TPM +Nuvoton NPCT75x 00070002; its vendor vouches for it$/m);
  assert.match(text, new RegExp(`^EK +${ekName}$`, 'm'));
  assert.match(text, /^issuer +CN=EK CA ← CN=Root$/m);
  assert.match(text, /^EK serial +0102$/m);
  assert.not.match(text, 'refused');
});

test('a TPM of an unknown vendor, one of nobody, one that is not proven, a certificate that ran out', () => {
  const unknown = deviceText(
    {
      ...device,
      ekTrust: 'unknown-vendor',
      tpm: {
        ekName,
        akName,
        certificate: {
          ...certificate,
          chain: [],
          why: { code: 'enrol.ek-unknown-issuer', text: 'no certificate of “CN=EK CA”' },
        },
      },
    },
    now,
  );
  assert.match(unknown, 'a vendor that EVC does not know vouches for it; trusted on first use');
  assert.match(unknown, 'no certificate of “CN=EK CA”  [enrol.ek-unknown-issuer]');
  const nobody = deviceText(
    { ...device, ekTrust: 'first-use', tpm: { ekName, akName, certificate: null } },
    now,
  );
  assert.match(nobody, /^TPM +no vendor vouches for it; trusted on first use$/m);
  assert.match(deviceText({ ...device, ekTrust: 'none', tpm: null }, now), /^TPM +not proven$/m);
  const over = { ...certificate, notAfter: Date.UTC(2020, 0, 1) };
  assert.match(
    deviceText({ ...device, tpm: { ekName, akName, certificate: over } }, now),
    '0102, ran out 2020-01-01',
  );
});

test('[N42] another TPM is in device show, why and status: which, when, how often, and what to do', () => {
  const attacked = { ...device, refusedEnrolment: stranger };
  assert.match(
    deviceText(attacked, now),
    /^refused +30m 0s ago, 4 times in 1h 0m: .*\[enrol\.other-tpm\] +EK 000bee/m,
  );
  const why = whyText(attacked, 'edge-01', now);
  for (const part of [
    'enrol.other-tpm',
    '2026-06-01T11:30:00.000Z, 30m 0s ago, 4 times since 2026-06-01T10:30:00.000Z',
    `EK       ${stranger.ekName}`,
    `AK       ${stranger.akName}`,

    'evc reenrol edge-01 --reason',
  ])
    assert.match(why, part);
  assert.match(why.replace(/\s+/g, ' '), 'treat the device as attacked');
  for (const line of why.split('\n')) assert.ok(line.length <= tableWidth + 20, line);

  // The TPM that is enrolled has spoken since; a device that has never attested has nothing else to say.
  assert.match(whyLine('trusted', attacked), 'as its baseline');
  const since = { ...stranger, at: now };
  assert.match(whyLine('trusted', { ...attacked, refusedEnrolment: since }), 'Another TPM: enrol.other-tpm');
  const never = { ...attacked, verdict: null, trust: 'unattested' };
  assert.match(whyLine('unattested', never), 'Another TPM: enrol.other-tpm');
  assert.match(whyText(never, 'edge-01', now), 'enrol.other-tpm');
});

test('what a person accepted after an upgrade is told, and not the upgrade', () => {
  const upgraded = { from: '1.0.0', to: '1.1.0', at: now - 10, how: 'committed', why: null } as const;
  const line = (at: number) =>
    whyLine('trusted', { ...device, upgraded, baseline: { grounds: 'acceptance', at } });
  assert.is(line(now - 20), 'upgraded 1.0.0 → 1.1.0');
  assert.is(line(now), 'as its baseline (acceptance)');
});

test('how a device says that it booted, and each log that it lacks', () => {
  const why = { code: 'board.log-absent', text: 'the boot log, /sys/x, is not there or empty' };
  const boot = {
    board: 'real',
    image: '1.0.0',
    firmware: '',
    logs: [{ kind: 'config' }, { kind: 'bios', why }],
  };
  assert.match(
    deviceText({ ...device, boot }, now),
    /^boot {6}says real board, image 1\.0\.0, firmware unnamed; the boot log, \/sys\/x, is not there or empty$/m,
  );
  for (const other of [null, {}, { ...boot, logs: 'x' }, { ...boot, image: 7 }])
    assert.not.match(deviceText({ ...device, boot: other }, now), /^boot/m);
});

test('what a certificate says does not steer a terminal', () => {
  const evil = { ...certificate, model: 'a\u001b[2Jb', issuer: 'c\u202ed' };
  const text = deviceText({ ...device, tpm: { ekName, akName, certificate: evil } }, now);
  assert.not.match(text, '\u001b');
  assert.not.match(text, '\u202e');
});

test('a refusal is in the journal by its code', () => {
  const text = journalText([
    { at: now, event: 'certificate.refused', body: { why: { code: 'enrol.ek-other-key', text: 't' } } },
  ]);
  assert.match(text, /certificate\.refused +enrol\.ek-other-key/);
});

test('a list counts what its devices are, and says whom a filter does not mean', () => {
  const rows = [
    device,
    { ...device, trust: 'uud', facts: { ...noFacts, why: 'PCR 8: another kernel' } },
    device,
  ];
  const text = statusText(rows, '', now);
  assert.match(text, /^edge-01 +✗ UUD +.*PCR 8: another kernel$/m);
  assert.match(text, /\n3 devices: 2 trusted, 1 UUD$/);
  assert.match(statusText([], 'label:lab', now), 'no device is meant by label:lab');
});

test.run();
