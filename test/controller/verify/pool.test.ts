import { setImmediate } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Case, type Judge, VerifierPool } from '../../../controller/verify/pool.ts';
import { type Basis, type Presented, verify } from '../../../controller/verify/verify.ts';
import type { Verdict } from '../../../machines/flow.ts';
import { onBoard } from '../../kit/evidence.ts';

const now = Date.UTC(2026, 5, 1);

/** Every third has a broken signature. */
function mixed(presented: Presented, count: number): Presented[] {
  const broken = Buffer.from(presented.signature);
  broken[broken.length - 1] = (broken.at(-1) as number) ^ 1;
  return Array.from({ length: count }, (_, i) =>
    i % 3 === 0 ? { ...presented, signature: broken } : presented,
  );
}

let logs = 0;
/** With logs that nobody has replayed yet. */
const unknown = (presented: Presented): Presented => ({
  ...presented,
  boot: { logs: presented.boot.logs.map((log) => ({ ...log, sha256: `${log.sha256} ${logs++}` })) },
});

interface Held {
  judge: number;
  size: number;
  answer(): void;
  die(): void;
}

/** A pool whose threads answer when the test says so, as `verify` does. */
function opened(threads: number, presented: Presented, basis: Basis) {
  const batches: Held[] = [];
  const ended: number[] = [];
  let started = 0;
  const start = (): Judge => {
    const number = started++;
    return {
      judge: (cases: readonly Case[]) =>
        new Promise<Verdict[]>((resolve, reject) =>
          batches.push({
            judge: number,
            size: cases.length,
            answer: () => resolve(cases.map((one) => verify(one.evidence, one.basis, one.now))),
            die: () => reject(new Error('the thread ended')),
          }),
        ),
      end: async () => void ended.push(number),
    };
  };
  const pool = new VerifierPool(threads, start);
  let judged = 0;
  const offer = (count: number, evidence = () => unknown(presented)) =>
    Array.from({ length: count }, () =>
      pool.verify(evidence(), basis, now).then((verdict) => {
        judged++;
        return verdict.accepted;
      }),
    );
  return {
    pool,
    ended,
    /** Offers so many at one moment, and waits until they are shared out. */
    async come(count: number, evidence?: () => Presented): Promise<void> {
      offer(count, evidence);
      await setImmediate();
      await setImmediate();
    },
    /** Batches that are worked at: judge and size. */
    given: () => batches.map(({ judge, size }) => [judge, size]),
    async settle(how: 'answer' | 'die' = 'answer'): Promise<void> {
      for (const batch of batches.splice(0)) batch[how]();
      await setImmediate();
    },
    judged: () => judged,
    started: () => started,
  };
}

test('three attempts of one moment are judged here, and a fourth makes it a thread’s work', () =>
  onBoard(async (_, presented, basis) => {
    const few = opened(1, presented, basis);
    await few.come(3);
    assert.equal([few.judged(), few.started()], [3, 0]);
    await few.come(4);
    assert.equal([few.judged(), few.given()], [3, [[0, 4]]]);
    await few.settle();
    assert.is(few.judged(), 7);
  }));

test('without threads all is judged here', () =>
  onBoard(async (_, presented, basis) => {
    const none = opened(0, presented, basis);
    await none.come(10);
    assert.equal([none.judged(), none.started()], [10, 0]);
  }));

test('a boot that was replayed here before is judged here, however many send it', () =>
  onBoard(async (_, presented, basis) => {
    const pool = opened(1, presented, basis);
    const known = unknown(presented);
    await pool.come(1, () => known);
    await pool.come(10, () => known);
    assert.equal([pool.judged(), pool.started()], [11, 0]);
  }));

test('a batch has 64 attempts at the most, and the one thread takes the next when it is done', () =>
  onBoard(async (_, presented, basis) => {
    const pool = opened(1, presented, basis);
    await pool.come(132);
    assert.equal(pool.given(), [[0, 64]]);
    await pool.settle();
    assert.equal([pool.judged(), pool.given()], [64, [[0, 64]]]);
    await pool.settle();
    assert.equal([pool.judged(), pool.given()], [128, [[0, 4]]]);
    await pool.settle();
    assert.equal([pool.judged(), pool.started()], [132, 1]);
  }));

test('two threads have a share each, and what comes while both work waits for the first that is done', () =>
  onBoard(async (_, presented, basis) => {
    const pool = opened(2, presented, basis);
    await pool.come(100);
    // A half of what waits each time.
    assert.equal(pool.given(), [
      [0, 50],
      [1, 25],
    ]);
    await pool.come(5);
    assert.equal([pool.judged(), pool.given().length], [0, 2]);
    for (let round = 0; round < 10; round++) await pool.settle();
    assert.equal([pool.judged(), pool.started()], [105, 2]);
  }));

test('a thread that is idle is taken before another is started', () =>
  onBoard(async (_, presented, basis) => {
    const pool = opened(2, presented, basis);
    for (const judged of [4, 8]) {
      await pool.come(4);
      assert.equal(pool.given(), [[0, 2]]);
      await pool.settle();
      assert.is(pool.judged(), judged);
    }
    assert.is(pool.started(), 1);
  }));

test('what a thread had that died is judged here, and another is started in its place', () =>
  onBoard(async (_, presented, basis) => {
    const pool = opened(1, presented, basis);
    await pool.come(10);
    await pool.settle('die');
    assert.is(pool.judged(), 10);
    await pool.come(10);
    assert.equal(pool.given(), [[1, 10]]);
    await pool.pool.close();
    // The dead one has ended already.
    assert.equal(pool.ended, [1]);
  }));

test('a pool that closes judges here what waits, ends its threads, and starts none any more', () =>
  onBoard(async (_, presented, basis) => {
    const pool = opened(1, presented, basis);
    await pool.come(70);
    assert.equal(pool.given(), [[0, 64]]);
    await pool.pool.close();
    assert.equal([pool.judged(), pool.ended], [6, [0]]);
    await pool.settle('die');
    assert.is(pool.judged(), 70);
    await pool.come(10);
    assert.equal([pool.judged(), pool.started()], [80, 1]);
  }));

test('200 attempts on 2 real threads are judged as on this one, each answered once', () =>
  onBoard(async (_, presented, basis) => {
    const pool = new VerifierPool(2);
    const cases = mixed(presented, 200).map(unknown);
    const verdicts = await Promise.all(cases.map((one) => pool.verify(one, basis, now)));
    await pool.close();
    assert.equal(
      verdicts,
      cases.map((one) => verify(one, basis, now)),
    );
    assert.equal(
      verdicts.map(({ accepted }) => accepted),
      cases.map((_, i) => i % 3 !== 0),
    );
  }));

test('a real thread that is ended in the middle loses nothing, and is gone', () =>
  onBoard(async (_, presented, basis) => {
    const workers: Worker[] = [];
    const hear = (worker: Worker) => void workers.push(worker);
    process.on('worker', hear);
    const pool = new VerifierPool(1);
    const under = mixed(presented, 50).map((one) => pool.verify(unknown(one), basis, now));
    await setImmediate();
    await pool.close();
    const verdicts = await Promise.all(under);
    assert.is(verdicts.filter(({ accepted }) => accepted).length, 33);
    process.off('worker', hear);
    // A thread that has ended has no number.
    assert.equal(
      workers.map(({ threadId }) => threadId),
      [-1],
    );
  }));

test('a real thread is listened to no more than once, however many batches it had', () =>
  onBoard(async (_, presented, basis) => {
    const warned: string[] = [];
    const hear = ({ name }: Error) => void warned.push(name);
    process.on('warning', hear);
    const pool = new VerifierPool(1);
    for (let batch = 0; batch < 12; batch++)
      await Promise.all(Array.from({ length: 4 }, () => pool.verify(unknown(presented), basis, now)));
    await pool.close();
    await setImmediate();
    process.off('warning', hear);
    assert.equal(warned, []);
  }));

test.run();
