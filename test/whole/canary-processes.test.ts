// deadline: 180 s
// The secrets of a real EVC and a real device, each a process of its own: looked for in all that they print, in their folders, in
// what they say of errors, and in the memory of EVC.
import { createPrivateKey } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Canary } from '../kit/canary.ts';
import { Running, runToEnd } from '../kit/process.ts';
import { scalarOf } from '../kit/recorded.ts';

const folder = mkdtempSync(join(tmpdir(), 'eve-canary-'));
test.after(() => rmSync(folder, { recursive: true }));

const complete = /"component":"attest-task".*"state":(\{)?"complete"/;
const [data, state] = [join(folder, 'evc'), join(folder, 'd')];
const storePassword = 'hunter2-and-more-of-it';

/** All that a process may write to, as a core dump would have it: region by region. */
function* memoryOf(pid: number): Generator<Buffer> {
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const [, from = '', to = ''] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? [];
      const [start, end] = [Number.parseInt(from, 16), Number.parseInt(to, 16)];
      if (!(end > start) || end - start > 2 ** 30) continue;
      const bytes = Buffer.alloc(end - start);
      try {
        yield bytes.subarray(0, readSync(memory, bytes, 0, bytes.length, start));
      } catch {
        // Mapped, and not there to be read.
      }
    }
  } finally {
    closeSync(memory);
  }
}

test('what EVC and a device print, keep and hold in memory shows no secret where it does not belong', async () => {
  const canary = new Canary();
  const said: Record<string, string> = {};
  const evcOf = async (name: string, args: readonly string[], env?: Record<string, string>) => {
    const { code, stdout, stderr } = await runToEnd('evc', args, { EVC_DATA: data, ...env });
    said[`evc ${name}`] = `${stdout}${stderr}`;
    assert.is(code === 0, !name.includes(', '), `evc ${name} ends with ${code}: ${stderr}`);
    return stdout;
  };
  await evcOf('init', ['init']);
  const receiver = http.createServer((_, response) => response.writeHead(204).end()).listen(0, '127.0.0.1');
  const evc = new Running('evc', ['serve', '--json', '--mqtt-port', '0', '--https-port', '0'], {
    EVC_DATA: data,
  });
  await evc.line(/"kind":"serving"/);
  await evcOf('key add', ['key', 'add', '--out', join(state, 'config'), '--serial', 'canary-1']);
  const { port } = receiver.address() as AddressInfo;
  const hook = JSON.parse(
    await evcOf('webhook add', ['webhook', 'add', `http://127.0.0.1:${port}/`, '--json']),
  ) as { secret: string };
  const viewer = JSON.parse(await evcOf('token add', ['token', 'add', 'wall', '--json'])) as {
    token: string;
  };
  await runToEnd('eve', ['image', 'create', join(folder, 'i'), '--version', '1.0.0']);
  const caughtFile = join(folder, 'caught');
  const eve = new Running('eve', ['run', '--json', '--state', state, '--image', join(folder, 'i')], {
    EVE_ATTEST_CAUGHT: caughtFile,
    NODE_OPTIONS: `--import tsx --import ${pathToFileURL(join(import.meta.dirname, '../kit/caught.ts')).href}`,
  });
  try {
    await eve.line(complete);
    const from = eve.lines.length;
    eve.process.kill('SIGHUP');
    await eve.line(complete, from);
    said['eve status'] = (await runToEnd('eve', ['status', '--state', state])).stdout;
    for (const [name, args] of Object.entries({
      'device show': ['device', 'show', 'canary-1', '--json'],
      status: ['status', '--json'],
      why: ['why', 'canary-1'],
      journal: ['journal', 'canary-1', '--json'],
      audit: ['audit', '--json'],
      'escrow check': ['escrow', 'check', '--json'],
      'webhook list': ['webhook', 'list', '--json'],
      'token list': ['token', 'list', '--json'],
      'key list': ['key', 'list', '--json'],
      doctor: ['doctor'],
      attempt: ['attempt', 'show', 'canary-1', 'last'],
      backup: ['backup', '-o', join(folder, 'backup.tar.gz')],
    }))
      await evcOf(name, args);
    const store = `postgres://evc:${storePassword}@127.0.0.1:1/evc`;
    await evcOf('store copy, to nobody', ['store', 'copy', '--to', store]);
    await evcOf('serve, its store being out of reach', ['serve', '--mqtt-port', '0'], { EVC_STORE: store });
    await evcOf('status, with a token that is none', ['status'], { EVC_TOKEN: `${viewer.token}x` });

    const secretsOf = (file: string) =>
      readFileSync(file, 'utf8')
        .trim()
        .split('\n')
        .map(
          (line) => [line.slice(0, line.lastIndexOf(' ')), line.slice(line.lastIndexOf(' ') + 1)] as const,
        );
    const device = secretsOf(caughtFile);
    assert.ok(device.length >= 4, 'a key that was made and unsealed, and tokens of two boots');
    for (const [what, hex] of device) canary.know(what, Buffer.from(hex, 'hex'));
    const inMemory = new Canary();
    for (const [what, hex] of device)
      if (what === 'a master key') inMemory.know(what, Buffer.from(hex, 'hex'));
    const keyIn = (path: string) => scalarOf(createPrivateKey(readFileSync(path)));
    canary.know('the onboarding key', keyIn(join(state, 'config/onboard.key.pem')));
    for (const name of ['root', 'signing', 'exchange', 'server'])
      canary.know('a key of EVC', keyIn(join(data, `pki/${name}.key.pem`)));
    canary.know('a key of EVC', readFileSync(join(data, 'pki/secret')));
    canary.know('the administrator’s token', readFileSync(join(data, 'token'), 'utf8').trim());
    canary.know('an API token', viewer.token);
    canary.know('a webhook secret', hook.secret);
    canary.know('a webhook secret', Buffer.from(hook.secret.slice('whsec_'.length), 'base64'));
    canary.know('the password of the store', storePassword);

    for (const bytes of memoryOf(evc.process.pid as number)) inMemory.search('the memory of EVC', bytes);
    assert.equal(inMemory.faults([]), []);
    assert.ok(inMemory.places.reduce((sum, { size }) => sum + size, 0) > 20 * 2 ** 20, 'its heap was read');

    const told: Record<string, string[]> = {
      'evc init': ['the administrator’s token'],
      'evc webhook add': ['a webhook secret'],
      'evc token add': ['an API token'],
    };
    for (const [name, text] of Object.entries(said)) canary.search(name, text, told[name] ?? []);
    canary.search('what EVC prints', evc.lines.join('\n'));
    canary.search('what the device prints', eve.lines.join('\n'));
    canary.search('a backup', gunzipSync(readFileSync(join(folder, 'backup.tar.gz'))), ['a key of EVC']);
    canary.searchFolder('EVC', data, (path) =>
      path === 'token' ? ['the administrator’s token'] : path.startsWith('pki/') ? ['a key of EVC'] : [],
    );
    canary.searchFolder('device', state, (path) =>
      path === 'config/onboard.key.pem'
        ? ['the onboarding key']
        : path.startsWith('run/tokens/')
          ? ['an integrity token']
          : [],
    );
    console.log(canary.figures('canaries of two processes'));
    console.log(inMemory.figures('canaries in memory'));
    assert.equal(
      canary.faults([
        'the administrator’s token in EVC/token',
        'a key of EVC in EVC/pki/root.key.pem',
        'a key of EVC in a backup',
        'the onboarding key in device/config/onboard.key.pem',
        'an integrity token in device/run/tokens/',
        'a webhook secret in evc webhook add',
        'an API token in evc token add',
      ]),
      [],
    );
  } finally {
    receiver.close();
    await eve.stop();
    await evc.stop();
  }
});

test.run();
