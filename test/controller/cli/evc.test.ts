// deadline: 240 s
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { explain } from '../../../controller/cli/failure.ts';
import { ageOf, painter, table, wrap } from '../../../controller/cli/print.ts';
import { StoreError } from '../../../controller/store/store.ts';
import { Running, runToEnd } from '../../kit/process.ts';

const folder = mkdtempSync(join(tmpdir(), 'evc-cli-'));
const data = join(folder, 'evc');
test.after(() => rmSync(folder, { recursive: true }));

test('--help names every command, the exit codes and an example', async () => {
  const { code, stdout } = await runToEnd('evc', ['--help']);
  assert.is(code, 0);
  const commands =
    'up init serve status device why journal events audit accept accept-place try retire reenrol upgrade rollout move rotate account key token oidc session webhook ek-root image firmware signer allow attempt record eventlog quote store backup restore escrow doctor broker replay completion';
  for (const command of commands.split(' ')) assert.match(stdout, new RegExp(`^  ${command}\\b`, 'm'));
  assert.match(stdout, 'Exit codes: 0 done, 1 failed, 2 wrong usage, 3 EVC is out of reach, 4 EVC refused');
});

const wrong: [args: string[], says: RegExp][] = [
  [['frobnicate'], /unknown command/],
  [['accept'], /a device, or --filter/],
  [['eventlog', 'frobnicate'], /unknown command/],
  [['store', 'copy'], /--to <url>/],
  [['upgrade', 'edge-01'], /a device and a version, or --filter/],
  [['upgrade', '1.0.0', '--filter', 'x', '--stages', 'some'], /some is no percentage/],
  [['completion', 'fish'], /Allowed choices are bash, zsh/],
  [['retire', 'edge-01'], /--reason/],
  [['token', 'add', 'x', '--role', 'owner'], /Allowed choices are viewer, operator, admin/],
  [['key', 'add', '--out', folder, '--limit', 'all'], /--limit all/],
  [['serve', '--mqtt-port', 'x', '--data', data], /no port/],
  [['upgrade', 'a', 'b', '--window', 'soon'], /no length of time/],
  [['account', 'set', 'a', '--location-lock', 'maybe'], /--location-lock/],
  [['account', 'set', 'a', '--require-ek-certificate', 'maybe'], /--require-ek-certificate maybe/],
  [['try', 'trust:uud'], /nothing to try/],
  [['try', '--accept', 'a', '--accept-shown'], /cannot be used with option/],
  [['up', '--story', 'fairy-tale'], /there is no story/],
];

test('init makes everything once, and changes nothing again', async () => {
  const first = await runToEnd('evc', ['init', '--data', data, '--json']);
  assert.is(first.code, 0, first.stderr);
  const { token } = JSON.parse(first.stdout) as { token: string };
  assert.is(readFileSync(join(data, 'token'), 'utf8').trim(), token);
  const keys = readFileSync(join(data, 'pki/root.key.pem'));
  const second = await runToEnd('evc', ['init', '--data', data]);
  assert.is(second.code, 0);
  assert.match(second.stdout, 'set up already; nothing was changed');
  assert.not.match(second.stdout, token);
  assert.equal(readFileSync(join(data, 'pki/root.key.pem')), keys);
});

for (const [args, says] of wrong) {
  test(`evc ${args.slice(0, 3).join(' ')} is wrong usage`, async () => {
    const { code, stderr } = await runToEnd('evc', args, { EVC_DATA: data });
    assert.is(code, 2, stderr);
    assert.match(stderr, says);
  });
}

test('EVC out of reach has a code of its own, and a hint', async () => {
  const { code, stderr } = await runToEnd('evc', ['status', '--data', data, '--url', 'https://localhost:9']);
  assert.is(code, 3);
  assert.match(stderr, /\[evc\.unreachable\]\nhint: .*evc serve/);
});

test('no data folder: what is missing, and how it is made', async () => {
  for (const args of [['serve'], ['status']]) {
    const { code, stderr } = await runToEnd('evc', [...args, '--data', join(folder, 'none')]);
    assert.is(code, 1);
    assert.match(
      stderr,
      /no data folder of EVC {2}\[data\.missing\]\nhint: set one up with: evc init --data/,
    );
  }
});

test('a clock that is not set: EVC is neither made nor run by it, and runs once it is', async () => {
  const path = join(folder, 'unset');
  // The clock as a program sees it; nothing else of the machine knows.
  const at = (ms: number) => ({
    NODE_OPTIONS: `--import data:text/javascript,const{now}=Date;const%20began=now();Date.now=()=>${ms}+now()-began`,
  });
  const init = await runToEnd('evc', ['init', '--data', path], at(0));
  assert.is(init.code, 1);
  assert.match(init.stderr, /the clock of this machine says 1970-01-01T.*\[clock\.unset\]\nhint: set it/);
  assert.not(existsSync(path));
  await runToEnd('evc', ['init', '--data', path]);
  const serve = ['serve', '--data', path, '--mqtt-port', '0', '--https-port', '0'];
  for (const unset of [0, Date.now() - 2 * 86_400_000]) {
    const { code, stderr } = await runToEnd('evc', serve, at(unset));
    assert.is(code, 1);
    assert.match(stderr, /its own root was made after that.*\[clock\.unset\]/);
  }
  const renewal = await runToEnd('evc', ['certificates', 'renew', '--data', path], at(0));
  assert.is(renewal.code, 1);
  assert.match(renewal.stderr, /\[certificates\.clock\]/);
});

test('a port in use is named, with the option that chooses another', async () => {
  const taken = net.createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  const port = `${(taken.address() as net.AddressInfo).port}`;
  for (const [option, other] of [
    ['--mqtt-port', '--https-port'],
    ['--https-port', '--mqtt-port'],
  ] as const) {
    const { code, stderr } = await runToEnd('evc', ['serve', '--data', data, option, port, other, '0']);
    assert.is(code, 1);
    assert.match(stderr, new RegExp(`port ${port} on 127\\.0\\.0\\.1 is taken .*${option}.*EADDRINUSE`));
    assert.match(stderr, 'hint: ');
  }
  await new Promise((resolve) => taken.close(resolve));
});

const broken: [what: string, breakIt: (path: string) => void, code: string][] = [
  [
    'a store that is none',
    (path) => writeFileSync(join(path, 'evc.db'), 'no database, and long enough to be looked at'.repeat(50)),
    'store.broken',
  ],
  ['a key that is none', (path) => writeFileSync(join(path, 'pki/signing.key.pem'), 'x'), 'data.keys-broken'],
  ['a token hash that is none', (path) => writeFileSync(join(path, 'token.hash'), 'x'), 'data.token-broken'],
  ['hosts that are none', (path) => writeFileSync(join(path, 'hosts.json'), '{'), 'data.broken'],
];

for (const [what, breakIt, reason] of broken) {
  test(`serve on a broken folder: ${what}`, async () => {
    const path = mkdtempSync(join(folder, 'broken-'));
    await runToEnd('evc', ['init', '--data', path]);
    breakIt(path);
    const { code, stderr } = await runToEnd('evc', [
      'serve',
      '--data',
      path,
      '--mqtt-port',
      '0',
      '--https-port',
      '0',
    ]);
    assert.is(code, 1);
    assert.match(stderr, `[${reason}]\nhint: `);
  });
}

test('a folder that is a file', async () => {
  const path = join(folder, 'file');
  writeFileSync(path, '');
  chmodSync(path, 0o600);
  const { code, stderr } = await runToEnd('evc', ['init', '--data', path]);
  assert.is(code, 1);
  assert.match(stderr, /\[(EEXIST|ENOTDIR)\]\nhint: a file stands where a folder belongs/);
});

test('a full disk says that nothing is lost', () => {
  const full = explain(
    Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' }),
  );
  assert.match(full.hint, 'what was stored is safe');
  assert.is(explain(new StoreError('full', 'the disk is full')).code, 'store.full');
});

test('doctor says what is wrong and what to do, whether EVC runs or not', async () => {
  const none = await runToEnd('evc', ['doctor', '--data', join(folder, 'none')]);
  assert.is(none.code, 1);
  assert.match(none.stdout, /^✗ data folder +.*\n +hint: evc init --data/m);
  const down = await runToEnd('evc', ['doctor', '--data', data]);
  assert.is(down.code, 1);
  assert.match(down.stdout, /^✓ data folder/m);
  assert.match(down.stdout, /^✓ server certificate +good for 39\dd/m);
  assert.match(down.stdout, /^✓ store +in order/m);
  assert.match(down.stdout, /^✓ name +localhost is /m);
  assert.match(down.stdout, /^✗ service +EVC at .* is out of reach/m);
  const key = join(data, 'pki/root.key.pem');
  chmodSync(key, 0o644);
  const open = await runToEnd('evc', ['doctor', '--data', data, '--json']);
  chmodSync(key, 0o600);
  const findings = JSON.parse(open.stdout) as { what: string; state: string; text: string }[];
  assert.is(findings.find(({ what }) => what === 'data folder')?.state, 'bad');
});

test('an operator’s day over the API', async () => {
  const evc = new Running('evc', ['serve', '--data', data, '--mqtt-port', '0', '--https-port', '0']);
  const ask = (...args: string[]) => runToEnd('evc', args, { EVC_DATA: data });
  try {
    await evc.line(/serves devices at mqtts:\/\/localhost:\d+ and people at https:\/\/localhost:\d+/);
    assert.match((await ask('status')).stdout, 'no device is registered yet');
    const well = await ask('doctor');
    assert.is(well.code, 0, well.stdout);
    assert.match(well.stdout, /^✓ service +answers at https:/m);
    assert.match(well.stdout, /^✓ token +admin, admin$/m);
    assert.match(well.stdout, /^0 wrong, \d to look at$/m);
    assert.match(
      (await ask('account', 'add', 'plant', '--kind', 'manufacturing')).stdout,
      'account plant: manufacturing',
    );
    assert.match((await ask('account', 'set', 'plant', '--location-lock', 'on')).stdout, 'Location-Lock on');
    assert.match(
      (await ask('account', 'list')).stdout,
      /^plant +manufacturing +on +100 m +report +optional +off$/m,
    );
    assert.match(
      (await ask('account', 'set', 'plant', '--require-ek-certificate', 'on')).stdout,
      'TPMs of known vendors alone',
    );
    assert.match((await ask('ek-root', 'list')).stdout, 'no vendor of TPMs is known');
    const roots = join(import.meta.dirname, '../../fixtures/endorsement');
    const believed = await ask(
      'ek-root',
      'add',
      join(roots, 'swtpm-localca-rootca-cert.pem'),
      join(roots, 'issuercert.pem'),
    );
    assert.match(believed.stdout, /^root [0-9a-f]{8}….*CN=swtpm-localca-rootca: believed$/m, believed.stderr);
    assert.match(believed.stdout, /0 enrolled devices judged otherwise now$/m);
    const listed = await ask('ek-root', 'list');
    assert.match(listed.stdout, /^[0-9a-f]{8}….* root +9999-12-31 +CN=swtpm-localca-rootca$/m);
    assert.match(listed.stdout, /intermediate +9999-12-31 +CN=swtpm-localca$/m);
    const { roots: known } = JSON.parse((await ask('ek-root', 'list', '--json')).stdout);
    assert.match((await ask('ek-root', 'remove', known[0].id.slice(0, 12))).stdout, 'believed no more');
    const gone = await ask('ek-root', 'remove', known[0].id);
    assert.is(gone.code, 4);
    assert.match(gone.stderr, '[roots.unknown]\nhint: evc ek-root list');
    const none = await ask('ek-root', 'add', join(roots, 'README.md'));
    assert.is(none.code, 4);
    assert.match(none.stderr, '[roots.unusable]');
    const again = await ask('account', 'add', 'plant');
    assert.is(again.code, 4);
    assert.match(again.stderr, '[account.exists]');
    const key = await ask(
      'key',
      'add',
      '--out',
      join(folder, 'config'),
      '--account',
      'plant',
      '--serial',
      's-1',
    );
    assert.is(key.code, 0, key.stderr);
    assert.match(readFileSync(join(folder, 'config/server'), 'utf8'), /^mqtts:\/\/localhost:\d+\n$/);
    assert.is(readFileSync(join(folder, 'config/soft_serial'), 'utf8'), 's-1\n');
    const unknown = await ask('why', 'nobody');
    assert.is(unknown.code, 4);
    assert.match(unknown.stderr, '[device.unknown]\nhint: evc status lists the devices');
    const wrongToken = await runToEnd('evc', ['status'], { EVC_DATA: data, EVC_TOKEN: 'wrong' });
    assert.is(wrongToken.code, 4);
    assert.match(wrongToken.stderr, '[auth.wrong]');
    for (const [image, made] of [
      [
        'i',
        await runToEnd('eve', [
          'image',
          'create',
          join(folder, 'i'),
          '--version',
          '1.0.0',
          '--pack',
          join(folder, 'i.tar'),
          '--measure',
          join(folder, 'logs'),
        ]),
      ],
    ] as const)
      assert.is(made.code, 0, `${image} ${made.stderr}`);
    const logs = ['1', '2'].map((slot) => join(folder, `logs/1.0.0.${slot}.log`));
    const added = await ask('image', 'add', '1.0.0', '--file', join(folder, 'i.tar'), '--log', ...logs);
    assert.match(added.stdout, /image 1\.0\.0: \d+ measurements, \d+ bytes/, added.stderr);
    assert.match((await ask('image', 'list', '--json')).stdout, '"version":"1.0.0"');
    const noLog = await ask('image', 'add', '2.0.0', '--log', join(folder, 'i.tar'));
    assert.is(noLog.code, 4);
    assert.match(noLog.stderr, '[catalogue.log]');
    const noFile = await ask('image', 'add', '2.0.0', '--log', join(folder, 'nothing'));
    assert.is(noFile.code, 1);
    assert.match(noFile.stderr, '[ENOENT]');
  } finally {
    assert.is(await evc.stop(), 0);
  }
});

test('tables fit 80 columns, and colour is for terminals alone', () => {
  const text = table(['A', 'B'], [['x'.repeat(30), 'y'.repeat(100)]]);
  for (const line of text.split('\n')) assert.ok(line.length <= 80, line);
  // What a device says must not steer the terminal of whoever reads it.
  assert.is(table(['A'], [['\u001b[2Jx\u202ey']]), 'A\n [2Jx y');
  assert.equal(wrap('a\u001b]0;t\u0007 b', '  '), ['  a ]0;t  b']);
  assert.is(painter({ isTTY: false })('red', 'x'), 'x');
  const before = process.env.NO_COLOR;
  process.env.NO_COLOR = '1';
  assert.is(painter({ isTTY: true })('red', 'x'), 'x');
  delete process.env.NO_COLOR;
  assert.is(painter({ isTTY: true })('red', 'x'), '\u001b[31mx\u001b[0m');
  if (before !== undefined) process.env.NO_COLOR = before;
  assert.is(ageOf(3 * 3_600_000 + 12 * 60_000), '3h 12m');
});

test.run();
