import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VerifierPool } from '../../../controller/verify/pool.ts';
import { type Presented, verify } from '../../../controller/verify/verify.ts';
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

for (const threads of [0, 1, 2])
  for (const count of [1, 3, 200])
    test(`${count} attempts on ${threads} threads are judged as on this one, each answered once`, () =>
      onBoard(async (_, presented, basis) => {
        const pool = new VerifierPool(threads);
        const cases = mixed(presented, count);
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

test('a closed pool judges what still comes, and a thread that is ended loses nothing', () =>
  onBoard(async (_, presented, basis) => {
    const pool = new VerifierPool(1);
    const under = mixed(presented, 50).map((one) => pool.verify(one, basis, now));
    const closed = new Promise<void>((resolve) => setImmediate(() => resolve(pool.close())));
    const verdicts = await Promise.all(under);
    await closed;
    assert.is(verdicts.filter(({ accepted }) => accepted).length, 33);
    assert.ok((await pool.verify(presented, basis, now)).accepted);
  }));

test.run();
