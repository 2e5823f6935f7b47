import { setImmediate } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Admission, type AdmissionLimits, type Offered, type Shed } from '../../controller/admission.ts';
import { SimulatedClock } from '../kit/clock.ts';

const ask = (device: string, endpoint = 'attest', size = 100): Offered => ({
  device,
  endpoint,
  topic: `${device} ${endpoint}`,
  payload: new Uint8Array(size),
  arrived: 0,
});

/** Devices are called `account/number`. What is worked at ends when the test says so. */
function opened(limits: Partial<AdmissionLimits> = {}) {
  const clock = new SimulatedClock();
  const begun: string[] = [];
  const putOff: [device: string, retryAfter: number][] = [];
  const sheds: Shed[] = [];
  const ends: (() => void)[] = [];
  const admission = new Admission({
    clock,
    limits,
    handle: ({ device, endpoint }) => {
      begun.push(endpoint === 'info' ? `${device} info` : device);
      return new Promise((resolve) => ends.push(resolve));
    },
    putOff: async ({ device }, retryAfter) => void putOff.push([device, retryAfter]),
    accountOf: async (device) => device.split('/')[0] ?? '',
    onShed: (shed) => sheds.push(shed),
  });
  return {
    admission,
    clock,
    begun,
    putOff,
    sheds,
    async offer(...requests: Offered[]) {
      for (const request of requests) admission.offer(request);
      await setImmediate();
    },
    /** Ends the oldest that are worked at. */
    async end(many = 1) {
      for (const end of ends.splice(0, many)) end();
      await setImmediate();
    },
    /** Ends everything, one by one. */
    async endAll() {
      while (ends.length > 0) await this.end();
    },
  };
}

test('what EVC can do is done at once', async () => {
  const bench = opened({ atWork: 2 });
  await bench.offer(ask('a/1'), ask('a/2'), ask('a/3'));
  assert.equal(bench.begun, ['a/1', 'a/2']);
  assert.equal(bench.admission.load, { queued: 1, atWork: 2, underWay: 2 });
  await bench.end();
  assert.equal(bench.begun, ['a/1', 'a/2', 'a/3']);
  await bench.endAll();
  await bench.admission.settled();
  assert.equal(bench.admission.load, { queued: 0, atWork: 0, underWay: 3 });
});

test('who has begun goes on, newcomers come after, and reports come last', async () => {
  const bench = opened({ atWork: 1 });
  await bench.offer(ask('a/1'));
  await bench.offer(ask('a/3', 'info'), ask('a/2'), ask('a/1', 'config'), ask('a/1', 'info'));
  await bench.endAll();
  assert.equal(bench.begun, ['a/1', 'a/1', 'a/2', 'a/3 info', 'a/1 info']);
});

test('a device that was silent for half a minute is a newcomer again', async () => {
  const bench = opened({ atWork: 1 });
  await bench.offer(ask('a/1'));
  await bench.end();
  bench.clock.advanceTo(bench.clock.now() + 31_000);
  await bench.offer(ask('a/2'));
  await bench.offer(ask('a/3'), ask('a/1'));
  await bench.endAll();
  assert.equal(bench.begun, ['a/1', 'a/2', 'a/3', 'a/1']);
});

test('accounts take turns, however many devices one of them has', async () => {
  const bench = opened({ atWork: 1 });
  await bench.offer(
    ...Array.from({ length: 20 }, (_, i) => ask(`a/${i}`)),
    ask('b/0'),
    ask('c/0'),
    ask('b/1'),
  );
  await bench.endAll();
  const first = bench.begun.slice(0, 7).map((device) => device.split('/')[0]);
  assert.equal(first.filter((account) => account === 'b').length, 2);
  assert.ok(first.includes('c'));
  assert.is(bench.begun.length, 23);
});

test('a queue is bounded: newcomers give way to who has begun, of the account that has most', async () => {
  const bench = opened({ atWork: 1, queued: 4 });
  await bench.offer(ask('b/1'));
  await bench.offer(ask('a/1'), ask('a/2'), ask('a/3'), ask('b/2'));
  await bench.offer(ask('b/3'));
  assert.equal(
    bench.putOff.map(([device]) => device),
    ['b/3'],
  );
  await bench.offer(ask('b/1', 'config'));
  assert.equal(
    bench.putOff.map(([device]) => device),
    ['b/3', 'a/3'],
  );
  await bench.offer(ask('b/1'), ask('b/1'), ask('b/1'), ask('b/1'));
  assert.equal(
    bench.putOff.map(([device]) => device),
    ['b/3', 'a/3', 'a/2', 'a/1', 'b/2', 'b/1'],
  );
  await bench.endAll();
  assert.equal(bench.begun, ['b/1', 'b/1', 'b/1', 'b/1', 'b/1']);
});

test('a device that floods is dropped, and so is what no memory is for; both are said', async () => {
  const bench = opened({ atWork: 1, ofDevice: 3, bytes: 1000 });
  await bench.offer(...Array.from({ length: 10 }, () => ask('a/1')));
  await bench.offer(ask('a/2', 'attest', 900));
  assert.equal(bench.admission.load, { queued: 2, atWork: 1, underWay: 1 });
  bench.clock.advanceTo(bench.clock.now() + 1000);
  await setImmediate();
  assert.equal(
    bench.sheds.map(({ putOff, dropped }) => ({ putOff, dropped })),
    [{ putOff: 0, dropped: 8 }],
  );
  await bench.endAll();
  await bench.offer(ask('a/1'), ask('a/2', 'attest', 900));
  assert.is(bench.admission.load.atWork, 1);
  await bench.endAll();
});

test('newcomers that would wait too long are put off, each to a moment of its own', async () => {
  const bench = opened({ atWork: 1, wait: 100 });
  await bench.offer(...Array.from({ length: 1000 }, (_, i) => ask(`a/${i}`)));
  // A request takes two ms as long as nobody has measured.
  assert.is(bench.admission.load.queued, 51);
  const after = bench.putOff.map(([, retryAfter]) => retryAfter);
  assert.is(after.length, 948);
  assert.ok(after.every((ms) => ms >= 1000 && ms <= 10_000));
  // Eight ms of work each: no second gets much more than it can do.
  const seconds = Array.from(
    { length: 10 },
    (_, i) => after.filter((ms) => ms >= i * 1000 && ms < (i + 1) * 1000).length,
  );
  assert.ok(
    seconds.every((many) => many < 250),
    seconds.join(' '),
  );
  bench.clock.advanceTo(bench.clock.now() + 1000);
  await setImmediate();
  assert.equal(
    bench.sheds.map(({ putOff, byAccount }) => [putOff, { ...byAccount }]),
    [[948, { a: 948 }]],
  );
  await bench.endAll();
});

test('a request whose account cannot be asked for is served all the same', async () => {
  const clock = new SimulatedClock();
  const begun: string[] = [];
  const admission = new Admission({
    clock,
    handle: async ({ device }) => void begun.push(device),
    putOff: () => Promise.resolve(),
    accountOf: () => Promise.reject(new Error('the store is gone')),
  });
  admission.offer(ask('a/1'));
  await admission.settled();
  assert.equal(begun, ['a/1']);
});

interface Storm {
  took: number;
  /** Of the device that was put off most often. */
  mostPutOff: number;
  longestPutOff: number;
  doneAt: Record<'large' | 'small', number[]>;
}

/** 4,900 devices of one account and 100 of another come at once, each with four requests. @param cost of a request begun at a time */
async function storm(cost: (ms: number) => number): Promise<Storm> {
  const clock = new SimulatedClock();
  const start = clock.now();
  let free = start;
  const answers = new Map<string, (retryAfter: number) => void>();
  const admission = new Admission({
    clock,
    // One after the other, whatever is begun together.
    handle: async (request) => {
      const begins = Math.max(free, clock.now());
      free = begins + cost(begins - start);
      await clock.sleepUntil(free);
      answers.get(request.topic)?.(0);
    },
    putOff: async (request, retryAfter) => answers.get(request.topic)?.(retryAfter),
    accountOf: async (device) => device.split('/')[0] ?? '',
  });
  let served = 0;
  const seen: Storm = { took: 0, mostPutOff: 0, longestPutOff: 0, doneAt: { large: [], small: [] } };
  const device = async (account: 'large' | 'small', i: number) => {
    let putOff = 0;
    for (let step = 0; step < 4; ) {
      const request = ask(`${account}/${i}`, 'attest');
      request.topic = `${request.device} ${step} ${putOff}`;
      const retryAfter = await new Promise<number>((resolve) => {
        answers.set(request.topic, resolve);
        admission.offer(request);
      });
      answers.delete(request.topic);
      if (retryAfter === 0) step++;
      else {
        putOff++;
        seen.longestPutOff = Math.max(seen.longestPutOff, retryAfter);
        await clock.sleepUntil(clock.now() + retryAfter);
      }
    }
    served++;
    seen.mostPutOff = Math.max(seen.mostPutOff, putOff);
    seen.doneAt[account].push(clock.now() - start);
  };
  const all = [
    ...Array.from({ length: 4900 }, (_, i) => device('large', i)),
    ...Array.from({ length: 100 }, (_, i) => device('small', i)),
  ];
  while (served < all.length) {
    await setImmediate();
    const next = clock.next();
    if (next === null) continue;
    clock.advanceTo(next);
  }
  await Promise.all(all);
  return { ...seen, took: clock.now() - start };
}

test('a storm of 5,000 devices: all are served, none is starved, and hardly a moment is lost', async () => {
  const { took, mostPutOff, doneAt } = await storm(() => 2);
  const ideal = 5000 * 4 * 2;
  assert.ok(took < 1.5 * ideal, `${took} ms, where ${ideal} would do`);
  assert.ok(mostPutOff <= 6, `somebody was put off ${mostPutOff} times`);
  // Two accounts take turns: the small one does not wait for the large one.
  assert.ok(Math.max(...doneAt.small) < took / 2, `${Math.max(...doneAt.small)} of ${took} ms`);
});

test('what a request costs while all shake hands is not believed for minutes', async () => {
  const slow = 6000;
  const { took, mostPutOff, longestPutOff } = await storm((ms) => (ms < slow ? 20 : 1));
  const ideal = slow + (5000 * 4 - slow / 20) * 1;
  assert.ok(took < 1.5 * ideal, `${took} ms, where ${ideal} would do`);
  assert.ok(mostPutOff <= 6, `somebody was put off ${mostPutOff} times`);
  assert.ok(longestPutOff <= 30_000, `somebody was sent away for ${longestPutOff} ms`);
});

test.run();
