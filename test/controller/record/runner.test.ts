import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type RecordEvent, RecordRunner, type RunnerEvent } from '../../../controller/record/runner.ts';
import { runTimers } from '../../../controller/record/timers.ts';
import { LibsqlStore } from '../../../controller/store/libsql.ts';
import { type Effect, type Store, StoreError, TimerTaken } from '../../../controller/store/store.ts';
import type { Account, RequestRef } from '../../../machines/device-record.ts';
import { SimulatedClock } from '../../kit/clock.ts';
import { inFolder } from '../../kit/folders.ts';
import { rejects } from '../../kit/rejects.ts';
import { storeWith } from '../../kit/stores.ts';

const account: Account = {
  id: 'a',
  kind: 'manufacturing',
  locationLock: false,
  radius: 100,
  moved: 'report',
};
const ref = (id: string, endpoint: RequestRef['endpoint'] = 'attest'): RequestRef => ({ endpoint, id });
const registered: RecordEvent = {
  type: 'device.registered',
  request: ref('r0', 'register'),
  uuid: 'u',
  serial: 's',
  account,
  settings: {},
};
const asksNonce = (id: string): RecordEvent => ({
  type: 'nonce.requested',
  request: ref(id),
  salt: id,
  nonceHash: id,
});

interface Bench {
  clock: SimulatedClock;
  /** The store, opened as another process would. */
  open(): LibsqlStore;
  runner(
    store: Store,
    perform?: (effect: Effect) => Promise<void>,
    watch?: (event: RunnerEvent) => void,
  ): RecordRunner;
  done: Effect[];
}

function withBench(work: (bench: Bench) => Promise<void>): Promise<void> {
  return inFolder(async (folder) => {
    const clock = new SimulatedClock();
    const stores: LibsqlStore[] = [];
    const done: Effect[] = [];
    try {
      await work({
        clock,
        done,
        open() {
          const store = LibsqlStore.open(join(folder, 'evc.db'));
          stores.push(store);
          return store;
        },
        runner: (store, perform = async (effect) => void done.push(effect), watch) =>
          new RecordRunner({ store, clock, perform, ...(watch ? { watch } : {}) }),
      });
    } finally {
      for (const store of stores) await store.close();
    }
  });
}

const replies = (effects: Effect[]) =>
  effects.map(({ params }) => (params as { request?: RequestRef }).request?.id);

test('a step is stored before anybody hears of it, and its effects are done and forgotten', () =>
  withBench(async ({ open, runner, done }) => {
    const store = open();
    const seen: RunnerEvent[] = [];
    const one = runner(store, undefined, (event) => seen.push(event));
    assert.is(await one.read('d'), null);
    const after = await one.send('d', registered);
    assert.equal((after.value as { enrolment: string }).enrolment, 'registered');
    assert.equal((await one.read('d'))?.context.uuid, 'u');
    await one.settled();
    assert.equal(replies(done), ['r0']);
    assert.equal(await store.pending(10), []);
    assert.equal(
      seen.map(({ event, ignored }) => [event.type, ignored]),
      [['device.registered', false]],
    );
    assert.equal(
      (await store.list('', 10)).map(({ serial, uuid }) => [serial, uuid]),
      [['s', 'u']],
    );
  }));

test('a record that another controller stepped is read again, and no step is lost', () =>
  withBench(async ({ open, runner }) => {
    const [one, other] = [runner(open()), runner(open())];
    await one.send('d', registered);
    await one.send('d', asksNonce('n1'));
    await other.send('d', asksNonce('n2'));
    assert.is((await one.latest('d'))?.context.nonce?.hash, 'n1');
    assert.is((await one.read('d'))?.context.nonce?.hash, 'n2');
    await one.send('d', { type: 'link.changed', online: true });
    const after = await other.read('d');
    assert.is(after?.context.nonce?.hash, 'n2');
    assert.match(JSON.stringify(after?.value), '"link":"online"');
    assert.is((await one.latest('d'))?.context.nonce?.hash, 'n2');
  }));

test('an effect that fails is kept, and done by the next life', () =>
  withBench(async ({ open, runner, done }) => {
    const store = open();
    const broken = runner(store, async () => {
      throw new Error('the broker is gone');
    });
    await broken.send('d', registered);
    await broken.send('d', asksNonce('n1'));
    await broken.settled();
    assert.equal(replies(await store.pending(10)), ['r0', 'n1']);

    const next = runner(open());
    assert.is(await next.recover(), 2);
    await next.settled();
    assert.equal(replies(done), ['r0', 'n1']);
    assert.equal(await store.pending(10), []);
    assert.is(await next.recover(), 0);
  }));

test('an effect that was done and not struck off is done again: at least once', () =>
  withBench(async ({ open, runner, done }) => {
    const store = open();
    const forgetful = storeWith(store, { done: () => Promise.reject(new StoreError('full', 'no room')) });
    const first = runner(forgetful);
    await first.send('d', registered);
    await first.settled();
    const next = runner(store);
    await next.recover();
    await next.settled();
    assert.equal(replies(done), ['r0', 'r0']);
  }));

test('when the step cannot be stored, nothing happens', () =>
  withBench(async ({ open, runner, done }) => {
    const store = open();
    const full = storeWith(store, { commit: () => Promise.reject(new StoreError('full', 'no room')) });
    const seen: unknown[] = [];
    const one = runner(full, undefined, (event) => seen.push(event));
    await rejects(one.send('d', registered), StoreError);
    await one.settled();
    assert.equal([done, seen, await store.load('d')], [[], [], null]);
    // The next step of the device is not held up by the one that failed.
    await rejects(one.send('d', registered), StoreError);
    const working = runner(store);
    await working.send('d', registered);
  }));

test('events of one device are taken in their order, whatever comes at once', () =>
  withBench(async ({ open, runner }) => {
    const store = open();
    const one = runner(store);
    await one.send('d', registered);
    const ids = Array.from({ length: 50 }, (_, i) => `n${i}`);
    await Promise.all(ids.map((id) => one.send('d', asksNonce(id))));
    await one.settled();
    const journal = (await store.journal('d', 100)).reverse().slice(1);
    assert.equal(
      journal.map(({ body }) => (body as { salt: string }).salt),
      ids,
    );
    assert.is((await store.load('d'))?.version, 51);
  }));

test('two controllers on one store lose no step of each other', () =>
  withBench(async ({ open, runner }) => {
    const stores = [open(), open()] as const;
    let conflicts = 0;
    const runners = stores.map((store) => {
      const slow = storeWith(store, {
        // Between loading and committing the other one gets its turn.
        async load(device) {
          const row = await store.load(device);
          await new Promise((resolve) => setImmediate(resolve));
          return row;
        },
        commit: (step) =>
          store.commit(step).catch((error) => {
            conflicts++;
            throw error;
          }),
      });
      return runner(slow);
    });
    const [a, b] = runners as [RecordRunner, RecordRunner];
    await a.send('d', registered);
    const sends = Array.from({ length: 20 }, (_, i) => (i % 2 ? a : b).send('d', asksNonce(`n${i}`)));
    await Promise.all(sends);
    await Promise.all(runners.map((one) => one.settled()));
    assert.ok(conflicts > 0);
    assert.is((await stores[0].load('d'))?.version, 21);
    const salts = (await stores[0].journal('d', 100)).flatMap(
      ({ body }) => (body as { salt?: string }).salt ?? [],
    );
    assert.equal(salts.sort(), Array.from({ length: 20 }, (_, i) => `n${i}`).sort());
  }));

test('of two controllers one answers a timer, and its record steps once', () =>
  withBench(async ({ clock, open, runner }) => {
    const stores = [open(), open()] as const;
    const runners = stores.map((store) => runner(store)) as [RecordRunner, RecordRunner];
    await runners[0].send('d', registered);
    await runners[0].send('d', asksNonce('n'));
    const at = (await stores[0].nextTimer()) ?? 0;
    assert.ok(at > clock.now());
    const [row] = await stores[0].due(at, 10);
    assert.ok(row);
    clock.advanceTo(at);
    if (!row) return;
    const event = { type: 'timer.due', timer: 'nonce' } as const;
    const results = await Promise.allSettled(runners.map((one) => one.send('d', event, { timer: row })));
    const taken = results.filter(({ status }) => status === 'rejected') as PromiseRejectedResult[];
    assert.is(taken.length, 1);
    assert.instance(taken[0]?.reason, TimerTaken);
    assert.equal(
      (await stores[0].journal('d', 10)).map(({ event: name }) => name),
      ['timer.due', 'nonce.requested', 'device.registered'],
    );
    assert.is((await runners[0].read('d'))?.context.nonce, null);
    assert.is(await stores[0].nextTimer(), null);
  }));

test('timers fire at their time, by one of the loops that run', () =>
  withBench(async ({ clock, open, runner }) => {
    const stores = [open(), open()] as const;
    const fired: string[] = [];
    const watch = ({ device, event }: RunnerEvent) => {
      if (event.type === 'timer.due') fired.push(device);
    };
    const runners = stores.map((store) => runner(store, undefined, watch)) as [RecordRunner, RecordRunner];
    for (const device of ['d1', 'd2', 'd3']) {
      await runners[0].send(device, registered);
      await runners[0].send(device, asksNonce('n'));
    }
    const at = (await stores[0].nextTimer()) ?? 0;
    const stop = new AbortController();
    const loops = runners.map((one, i) => runTimers(stores[i] as Store, one, clock, stop.signal));
    for (let ticks = 0; fired.length < 3; ticks++) {
      assert.ok(ticks < 10_000, `only ${fired}`);
      await new Promise((resolve) => setImmediate(resolve));
      const next = clock.next();
      if (next !== null) clock.advanceTo(Math.min(next, at + 60_000));
      if (fired.length === 0) assert.ok(clock.now() <= at + 20_000);
    }
    stop.abort();
    await Promise.all(loops);
    assert.equal(fired.sort(), ['d1', 'd2', 'd3']);
    assert.is(await stores[0].nextTimer(), null);
  }));

test('a record that cannot be stepped, and a store that fails, hold no other timer up', () =>
  withBench(async ({ clock, open, runner }) => {
    const store = open();
    const one = runner(store);
    for (const device of ['broken', 'sound']) {
      await one.send(device, registered);
      await one.send(device, asksNonce('n'));
    }
    let failures = 0;
    const failing = storeWith(store, {
      async due(now, limit) {
        if (failures++ < 2) throw new StoreError('taken', 'in use');
        return store.due(now, limit);
      },
      async load(device) {
        if (device === 'broken') throw new SyntaxError('no snapshot');
        return store.load(device);
      },
    });
    const fired: string[] = [];
    const other = runner(failing, undefined, ({ device }) => fired.push(device));
    const stop = new AbortController();
    const loop = runTimers(failing, other, clock, stop.signal);
    for (let ticks = 0; fired.length === 0; ticks++) {
      assert.ok(ticks < 10_000);
      await new Promise((resolve) => setImmediate(resolve));
      const next = clock.next();
      if (next !== null) clock.advanceTo(next);
    }
    stop.abort();
    await loop;
    assert.equal(fired, ['sound']);
    // Still there for when the record can be stepped again.
    assert.equal(
      (await store.due(Number.MAX_SAFE_INTEGER, 9)).map(({ device }) => device),
      ['broken'],
    );
  }));

test('evidence is stored with the step that takes it, and not without', () =>
  withBench(async ({ open, runner }) => {
    const store = open();
    const one = runner(store);
    await one.send('d', registered);
    const attempt = { id: 'e', nonceHash: 'n', tokenHash: '', request: ref('q'), at: 0 };
    // No certificate was proven, so the record refuses the quote.
    await one.send(
      'd',
      { type: 'quote.received', attempt },
      { evidence: { id: 'e', bytes: Uint8Array.of(1) } },
    );
    assert.is(await store.evidence('e'), null);
  }));

test.run();
