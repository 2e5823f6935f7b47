// Handshakes that are begun to keep EVC busy, and logins that fail: who comes from elsewhere does not wait behind them.
import tls from 'node:tls';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Broker, type BrokerOptions } from '../../broker/broker.ts';
import { createPki } from '../../controller/pki.ts';
import { channelBinding } from '../../formats/wire/login.ts';
import { inFolder } from '../kit/folders.ts';
import { clientOn, honestClaims, outcome, type SoftDevice, softDevice, tokenOf } from '../kit/logins.ts';

const witness = await softDevice();
const attacker = await softDevice();
const [here, elsewhere] = ['127.0.0.1', '127.0.0.2'] as const;

interface Dialled {
  socket: tls.TLSSocket;
  secure: Promise<void>;
  closed: Promise<void>;
}

async function withListener(
  options: Pick<BrokerOptions, 'limits' | 'connections' | 'enrolled'>,
  work: (dial: (from: string) => Dialled, refused: string[], broker: Broker) => Promise<void>,
): Promise<void> {
  await inFolder(async (folder) => {
    const refused: string[] = [];
    const onRefused = (what: string, reason: string) => void refused.push(`${reason} ${what}`);
    const broker = await Broker.start({ now: Date.now, onMessage: () => undefined, onRefused, ...options });
    const pki = await createPki(folder, ['localhost', here], Date.now());
    const key = pki.server.key.export({ type: 'pkcs8', format: 'pem' }).toString();
    const { port, close } = await broker.listen(
      { host: here, port: 0 },
      key,
      pki.server.certificate.toString(),
    );
    const dial = (localAddress: string) => {
      const address = { host: here, port, localAddress };
      const socket = tls.connect({ ...address, ca: pki.root.toString() } as tls.ConnectionOptions);
      socket.on('error', () => undefined);
      const secure = new Promise<void>((resolve) => socket.once('secureConnect', () => resolve()));
      const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
      return { socket, secure, closed };
    };
    try {
      await work(dial, refused, broker);
    } finally {
      await close();
      await broker.close();
    }
  });
}

/** What became of a login on a connection. */
async function login({ socket, secure }: Dialled, { id, certificate }: SoftDevice, key: SoftDevice['key']) {
  await secure;
  const { length, label } = channelBinding;
  const channel = socket.exportKeyingMaterial(length, label, Buffer.alloc(0));
  const device = { id, certificate, key };
  const password = tokenOf(device, honestClaims(device, Date.now(), channel));
  const client = clientOn(socket, { clientId: id, username: id, password });
  return { client, what: await outcome(client) };
}

test('of a flood of handshakes a few begin, who waits too long is refused by name, and a device from elsewhere gets its turn', () =>
  withListener({ limits: { handshakes: 5, login: 2000 } }, async (dial, refused) => {
    let begun = 0;
    const flood = Array.from({ length: 60 }, () => dial(elsewhere));
    for (const { secure } of flood) void secure.then(() => begun++);
    await Promise.race(flood.map(({ secure }) => secure));
    assert.is((await login(dial(here), witness, witness.key)).what, 'connected');
    assert.ok(begun < 30, `${begun} of the flood came first`);
    // Those that began say nothing, and have no more than the time for a login either.
    await Promise.all(flood.map(({ closed }) => closed));
    const late = refused.filter((one) => one === 'limit.handshakes connection').length;
    assert.ok(late >= 30 && late + begun >= 60, `${late} were refused, ${begun} began`);
  }));

test('where a login fails the next connection waits, and one from elsewhere does not', () =>
  withListener({}, async (dial, refused) => {
    const failing = Array.from({ length: 50 }, () => login(dial(elsewhere), witness, attacker.key));
    assert.equal(new Set((await Promise.all(failing)).map(({ what }) => what)), new Set([4]));
    assert.equal(new Set(refused), new Set([`login.signature ${witness.id}`]));
    // Two seconds for fifty.
    const order: string[] = [];
    const [first, second] = [dial(elsewhere), dial(here)];
    void first.secure.then(() => order.push(elsewhere));
    void second.secure.then(() => order.push(here));
    assert.is((await login(second, witness, witness.key)).what, 'connected');
    assert.equal(order, [here]);
    assert.is((await login(first, attacker, attacker.key)).what, 'connected');
    assert.equal(order, [here, elsewhere]);
  }));

test('one address holds half of the connections until it logs in as a device that is enrolled, and nobody else is kept out', () =>
  withListener(
    { connections: 6, enrolled: async (device) => device === witness.id },
    async (dial, refused, broker) => {
      const held = Array.from({ length: 3 }, () => dial(elsewhere));
      await Promise.all(held.map(({ secure }) => secure));
      await dial(elsewhere).closed;
      assert.equal(refused, ['limit.source-connections connection']);
      const { client, what } = await login(dial(here), witness, witness.key);
      assert.is(what, 'connected');
      client.end(true);
      // Anybody can make a key and log in with it.
      assert.is((await login(held[0] as Dialled, attacker, attacker.key)).what, 'connected');
      await dial(elsewhere).closed;
      assert.is(refused.length, 2);
      broker.known(attacker.id);
      const next = dial(elsewhere);
      assert.is((await login(next, witness, witness.key)).what, 'connected');
      await dial(elsewhere).secure;
    },
  ));

test.run();
