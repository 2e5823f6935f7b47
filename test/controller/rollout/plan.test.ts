import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { nextOf, type Progress, type Rollout, shareOf } from '../../../controller/rollout/plan.ts';

/** As `ccfa..`: committed, failed, assigned, skipped, waiting. */
function rollout(devices: string, more: Partial<Rollout> = {}): Rollout {
  const progress: Record<string, Progress> = {
    c: 'committed',
    f: 'failed',
    a: 'assigned',
    s: 'skipped',
    '.': 'waiting',
  };
  return {
    ...{ id: 'r', version: '2', by: 'ann', reason: '', created: 0, accounts: null, window: 1, testWindow: 1 },
    ...{ stages: [1, 10, 100], stage: 0, haltAt: 10, atOnce: 100, state: 'running', why: '' },
    devices: [...devices].map((char, i) => ({
      device: `${i}`,
      serial: '',
      progress: progress[char] as Progress,
      why: '',
    })),
    ...more,
  };
}

const dots = (count: number) => '.'.repeat(count);

const cases: [what: string, rollout: Rollout, state: string, stage: number, begins: number][] = [
  ['begins with 1 %', rollout(dots(200)), 'running', 0, 2],
  ['1 % of few is one', rollout(dots(10)), 'running', 0, 1],
  ['waits for those', rollout(`a${dots(9)}`), 'running', 0, 0],
  ['goes on once they are through', rollout(`cc${dots(198)}`), 'running', 1, 18],
  ['a share has one more than the one before', rollout(`c${dots(9)}`), 'running', 1, 1],
  ['what is skipped is through', rollout(`ss${dots(198)}`), 'running', 1, 18],
  ['shares that are through are passed over', rollout('ssss.', { stage: 0 }), 'running', 2, 1],
  ['the first failure of a small share halts it', rollout(`cf${dots(198)}`), 'halted', 0, 0],
  ['as many as may fail do not', rollout(`${'c'.repeat(9)}f${dots(90)}`, { stage: 1 }), 'running', 2, 90],
  ['one more does', rollout(`${'c'.repeat(18)}fff${dots(79)}`, { stage: 2 }), 'halted', 2, 0],
  ['those under way count as begun', rollout(`fa${dots(8)}`, { haltAt: 50, stage: 2 }), 'running', 2, 8],
  ['no failure may', rollout(`${'c'.repeat(99)}f`, { haltAt: 0, stage: 2 }), 'halted', 2, 0],
  ['all may', rollout('fff', { haltAt: 100, stage: 2 }), 'done', 2, 0],
  ['no more at once than that', rollout(`aa${dots(98)}`, { stages: [100], atOnce: 5 }), 'running', 0, 3],
  ['not even when there are more already', rollout('aaa..', { stages: [100], atOnce: 2 }), 'running', 0, 0],
  ['done when all are through', rollout('ccs', { stage: 2 }), 'done', 2, 0],
  ['the last one under way is waited for', rollout('cca', { stage: 2 }), 'running', 2, 0],
];

for (const [what, given, state, stage, begins] of cases)
  test(what, () => {
    const next = nextOf(given);
    assert.equal([next.state, next.stage, next.begin.length], [state, stage, begins]);
    assert.is(next.why !== '', state === 'halted');
    for (const device of next.begin) assert.is(given.devices[Number(device)]?.progress, 'waiting');
  });

test('shares never shrink, and the last is everybody', () => {
  for (let count = 1; count < 300; count++) {
    const given = rollout(dots(count), { stages: [0.1, 1, 5, 50, 100] });
    const shares = given.stages.map((_, i) => shareOf(given, i));
    assert.equal(
      shares,
      [...shares].sort((one, other) => one - other),
    );
    assert.is(shares.at(-1), count);
    assert.ok((shares[0] ?? 0) >= 1);
  }
});

test.run();
