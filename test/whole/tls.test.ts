// The first two sequences once more on the real clock, over TLS with logins bound to their channel.
import { EventEmitter, once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Broker } from '../../broker/broker.ts';
import { systemClock as controllerClock } from '../../controller/clock.ts';
import { Evc } from '../../controller/evc.ts';
import { createPki } from '../../controller/pki.ts';
import { SlotStore } from '../../device/baseos/slots.ts';
import { EmulatedBoard } from '../../device/board-emulated.ts';
import { createImage } from '../../device/boot/image.ts';
import { systemClock } from '../../device/clock.ts';
import { EdgeNode } from '../../device/edge-node.ts';
import { dialTls } from '../../device/link/dial.ts';
import { StateFolder } from '../../device/state.ts';
import { openWasmTpm } from '../../device/tpm/transports/wasm.ts';
import { manufacturing } from '../kit/world.ts';

test('S1 and S2 over TLS', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'eve-attest-tls-'));
  const pki = await createPki(join(folder, 'evc', 'pki'), ['localhost', '127.0.0.1'], Date.now());
  const refused: string[] = [];
  const broker = await Broker.start({
    now: () => Date.now(),
    onMessage: (topic, payload) => evc.receive(topic, payload),
    onLink: (device, online) => evc.link(device, online),
    onRefused: (what, reason) => refused.push(`${reason} ${what}`),
  });
  const key = pki.server.key.export({ type: 'pkcs8', format: 'pem' }).toString();
  const listener = await broker.listen(
    { host: '127.0.0.1', port: 0 },
    key,
    pki.server.certificate.toString(),
  );
  const evc = await Evc.open({
    data: join(folder, 'evc'),
    clock: controllerClock,
    publish: (topic, bytes) => broker.publish(topic, bytes),
    imageBase: () => 'https://localhost',
  });
  await evc.accounts.add(manufacturing);
  const onboarding = await evc.keys.add({
    name: 'test',
    account: 'factory',
    limit: 1,
    expires: Date.now() + 60_000,
  });

  const folders = {
    config: join(folder, 'config'),
    persist: join(folder, 'persist'),
    run: join(folder, 'run'),
  };
  mkdirSync(folders.config, { recursive: true });
  writeFileSync(join(folders.config, 'onboard.cert.pem'), onboarding.certificate);
  writeFileSync(join(folders.config, 'onboard.key.pem'), onboarding.key);
  writeFileSync(join(folders.config, 'root-certificate.pem'), pki.root.toString());
  const slots = new SlotStore(new StateFolder(folders.persist));
  await createImage(slots.directory('IMGA'), { version: '1.0.0' });
  slots.install('1.0.0');

  const moved = new EventEmitter();
  const node = new EdgeNode({
    folders,
    clock: systemClock,
    board: new EmulatedBoard({
      tpm: await openWasmTpm({ startup: false }),
      slots,
      config: folders.config,
      now: () => systemClock.now(),
    }),
    dial: () => dialTls({ host: 'localhost', port: listener.port }, pki.root.toString()),
    watch: (event) => {
      if (event.kind === 'state') moved.emit('state');
    },
  });
  const settled = async () => {
    const done = () =>
      node.component('attest-task')?.value() === 'complete' &&
      node.component('config-task')?.value() === 'idle';
    while (!done()) await once(moved, 'state');
  };
  try {
    await node.powerOn();
    await settled();
    const [first] = await evc.store.list('', 1);
    assert.is(first?.trust, 'trusted');
    await node.reboot('test');
    await settled();
    const view = await evc.operator.show(first?.device ?? '');
    assert.is(view.verdict?.grounds, 'baseline');
    assert.equal(refused, []);
  } finally {
    await node.powerOff();
    await listener.close();
    await broker.close();
    await evc.close();
    rmSync(folder, { recursive: true, force: true });
  }
});

test.run();
