// deadline: 240 s
// Every secret of a run through the sequences is looked for wherever something of it can be read: on the wire, at the TPM's bus, in
// stores and folders, backups, recordings, streams, answers and errors. It is found nowhere but where it belongs.
import { createPrivateKey, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { gunzipSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { WebSocket } from 'ws';
import { backUp } from '../../controller/backup.ts';
import { nonceOf } from '../../controller/downlink.ts';
import { createImage } from '../../device/boot/image.ts';
import type { PoweredTpm } from '../../device/tpm/powered.ts';
import { openWasmTpm } from '../../device/tpm/transports/wasm.ts';
import { Canary } from '../kit/canary.ts';
import { scalarOf } from '../kit/recorded.ts';
import { openReader, serveApi } from '../kit/traffic.ts';
import { inWorld, type World, type WorldDevice } from '../kit/world.ts';

const minute = 60_000;
const evcKeys = [
  'EVC’s secret',
  'EVC’s signing key',
  'EVC’s exchange key',
  'EVC’s server key',
  'EVC’s root key',
];

/** All bytes that go over the wires of a world, either way. */
function tapWires(world: World): Buffer[] {
  const heard: Buffer[] = [];
  const { broker } = world;
  const accept = broker.accept.bind(broker);
  broker.accept = (stream: Duplex) => {
    const { push, write } = stream;
    stream.push = (chunk, encoding) => {
      if (chunk) heard.push(Buffer.from(chunk));
      return push.call(stream, chunk, encoding);
    };
    stream.write = ((...values: Parameters<typeof write>) => {
      heard.push(Buffer.from(values[0]));
      return write.apply(stream, values);
    }) as typeof write;
    accept(stream);
  };
  return heard;
}

/** A TPM, and all commands and answers on its bus. */
async function tappedTpm(world: World): Promise<{ tpm: PoweredTpm; bus: Buffer[] }> {
  const tpm = await openWasmTpm({ startup: false, now: () => world.clock.now() });
  const bus: Buffer[] = [];
  const send: PoweredTpm['send'] = async (command) => {
    bus.push(Buffer.from(command));
    const answer = await tpm.send(command);
    bus.push(Buffer.from(answer));
    return answer;
  };
  const tapped = new Proxy(tpm, {
    get(target, name) {
      if (name === 'send') return send;
      const value = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  return { tpm: tapped, bus };
}

/** Who is told by a webhook, and what it heard, with the heads. */
async function openReceiver() {
  const heard: string[] = [];
  const server = http.createServer(async (request, response) => {
    let text = JSON.stringify(request.headers);
    for await (const chunk of request) text += chunk;
    heard.push(text);
    response.writeHead(204).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { heard, url: `http://127.0.0.1:${port}/`, close: () => void server.close() };
}

async function sequences(world: World, device: WorldDevice): Promise<void> {
  await world.attested(device);
  await device.node.reboot('test');
  await world.attested(device);
  await world.evc.operator.rotateKey(device.id);
  await world.until(
    'a second key is escrowed',
    async () => (await world.view(device)).escrow.length === 2,
    10 * minute,
  );
  await world.attested(device);

  await world.offerImage({ version: '2.0.0' });
  await world.evc.operator.assignUpgrade(device.id, {
    ...{ version: '2.0.0', window: 60 * minute, testWindow: 2 * minute },
  });
  await world.until(
    'the upgrade is committed',
    async () => (await world.view(device)).upgraded?.how === 'committed',
    90 * minute,
  );
  await world.attested(device);

  await createImage(device.slots.directory(device.slots.read().current.label), { version: '6.6.6' });
  await device.node.reboot('test');
  await world.until('the device is UUD', async () => (await world.trust(device)) === 'uud', 10 * minute);
  await world.evc.operator.acceptState(device.id, 'tester', 'the kernel is ours');
  await world.attested(device);
}

interface Document {
  paths: Record<string, Record<string, unknown>>;
}

/** What each thing that can be asked for answers, by its path: those of one device, and those of no end for a while. */
async function answers(url: string, token: string, device: string): Promise<Map<string, string>> {
  const get = async (path: string, authorization = `Bearer ${token}`) => {
    const { request } = await import('node:https');
    return new Promise<string>((resolve, reject) => {
      const asked = request(
        `${url}${path.slice(1)}`,
        { rejectUnauthorized: false, agent: false, headers: { authorization } },
        (response) => {
          let text = JSON.stringify(response.headers);
          response.setEncoding('latin1').on('data', (chunk: string) => {
            text += chunk;
          });
          response.once('end', () => resolve(text));
        },
      );
      asked.once('error', reject).end();
    });
  };
  const all = new Map<string, string>();
  const openapi = await get('/api/v1/openapi.json');
  const { paths } = JSON.parse(openapi.slice(openapi.indexOf('}{') + 1)) as Document;
  const named: Record<string, string> = {
    device,
    attempt: 'last',
    account: 'factory',
    version: '2.0.0',
  };
  for (const [path, methods] of Object.entries(paths)) {
    if (!('get' in methods) || /recording$|\/events$/.test(path)) continue;
    const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => named[name] ?? 'none');
    all.set(path, await get(filled));
  }
  all.set('refused: another token', await get('/api/v1/devices', `Bearer ${token}x`));
  return all;
}

test('no secret of a run is found where it does not belong', () =>
  inWorld(async (world) => {
    const canary = new Canary();
    const wires = tapWires(world);
    const { tpm, bus } = await tappedTpm(world);
    const receiver = await openReceiver();
    const { api, token, url } = await serveApi(world);
    const by = { by: 'tester', reason: 'to hear of it' };
    const told = ['device.registered', 'verdict.given', 'rotation.asked', 'upgrade.assigned'];
    const hook = await world.evc.webhooks.add({ url: receiver.url, events: told, accounts: null }, by);
    const viewer = await world.evc.tokens.add({ name: 'wall', role: 'viewer' });
    const device = await world.addDevice({ tpm });
    const recording = await openReader(`${url}api/v1/devices/${device.id}/recording`, token);
    const events = await openReader(`${url}api/v1/events`, token);
    const own: string[] = [];
    device.recorder.attach({ line: (line) => void own.push(line) });
    const stately: string[] = [];
    const guest = new WebSocket(`${url.replace('https', 'wss')}inspect?token=${token}&device=${device.id}`, {
      rejectUnauthorized: false,
    });
    guest.on('message', (data) => stately.push(String(data)));
    await once(guest, 'open');
    const store = () => ['evc.db', 'evc.db-wal'].map((name) => readFileSync(join(world.folder, 'evc', name)));
    const streams = () => ({
      'the recording of the device': own.join('\n'),
      'the recording of EVC': recording.text,
      'events of EVC': events.text,
      'Stately’s inspector': stately.join('\n'),
    });
    const { onStep } = world;
    let unused = 0;
    world.onStep = (step) => {
      onStep?.(step);
      if (step.event.type !== 'nonce.requested') return;
      // Handed out at this moment, and good until it is used: nobody else may read it.
      const early = new Canary();
      early.know('a nonce', nonceOf(world.evc.pki.secret, device.id, step.event.salt));
      for (const bytes of store()) early.search('EVC’s store', bytes);
      for (const [name, text] of Object.entries(streams())) early.search(name, text);
      canary.leaks.push(...early.leaks.map((leak) => `${leak}, before it was used`));
      unused++;
    };
    try {
      await sequences(world, device);
      await world.evc.webhooks.look();
      assert.ok(unused >= 4, `${unused} nonces`);

      for (const { what, bytes } of world.recordings.secretsOf(device)) canary.know(what, bytes);
      const pki = join(world.folder, 'evc', 'pki');
      canary.know('EVC’s root key', scalarOf(createPrivateKey(readFileSync(join(pki, 'root.key.pem')))));
      canary.know('an API token', token);
      canary.know('an API token', viewer.token);
      canary.know('a webhook secret', hook.secret);
      canary.know('a webhook secret', Buffer.from(hook.secret.slice('whsec_'.length), 'base64'));

      // Device and broker talk inside of TLS, and a nonce that was used is part of the evidence.
      canary.search('MQTT', Buffer.concat(wires), ['a nonce', 'a proof']);
      canary.search('the bus of the TPM', Buffer.concat(bus));
      canary.search('webhooks', receiver.heard.join('\n'));
      for (const [name, text] of Object.entries(streams())) canary.search(name, text, ['a nonce']);
      canary.search('steps of records', JSON.stringify(world.steps.map(({ snapshot }) => snapshot.context)));
      canary.search('ports', JSON.stringify(device.events.filter(({ kind }) => kind === 'port')));
      for (const [path, text] of await answers(url, token, device.id))
        canary.search(`API ${path}`, text, path.endsWith('{attempt}') ? ['a nonce'] : []);
      const backup = join(world.folder, 'backup.tar.gz');
      await backUp(join(world.folder, 'evc'), backup, world.clock.now());
      canary.search('a backup', gunzipSync(readFileSync(backup)), [...evcKeys, 'a nonce']);
      canary.searchFolder('EVC', join(world.folder, 'evc'), (path) =>
        path.startsWith('pki/') ? evcKeys : path.startsWith('evc.db') ? ['a nonce'] : [],
      );
      canary.searchFolder('device', device.folder, (path) =>
        path.startsWith('run/tokens/')
          ? ['an integrity token']
          : path === 'config/onboard.key.pem'
            ? ['the onboarding key']
            : [],
      );
      console.log(canary.figures('canaries of the sequences'));
      const faults = canary.faults([
        ...evcKeys.flatMap((key) => [`${key} in EVC/pki/`, `${key} in a backup`]),
        'a nonce in MQTT',
        'a nonce in EVC/evc.db',
        'a nonce in the recording of the device',
        'a proof in MQTT',
        'the onboarding key in device/config/onboard.key.pem',
        'an integrity token in device/run/tokens/',
      ]);
      assert.equal(faults, []);
    } finally {
      guest.terminate();
      recording.close();
      events.close();
      receiver.close();
      await api.close();
    }
  }));

test('a secret that somebody planted is found, however it is written', () => {
  const bytes = randomBytes(32);
  const pem = `-----BEGIN PRIVATE KEY-----\n${Buffer.concat([randomBytes(40), bytes])
    .toString('base64')
    .replace(/.{64}/g, '$&\n')}\n-----END PRIVATE KEY-----\n`;
  const planted: Record<string, Uint8Array | string> = {
    bytes: Buffer.concat([randomBytes(5), bytes, randomBytes(5)]),
    hex: `x${bytes.toString('hex')}`,
    'HEX in capitals': bytes.toString('hex').toUpperCase(),
    base64: bytes.toString('base64'),
    base64url: bytes.toString('base64url'),
    'JSON of a typed array': JSON.stringify([1, ...bytes, 2]),
    'JSON of a text': JSON.stringify({ key: bytes.toString('latin1') }),
    PEM: pem,
    'PEM in JSON': JSON.stringify({ pem }),
    ...Object.fromEntries(
      [0, 1, 2].flatMap((before) => {
        const packed = Buffer.concat([randomBytes(before), bytes, randomBytes(7)]);
        return [
          [`inside base64, from byte ${before}`, packed.toString('base64')],
          [`inside base64url, from byte ${before}`, packed.toString('base64url')],
        ];
      }),
    ),
  };
  for (const [how, content] of Object.entries(planted)) {
    const canary = new Canary();
    canary.know('a secret', bytes);
    canary.search(how, content);
    assert.equal(canary.faults([]), [`a secret in ${how}`]);
  }
  const other = new Canary();
  other.know('a secret', randomBytes(32));
  for (const [how, content] of Object.entries(planted)) other.search(how, content);
  assert.equal(other.faults([]), []);
  other.search('an empty place', '');
  assert.equal(other.faults(['a secret in its place']), [
    'not found where it belongs: a secret in its place',
    'nothing is in an empty place',
  ]);
  assert.equal(new Canary().faults([]), ['nothing was looked for']);
  assert.throws(() => other.know('a word', 'open sesame'), /too short/);
});

test.run();
