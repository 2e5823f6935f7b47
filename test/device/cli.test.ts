// deadline: 120 s
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { tpmText } from '../../device/cli/open-tpm.ts';
import { foldersOf, locationOf, tpmSpecOf } from '../../device/options.ts';
import { Tpm } from '../../device/tpm/tpm.ts';
import { openSwtpm } from '../../device/tpm/transports/swtpm.ts';
import { parseLog } from '../../formats/eventlog/parse.ts';
import { Running, runToEnd } from '../kit/process.ts';

const folder = mkdtempSync(join(tmpdir(), 'eve-cli-'));
test.after(() => rmSync(folder, { recursive: true }));

test('--help names every command, the exit codes and an example', async () => {
  const { code, stdout } = await runToEnd('eve', ['--help']);
  assert.is(code, 0);
  for (const command of ['run', 'install', 'status', 'doctor', 'image', 'tpm']) {
    assert.match(stdout, new RegExp(`^  ${command}\\b`, 'm'));
  }
  assert.match(stdout, 'Exit codes: 0 done, 1 failed');
});

test('a reader that goes away is no failure', async () => {
  const eve = new Running('eve', ['--help']);
  eve.process.stdout?.destroy();
  assert.is(await eve.ended, 0, eve.lines.join('\n'));
  assert.equal(eve.lines, []);
});

const state = join(folder, 'd');
const failing: [args: string[], code: number, says: RegExp][] = [
  [['frobnicate'], 2, /unknown command/],
  [['image', 'create', join(folder, 'x')], 2, /--version/],
  [
    ['image', 'create', join(folder, 'x'), '--version', '1', '--selftest', 'sings'],
    2,
    /known: passes, fails, hangs/,
  ],
  [
    ['image', 'create', join(folder, 'x'), '--version', '1', '--recorded', 'mine'],
    2,
    /known: bios-setup\.before/,
  ],
  [['image', 'create', join(folder, 'x'), '--version', '../1'], 1, /needs version/],
  [
    ['install', '--image', join(folder, 'none'), '--state', state],
    1,
    /image\.json: is missing.*\nhint: make one with/,
  ],
  [['run', '--state', state], 1, /root-certificate\.pem.*\nhint: .*evc key add/],
  [
    ['run', '--state', state, '--board', 'emulated', '--tpm', 'device:/dev/tpmrm0'],
    2,
    /an emulated board turns its TPM off and on.*\nhint: use --tpm wasm:FILE/,
  ],
  [['run', '--state', state, '--board', 'real', '--tpm', 'wasm:'], 2, /has measured no boot of this machine/],
  [['run', '--state', state, '--board', 'cardboard'], 2, /known: real, emulated/],
  [['run', '--state', state, '--platform', '/none'], 2, /--platform is for a real board/],
  [['run', '--state', state, '--board', 'real'], 1, /root-certificate\.pem.*\nhint: .*evc key add/],
  [['run', '--state', state, '--tpm', 'abacus'], 2, /known: device:\/dev\/tpmrm0, .*wasm:FILE/],
  [['tpm', 'info', '--tpm', 'swtpm:port=0'], 2, /no port.*\nhint: write it as swtpm:host=127/],
  [['tpm', 'info', '--tpm', 'swtpm:hots=x'], 2, /what is hots\?/],
  [['tpm', 'info', '--tpm', 'device:/dev/none'], 1, /\/dev\/none: ENOENT.*\nhint: turn the TPM on/],
  [['tpm', 'info', '--tpm', 'mssim:port=1'], 1, /no TPM at 127\.0\.0\.1:1: ECONNREFUSED/],
  [['run', '--state', state, '--location', 'here'], 2, /--location here: no place.*\nhint: write it as gpsd/],
  [['run', '--state', `/tmp/${'long'.repeat(40)}`], 2, /too long for a Unix socket/],
  [
    ['run', 'choir', '--state', state],
    2,
    /there is no component choir\b.*\nhint: known: device-steps, client/s,
  ],
  [['status', '--state', state], 1, /no device runs in .*\nhint: start one with: eve run/],
  [['tpm', 'serve', '--protocol', 'carrier-pigeon'], 2, /known: swtpm, mssim/],
  [['tpm', 'serve', '--port', '70000'], 2, /no port/],
];

for (const [args, code, says] of failing) {
  test(`eve ${args.join(' ').replaceAll(folder, '').slice(0, 60)} ends with ${code} and a reason`, async () => {
    const ended = await runToEnd('eve', args);
    assert.match(ended.stderr, says);
    assert.is(ended.code, code);
  });
}

test('a state folder that is a file, and a TPM state that is none', async () => {
  const file = join(folder, 'file');
  writeFileSync(file, '');
  const inFile = await runToEnd('eve', ['run', '--state', file]);
  assert.is(inFile.code, 1);
  assert.match(inFile.stderr, /\[(ENOTDIR|EEXIST)\]\nhint: a file stands where a folder belongs/);
});

test('images are packed to the same bytes, and measured once for each slot', async () => {
  const digests = [];
  for (const name of ['one', 'two']) {
    const directory = join(folder, name);
    await runToEnd('eve', ['image', 'create', directory, '--version', '1.0.0', '--selftest', 'passes']);
    const packed = await runToEnd('eve', ['image', 'pack', directory, '-o', `${directory}.tar`]);
    assert.is(packed.code, 0, packed.stderr);
    digests.push(readFileSync(`${directory}.tar`));
  }
  assert.equal(digests[0], digests[1]);
  const { code, stdout } = await runToEnd('eve', [
    'image',
    'measure',
    join(folder, 'one'),
    '-o',
    join(folder, 'logs'),
  ]);
  assert.is(code, 0);
  const files = stdout.trim().split('\n');
  assert.is(files.length, 2);
  const [first, second] = files.map((file) => readFileSync(file));
  assert.ok(first && second && parseLog(first).events.length > 10);
  assert.not.equal(first, second);
});

test('install puts an image into the first slot', async () => {
  const { code, stdout } = await runToEnd('eve', [
    'install',
    '--image',
    join(folder, 'one'),
    '--state',
    state,
  ]);
  assert.is(code, 0);
  assert.match(stdout, 'slot IMGA');
  assert.ok(existsSync(join(state, 'persist/slots/IMGA/kernel')));
});

test('a damaged slot table is named, and what to do', async () => {
  const damaged = join(folder, 'damaged');
  await runToEnd('eve', ['install', '--image', join(folder, 'one'), '--state', damaged]);
  mkdirSync(join(damaged, 'config'), { recursive: true });
  writeFileSync(join(damaged, 'persist/slots/slots.json'), 'x');
  const root = readFileSync('test/fixtures/eventlog/ovmf/issuercert.pem');
  writeFileSync(join(damaged, 'config/root-certificate.pem'), root);
  writeFileSync(join(damaged, 'config/server'), 'mqtts://localhost:9\n');
  const { code, stderr } = await runToEnd('eve', ['run', '--state', damaged]);
  assert.is(code, 1);
  assert.match(stderr, /slots\.json and its backup are both damaged; .*\[state\.broken\]/);
});

test('eve tpm serve speaks swtpm, with power and locality', async () => {
  const served = new Running('eve', ['tpm', 'serve', '--port', '0', '--json']);
  try {
    const { tcti } = JSON.parse(await served.line(/tcti/)) as { tcti: string };
    const port = Number(/port=(\d+)/.exec(tcti)?.[1]);
    const chip = await openSwtpm({ port });
    assert.is(chip.powered, false);
    await chip.powerOn();
    const tpm = new Tpm(chip);
    await tpm.startup();
    await tpm.pcrExtend(0, { sha256: new Uint8Array(32).fill(1) });
    const extended = (await tpm.pcrRead('sha256', [0])).get(0);
    assert.not.equal(extended, new Uint8Array(32));
    await chip.powerOff();
    await chip.powerOn();
    await tpm.startup();
    // The power was gone, so PCR 0 starts anew.
    assert.equal((await tpm.pcrRead('sha256', [0])).get(0), new Uint8Array(32));
    await chip.close();
  } finally {
    assert.is(await served.stop(), 0);
  }
});

test('places and folders are read as they are meant', async () => {
  const fix = await locationOf('52.5,13.4,20')?.();
  assert.equal([fix?.latitude, fix?.longitude, fix?.accuracy], [52.5, 13.4, 20]);
  const file = join(folder, 'place');
  const moving = locationOf(`@${file}`);
  assert.is(await moving?.(), null);
  writeFileSync(file, '1,2\n');
  assert.is((await moving?.())?.latitude, 1);
  writeFileSync(file, 'nonsense');
  assert.is(await moving?.(), null);
  for (const wrong of ['1', '91,0', '0,181', '1,2,-3', '1,2,3,4', ''])
    assert.throws(() => locationOf(wrong), /no place/);
  assert.equal(foldersOf({}), { config: '/config', persist: '/persist', run: '/run/eve' });
  assert.is(foldersOf({ state: '/s', run: '/r' }).run, '/r');
});

test('each kind of TPM is read as tpm2-tools write it', () => {
  const folders = foldersOf({ state: '/s' });
  const read = (text: string) => tpmSpecOf(text, folders);
  assert.equal(read('wasm'), { kind: 'wasm', file: '/s/persist/tpm.nv' });
  assert.equal(read('wasm:/x'), { kind: 'wasm', file: '/x' });
  assert.equal(read('device:'), { kind: 'device', path: '/dev/tpmrm0' });
  assert.equal(read('file:/dev/tpm1'), { kind: 'file', path: '/dev/tpm1' });
  assert.equal(read('swtpm:'), { kind: 'swtpm', address: { host: '127.0.0.1', port: 2321 } });
  assert.equal(read('swtpm:host=::1,port=1'), { kind: 'swtpm', address: { host: '::1', port: 1 } });
  assert.equal(read('swtpm:path=/x'), { kind: 'swtpm', address: { path: '/x' } });
  assert.equal(read('mssim:port=7'), { kind: 'mssim', address: { host: '127.0.0.1', port: 7 } });
  assert.equal(read('tabrmd:bus_type=session'), { kind: 'tabrmd', conf: 'bus_type=session' });
  for (const text of ['wasm:/x', 'device:/dev/tpmrm0', 'swtpm:path=/x', 'swtpm:host=h,port=9', 'tabrmd:'])
    assert.is(tpmText(read(text)), text);
  for (const wrong of ['', 'device2:', 'swtpm:port=x', 'swtpm:port=65535', 'mssim:nope', 'cmd:true'])
    assert.throws(() => read(wrong), /no such kind|no port|what is/);
});

test.run();
