// Which keys in escrow would come back, and which would not.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { escrowText } from '../../controller/cli/escrow.ts';
import { checkEscrow } from '../../controller/escrow.ts';
import { ApiBench } from '../kit/api.ts';
import { escrowKey } from '../kit/controller.ts';
import { storeWith } from '../kit/stores.ts';

const bench = await ApiBench.open();
const { evc } = bench.evc;
const { trusted, uud, board } = await bench.devices();
test.after(async () => {
  await bench.close();
  await board.close();
});

const rows = [trusted, uud].map(({ id }, i) => ({ device: id, serial: `edge-0${i + 1}` }));
const states = async (store = evc.store) =>
  (await checkEscrow(store, evc.runner, rows)).map(({ state }) => state);

test('a device that gave no key, one whose key is there, and keys that are lost', async () => {
  assert.equal(await states(), ['none', 'none']);
  const box = await escrowKey(bench.evc, trusted, 'k');
  assert.equal(await states(), ['good', 'none']);
  assert.equal(await states(storeWith(evc.store, { escrowed: async () => null })), ['missing', 'none']);
  for (const spoilt of [box.subarray(1), Uint8Array.of(), offCurve(box)]) {
    const row = { device: trusted.id, version: 1, keyId: 'k', box: spoilt, at: 7 };
    assert.equal(await states(storeWith(evc.store, { escrowed: async () => row })), ['unreadable', 'none']);
  }
});

/** The ephemeral point is the first long field. */
function offCurve(box: Uint8Array): Uint8Array {
  const other = Uint8Array.from(box);
  const at = other.indexOf(4, 3) + 40;
  other[at] = (other[at] ?? 0) ^ 1;
  return other;
}

test('what is lost is named, and counted', async () => {
  const { json } = await bench.call('GET', '/api/v1/escrow?filter=trust:trusted');
  const [check] = json.escrow as Parameters<typeof escrowText>[0];
  assert.equal([check?.device, check?.state, check?.version], [trusted.id, 'good', 1]);
  assert.ok(check);
  assert.is(escrowText([check], 8), '1 of 1 keys are there and readable, 0 lost');
  const text = escrowText([{ ...check, state: 'missing', serial: 'edge-09' }], 8);
  assert.match(text, /^edge-09 +version 1, .* ago +LOST: the store has not/m);
  assert.match(text, '0 of 1 keys are there and readable, 1 lost');
});

test.run();
