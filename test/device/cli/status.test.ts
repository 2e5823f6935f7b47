import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { statusText } from '../../../device/cli/status.ts';

const refused = (findings: object[]) =>
  statusText({
    'attest-task/AttestStatus': {
      state: 'restartWait',
      waiting: { for: 'the next attestation' },
      error: { code: 'policy.software.unknown', text: 'It runs unknown software', details: { findings } },
    },
  })
    .split('\n')
    .slice(1);

test('what EVC found is shown with PCR and event, the first remedy after it', () => {
  const text = refused([
    { code: 'policy.software.unknown', text: 'It runs unknown software', remedy: 'Compare the changes.' },
    { code: 'policy.pcr.unexpected', text: 'PCR 8 is not what the baseline allows', pcr: 8 },
    { code: 'log.kernel-argument-added', text: 'now with getty', pcr: 8, event: 192, remedy: 'Look.' },
  ]).join('\n');
  assert.match(
    text,
    `attestation  restartWait
             waits for the next attestation
             It runs unknown software
               PCR 8: PCR 8 is not what the baseline allows
               PCR 8, event 192: now with getty
             remedy: Compare the changes.`,
  );
});

test('many findings are counted, long and hostile ones cut and made harmless', () => {
  const lines = refused(
    Array.from({ length: 30 }, (_, i) => ({
      code: 'x',
      text: `\u001b[2J${'long '.repeat(100)}${i}`,
      pcr: 1,
    })),
  );
  const shown = lines.filter((line) => line.includes('PCR 1'));
  assert.is(shown.length, 8);
  assert.ok(shown.every((line) => line.length < 160 && !line.includes('\u001b')));
  assert.ok(lines.some((line) => line.includes('… and 22 more')));
});

test('how the machine booted, and each log that EVC will not get', () => {
  const text = statusText({
    'board/BootStatus': {
      board: 'real',
      image: '1.0.0',
      slot: 'IMGA',
      firmware: 'SeaBIOS-1.16',
      logs: [
        { kind: 'config', sha256: '00', size: 100 },
        {
          kind: 'bios',
          why: { code: 'board.log-absent', text: 'the boot log, /sys/x, is not there or empty' },
        },
      ],
    },
  });
  assert.match(
    text,
    /^board {8}real, 1\.0\.0 in IMGA, firmware SeaBIOS-1\.16\n {13}the boot log, \/sys\/x, is not there or empty$/m,
  );
});

test('components that are not there yet are named', () => {
  assert.match(statusText({}), /^device {7}not started$/m);
});

test.run();
