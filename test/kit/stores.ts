// What every store has to do, whatever keeps its rows. Each engine's test file runs it.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type AttemptLines,
  type AuditEntry,
  type AuditQuery,
  attemptBytes,
  attemptsKept,
  type Step,
  StepConflict,
  type Store,
  StoreError,
  TimerTaken,
} from '../../controller/store/store.ts';
import { type FleetFacts, noFacts } from '../../formats/filter/row.ts';
import { rejects } from './rejects.ts';

const facts: FleetFacts = { ...noFacts, pcrs: [8], image: '1.0.0' };
export const summary = { serial: 's1', uuid: 'u1', account: 'a1', trust: 'trusted', seen: 5, facts };

/** A store that does some things differently. */
export function storeWith(store: Store, changes: Partial<Store>): Store {
  return new Proxy(store, {
    get(target, name) {
      const own = changes[name as keyof Store];
      if (own) return own;
      const value = target[name as keyof Store] as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** A step with nothing in it but the snapshot. */
export function stepOf(device: string, from: number, more: Partial<Step> = {}): Step {
  return {
    device,
    from,
    snapshot: { step: from + 1 },
    journal: { at: 1, event: 'tested', body: { from } },
    effects: [],
    setTimers: [],
    clearTimers: [],
    summary,
    ...more,
  };
}

/** @param opens an empty store, and the same one a second time as another process would. */
export function storeSuite(
  name: string,
  opens: (work: (store: Store, again: () => Promise<Store>) => Promise<void>) => Promise<void>,
): void {
  const check = (what: string, work: (store: Store, again: () => Promise<Store>) => Promise<void>) =>
    test(`${name}: ${what}`, () => opens(work));

  check('what is changed at once is there whole or not at all, each for itself', async (store, again) => {
    await store.commit(stepOf('a', 0));
    const effect = { id: 'e1', device: 'b', type: 'reply', params: {} };
    await store.commit(stepOf('b', 0, { effects: [effect] }));
    const settled = await Promise.allSettled([
      store.commit(stepOf('a', 1)),
      // Made from a version that is gone.
      store.commit(stepOf('a', 0, { setTimers: [{ timer: 'nonce', at: 5 }] })),
      store.put('setting', 'one', { is: 1 }),
      // An effect of this id is there: the engine itself refuses it, after the record was changed.
      store.commit(stepOf('b', 1, { effects: [effect], setTimers: [{ timer: 'trust', at: 5 }] })),
      store.update('setting', 'two', () => {
        throw new TypeError('not like this');
      }),
      store.commit(stepOf('c', 0)),
      store.done(['nothing']),
    ]);
    assert.equal(
      settled.map(({ status }) => status),
      ['fulfilled', 'rejected', 'fulfilled', 'rejected', 'rejected', 'fulfilled', 'fulfilled'],
    );
    const reasons = settled.map((one) => (one.status === 'rejected' ? one.reason : null));
    assert.instance(reasons[1], StepConflict);
    assert.match((reasons[4] as Error).message, /not like this/);
    for (const view of [store, await again()]) {
      const versions = await Promise.all(
        ['a', 'b', 'c'].map(async (device) => (await view.load(device))?.version),
      );
      assert.equal(versions, [2, 1, 1]);
      assert.equal(await view.due(10, 10), []);
      assert.equal(await view.get('setting', 'one'), { is: 1 });
      assert.is(await view.get('setting', 'two'), null);
      assert.equal(
        (await view.journal('b', 10)).map(({ body }) => body),
        [{ from: 0 }],
      );
    }
  });

  check('an empty store has nothing', async (store) => {
    assert.is(await store.load('d'), null);
    assert.equal(await store.pending(10), []);
    assert.equal(await store.due(Number.MAX_SAFE_INTEGER, 10), []);
    assert.is(await store.nextTimer(), null);
    assert.equal(await store.list('', 10), []);
    assert.is(await store.bySerial('s1'), null);
    assert.equal(await store.journal('d', 10), []);
    assert.is(await store.escrowed('d', 1), null);
    assert.is(await store.lastEscrow('d'), 0);
    assert.is(await store.evidence('e'), null);
    assert.is(await store.blob('00'), null);
    assert.is(await store.get('account', 'a'), null);
    assert.equal(await store.all('account'), []);
  });

  check('an attempt keeps its lines, from how the record stood to its last step', async (store, again) => {
    const at = (from: number, more: Partial<AttemptLines>): Partial<Step> => ({
      journal: { at: 10 + from, event: 'tested', body: {} },
      attempt: { begins: false, lines: [`line ${from}`], standing: () => `stands ${from}`, ...more },
    });
    await store.commit(stepOf('d', 0, at(0, { begins: true })));
    await store.commit(stepOf('d', 1, at(1, { lines: ['a ü\\u0000', 'b'] })));
    await store.commit(stepOf('d', 2, at(2, { begins: true })));
    await store.commit(stepOf('d', 3, at(3, { evidence: 'e', outcome: 'trusted (baseline)' })));
    await store.commit(stepOf('d', 4, at(4, {})));
    await rejects(store.commit(stepOf('d', 2, at(2, { begins: true }))), StepConflict);
    const row = { steps: 2, dropped: 0, evidence: '', outcome: '' };
    for (const one of [store, await again()]) {
      assert.equal(await one.attempts('d'), [
        { ...row, attempt: 2, begun: 12, ended: 14, steps: 3, evidence: 'e', outcome: 'trusted (baseline)' },
        { ...row, attempt: 1, begun: 10, ended: 11 },
      ]);
      assert.equal(await one.attemptLines('d', 1), ['stands 0', 'line 0', 'a ü\\u0000', 'b']);
      assert.equal(await one.attemptLines('d', 2), ['stands 2', 'line 2', 'line 3', 'line 4']);
      assert.is(await one.attemptLines('d', 3), null);
      assert.equal(await one.attempts('other'), []);
    }
  });

  check('a device keeps its last attempts, and of each no more than its share', async (store) => {
    const big = 'x'.repeat(attemptBytes / 2);
    let from = 0;
    const step = (begins: boolean, lines: string[]) =>
      store.commit(stepOf('d', from++, { attempt: { begins, lines, standing: () => 's' } }));
    for (let i = 0; i < attemptsKept + 3; i++) await step(true, [`${i}`]);
    await step(false, [big]);
    await step(false, [big, 'more']);
    // Whatever follows a gap is left out, or it would seem to follow from what is before it.
    await step(false, ['small']);
    const kept = await store.attempts('d');
    assert.equal(
      kept.map(({ attempt }) => attempt),
      Array.from({ length: attemptsKept }, (_, i) => attemptsKept + 3 - i),
    );
    assert.is(await store.attemptLines('d', 3), null);
    const [last] = kept;
    assert.equal([last?.steps, last?.dropped], [4, 3]);
    assert.equal(await store.attemptLines('d', last?.attempt ?? 0), ['s', `${attemptsKept + 2}`, big]);
  });

  check('a step stores all that belongs to it', async (store, again) => {
    const effects = [
      { id: 'e1', device: 'd', type: 'reply', params: { text: 'ü"\'\\\0' } },
      { id: 'e2', device: 'd', type: 'push', params: {} },
    ];
    const box = Uint8Array.from({ length: 256 }, (_, i) => i);
    await store.commit(
      stepOf('d', 0, {
        effects,
        setTimers: [{ timer: 'nonce', at: 70 }],
        escrow: { device: 'd', version: 1, keyId: 'k', box, at: 3 },
        evidence: { id: 'ev', bytes: box, at: 4 },
      }),
    );
    for (const one of [store, await again()]) {
      assert.equal(await one.load('d'), { device: 'd', version: 1, snapshot: { step: 1 } });
      assert.equal(await one.pending(10), effects);
      assert.equal(await one.pending(1), effects.slice(0, 1));
      assert.equal(await one.due(69, 10), []);
      assert.equal(await one.due(70, 10), [{ device: 'd', timer: 'nonce', at: 70 }]);
      assert.is(await one.nextTimer(), 70);
      assert.equal(await one.escrowed('d', 1), { device: 'd', version: 1, keyId: 'k', box, at: 3 });
      assert.is(await one.lastEscrow('d'), 1);
      assert.equal(await one.evidence('ev'), box);
      assert.equal(await one.list('', 10), [{ device: 'd', revision: 1, labels: [], ...summary }]);
      assert.is(await one.bySerial('s1'), 'd');
      const [entry] = await one.journal('d', 10);
      assert.equal([entry?.at, entry?.event, entry?.body], [1, 'tested', { from: 0 }]);
    }
  });

  check(
    'a step counts only on the version that it was made from, and else changes nothing',
    async (store, again) => {
      const other = await again();
      await store.commit(stepOf('d', 0));
      const late = {
        effects: [{ id: 'lost', device: 'd', type: 'push', params: {} }],
        setTimers: [{ timer: 't', at: 1 }],
      };
      for (const from of [0, 2, 7]) await rejects(other.commit(stepOf('d', from, late)), StepConflict);
      await rejects(other.commit(stepOf('unknown', 1, late)), StepConflict);
      assert.equal(
        [await store.pending(10), await store.nextTimer(), (await store.journal('d', 10)).length],
        [[], null, 1],
      );
      await other.commit(stepOf('d', 1));
      assert.is((await store.load('d'))?.version, 2);
      assert.equal([await store.version('d'), await store.version('nobody')], [2, 0]);
    },
  );

  check('a step that fails half-way leaves nothing of itself', async (store) => {
    const effect = { id: 'same', device: 'd', type: 'push', params: {} };
    await store.commit(stepOf('d', 0, { effects: [effect] }));
    await rejects(
      store.commit(stepOf('d', 1, { setTimers: [{ timer: 't', at: 1 }], effects: [effect] })),
      Error,
    );
    assert.equal(
      [(await store.load('d'))?.version, (await store.journal('d', 10)).length, await store.nextTimer()],
      [1, 1, null],
    );
    await store.commit(stepOf('d', 1));
  });

  check('of many at once one wins each version', async (store, again) => {
    const stores = [store, await again()];
    await store.commit(stepOf('d', 0));
    const tries = Array.from({ length: 20 }, (_, i) =>
      (stores[i % 2] as Store).commit(stepOf('d', 1, { snapshot: { by: i } })),
    );
    const results = await Promise.allSettled(tries);
    assert.is(results.filter(({ status }) => status === 'fulfilled').length, 1);
    const winner = results.findIndex(({ status }) => status === 'fulfilled');
    assert.equal(await store.load('d'), { device: 'd', version: 2, snapshot: { by: winner } });
  });

  check('effects stay until they are done, in their order', async (store) => {
    const effect = (id: string) => ({ id, device: 'd', type: 'push', params: {} });
    await store.commit(stepOf('d', 0, { effects: [effect('b'), effect('a')] }));
    await store.commit(stepOf('d', 1, { effects: [effect('c')] }));
    await store.done(['a', 'unknown']);
    await store.done([]);
    assert.equal(
      (await store.pending(10)).map(({ id }) => id),
      ['b', 'c'],
    );
  });

  check('timers are set anew, cleared, and found in time', async (store) => {
    await store.commit(
      stepOf('d', 0, {
        setTimers: [
          { timer: 'a', at: 30 },
          { timer: 'b', at: 20 },
        ],
      }),
    );
    await store.commit(stepOf('e', 0, { setTimers: [{ timer: 'a', at: 10 }] }));
    await store.commit(
      stepOf('d', 1, { setTimers: [{ timer: 'a', at: 40 }], clearTimers: ['b', 'unknown'] }),
    );
    assert.equal(await store.due(100, 10), [
      { device: 'e', timer: 'a', at: 10 },
      { device: 'd', timer: 'a', at: 40 },
    ]);
    assert.equal((await store.due(100, 1)).length, 1);
    assert.is(await store.nextTimer(), 10);
  });

  check('a due timer is taken once, with the step that answers it', async (store, again) => {
    const other = await again();
    const timer = { device: 'd', timer: 'a', at: 10 };
    await store.commit(stepOf('d', 0, { setTimers: [timer] }));
    await store.commit(stepOf('d', 1, { timer, setTimers: [{ timer: 'a', at: 50 }] }));
    await rejects(other.commit(stepOf('d', 2, { timer })), TimerTaken);
    assert.equal([(await store.load('d'))?.version, await store.due(99, 9)], [2, [{ ...timer, at: 50 }]]);
    // Set anew meanwhile: not the one that was due.
    await rejects(other.commit(stepOf('d', 2, { timer: { ...timer, at: 49 } })), TimerTaken);
    await other.commit(stepOf('d', 2, { timer: { ...timer, at: 50 } }));
    assert.is(await store.nextTimer(), null);
  });

  check('a step on an old version takes no timer', async (store) => {
    const timer = { device: 'd', timer: 'a', at: 10 };
    await store.commit(stepOf('d', 0, { setTimers: [timer] }));
    await rejects(store.commit(stepOf('d', 5, { timer })), StepConflict);
    assert.equal(await store.due(10, 1), [timer]);
  });

  check('lists go page by page, in the order of ids', async (store) => {
    for (const device of ['c', 'a', 'b'])
      await store.commit(stepOf(device, 0, { summary: { ...summary, serial: device } }));
    assert.equal(
      (await store.list('', 2)).map(({ device }) => device),
      ['a', 'b'],
    );
    assert.equal(
      (await store.list('b', 2)).map(({ device }) => device),
      ['c'],
    );
    assert.equal(await store.list('c', 2), []);
  });

  check('devices are found by what people call them, and counted', async (store) => {
    const ids = ['aa11', 'aa22', 'bb'].map((start) => start.padEnd(64, '0')) as [string, string, string];
    for (const [i, device] of ids.entries()) {
      const more = { serial: `s${i}`, uuid: `u${i}`, account: i === 2 ? 'other' : 'a1' };
      await store.commit(stepOf(device, 0, { summary: { ...summary, ...more } }));
    }
    const found = async (words: string, accounts?: string[]) =>
      (await store.find(words, 10, accounts)).map(({ serial }) => serial);
    assert.equal(await found('aa'), ['s0', 's1']);
    assert.equal(await found('AA1'), ['s0']);
    assert.equal(await found(ids[1]), ['s1']);
    assert.equal(await found('s2'), ['s2']);
    assert.equal(await found('u2'), ['s2']);
    assert.equal(await found('s'), []);
    assert.equal(await found('%'), []);
    assert.equal(await found('u2', ['a1']), []);
    assert.equal(await found('aa', ['a1', 'none']), ['s0', 's1']);
    assert.equal((await store.find('a', 1)).length, 1);
    assert.equal(
      (await store.list('', 10, ['other'])).map(({ serial }) => serial),
      ['s2'],
    );
    assert.equal(await store.list('', 10, []), []);
    assert.equal(await store.counts(), [
      { account: 'a1', trust: 'trusted', devices: 2 },
      { account: 'other', trust: 'trusted', devices: 1 },
    ]);
  });

  check('the journal of all is read on from a place', async (store) => {
    assert.is(await store.journalEnd(), 0);
    assert.equal(await store.journalAfter(0, 10), []);
    const at = (time: number) => ({ journal: { at: time, event: 'tested', body: { time } } });
    // Clocks of controllers differ: the order is that of the numbers.
    await store.commit(stepOf('d', 0, at(3)));
    await store.commit(stepOf('e', 0, at(1)));
    await store.commit(stepOf('d', 1, at(2)));
    const all = await store.journalAfter(0, 10);
    assert.equal(
      all.map(({ device, body }) => [device, body]),
      [
        ['d', { time: 3 }],
        ['e', { time: 1 }],
        ['d', { time: 2 }],
      ],
    );
    const seqs = all.map(({ seq }) => seq);
    assert.is(await store.journalEnd(), seqs[2]);
    assert.equal(
      (await store.journalAfter(seqs[0] ?? 0, 10)).map(({ seq }) => seq),
      seqs.slice(1),
    );
    assert.equal(
      (await store.journalAfter(0, 1)).map(({ seq }) => seq),
      [seqs[0]],
    );
    assert.equal(await store.journalAfter(seqs[2] ?? 0, 10), []);
  });

  check('how much waits, and how old the keys are', async (store) => {
    assert.equal(await store.health(), { effects: 0, escrowed: 0, oldestEscrow: null });
    const key = (device: string, version: number, at: number) => ({
      escrow: { device, version, keyId: 'k', box: Uint8Array.of(1), at },
    });
    await store.commit(stepOf('d', 0, key('d', 1, 10)));
    await store.commit(stepOf('d', 1, key('d', 2, 50)));
    const effects = [{ id: 'e', device: 'e', type: 'push', params: {} }];
    await store.commit(stepOf('e', 0, { ...key('e', 1, 30), effects }));
    assert.equal(await store.health(), { effects: 1, escrowed: 2, oldestEscrow: 30 });
  });

  check('labels are beside the record, and outlive its steps', async (store) => {
    await store.commit(stepOf('d', 0));
    assert.is(await store.label('d', ['ü', 'b']), true);
    assert.is(await store.label('none', ['a']), false);
    await store.commit(stepOf('d', 1));
    const [row] = await store.list('', 1);
    assert.equal([row?.labels, row?.revision], [['ü', 'b'], 2]);
  });

  check('what people did stays in its order, with the step that it was or alone', async (store) => {
    const entry = (what: string, more: Partial<AuditEntry> = {}): AuditEntry => ({
      ...{ at: 7, by: 'ann', what, subject: 'd', account: 'a1', reason: 'ü', before: null, after: { n: 1 } },
      ...more,
    });
    await store.audit(entry('first', { subject: 'e', account: '' }));
    await store.commit(stepOf('d', 0, { audit: entry('second', { before: { n: 0 } }) }));
    await rejects(store.commit(stepOf('d', 5, { audit: entry('never') })), StepConflict);
    await store.audit(entry('third', { account: 'other' }));
    const whats = async (query: Partial<AuditQuery>) =>
      (await store.audits({ limit: 10, ...query })).map(({ what }) => what);
    assert.equal(await whats({}), ['third', 'second', 'first']);
    assert.equal(await whats({ limit: 1 }), ['third']);
    assert.equal(await whats({ subject: 'e' }), ['first']);
    assert.equal(await whats({ accounts: ['a1'] }), ['second']);
    assert.equal(await whats({ accounts: [] }), []);
    const [, second] = await store.audits({ limit: 2 });
    assert.equal({ ...second, seq: 0 }, { ...entry('second', { before: { n: 0 } }), seq: 0 });
    assert.equal(await whats({ before: second?.seq ?? 0 }), ['first']);
    assert.equal(await whats({ before: second?.seq ?? 0, subject: 'd' }), []);
  });

  check('a document is removed once', async (store) => {
    await store.put('setting', 'a', { n: 1 });
    assert.equal([await store.remove('setting', 'a'), await store.remove('setting', 'a')], [true, false]);
    assert.is(await store.get('setting', 'a'), null);
  });

  check('a serial number belongs to nobody who is retired', async (store) => {
    await store.commit(stepOf('old', 0, { summary: { ...summary, trust: 'retired' } }));
    assert.is(await store.bySerial('s1'), null);
    await store.commit(stepOf('new', 0));
    assert.is(await store.bySerial('s1'), 'new');
  });

  check('the journal shows the newest first, of one device', async (store) => {
    for (let from = 0; from < 5; from++) await store.commit(stepOf('d', from));
    await store.commit(stepOf('e', 0));
    assert.equal(
      (await store.journal('d', 3)).map(({ body }) => body),
      [{ from: 4 }, { from: 3 }, { from: 2 }],
    );
  });

  check('a key in escrow is never written over', async (store) => {
    const row = { device: 'd', version: 1, keyId: 'k', box: Uint8Array.of(1), at: 1 };
    await store.commit(stepOf('d', 0, { escrow: row }));
    await rejects(store.commit(stepOf('d', 1, { escrow: { ...row, box: Uint8Array.of(2) } })), Error);
    await store.commit(stepOf('d', 1, { escrow: { ...row, version: 2, box: Uint8Array.of(2) } }));
    assert.equal([(await store.escrowed('d', 1))?.box, await store.lastEscrow('d')], [Uint8Array.of(1), 2]);
    assert.is(await store.escrowed('e', 1), null);
  });

  check('a key in escrow comes back where it is missing or broken, and nowhere else', async (store) => {
    const row = { device: 'd', version: 1, keyId: 'k', box: Uint8Array.of(1), at: 1 };
    assert.is(await store.restoreEscrow(row, null), true);
    const other = { ...row, keyId: 'l', box: Uint8Array.of(2), at: 2 };
    assert.is(await store.restoreEscrow(other, null), false);
    assert.is(await store.restoreEscrow(other, Uint8Array.of(3)), false);
    assert.equal(await store.escrowed('d', 1), row);
    assert.is(await store.restoreEscrow(other, Uint8Array.of(1)), true);
    assert.equal(await store.escrowed('d', 1), other);
    assert.is(await store.lastEscrow('d'), 1);
  });

  check('evidence of the last twenty attempts is kept, of each device', async (store) => {
    await store.commit(stepOf('e', 0, { evidence: { id: 'e0', bytes: Uint8Array.of(9), at: 0 } }));
    for (let i = 0; i < 25; i++)
      await store.commit(stepOf('d', i, { evidence: { id: `d${i}`, bytes: Uint8Array.of(i), at: i } }));
    assert.equal([await store.evidence('d4'), await store.evidence('d5')], [null, Uint8Array.of(5)]);
    assert.equal(await store.evidence('e0'), Uint8Array.of(9));
  });

  check('blobs are stored once, empty ones too', async (store) => {
    await store.putBlob('aa', Uint8Array.of(1, 2));
    await store.putBlob('aa', Uint8Array.of(1, 2));
    await store.putBlob('bb', new Uint8Array());
    assert.equal([await store.blob('aa'), await store.blob('bb')], [Uint8Array.of(1, 2), new Uint8Array()]);
  });

  check('documents by kind and id', async (store) => {
    await store.put('account', 'b', { n: 1 });
    await store.put('account', 'a', { n: 2 });
    await store.put('account', 'b', { n: 3 });
    await store.put('image', 'a', { n: 4 });
    assert.equal(await store.get('account', 'b'), { n: 3 });
    assert.equal(await store.all('account'), [
      { id: 'a', body: { n: 2 } },
      { id: 'b', body: { n: 3 } },
    ]);
    assert.equal([await store.ids('account'), await store.ids('firmware')], [['a', 'b'], []]);
  });

  check('a document is changed in one transaction, or not at all', async (store, again) => {
    const stores = [store, await again()];
    const changes = Array.from({ length: 20 }, (_, i) =>
      (stores[i % 2] as Store).update<{ n: number }>('setting', 'count', (found) => ({
        n: (found?.n ?? 0) + 1,
      })),
    );
    const seen = await Promise.all(changes);
    assert.equal(
      seen.map(({ n }) => n).sort((a, b) => a - b),
      Array.from({ length: 20 }, (_, i) => i + 1),
    );
    class Refused extends Error {}
    await rejects(
      store.update('setting', 'count', () => {
        throw new Refused('no');
      }),
      Refused,
    );
    assert.equal(await store.get('setting', 'count'), { n: 20 });
  });

  check('a store that was closed says so, whatever it is asked', async (store) => {
    await store.close();
    const closed = ({ code }: StoreError) => code === 'closed';
    await rejects(store.load('d'), StoreError, closed);
    await rejects(store.version('d'), StoreError, closed);
    await rejects(store.commit(stepOf('d', 0)), StoreError, closed);
    await rejects(store.done(['e']), StoreError, closed);
    await rejects(store.put('account', 'a', {}), StoreError, closed);
    await store.close();
  });

  check('text of any kind is data', async (store) => {
    const odd = `'; drop table records; -- \n \u{1f600} %_ "`;
    await store.put('setting', odd, { odd });
    await store.commit(stepOf(odd, 0, { summary: { ...summary, serial: odd } }));
    assert.equal([await store.get('setting', odd), await store.bySerial(odd)], [{ odd }, odd]);
  });
}
