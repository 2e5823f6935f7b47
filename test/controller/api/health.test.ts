import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readinessOf } from '../../../controller/api/health.ts';

function bench() {
  const world = { store: 'answers', broker: true, stopping: false, now: 0, asked: 0 };
  const readiness = readinessOf({
    store: async () => {
      world.asked++;
      if (world.store === 'fails') throw new Error('out of reach');
      if (world.store === 'hangs') await new Promise(() => undefined);
    },
    broker: () => world.broker,
    stopping: () => world.stopping,
    now: () => world.now,
    patience: 20,
  });
  return { world, readiness };
}

test('ready only where store and broker are, and not on the way down', async () => {
  const { world, readiness } = bench();
  const good = { ready: true, store: 'ready', broker: 'ready', stopping: false };
  assert.equal(await readiness(), good);
  world.broker = false;
  assert.equal(await readiness(), { ...good, ready: false, broker: 'unreachable' });
  world.broker = true;
  world.now += 1000;
  world.store = 'fails';
  assert.equal(await readiness(), { ...good, ready: false, store: 'unreachable' });
  world.now += 1000;
  world.store = 'hangs';
  assert.equal(await readiness(), { ...good, ready: false, store: 'unreachable' });
  world.now += 1000;
  world.store = 'answers';
  assert.equal(await readiness(), good);
  world.stopping = true;
  assert.equal(await readiness(), { ...good, ready: false, stopping: true });
});

test('whoever asks often makes the store no busier', async () => {
  const { world, readiness } = bench();
  await Promise.all(Array.from({ length: 1000 }, readiness));
  assert.is(world.asked, 1);
  world.now += 1000;
  await readiness();
  assert.is(world.asked, 2);
  // A clock that was set back must not let an old answer stand.
  world.now -= 1_000_000;
  await readiness();
  assert.is(world.asked, 3);
});

test.run();
