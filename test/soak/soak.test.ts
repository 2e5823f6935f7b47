// deadline: 240 s
// The soak in small: what stays flat is found flat, and a leak is found.
import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type SoakReport, soak } from './soak.ts';

const bad = ({ trends }: SoakReport) => trends.filter(({ flat }) => !flat);

test('a fleet with cut links, a killed EVC and an upgrade stays flat', async () => {
  const report = await soak({ devices: 6, duration: 50_000, every: 2000, upgradeEvery: 60_000 });
  assert.is(report.trusted, 6);
  assert.equal(report.upgrades.bad, []);
  assert.ok(report.upgrades.committed >= 3, 'half of them were upgraded');
  assert.is(report.faults.kills, 1);
  assert.equal(bad(report), []);
  assert.ok(report.trends.length >= 10, 'each figure of both has a line');
  console.log(
    `FIGURES: soak: 6 devices, ${report.samples.length} samples, ${report.faults.cuts} cuts of links, EVC killed once, ${report.upgrades.rollouts} images committed ${report.upgrades.committed} times; all ${report.trends.length} figures flat`,
  );
});

test('a leak is found, by the name of its figure and process', async () => {
  const report = await soak({ devices: 1, duration: 20_000, every: 1000, leak: 4 * 2 ** 20 });
  const found = bad(report).map(({ process: name, figure }) => `${name}.${figure}`);
  assert.ok(found.includes('evc.heapMb'), found.join(' '));
});

test('a process that ends by itself ends the soak', async () => {
  const ended = soak({ devices: 1, duration: 60_000, every: 1000, onSample: () => killFleet() });
  assert.match(
    await ended.then(
      () => 'it went on',
      ({ message }: Error) => message,
    ),
    'the device ended by itself, with SIGKILL',
  );
});

/** Of this process's children. */
function killFleet(): void {
  for (const pid of readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim().split(' '))
    if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('device/main.ts'))
      process.kill(Number(pid), 'SIGKILL');
}

test.run();
