// deadline: 120 s
// What only a TPM that is slow, gone or another thing shows of the addon and of the file.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { nativeAddon } from '../../../../device/native/addon.ts';
import { Tpm } from '../../../../device/tpm/tpm.ts';
import { type Transport, TransportError } from '../../../../device/tpm/transport.ts';
import { openFileTpm } from '../../../../device/tpm/transports/file.ts';
import { openNativeTpm } from '../../../../device/tpm/transports/native.ts';
import { openWasmTpm } from '../../../../device/tpm/transports/wasm.ts';
import * as commands from '../../../../formats/tpm2/commands.ts';
import { TPM_RH } from '../../../../formats/tpm2/constants.ts';
import { storageRootKey } from '../../../../formats/tpm2/templates.ts';
import { addonFile, needAddon } from '../../../kit/addon.ts';
import { needDebian } from '../../../kit/debian.ts';
import { inFolder } from '../../../kit/folders.ts';
import { runToEnd } from '../../../kit/process.ts';
import { rejects } from '../../../kit/rejects.ts';
import { deviceFile } from '../../../kit/swtpm.ts';
import { leftovers } from '../../../kit/tpm.ts';
import * as t from '../../../kit/tpm-bytes.ts';
import { isCommand } from '../../../kit/tpm-faults.ts';

const root = dirname(dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url))))));

const test = suite('native');

/** What becomes of a command: its response, whenever it likes. */
type Behaviour = (command: Uint8Array, send: () => Promise<Uint8Array>) => Promise<Uint8Array | null>;

interface Slow {
  path: string;
  /** The TPM behind it. */
  tpm: Transport;
  behave: Behaviour;
  /** The device goes away. */
  unplug(): void;
}

const straight: Behaviour = (_, send) => send();

/** A device file whose TPM answers when the test wants it. */
function withSlowDevice(work: (slow: Slow) => Promise<void>): Promise<void> {
  return inFolder(async (folder) => {
    const tpm = await openWasmTpm();
    const sockets: Socket[] = [];
    const server = createServer((socket) => {
      sockets.push(socket);
      socket.on('error', () => undefined);
      socket.on('data', async (command) => {
        const response = await slow.behave(command, () => tpm.send(command));
        if (response) socket.write(response);
      });
    }).listen(join(folder, 'tpm'));
    await once(server, 'listening');
    const device = await deviceFile(join(folder, 'tpm'));
    const unplug = () => {
      for (const socket of sockets) socket.destroy();
    };
    const slow: Slow = { path: device.path, tpm, behave: straight, unplug };
    try {
      await work(slow);
    } finally {
      unplug();
      server.close();
      await device.stop();
      await tpm.close();
    }
  });
}

/** Holds commands back until it is opened. */
class Gate {
  #open = () => {};
  readonly opened = new Promise<void>((resolve) => {
    this.#open = resolve;
  });
  open(): void {
    this.#open();
  }
}

const held =
  (gate: Gate, name: Parameters<typeof isCommand>[1]): Behaviour =>
  async (command, send) => {
    if (isCommand(command, name)) await gate.opened;
    return send();
  };

test('a command that takes too long: said, and the next one waits for the TPM first', () =>
  withSlowDevice(async (slow) => {
    const transport = await openNativeTpm(`device:${slow.path}`);
    assert.ok(transport.canTimeOut);
    const gate = new Gate();
    slow.behave = held(gate, 'GetRandom');
    await rejects(transport.send(t.getRandom(8), { timeout: 20 }), TransportError, (error) => {
      assert.match(error.message, /no response in time/);
      return error.code === 'timeout';
    });
    await rejects(transport.send(t.pcrRead(0), { timeout: 20 }), TransportError, (error) => {
      assert.match(error.message, /still busy with an earlier command/);
      return error.code === 'timeout';
    });
    gate.open();
    // The response that is owed is not taken for this one.
    assert.is(t.pcrValues(await transport.send(t.pcrRead(0))).length, 1);
    assert.is(t.sizeds(t.body(await transport.send(t.getRandom(24))), 1)[0]?.length, 24);
    await transport.close();
  }));

test('a command that makes a key and takes too long: the connection is opened anew', () =>
  withSlowDevice(async (slow) => {
    let opened = 0;
    const open = () => {
      opened++;
      return openNativeTpm(`device:${slow.path}`);
    };
    const first = await open();
    const impatient: Transport = {
      send: (command) => first.send(command, { timeout: 20 }),
      close: () => first.close(),
    };
    const tpm = new Tpm(impatient, { reopen: open });
    const gate = new Gate();
    // The response goes to a connection that is gone.
    slow.behave = async (command, send) => {
      if (!isCommand(command, 'CreatePrimary')) return send();
      await gate.opened;
      await send();
      return null;
    };
    const make = {
      primaryHandle: TPM_RH.NULL,
      inSensitive: { userAuth: new Uint8Array(), data: new Uint8Array() },
      inPublic: storageRootKey,
      outsideInfo: new Uint8Array(),
      creationPCR: [],
    };
    await rejects(
      tpm.execute(commands.CreatePrimary, make),
      TransportError,
      ({ code }) => code === 'timeout',
    );
    assert.match(tpm.lost ?? '', /CreatePrimary/);
    gate.open();
    assert.is((await tpm.random(8)).length, 8);
    assert.equal([opened, tpm.lost], [2, undefined]);
    await tpm.close();
    // Here nobody flushes what a connection leaves; the kernel does, behind /dev/tpmrm0.
    assert.is((await leftovers(new Tpm(slow.tpm))).length, 1);
  }));

test('closing ends the wait for a command', () =>
  withSlowDevice(async (slow) => {
    const transport = await openNativeTpm(`device:${slow.path}`);
    const gate = new Gate();
    const begun = new Gate();
    slow.behave = async () => {
      begun.open();
      await gate.opened;
      return null;
    };
    const running = transport.send(t.getRandom(8));
    const waiting = transport.send(t.getRandom(8));
    const refused = rejects(running, TransportError, ({ code }) => code === 'closed');
    const never = rejects(waiting, TransportError, ({ code }) => code === 'closed');
    await begun.opened;
    await transport.close();
    await refused;
    await never;
    gate.open();
  }));

for (const [name, open] of [
  ['native', (path: string) => openNativeTpm(`device:${path}`)],
  ['file', openFileTpm],
] as const) {
  test(`${name}: a TPM that goes away is an error, and one that answers rubbish as well`, async () => {
    for (const rubbish of [
      Buffer.from('80010000000900000000', 'hex'),
      Buffer.from('8001ffffffff00000000', 'hex'),
      Buffer.alloc(10, 0xff),
    ]) {
      await withSlowDevice(async (slow) => {
        const transport = await open(slow.path);
        slow.behave = () => Promise.resolve(rubbish);
        await rejects(transport.send(t.getRandom(8), { timeout: 500 }), TransportError, ({ code }) =>
          ['io', 'oversize', 'timeout'].includes(code),
        );
        await transport.close();
      });
    }
    await withSlowDevice(async (slow) => {
      const transport = await open(slow.path);
      slow.behave = async () => {
        slow.unplug();
        return null;
      };
      await rejects(transport.send(t.getRandom(8), { timeout: 5000 }), TransportError, ({ code }) =>
        ['io', 'closed'].includes(code),
      );
      await transport.close();
    });
  });
}

test('what is no TPM is not written to', () =>
  inFolder(async (folder) => {
    const file = join(folder, 'disk');
    writeFileSync(file, 'precious');
    for (const open of [() => openFileTpm(file), () => openNativeTpm(`device:${file}`)]) {
      await rejects(open(), TransportError, ({ message }) => /is no character device/.test(message));
      assert.is(readFileSync(file, 'utf8'), 'precious');
    }
    await rejects(openNativeTpm('device:/dev/none'), TransportError, ({ message, hint }) => {
      assert.match(hint, /turn the TPM on in the firmware setup/);
      return /ENOENT/.test(message);
    });
  }));

test('libraries and programs are not loaded by a name', async () => {
  for (const name of [
    'cmd:true',
    '/tmp/evil.so:',
    './evil.so',
    'libtss2-tcti-swtpm.so.0:',
    'devic',
    'device2:',
    ':',
  ])
    await rejects(openNativeTpm(name), TransportError, ({ message }) =>
      /TCTI_NOT_ALLOWED|known: device/.test(message),
    );
  for (const name of ['', 'device\0:/dev/tpmrm0', 'x'.repeat(256)])
    assert.throws(() => nativeAddon().openTcti(name), /length that fits/);
  await rejects(openNativeTpm('swtpm:host=127.0.0.1,port=1'), TransportError, ({ code, message }) => {
    assert.match(message, /TCTI_IO_ERROR/);
    return code === 'io';
  });
});

test('without the software stack, or a part of it, the error says what to install', async () => {
  const info = (env: Record<string, string>) => runToEnd('eve', ['tpm', 'info', '--tpm', 'tabrmd:'], env);
  await inFolder(async (folder) => {
    // The loader of programs takes this one, and no other.
    writeFileSync(join(folder, 'libtss2-tctildr.so.0'), '');
    const hidden = { LD_LIBRARY_PATH: folder };
    const { code, stderr } = await info(hidden);
    assert.is(code, 1);
    assert.match(stderr, /libtss2-tctildr\.so\.0.*\nhint: .*apt-get install libtss2-tctildr0.*--tpm file:/);
    const doctor = await runToEnd('eve', ['doctor', '--state', folder], hidden);
    assert.match(doctor.stdout, /^! addon .*reaches no TPM: .*libtss2-tctildr\.so\.0.*\n.*apt-get install/m);
  });
  if (existsSync('/usr/lib/x86_64-linux-gnu/libtss2-tcti-tabrmd.so.0')) return;
  assert.match((await info({})).stderr, /TCTI_NOT_SUPPORTED.*\nhint: .*libtss2-tcti-tabrmd0/);
});

test('a misuse is an exception, and no crash', () =>
  withSlowDevice(async (slow) => {
    const connection = await nativeAddon().openTcti(`device:${slow.path}`);
    const gate = new Gate();
    slow.behave = held(gate, 'GetRandom');
    const running = connection.transmit(t.getRandom(8), -1);
    assert.throws(() => connection.transmit(t.getRandom(8), -1), /a command runs already/);
    assert.throws(() => connection.close(), /a command runs/);
    gate.open();
    await running;
    for (const wrong of [new Uint8Array(9), new Uint8Array(4097), 'text', null, new Uint16Array(20)])
      assert.throws(() => connection.transmit(wrong as Uint8Array, -1), /Uint8Array/);
    assert.throws(() => connection.transmit.call({} as never, t.getRandom(8), -1), /no connection/);
    assert.throws(() => connection.transmit(t.getRandom(8), undefined as never), /timeout/);
    connection.cancel();
    assert.is(
      t.rc(await connection.transmit(t.getRandom(8), -1)),
      0,
      'what is cancelled before it begins runs',
    );
    await connection.close();
    await connection.close();
    assert.throws(() => connection.transmit(t.getRandom(8), -1), /closed/);
  }));

test('a process that ends does not wait for the TPM', () =>
  withSlowDevice(async (slow) => {
    slow.behave = held(new Gate(), 'PCR_Read');
    const program = `
      const { openNativeTpm } = await import(${JSON.stringify(join(root, 'device/tpm/transports/native.ts'))});
      const transport = await openNativeTpm('device:${slow.path}');
      transport.send(Buffer.from('${t.pcrRead(0).toString('hex')}', 'hex')).catch(() => {});
      setTimeout(() => process.exit(3), 50);`;
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
      cwd: root,
      stdio: 'inherit',
    });
    const killer = setTimeout(() => child.kill('SIGKILL'), 20_000);
    const [code] = (await once(child, 'exit')) as [number | null];
    clearTimeout(killer);
    assert.is(code, 3);
  }));

test('in several worker threads at once, ended in the middle of a command', () =>
  withSlowDevice(async (slow) => {
    const program = `
      const assert = require('node:assert');
      const { workerData, parentPort } = require('node:worker_threads');
      const addon = require(workerData.addon);
      const refused = (name, code) => assert.rejects(async () => addon.openTcti(name), { code });
      (async () => {
        for (let round = 0; round < 20; round++) {
          await refused('cmd:', 'TCTI_NOT_ALLOWED');
          await refused('swtpm:host=127.0.0.1,port=1', 'TCTI_IO_ERROR');
        }
        if (workerData.device) {
          const connection = await addon.openTcti(workerData.device);
          parentPort.postMessage('open');
          await connection.transmit(Uint8Array.from(workerData.command), 2000);
        }
      })();`;
    const start = (device?: string) =>
      new Worker(program, {
        eval: true,
        env: { ...process.env, TSS2_LOG: 'all+NONE' },
        workerData: { addon: addonFile, device, command: [...t.pcrRead(0)] },
      });
    const plain = [start(), start(), start()].map((worker) => once(worker, 'exit'));
    slow.behave = held(new Gate(), 'PCR_Read');
    const hanging = start(`device:${slow.path}`);
    assert.equal(await once(hanging, 'message'), ['open']);
    await hanging.terminate();
    assert.equal((await Promise.all(plain)).flat(), [0, 0, 0]);
  }));

test('three hundred connections, closed or forgotten, keep no file open', () =>
  withSlowDevice(async (slow) => {
    const program = `
      const addon = require(${JSON.stringify(addonFile)});
      const { readdirSync } = require('node:fs');
      const files = () => readdirSync('/proc/self/fd').length;
      (async () => {
        await addon.openTcti('device:${slow.path}').then((connection) => connection.close());
        const before = files();
        for (let round = 0; round < 300; round++) {
          const connection = await addon.openTcti('device:${slow.path}');
          await connection.transmit(Buffer.from('${t.getRandom(8).toString('hex')}', 'hex'), -1);
          if (round % 2) await connection.close();
          if (round % 50 === 49) { gc(); await new Promise((resolve) => setTimeout(resolve, 5)); }
        }
        gc();
        await new Promise((resolve) => setTimeout(resolve, 20));
        console.log(files() - before);
      })();`;
    const child = spawn(process.execPath, ['--expose-gc', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    child.stdout.on('data', (chunk) => {
      said += chunk;
    });
    const [code] = await once(child, 'close');
    assert.is(code, 0);
    assert.ok(Number(said) <= 2, `${said.trim()} more files are open`);
  }));

const build = suite('the addon as a file');

build('without it, or with another one, the error says what to do', () =>
  inFolder((folder) => {
    const native = join(folder, 'device/native');
    mkdirSync(join(native, 'build'), { recursive: true });
    copyFileSync(join(root, 'device/native/addon.ts'), join(native, 'addon.ts'));
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
    const attempt = () => {
      const program = `import(${JSON.stringify(join(native, 'addon.ts'))}).then(({ nativeAddon }) => {
        try { nativeAddon(); } catch ({ code, message, hint }) { console.log([code, message, hint].join(' | ')); }
      });`;
      return spawnSync(process.execPath, ['--import', 'tsx', '-e', program], { cwd: root, encoding: 'utf8' })
        .stdout;
    };
    const hint = /npm run build:native/;
    assert.match(attempt(), /^native\.missing \| the native addon is not built/);
    assert.match(attempt(), hint);
    writeFileSync(join(native, 'build/addon.node'), 'rubbish');
    assert.match(attempt(), /does not load: .*(invalid ELF header|file too short)/);
    assert.match(attempt(), hint);
  }),
);

build('installing compiles nothing', () => {
  const { scripts, gypfile } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  for (const name of ['preinstall', 'install', 'postinstall']) assert.is(scripts[name], undefined, name);
  assert.not.match(scripts.prepare, /native|gyp/);
  // npm runs node-gyp by itself where it sees this file.
  assert.not(existsSync(join(root, 'binding.gyp')) || gypfile);
});

build('builds without a warning, needs nothing of the TCG software stack, and builds for musl', async () => {
  if (!(await needDebian(['gcc', 'libc6-dev', 'musl-tools', 'binutils'], ['cc', 'musl-gcc', 'readelf'])))
    return;
  await inFolder((folder) => {
    const libc: Record<string, [flags: string, library: RegExp]> = {
      cc: ['-Werror', /libc\.so\.6/],
      // The kernel's headers are behind those of musl.
      'musl-gcc': [
        '-Werror -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu',
        /\[libc\.so\]/,
      ],
    };
    for (const [CC, [CFLAGS, library]] of Object.entries(libc)) {
      const out = join(folder, `${CC}.node`);
      const env = { ...process.env, CC, CFLAGS };
      const { status, stderr } = spawnSync(process.execPath, [join(root, 'device/native/build.js'), out], {
        env,
        encoding: 'utf8',
      });
      assert.is(status, 0, stderr);
      const needed = spawnSync('readelf', ['-d', out], { encoding: 'utf8' }).stdout;
      assert.match(needed, library);
      assert.not.match(needed, /tss2|stdc\+\+|libnode/);
    }
  });
});

build('where it cannot be built, it says why', () =>
  inFolder((folder) => {
    cpSync(join(root, 'device/native/build.js'), join(folder, 'build.mjs'));
    const attempt = (env: Record<string, string>) =>
      spawnSync(process.execPath, [join(folder, 'build.mjs'), join(folder, 'out/addon.node')], {
        env: { ...process.env, ...env },
        encoding: 'utf8',
      });
    const none = attempt({ CC: 'no-such-compiler' });
    assert.is(none.status, 1);
    assert.match(none.stderr, /no-such-compiler does not run: ENOENT\nhint: Debian: apt-get install gcc/);
    const failing = attempt({ CC: 'false' });
    assert.is(failing.status, 1);
    assert.match(failing.stderr, /false ended with 1\nhint: /);
    rmSync(join(folder, 'out'), { recursive: true, force: true });
  }),
);

if (
  (await needAddon()) &&
  (await needDebian(['socat', 'libtss2-tctildr0', 'libtss2-tcti-device0', 'libtss2-tcti-swtpm0'], ['socat']))
)
  test.run();
build.run();
