// deadline: 120 s
// A whole device whose vault the kernel encrypts.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { minute } from '../../machines/waiting.ts';
import { needAddon } from '../kit/addon.ts';
import { needLoop, withFileSystem } from '../kit/loop.ts';
import { contextOf, inWorld, stateOf } from '../kit/world.ts';

if ((await needAddon()) && (await needLoop()))
  test('it is open to what was accepted and shut to what was not, and EVC’s key opens it anew', () =>
    withFileSystem(['encrypt'], async ({ folder }) => {
      process.env.TMPDIR = folder;
      await inWorld(async (world) => {
        const device = await world.addDevice({ vault: 'fscrypt' });
        const data = join(device.folder, 'persist/vault/data');
        const vault = () => contextOf<{ backend: string; unlockedBy: string }>(device, 'vault-manager');
        await world.attested(device);
        assert.equal([vault().backend, vault().unlockedBy], ['fscrypt', 'created']);
        const token = () => readFileSync(join(data, 'itoken'));
        assert.is(token().length, 32);

        await device.node.reboot('test');
        await world.attested(device);
        assert.is(vault().unlockedBy, 'tpm');
        assert.is(token().length, 32);

        await world.replaceImage(device, { version: '6.6.6' });
        await device.node.reboot('test');
        await world.until('locked', () => 'locked' in Object(stateOf(device, 'vault-manager')), 10 * minute);
        await world.run(10 * minute);
        assert.not(existsSync(join(data, 'itoken')));
        assert.is(readdirSync(data).length, 1);

        await world.evc.operator.acceptState(device.id, 'tester', 'a change of ours');
        await world.until('open', () => vault().unlockedBy === 'controller', 60 * minute);
        await world.attested(device);
        assert.is(token().length, 32);

        await device.node.powerOff();
        world.devices.pop();
        assert.not(existsSync(join(data, 'itoken')));
      });
    }));
else test('NOT RUN', () => undefined);

test.run();
