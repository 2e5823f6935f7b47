// What the processes of a device have in common, though each puts its node together by itself.
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Bus } from '../../broker/bus.ts';
import { assemble } from '../../device/assembly.ts';
import { PlatformSlots } from '../../device/baseos/platform-slots.ts';
import { SlotStore } from '../../device/baseos/slots.ts';
import type { Boot, Node } from '../../device/node.ts';
import { StateFolder } from '../../device/state.ts';
import { SimulatedClock } from '../kit/clock.ts';
import { LabBoard } from '../kit/evidence.ts';
import { inFolder } from '../kit/folders.ts';

async function onDevice(work: (process: () => Node) => Promise<void>): Promise<void> {
  const board = await LabBoard.open();
  try {
    await board.boot();
    await inFolder(async (folder) => {
      const closes: (() => Promise<void>)[] = [];
      const persist = new StateFolder(join(folder, 'persist'));
      await work(() => {
        const { node, close } = assemble({
          config: new StateFolder(join(folder, 'config')),
          persist,
          run: new StateFolder(join(folder, 'run')),
          clock: new SimulatedClock(),
          bus: {} as Bus,
          tpm: board.tpm,
          slots: new PlatformSlots(new SlotStore(persist), null),
          boot: {} as Boot,
          name: 'vault-manager',
          dial: () => Promise.reject(new Error('nobody dials')),
          tell: () => undefined,
        });
        closes.push(close);
        return node;
      });
      for (const close of closes) await close();
    });
  } finally {
    await board.close();
  }
}

/** The vault manager in a process of its own, and in one with the client. */
const alone = async (node: Node) => node;
const withClient = async (node: Node) => {
  await node.identity();
  return node;
};

for (const [what, first, second] of [
  ['one process per component, then one process', alone, withClient],
  ['one process, then one process per component', withClient, alone],
] as const)
  test(`the escrowed key opens when the device changes its processes: ${what}`, () =>
    onDevice(async (process) => {
      const { vault } = await first(process());
      await vault.create();
      await vault.seal();
      const { keyId, encryptedKey } = await vault.export();
      const next = await second(process());
      await next.vault.open(keyId, encryptedKey);
      next.vault.unlock();
      assert.ok(next.vault.unlocked);
    }));

test.run();
