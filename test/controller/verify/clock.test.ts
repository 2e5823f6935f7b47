// Counters and clock of a TPM, each at the value where the answer changes.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { clockNotes, clockRefusals, type LastClock } from '../../../controller/verify/clock.ts';
import type { QuoteFacts } from '../../../controller/verify/quote.ts';

const last: LastClock = { resetCount: 5, restartCount: 3, clock: 1000n, firmware: 7n };
const quote = (change: Partial<QuoteFacts> = {}): QuoteFacts => ({
  bank: 'sha256',
  pcrs: new Map(),
  covered: {},
  notCovered: [],
  qualifiedSigner: new Uint8Array(),
  ...{ resetCount: 5, restartCount: 3, clock: 1000n, safe: true, firmwareVersion: 7n },
  ...change,
});

const refusals: [what: string, change: Partial<QuoteFacts>, codes: string[]][] = [
  ['all as before', {}, []],
  ['the clock went on', { clock: 1001n }, []],
  ['the clock ran back', { clock: 999n }, ['evidence.clock.backwards']],
  ['the clock ran back, and is not sure', { clock: 999n, safe: false }, []],
  ['suspended and resumed', { restartCount: 4 }, []],
  ['fewer restarts', { restartCount: 2 }, ['evidence.clock.restart-count']],
  ['reset, and everything else begins anew', { resetCount: 6, restartCount: 0, clock: 0n }, []],
  [
    'fewer resets, whatever else grew',
    { resetCount: 4, restartCount: 9, clock: 9000n },
    ['evidence.clock.reset-count'],
  ],
];
for (const [what, change, codes] of refusals)
  test(`${what}: ${codes.join() || 'not refused'}`, () => {
    const found = clockRefusals(quote(change), last);
    assert.equal(
      found.map(({ code }) => code),
      codes,
    );
    for (const { seen, allowed } of found) {
      const { resetCount, restartCount, clock } = quote(change);
      assert.is(seen, `${resetCount}/${restartCount}, clock ${clock} ms`);
      assert.is(allowed, 'at least 5/3, clock 1000 ms');
    }
    assert.equal(clockRefusals(quote(change), null), [], 'nothing is known of before');
  });

const notes: [
  what: string,
  change: Partial<QuoteFacts>,
  found: [code: string, seen?: string, allowed?: string][],
][] = [
  ['all as before', {}, []],
  ['reset once', { resetCount: 6 }, []],
  ['reset twice', { resetCount: 7 }, [['evidence.clock.unseen-resets', '7', '6']]],
  ['resumed', { restartCount: 4 }, [['evidence.clock.resumed', '4', '3']]],
  ['reset, and resumed in the new boot', { resetCount: 6, restartCount: 4 }, []],
  ['another firmware', { firmwareVersion: 8n }, [['evidence.tpm.firmware-changed', '8', '7']]],
  ['an unsafe clock', { safe: false }, [['evidence.clock.unsafe']]],
  [
    'all at once',
    { safe: false, resetCount: 8, firmwareVersion: 6n },
    [
      ['evidence.clock.unsafe'],
      ['evidence.clock.unseen-resets', '8', '6'],
      ['evidence.tpm.firmware-changed', '6', '7'],
    ],
  ],
];
for (const [what, change, found] of notes)
  test(`${what}: ${found.map(([code]) => code).join() || 'nothing to note'}`, () => {
    assert.equal(
      clockNotes(quote(change), last).map(({ code, seen, allowed }) =>
        seen === undefined ? [code] : [code, seen, allowed],
      ),
      found,
    );
    const alone = clockNotes(quote(change), null).map(({ code }) => code);
    assert.equal(alone, change.safe === false ? ['evidence.clock.unsafe'] : []);
  });

test('how often it was reset is told', () => {
  assert.match(clockNotes(quote({ resetCount: 8 }), last)[0]?.text ?? '', 'reset 3 times');
});

test.run();
