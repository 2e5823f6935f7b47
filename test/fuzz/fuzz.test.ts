// The fuzzer's targets with a few thousand inputs each, the same every time: `npm run fuzz` goes on from there.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Dice, mutate } from './mutate.ts';
import { faultOf, limits, runOnce, type Target } from './target.ts';
import { targets } from './targets.ts';

const inputs = 3000;
const longest = 128 * 1024;

for (const target of targets)
  test(`${target.name}: ${inputs} broken inputs end in declared errors`, async () => {
    const seeds = target.seeds();
    assert.ok(seeds.length > 3);
    const dice = new Dice(20261125);
    for (let i = 0; i < inputs; i++) {
      const bytes = mutate(dice, dice.pick(seeds), seeds, longest);
      // Time is for `npm run fuzz` to judge, alone on its machine.
      const fault = await runOnce(target, bytes);
      if (fault?.what === 'undeclared error')
        assert.unreachable(`${fault.detail}\ninput: ${Buffer.from(bytes).toString('base64').slice(0, 2000)}`);
    }
  });

test('every input that once broke a reader is read, or refused as declared', async () => {
  const folder = new URL('found/', import.meta.url);
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) {
    const target = targets.find((one) => name.startsWith(`${one.name}-`)) as Target;
    assert.is(await faultOf(target, new Uint8Array(readFileSync(new URL(name, folder)))), undefined, name);
  }
});

test('an undeclared error and a slow reader are found', async () => {
  const bad = (run: Target['run']): Target => ({
    name: 'bad',
    declared: ['FormatError'],
    seeds: () => [],
    run,
  });
  const throwing = bad(() => {
    throw new RangeError('not declared');
  });
  assert.is((await faultOf(throwing, new Uint8Array()))?.what, 'undeclared error');
  const slow = bad(() => {
    const start = process.cpuUsage();
    while (process.cpuUsage(start).user < 1000 * (limits.ms + 10));
  });
  assert.is((await faultOf(slow, new Uint8Array()))?.what, 'too slow');
});

test.run();
