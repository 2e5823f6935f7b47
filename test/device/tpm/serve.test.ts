import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type ServedTpm, type SocketProtocol, serveTpm } from '../../../device/tpm/serve.ts';
import { openWasmTpm, type WasmTransport } from '../../../device/tpm/transports/wasm.ts';
import * as t from '../../kit/tpm-bytes.ts';

/** A client that sends bytes and reads exactly as many as it is told to expect. */
class Client {
  readonly socket: Socket;
  readonly ended: Promise<void>;
  #received = Buffer.alloc(0);
  #wake = () => {};

  constructor(port: number, allowHalfOpen = false) {
    this.socket = connect({ port, host: '127.0.0.1', allowHalfOpen });
    this.socket.on('error', () => {});
    this.socket.on('data', (bytes) => {
      this.#received = Buffer.concat([this.#received, bytes]);
      this.#wake();
    });
    this.ended = new Promise((resolve) => {
      this.socket.on('end', resolve);
      this.socket.on('close', resolve);
    });
    void this.ended.then(() => this.#wake());
  }

  async take(size: number): Promise<Buffer> {
    while (this.#received.length < size) {
      if (this.socket.readableEnded || this.socket.destroyed)
        throw new Error(`the connection ended after ${this.#received.length} of ${size} bytes`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const bytes = this.#received.subarray(0, size);
    this.#received = this.#received.subarray(size);
    return bytes;
  }

  async ask(request: Uint8Array, size: number): Promise<Buffer> {
    this.socket.write(request);
    return this.take(size);
  }

  async tpm(command: Uint8Array): Promise<Buffer> {
    this.socket.write(command);
    const header = await this.take(10);
    return t.cat(header, await this.take(header.readUInt32BE(2) - 10));
  }

  async simulator(command: Uint8Array, locality = 0): Promise<Buffer> {
    this.socket.write(t.cat(t.u32(8), t.u8(locality), t.u32(command.length), command));
    const response = await this.take((await this.take(4)).readUInt32BE(0));
    assert.is((await this.take(4)).readUInt32BE(0), 0);
    return response;
  }

  end(): void {
    this.socket.destroy();
  }
}

interface Served {
  tpm: WasmTransport;
  served: ServedTpm;
  command(): Client;
  control(): Client;
}

async function withServer(
  protocol: SocketProtocol,
  work: (served: Served) => Promise<void>,
  options: { messageTimeout?: number; startup?: boolean } = {},
): Promise<void> {
  const tpm = await openWasmTpm({ startup: options.startup ?? true });
  const served = await serveTpm(tpm, {
    protocol,
    port: 0,
    ...(options.messageTimeout ? { messageTimeout: options.messageTimeout } : {}),
  });
  const clients: Client[] = [];
  const client = (port: number) => {
    const made = new Client(port);
    clients.push(made);
    return made;
  };
  try {
    await work({
      tpm,
      served,
      command: () => client(served.port),
      control: () => client(served.port + 1),
    });
  } finally {
    for (const made of clients) made.end();
    await served.close();
    await tpm.close();
  }
}

test('swtpm: commands in pieces, and several at once', () =>
  withServer('swtpm', async ({ command }) => {
    const client = command();
    for (const byte of t.getRandom(4)) client.socket.write(Buffer.of(byte));
    assert.is((await client.take(16)).readUInt32BE(6), 0);
    client.socket.write(t.cat(t.getRandom(4), t.getRandom(6), t.startup()));
    assert.is((await client.take(16)).readUInt32BE(2), 16);
    assert.is((await client.take(18)).readUInt32BE(2), 18);
    assert.is((await client.take(10)).readUInt32BE(6), 0x100);
  }));

test('swtpm: two clients at once get their own answers', () =>
  withServer('swtpm', async ({ command }) => {
    const sizes = [5, 9];
    await Promise.all(
      sizes.map(async (size) => {
        const client = command();
        for (let round = 0; round < 20; round++)
          assert.is((await client.tpm(t.getRandom(size))).length, 12 + size);
      }),
    );
  }));

test('swtpm: the control channel answers as swtpm does', () =>
  withServer('swtpm', async ({ command, control }) => {
    const data = command();
    const ctrl = control();
    const hex = async (request: string, size: number) =>
      (await ctrl.ask(Buffer.from(request, 'hex'), size)).toString('hex');
    assert.is(await hex('00000001', 8), '00000000000064bf', 'GET_CAPABILITY');
    assert.is(await hex('00000004', 8), '0000000000000000', 'GET_TPMESTABLISHED');
    assert.is(await hex('00000009', 4), '00000000', 'CANCEL_TPM_CMD');
    assert.is(await hex('0000000a', 4), '0000000a', 'STORE_VOLATILE: TPM_BAD_ORDINAL');
    assert.is(await hex('0000000c000000010000000100000000', 16), '0000000a000000000000000000000000');
    assert.is(await hex('0000000f', 8), '0000000a00000000', 'GET_CONFIG');
    assert.is(await hex('0000001100000000', 16), '00000000000010000000100000001000', 'SET_BUFFERSIZE');
    const info = await ctrl.ask(Buffer.from('0000001200000000000000010000000000000000', 'hex'), 12);
    const text = await ctrl.take(info.readUInt32BE(8));
    assert.is(JSON.parse(text.toString('utf8', 0, text.length - 1)).TPMSpecification.revision, 154);

    // Locality 2 may reset PCR 20, locality 0 may not.
    const reset = t.command(t.CC.PCR_Reset, [20], Buffer.alloc(0), t.password);
    assert.is(t.rc(await data.tpm(reset)), 0x907);
    assert.is(await hex('0000000502', 4), '00000000', 'SET_LOCALITY');
    assert.is(await hex('0000000505', 4), '0000003d', 'SET_LOCALITY: TPM_BAD_LOCALITY');
    assert.is(t.rc(await data.tpm(reset)), 0);

    assert.is(await hex('00000006', 4), '00000000', 'HASH_START');
    assert.is(await hex('0000000700000003616263', 4), '00000000', 'HASH_DATA');
    assert.is(await hex('00000008', 4), '00000000', 'HASH_END');
    assert.equal(
      t.pcrValues(await data.tpm(t.pcrRead(17)))[0],
      t.sha256(Buffer.alloc(32), t.sha256(Buffer.from('abc'))),
    );
    assert.is(await hex('00000004', 8), '0000000001000000', 'a D-RTM sequence was measured');
    assert.is(await hex('0000000b00', 4), '0000003d', 'locality 0 may not take that back');
    assert.is(await hex('0000000b03', 4), '00000000');
    assert.is(await hex('00000004', 8), '0000000000000000');

    await data.tpm(t.pcrExtend(3, Buffer.alloc(32, 1)));
    assert.is(await hex('0000000e', 4), '00000000', 'STOP');
    assert.is(t.rc(await data.tpm(t.getRandom(4))), 0x101, 'a stopped TPM fails');
    assert.is(await hex('0000000200000000', 4), '00000000', 'INIT');
    assert.equal(t.pcrValues(await data.tpm(t.pcrRead(3)))[0], Buffer.alloc(32));
    assert.is(t.rc(await data.tpm(reset)), 0x907, 'INIT ends the locality');

    assert.is(await hex('00000063', 4), '0000000a', 'unknown');
    await ctrl.ended;
  }));

test('swtpm: SHUTDOWN ends the server', async () => {
  const tpm = await openWasmTpm();
  const served = await serveTpm(tpm, { protocol: 'swtpm', port: 0 });
  const ctrl = new Client(served.port + 1);
  assert.is((await ctrl.ask(t.u32(3), 4)).readUInt32BE(0), 0);
  await served.closed;
  await ctrl.ended;
  assert.is(tpm.powered, false);
  await tpm.close();
});

test('simulator: commands carry their locality, and power comes from the platform', () =>
  withServer(
    'mssim',
    async ({ command, control }) => {
      const tpm = command();
      const platform = control();
      const signal = async (code: number) =>
        assert.is((await platform.ask(t.u32(code), 4)).readUInt32BE(0), 0);
      assert.equal(await tpm.ask(t.cat(t.u32(15), t.u32(1)), 12), t.cat(t.u32(1), t.u32(9), t.u32(0)));
      await signal(1); // POWER_ON
      await signal(11); // NV_ON
      assert.is(t.rc(await tpm.simulator(t.startup())), 0);
      const reset = t.command(t.CC.PCR_Reset, [20], Buffer.alloc(0), t.password);
      assert.is(t.rc(await tpm.simulator(reset)), 0x907);
      assert.is(t.rc(await tpm.simulator(reset, 2)), 0);
      await tpm.simulator(t.pcrExtend(3, Buffer.alloc(32, 1)));
      await signal(1);
      assert.not.equal(
        t.pcrValues(await tpm.simulator(t.pcrRead(3)))[0],
        Buffer.alloc(32),
        'POWER_ON does nothing to a TPM that has power',
      );
      await signal(17); // RESET
      assert.is(t.rc(await tpm.simulator(t.getRandom(4))), 0x100, 'it waits for Startup');
      await signal(2); // POWER_OFF
      assert.is((await tpm.simulator(t.getRandom(4))).length, 0);
      await signal(1);
      assert.is(t.rc(await tpm.simulator(t.startup())), 0);
      for (const code of [3, 4, 9, 10, 12, 11, 13, 14]) await signal(code);
      tpm.socket.write(t.u32(20)); // SESSION_END
      await tpm.ended;
      platform.socket.write(t.u32(99));
      await platform.ended;
    },
    { startup: false },
  ));

test('simulator: D-RTM, physical presence, and STOP ends the server', async () => {
  const tpm = await openWasmTpm();
  const served = await serveTpm(tpm, { protocol: 'mssim', port: 0 });
  const command = new Client(served.port);
  const platform = new Client(served.port + 1);
  for (const request of [t.u32(5), t.cat(t.u32(6), t.u32(3), Buffer.from('abc')), t.u32(7)])
    assert.is((await command.ask(request, 4)).readUInt32BE(0), 0);
  assert.equal(
    t.pcrValues(await command.simulator(t.pcrRead(17)))[0],
    t.sha256(Buffer.alloc(32), t.sha256(Buffer.from('abc'))),
  );
  platform.socket.write(t.u32(21));
  await served.closed;
  await Promise.all([command.ended, platform.ended]);
  await tpm.close();
});

test('sizes out of bounds end that connection only', async () => {
  const header = (size: number) => t.cat(t.u16(0x8001), t.u32(size), t.u32(t.CC.GetRandom));
  await withServer('swtpm', async ({ command, control }) => {
    const good = command();
    for (const size of [0, 9, 4097, 0x7fffffff, 0xffffffff]) {
      const bad = command();
      assert.is(t.rc(await bad.ask(header(size), 10)), 0x142, `size ${size}`);
      await bad.ended;
    }
    for (const request of ['00000007ffffffff', '0000000700001001', 'ffffffff']) {
      const bad = control();
      bad.socket.write(Buffer.from(request, 'hex'));
      await bad.ended;
    }
    assert.is(t.rc(await good.tpm(t.getRandom(4))), 0);
  });
  await withServer('mssim', async ({ command }) => {
    const good = command();
    for (const request of [
      '0000000800ffffffff',
      '000000080000001001',
      '000000080500000000',
      '0000000600001001',
      '00000000',
    ]) {
      const bad = command();
      bad.socket.write(Buffer.from(request, 'hex'));
      await bad.ended;
    }
    assert.is(t.rc(await good.simulator(t.getRandom(4))), 0);
  });
});

test('a message that does not come to its end is given up, an idle client is not', () =>
  withServer(
    'swtpm',
    async ({ command, control }) => {
      const idle = command();
      const slow = [command(), command(), control(), control()];
      slow[0]?.socket.write(t.getRandom(4).subarray(0, 5));
      slow[1]?.socket.write(t.getRandom(4).subarray(0, 11));
      slow[2]?.socket.write(Buffer.from('0000', 'hex'));
      slow[3]?.socket.write(Buffer.from('000000070000000361', 'hex'));
      await Promise.all(slow.map((client) => client.ended));
      assert.is(t.rc(await idle.tpm(t.getRandom(4))), 0);
    },
    { messageTimeout: 40 },
  ));

test('a client that sends without end and reads nothing is cut off', () =>
  withServer(
    'swtpm',
    async ({ command }) => {
      const flood = command();
      flood.socket.pause();
      const property = t.command(t.CC.GetCapability, [], t.cat(t.u32(2), t.u32(0), t.u32(200)));
      const chunk = Buffer.concat(Array.from({ length: 1000 }, () => property));
      const more = (error?: Error | null) => {
        if (!error) flood.socket.write(chunk, more);
      };
      more();
      const good = command();
      for (let round = 0; round < 20; round++) assert.is(t.rc(await good.tpm(t.getRandom(4))), 0);
      await flood.ended;
    },
    { messageTimeout: 60 },
  ));

test('clients that leave in the middle leave nothing behind', () =>
  withServer('swtpm', async ({ served, command }) => {
    for (let round = 0; round < 30; round++) {
      const client = new Client(served.port, round % 2 === 0);
      await once(client.socket, 'connect');
      client.socket.write(round % 3 ? t.createPrimary(t.RH.owner, t.template.srk()) : Buffer.of(0x80));
      if (round % 2) client.socket.resetAndDestroy();
      else client.socket.end();
    }
    assert.is(t.rc(await command().tpm(t.getRandom(4))), 0);
  }));

test('more connections than allowed are closed, and room comes back', () =>
  withServer('swtpm', async ({ command }) => {
    const clients = Array.from({ length: 64 }, command);
    for (const client of clients) assert.is(t.rc(await client.tpm(t.getRandom(4))), 0);
    const extra = command();
    await extra.ended;
    clients[0]?.end();
    await clients[0]?.ended;
    // The server learns of the end a moment later.
    for (;;) {
      const next = command();
      const answer = await next.tpm(t.getRandom(4)).catch(() => undefined);
      if (answer) break;
    }
    assert.is(t.rc((await clients[1]?.tpm(t.getRandom(4))) as Buffer), 0);
  }));

/** A server on some port, below which another port is free. */
async function takeUpperPort(): Promise<{ taken: Server; port: number }> {
  for (;;) {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const probe = createServer().listen(port - 1, '127.0.0.1');
    const free = await new Promise<boolean>((resolve) => {
      probe.on('listening', () => probe.close(() => resolve(true)));
      probe.on('error', () => resolve(false));
    });
    if (free) return { taken, port };
    taken.close();
  }
}

test('a port in use is named, and nothing stays open', async () => {
  const tpm = await openWasmTpm();
  const { taken, port } = await takeUpperPort();
  for (const first of [port, port - 1])
    try {
      await serveTpm(tpm, { protocol: 'swtpm', port: first });
      assert.unreachable();
    } catch (error) {
      assert.match((error as Error).message, `port ${port} of 127.0.0.1 is in use; choose another`);
    }
  taken.close();
  await once(taken, 'close');
  const served = await serveTpm(tpm, { protocol: 'swtpm', port: port - 1 });
  assert.is(served.port, port - 1, 'the first port was given back');
  await served.close();
  await tpm.close();
});

test('Unix sockets: one that answers is in use, one that is left over is replaced', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'eve-attest-serve-'));
  const path = join(folder, 'tpm');
  const tpm = await openWasmTpm();
  const served = await serveTpm(tpm, { protocol: 'mssim', path });
  assert.ok(existsSync(`${path}.platform`));
  try {
    await serveTpm(tpm, { protocol: 'mssim', path });
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, `${path} is in use`);
  }
  await served.close();

  // A server that is killed leaves its socket; a file of somebody is no such thing.
  const program = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', program]);
  assert.ok(statSync(path).isSocket());
  const again = await serveTpm(tpm, { protocol: 'mssim', path });
  await again.close();
  writeFileSync(path, 'somebody’s');
  try {
    await serveTpm(tpm, { protocol: 'mssim', path });
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, `${path} is in use`);
  }
  assert.is(readFileSync(path, 'utf8'), 'somebody’s');
  await tpm.close();
  rmSync(folder, { recursive: true });
});

test.run();
