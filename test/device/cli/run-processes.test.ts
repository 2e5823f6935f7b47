// The board's process of a device whose components are processes of their own.
import { setImmediate } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Board } from '../../../device/board.ts';
import { Machine } from '../../../device/cli/run-processes.ts';
import { type NodeEvent, watchdog } from '../../../device/edge-node.ts';
import { Refusal } from '../../../device/refusal.ts';
import { SimulatedClock } from '../../kit/clock.ts';
import { inFolder } from '../../kit/folders.ts';

test('a boot that fails after a reboot is tried again by the watchdog, until the power goes', () =>
  inFolder(async (folder) => {
    let boots = 0;
    const board = {
      boot: async () => {
        boots++;
        throw new Refusal('boot.no-kernel', 'the slot has no kernel');
      },
      powerOff: async () => {},
      close: async () => {},
    } as unknown as Board;
    const folders = { config: `${folder}/config`, persist: `${folder}/persist`, run: `${folder}/run` };
    const events: NodeEvent[] = [];
    const clock = new SimulatedClock();
    const machine = new Machine(folders, board, (event) => events.push(event), null, undefined, clock);
    const pass = async (ms: number) => {
      clock.advanceTo(clock.now() + ms);
      for (let turn = 0; turn < 10; turn++) await setImmediate();
    };
    await machine.reboot('asked for');
    assert.is(boots, 1);
    const failures = events.flatMap((event) => (event.kind === 'failed' ? [event.text] : []));
    assert.equal(failures, ['boot.no-kernel: the slot has no kernel']);
    await pass(watchdog - 1);
    assert.is(boots, 1);
    for (const expected of [2, 3]) {
      await pass(watchdog);
      assert.is(boots, expected);
    }
    await machine.powerOff();
    await pass(2 * watchdog);
    assert.is(boots, 3);
  }));

test.run();
