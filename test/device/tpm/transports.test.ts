// deadline: 120 s
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { serveTpm } from '../../../device/tpm/serve.ts';
import { type Transport, TransportError } from '../../../device/tpm/transport.ts';
import { openSocketTpm, type SocketProtocol } from '../../../device/tpm/transports/socket.ts';
import { openSwtpm } from '../../../device/tpm/transports/swtpm.ts';
import { openWasmTpm } from '../../../device/tpm/transports/wasm.ts';
import { NvImageError } from '../../../wasm/nv-image.ts';
import { TpmStateError } from '../../../wasm/state-file.ts';
import * as t from '../../kit/tpm-bytes.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const index = 0x1800001;

async function ok(tpm: Transport, command: Uint8Array): Promise<Uint8Array> {
  const response = await tpm.send(command);
  assert.is(t.rc(response), 0, `TPM_RC ${t.rc(response).toString(16)}`);
  return response;
}

async function failure<E extends Error>(
  work: Promise<unknown>,
  type: new (...args: never[]) => E,
): Promise<E> {
  try {
    await work;
  } catch (error) {
    assert.instance(error, type);
    return error as E;
  }
  assert.unreachable(`nothing refused; a ${type.name} was expected`);
  throw new Error('unreachable');
}

interface Folder {
  folder: string;
  stateFile: string;
}

const wasm = suite<Folder>('the TPM in process');

wasm.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'eve-attest-tpm-'));
  context.stateFile = join(context.folder, 'tpm.state');
});
wasm.after.each(({ folder }) => rmSync(folder, { recursive: true, force: true }));

wasm('keeps its NV memory in the state file, and nothing else', async ({ folder, stateFile }) => {
  const first = await openWasmTpm({ stateFile });
  await ok(first, t.nvDefine(index, 8));
  await ok(first, t.nvWrite(index, Buffer.from('8 bytes!')));
  await ok(first, t.pcrExtend(3, Buffer.alloc(32, 1)));
  const srk = Buffer.from(await ok(first, t.createPrimary(t.RH.owner, t.template.srk())));
  await first.close();
  assert.equal(readdirSync(folder).sort(), ['tpm.key', 'tpm.state'], 'no lock and no temporary file stay');
  assert.is(statSync(stateFile).mode & 0o777, 0o600);
  assert.not(readFileSync(stateFile).includes('8 bytes!'));

  const second = await openWasmTpm({ stateFile });
  assert.equal(t.sizeds(t.body(await ok(second, t.nvRead(index, 8))), 1)[0], Buffer.from('8 bytes!'));
  assert.equal(t.pcrValues(await ok(second, t.pcrRead(3)))[0], Buffer.alloc(32));
  const again = Buffer.from(await ok(second, t.createPrimary(t.RH.owner, t.template.srk())));
  assert.equal(
    t.sizeds(t.body(again, 1), 1),
    t.sizeds(t.body(srk, 1), 1),
    'the same seed makes the same key',
  );
  await second.close();
});

wasm('an answer means that what it changed is on disk', async ({ stateFile }) => {
  const program = `
    const { openWasmTpm } = await import(${JSON.stringify(join(root, 'device/tpm/transports/wasm.ts'))});
    const t = await import(${JSON.stringify(join(root, 'test/kit/tpm-bytes.ts'))});
    const tpm = await openWasmTpm({ stateFile: ${JSON.stringify(stateFile)} });
    await tpm.send(t.nvDefine(${index}, 8));
    await tpm.send(t.nvWrite(${index}, Buffer.from('survives')));
    process.kill(process.pid, 'SIGKILL');`;
  const child = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
    cwd: root,
  });
  assert.is(child.signal, 'SIGKILL', child.stderr.toString());
  assert.ok(existsSync(`${stateFile}.lock`), 'the killed process left its lock');
  const tpm = await openWasmTpm({ stateFile });
  assert.equal(t.sizeds(t.body(await ok(tpm, t.nvRead(index, 8))), 1)[0], Buffer.from('survives'));
  await tpm.close();
});

wasm('two cannot open one state, and the refusal names who has it', async ({ stateFile }) => {
  const tpm = await openWasmTpm({ stateFile });
  const error = await failure(openWasmTpm({ stateFile }), TpmStateError);
  assert.is(error.code, 'locked');
  assert.match(error.message, `process ${process.pid} uses`);
  await tpm.close();
  await (await openWasmTpm({ stateFile })).close();
});

wasm('a lock left by a process whose id another one has now is no lock', async ({ stateFile }) => {
  writeFileSync(`${stateFile}.lock`, `${process.pid} 1`);
  await (await openWasmTpm({ stateFile })).close();
  writeFileSync(`${stateFile}.lock`, 'rubbish');
  await (await openWasmTpm({ stateFile })).close();
});

wasm('many at once: one opens, the others are refused', async ({ stateFile }) => {
  writeFileSync(`${stateFile}.lock`, '4194305 1');
  const results = await Promise.allSettled(Array.from({ length: 8 }, () => openWasmTpm({ stateFile })));
  const opened = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  assert.is(opened.length, 1);
  await opened[0]?.close();
});

wasm('a key that is given is used, and leaves no file', async ({ folder, stateFile }) => {
  const key = Buffer.alloc(32, 5);
  await (await openWasmTpm({ stateFile, key })).close();
  assert.equal(readdirSync(folder), ['tpm.state']);
  assert.equal(key, Buffer.alloc(32, 5), 'the caller’s key stays as it is');
  await (await openWasmTpm({ stateFile, key })).close();
  const error = await failure(openWasmTpm({ stateFile, key: Buffer.alloc(32, 6) }), NvImageError);
  assert.is(error.code, 'sealed');
  assert.not(existsSync(`${stateFile}.lock`), 'a refused start keeps no lock');
});

wasm('a key file that is lost, damaged or open to others is refused', async ({ folder, stateFile }) => {
  const keyFile = join(folder, 'tpm.key');
  await (await openWasmTpm({ stateFile })).close();
  assert.is(statSync(keyFile).mode & 0o777, 0o600);
  const state = readFileSync(stateFile);

  chmodSync(keyFile, 0o640);
  assert.match((await failure(openWasmTpm({ stateFile }), TpmStateError)).message, /mode 0640.*chmod 600/);
  chmodSync(keyFile, 0o600);

  renameSync(keyFile, `${keyFile}.away`);
  const lost = await failure(openWasmTpm({ stateFile }), TpmStateError);
  assert.is(lost.code, 'key');
  assert.match(lost.message, /put back a backup/);
  assert.not(existsSync(keyFile), 'no new key takes its place');

  writeFileSync(keyFile, Buffer.alloc(31), { mode: 0o600 });
  assert.match((await failure(openWasmTpm({ stateFile }), TpmStateError)).message, /31 bytes instead of 32/);
  assert.equal(readFileSync(stateFile), state, 'the state is as it was');
});

wasm('a state that cannot be one is refused before it is read', async ({ stateFile }) => {
  await (await openWasmTpm({ stateFile })).close();
  writeFileSync(stateFile, Buffer.alloc(1_000_000));
  assert.is((await failure(openWasmTpm({ stateFile }), TpmStateError)).code, 'size');
  writeFileSync(stateFile, 'short');
  assert.is((await failure(openWasmTpm({ stateFile }), NvImageError)).code, 'format');
});

wasm(
  'when the state cannot be written, commands fail until it can, and nothing is lost',
  async ({ folder, stateFile }) => {
    const tpm = await openWasmTpm({ stateFile });
    await ok(tpm, t.nvDefine(index, 8));
    renameSync(folder, `${folder}-away`);
    try {
      assert.is(
        (await failure(tpm.send(t.nvWrite(index, Buffer.from('8 bytes!'))), TransportError)).code,
        'io',
      );
      const error = await failure(tpm.send(t.pcrRead(0)), TransportError);
      assert.match(error.message, /cannot be read or written: ENOENT/);
    } finally {
      renameSync(`${folder}-away`, folder);
    }
    await ok(tpm, t.pcrRead(0));
    await tpm.close();
    const again = await openWasmTpm({ stateFile });
    assert.equal(t.sizeds(t.body(await ok(again, t.nvRead(index, 8))), 1)[0], Buffer.from('8 bytes!'));
    await again.close();
  },
);

wasm('a full disk is said, and the state before it stays whole', ({ folder }) => {
  // A file system of its own needs a mount namespace of its own, which not every container allows.
  const allowed = spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', '-o', 'size=96k', 'tmpfs', folder]);
  if (allowed.status !== 0) {
    console.log('NOT RUN: the full disk needs `unshare -m` and `mount`, which this machine refuses');
    return;
  }
  const program = `
    const { openWasmTpm } = await import(${JSON.stringify(join(root, 'device/tpm/transports/wasm.ts'))});
    const t = await import(${JSON.stringify(join(root, 'test/kit/tpm-bytes.ts'))});
    const { readFileSync, readdirSync } = await import('node:fs');
    const folder = ${JSON.stringify(folder)};
    const stateFile = folder + '/tpm.state';
    const tpm = await openWasmTpm({ stateFile, startup: false }).catch((error) => error);
    const before = readFileSync(stateFile);
    const error = await tpm.send(t.startup()).then(() => tpm.send(t.nvDefine(${index}, 8))).catch((error) => error);
    console.log(JSON.stringify({
      code: error.code, message: error.message, same: before.equals(readFileSync(stateFile)), files: readdirSync(folder).sort(),
    }));
    process.exit(0);`;
  const child = spawnSync(
    'unshare',
    [
      ...['-m', 'sh', '-c', 'mount -t tmpfs -o size=96k tmpfs "$0" && exec "$@"', folder],
      ...[process.execPath, '--import', 'tsx', '--input-type=module', '-e', program],
    ],
    { cwd: root, encoding: 'utf8' },
  );
  const said = JSON.parse(child.stdout.trim() || `{"stderr":${JSON.stringify(child.stderr)}}`);
  assert.is(said.code, 'io', JSON.stringify(said));
  assert.match(said.message, /the disk is full; the file holds the state before/);
  assert.is(said.same, true);
  assert.equal(said.files, ['tpm.key', 'tpm.state', 'tpm.state.lock']);
});

wasm('RSA keys leave the event loop free, and commands keep their order', async () => {
  const tpm = await openWasmTpm();
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  const key = tpm.send(t.createPrimary(t.RH.owner, t.template.rsaStorage()));
  const after = tpm.send(t.createPrimary(t.RH.owner, t.template.srk()));
  const order: string[] = [];
  void key.then(() => order.push('key'));
  void after.then(() => order.push('after'));
  assert.is(t.rc(await key), 0);
  clearInterval(timer);
  assert.ok(turns >= 5, `${turns} turns of the event loop during the key`);
  assert.is(t.handleOf(await after), 0x80000001, 'the next command sees the key in its slot');
  assert.equal(order, ['key', 'after']);
  await tpm.close();
});

wasm('the worker runs from compiled files as well', ({ folder }) => {
  const compiler = join(root, 'node_modules/typescript/bin/tsc');
  // As build.js does, for these files alone; their types are checked elsewhere.
  spawnSync(process.execPath, [compiler, '-p', 'tsconfig.build.json', '--noCheck', '--outDir', folder], {
    cwd: root,
  });
  copyFileSync(join(root, 'wasm/tpm.wasm'), join(folder, 'wasm/tpm.wasm'));
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  const built = join(folder, 'device/tpm/transports/wasm.js');
  const command = t.createPrimary(t.RH.owner, t.template.rsaStorage()).toString('hex');
  const program = `
    const { openWasmTpm } = await import(${JSON.stringify(built)});
    const tpm = await openWasmTpm();
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const response = await tpm.send(Buffer.from('${command}', 'hex'));
    clearInterval(timer);
    await tpm.close();
    console.log(Buffer.from(response).readUInt32BE(6), turns > 5);`;
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
  assert.is(child.stdout, '0 true\n', child.stderr);
});

wasm('a dead instance is replaced from the state file at the next power cycle', async ({ stateFile }) => {
  let broken = false;
  const entropy = (bytes: Uint8Array) => {
    if (broken) throw new Error('no entropy');
    crypto.getRandomValues(bytes);
  };
  const tpm = await openWasmTpm({ stateFile, entropy });
  await ok(tpm, t.nvDefine(index, 8));
  await ok(tpm, t.nvWrite(index, Buffer.from('8 bytes!')));
  broken = true;
  await failure(tpm.powerCycle(), TransportError);
  assert.match((await failure(tpm.send(t.pcrRead(0)), TransportError)).message, /no entropy/);
  broken = false;
  await tpm.powerCycle();
  assert.equal(t.sizeds(t.body(await ok(tpm, t.nvRead(index, 8))), 1)[0], Buffer.from('8 bytes!'));
  await tpm.close();
});

wasm('power: off, on, cycle with the Startup that is asked for', async () => {
  const tpm = await openWasmTpm({ startup: false });
  assert.is(t.rc(await tpm.send(t.getRandom(8))), 0x100, 'TPM_RC_INITIALIZE');
  await tpm.powerCycle('clear');
  await ok(tpm, t.pcrExtend(3, Buffer.alloc(32, 1)));
  const value = t.pcrValues(await ok(tpm, t.pcrRead(3)))[0];
  await ok(tpm, t.shutdown('state'));
  await tpm.powerCycle('state');
  assert.equal(t.pcrValues(await ok(tpm, t.pcrRead(3)))[0], value, 'resumed');
  await tpm.powerOff();
  assert.is(tpm.powered, false);
  assert.match((await failure(tpm.send(t.pcrRead(3)), TransportError)).message, /no power/);
  await tpm.powerOn();
  await tpm.powerOn();
  assert.is(tpm.powered, true);
  await tpm.close();
  assert.is((await failure(tpm.send(t.pcrRead(3)), TransportError)).code, 'closed');
  await tpm.close();
});

wasm('the command a caller gave may change while it waits, what was sent does not', async () => {
  const tpm = await openWasmTpm();
  const busy = tpm.send(t.createPrimary(t.RH.owner, t.template.rsaStorage()));
  const command = t.getRandom(8);
  const waiting = tpm.send(command);
  command.fill(0);
  await busy;
  assert.is(t.rc(await waiting), 0);
  await tpm.close();
});

wasm.run();

const socket = suite('a TPM behind a socket');

for (const protocol of ['swtpm', 'mssim'] as SocketProtocol[]) {
  socket(`${protocol}: commands in order, over TCP and Unix sockets`, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'eve-attest-tpm-'));
    const tpm = await openWasmTpm();
    const tcp = await serveTpm(tpm, { protocol, port: 0 });
    const path = join(folder, 'tpm.sock');
    const unix = await serveTpm(tpm, { protocol, path });
    assert.is(statSync(path).mode & 0o777, 0o600);
    for (const address of [{ port: tcp.port }, { path }]) {
      const client = await openSocketTpm(address, protocol);
      const sizes = [8, 16, 24, 32];
      const responses = await Promise.all(sizes.map((size) => client.send(t.getRandom(size))));
      assert.equal(
        responses.map((response) => t.sizeds(t.body(response), 1)[0]?.length),
        sizes,
      );
      await client.close();
      assert.is((await failure(client.send(t.getRandom(8)), TransportError)).code, 'closed');
    }
    await unix.close();
    await tcp.close();
    await tpm.close();
    rmSync(folder, { recursive: true });
  });
}

/** A server that does what it is told with each connection. */
async function peer(behave: (connection: Socket) => void): Promise<{ port: number; end(): Promise<void> }> {
  const connections: Socket[] = [];
  const server = createServer((connection) => {
    connections.push(connection);
    connection.on('error', () => {});
    behave(connection);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    end: async () => {
      for (const connection of connections) connection.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

const random8 = Buffer.from('800100000014000000000008000102030405060708'.slice(0, 40), 'hex');

socket('a response in pieces is put together', async () => {
  for (const protocol of ['swtpm', 'mssim'] as SocketProtocol[]) {
    const whole = protocol === 'swtpm' ? random8 : t.cat(t.u32(random8.length), random8, t.u32(0));
    const server = await peer((connection) => {
      connection.setNoDelay(true);
      connection.once('data', async () => {
        for (const byte of whole) await new Promise((resolve) => connection.write(Buffer.of(byte), resolve));
      });
    });
    const client = await openSocketTpm({ port: server.port }, protocol);
    assert.equal(Buffer.from(await client.send(t.getRandom(8))), random8);
    await client.close();
    await server.end();
  }
});

socket('responses out of bounds, and bytes nobody asked for, end the link', async () => {
  const cases: [SocketProtocol, Buffer, string, RegExp][] = [
    ['swtpm', Buffer.from('8001ffffffff00000000', 'hex'), 'oversize', /4294967295 bytes/],
    ['swtpm', Buffer.from('80010000100100000000', 'hex'), 'oversize', /4097 bytes/],
    ['swtpm', Buffer.from('80010000000900000000', 'hex'), 'io', /9 bytes/],
    ['swtpm', t.cat(random8, Buffer.of(0)), 'oversize', /more than its response/],
    ['mssim', Buffer.from('00001001', 'hex'), 'oversize', /4097 bytes/],
    ['mssim', Buffer.from('00000000', 'hex'), 'io', /no power/],
  ];
  for (const [protocol, answer, code, message] of cases) {
    const server = await peer((connection) => connection.once('data', () => connection.write(answer)));
    const client = await openSocketTpm({ port: server.port }, protocol);
    const error = await failure(client.send(t.getRandom(8)), TransportError);
    assert.is(error.code, code);
    assert.match(error.message, message);
    assert.is(await failure(client.send(t.getRandom(8)), TransportError), error, 'the link stays closed');
    await client.close();
    await server.end();
  }
});

socket('a TPM that is silent, gone or absent gives an error that says so', async () => {
  const silent = await peer((connection) => connection.resume());
  const waiting = await openSocketTpm({ port: silent.port });
  const late = await failure(waiting.send(t.getRandom(8), { timeout: 30 }), TransportError);
  assert.is(late.code, 'timeout');
  assert.match(late.message, /within 30 ms/);
  await waiting.close();
  await silent.end();

  const leaving = await peer((connection) =>
    connection.once('data', () => connection.end(random8.subarray(0, 7))),
  );
  const cut = await openSocketTpm({ port: leaving.port });
  assert.is((await failure(cut.send(t.getRandom(8)), TransportError)).code, 'closed');
  await cut.close();
  await leaving.end();

  const absent = await failure(openSocketTpm({ port: leaving.port }), TransportError);
  assert.is(absent.code, 'io');
  assert.match(absent.message, /ECONNREFUSED/);
  const nowhere = await failure(openSocketTpm({ path: join(tmpdir(), 'no-such-tpm') }), TransportError);
  assert.match(nowhere.message, /ENOENT/);
});

socket('a swtpm whose connection fails goes on over a new one, with its power and its PCRs', async () => {
  const tpm = await openWasmTpm({ startup: false });
  const folder = mkdtempSync(join(tmpdir(), 'eve-attest-tpm-'));
  const served = await serveTpm(tpm, { protocol: 'swtpm', path: join(folder, 'behind') });
  const near: Socket[] = [];
  const wire = createServer((connection) => {
    near.push(connection);
    const far = connect(join(folder, 'behind'));
    connection.on('error', () => {}).pipe(far);
    far.on('error', () => {}).pipe(connection);
  }).listen(join(folder, 'wire'));
  await once(wire, 'listening');
  symlinkSync(join(folder, 'behind.ctrl'), join(folder, 'wire.ctrl'));
  const chip = await openSwtpm({ path: join(folder, 'wire') });
  assert.match((await failure(chip.send(t.getRandom(8)), TransportError)).message, /no power/);
  await chip.powerOn();
  await ok(chip, t.startup());
  await ok(chip, t.pcrExtend(3, Buffer.alloc(32, 1)));
  const value = t.pcrValues(await ok(chip, t.pcrRead(3)))[0];
  for (const connection of near) connection.destroy();
  assert.ok(['closed', 'io'].includes((await failure(chip.send(t.pcrRead(3)), TransportError)).code));
  assert.equal(t.pcrValues(await ok(chip, t.pcrRead(3)))[0], value);
  assert.is(chip.powered, true);
  await chip.close();
  wire.close();
  await served.close();
  await tpm.close();
  rmSync(folder, { recursive: true });
});

socket('a command that is too long is not sent', async () => {
  const server = await peer((connection) => connection.on('data', () => assert.unreachable()));
  const client = await openSocketTpm({ port: server.port });
  assert.is((await failure(client.send(Buffer.alloc(4097)), TransportError)).code, 'oversize');
  await client.close();
  await server.end();
});

socket.run();
