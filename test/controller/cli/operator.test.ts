// deadline: 300 s
// The command against a running EVC: a person's day, with a device that is trusted and one that is not.
import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { listId } from '../../../controller/cli/accept.ts';
import { completionScript } from '../../../controller/cli/completion.ts';
import { webhooksText } from '../../../controller/cli/webhooks.ts';
import { ApiBench } from '../../kit/api.ts';
import { escrowKey } from '../../kit/controller.ts';
import { Running, runToEnd } from '../../kit/process.ts';

const bench = await ApiBench.open();
const { evc } = bench.evc;
const { uud, trusted, board } = await bench.devices();
const folder = mkdtempSync(join(tmpdir(), 'evc-operator-'));
const root = join(folder, 'root.pem');
writeFileSync(root, bench.root);
test.after(async () => {
  await bench.close();
  await board.close();
  rmSync(folder, { recursive: true });
});

const where = ['--url', bench.url, '--root', root];
const evcAs = (token: string) =>
  async function run(...args: string[]) {
    const ended = await runToEnd('evc', [...args, ...where], { EVC_TOKEN: token });
    for (const line of ended.stdout.split('\n'))
      assert.ok(
        [...line].length <= 80 || /^\{|^\[|^evc_|--list|^(states|device) /.test(line),
        `80 columns: ${line}`,
      );
    return ended;
  };
const admin = evcAs(bench.admin);

test('status lists devices by a filter, and says where a filter is none', async () => {
  const all = await admin('status');
  assert.match(all.stdout, /^edge-01 +✗ UUD +1\.0\.0 .*PCR \d/m, all.stderr);
  assert.match(all.stdout, /^2 devices: (1 trusted, 1 UUD|1 UUD, 1 trusted)$/m);
  const some = await admin('status', 'trust:uud -label:lab');
  assert.match(some.stdout, /^1 device: 1 UUD$/m);
  const rows = JSON.parse((await admin('status', 'trust:trusted', '--json')).stdout) as { serial: string }[];
  assert.equal(
    rows.map(({ serial }) => serial),
    ['edge-02'],
  );
  const wrong = await admin('status', 'trust:good');
  assert.is(wrong.code, 4);
  assert.match(wrong.stderr, /trust: good is none.*\[filter\.invalid\]\nhint: evc status --help/);
});

test('what an acceptance would change is shown, and nothing is done without a reason', async () => {
  const shown = await admin('accept', 'edge-01');
  assert.is(shown.code, 0, shown.stderr);
  assert.match(shown.stdout, /image +1\.0\.0 → 6\.6\.6/);
  assert.match(shown.stdout, /PCR \d+ +[0-9a-f]{8}…[0-9a-f]{4} → [0-9a-f]{8}…[0-9a-f]{4}/);
  assert.match(shown.stdout, /log\.kernel-changed +PCR 9/);
  assert.match(shown.stdout, 'nothing was done; to accept it: evc accept edge-01 --reason');
  assert.is((await evc.runner.read(uud.id))?.context.acceptance, null);
  const trusted = await admin('accept', 'edge-02', '--reason', 'x');
  assert.is(trusted.code, 4);
  assert.match(trusted.stderr, '[device.nothing-to-accept]');
});

test('what an acceptance, another policy or an image would do is listed, and nothing is done', async () => {
  const tried = await admin('try', 'serial:edge-*', '--accept', 'edge-01');
  assert.is(tried.code, 0, tried.stderr);
  assert.match(
    tried.stdout,
    /^edge-01 +[0-9a-f]{8} +.* ago +policy\.software\.unknown +trusted \(acceptance\)\n1 of 3 verdicts of 2 devices/m,
  );
  assert.match(tried.stdout, '1 trusted that is refused, 0 refused that are trusted; nothing was done');
  assert.is((await evc.runner.read(uud.id))?.context.acceptance, null);
  const { attempt = '' } = (await evc.runner.read(uud.id))?.context.verdict ?? {};
  const policy = join(folder, 'policy.json');
  writeFileSync(policy, JSON.stringify({ baseline: { attempt } }));
  const harm = await admin('try', 'trust:uud', '--policy', policy, '--attempts', '8', '--json');
  assert.is(harm.code, 1, 'something that is trusted would be refused');
  const { verdicts } = JSON.parse(harm.stdout) as { verdicts: { changes: boolean; before: object }[] };
  assert.equal(
    verdicts.map(({ changes }) => changes),
    [true, true],
  );
  const [{ bytes } = { bytes: new Uint8Array() }] = (await board.present()).boot.logs;
  writeFileSync(join(folder, 'boot.log'), bytes);
  writeFileSync(policy, JSON.stringify({ upgrade: { to: '1.0.0', logs: ['boot.log'] } }));
  const pushed = await admin('try', '--policy', policy, '--all', '--attempts', '1');
  assert.match(pushed.stdout, /policy\.software\.unknown +policy\.upgrade\.other/, pushed.stderr);
  assert.match(pushed.stdout, /the same$/m);
  writeFileSync(policy, JSON.stringify({ location: { radius: -1 } }));
  const wrong = await admin('try', '--policy', policy);
  assert.is(wrong.code, 2);
  assert.match(wrong.stderr, /policy\.json is no policy: location\.radius: .* {2}\[input\.policy\]/);
  assert.match((await admin('try', '--image', '7.7.7')).stderr, '[image.unknown]');
});

test('many are accepted by the list that was shown alone', async () => {
  const shown = await admin('accept', '--filter', 'trust:uud', '--reason', 'ours');
  const [, list = ''] = /list ([0-9a-f]{8});/.exec(shown.stdout) ?? [];
  assert.match(shown.stdout, /^edge-01 +factory +1\.0\.0 +6\.6\.6 +\d/m);
  assert.match(shown.stdout, `--list ${list}`);
  const other = await admin('accept', '--filter', 'trust:uud', '--list', '00000000', '--reason', 'ours');
  assert.is(other.code, 1);
  assert.match(other.stderr, `that is ${list}  [precondition.failed]`);
  assert.is((await evc.runner.read(uud.id))?.context.acceptance, null);
  const done = await admin('accept', '--filter', 'trust:uud', '--list', list, '--reason', 'ours');
  assert.match(done.stdout, '1 accepted, 0 refused', done.stderr);
  assert.is((await evc.runner.read(uud.id))?.context.acceptance?.reason, 'ours');
  const none = await admin('accept', '--filter', 'trust:umd');
  assert.match(none.stderr, '[device.nothing-to-accept]');
});

test('the list of other evidence is another list', () => {
  const one = { device: 'a', attempt: '1' };
  const two = { device: 'b', attempt: '2' };
  assert.is(listId([one, two]), listId([two, one]));
  assert.is.not(listId([one, two]), listId([one, { ...two, attempt: '3' }]));
  assert.is.not(listId([one, two]), listId([one]));
});

test('an image goes to many by the list that was shown alone, and how far it is is shown', async () => {
  const [{ bytes } = { bytes: new Uint8Array() }] = (await board.present()).boot.logs;
  const file = join(folder, 'image');
  writeFileSync(file, 'an image');
  await evc.curator.addImage({ version: '2.0.0', logs: [bytes], file: { path: file } });
  const many = ['upgrade', '2.0.0', '--filter', 'serial:edge-*', '--stages', '50%,all', '--reason', 'fixes'];
  const shown = await admin(...many);
  const [, list = ''] = /2 devices, list ([0-9a-f]{8});/.exec(shown.stdout) ?? [];
  assert.ok(list !== '', shown.stdout + shown.stderr);
  assert.equal(await evc.rollouts.list(), []);
  assert.match((await admin(...many, '--list', '00000000')).stderr, '[precondition.failed]');
  const begun = await admin(...many, '--list', list);
  const [, id = ''] = /^roll-out ([0-9a-f]{8}): 2\.0\.0 to 2 devices, 50 %, 100 %$/m.exec(begun.stdout) ?? [];
  await evc.rollouts.look();
  assert.match(
    (await admin('rollout', 'list')).stdout,
    new RegExp(`^${id} +2\\.0\\.0 .* running +50 % +0 of 2 done`, 'm'),
  );
  assert.match((await admin('rollout', 'show', id)).stdout, /assigned$/m);
  assert.match(
    (await admin('rollout', 'stop', id, '--reason', 'wait')).stdout,
    `${id} stopped: 0 of 2 done, 1 under way`,
  );
  const again = await admin('rollout', 'stop', id, '--reason', 'wait');
  assert.match(again.stderr, '[rollout.not-so]');
  assert.match((await admin('status', 'upgrade:2.0.0')).stdout, /^1 device/m);
});

test('keys in escrow go into a file for one key alone, and come back where the store lost one', async () => {
  const good = await escrowKey(bench.evc, trusted, 'k');
  const { publicKey, privateKey } = generateKeyPairSync('x25519');
  const [to, key, out] = [join(folder, 'safe.pub.pem'), join(folder, 'safe.pem'), join(folder, 'keys.jwe')];
  writeFileSync(to, publicKey.export({ type: 'spki', format: 'pem' }));
  writeFileSync(key, privateKey.export({ type: 'pkcs8', format: 'pem' }));
  const exported = await admin('escrow', 'export', '--to', to, '-o', out, '--json');
  assert.equal(JSON.parse(exported.stdout), { out, devices: 2, keys: 1, lost: 0 }, exported.stderr);
  assert.is(statSync(out).mode & 0o777, 0o600);
  const row = { device: trusted.id, version: 1, keyId: 'k', at: 7 };
  assert.ok(await evc.store.restoreEscrow({ ...row, box: Uint8Array.of(7) }, good));
  assert.is((await admin('escrow', 'check')).code, 1);
  const shown = await admin('escrow', 'restore', out, '--key', key);
  assert.match(shown.stdout, /^[0-9a-f]{8}….* version 1 +would come back$/m, shown.stderr);
  assert.match(shown.stdout, 'nothing was done; to put 1 back, say why with --reason');
  const done = await admin('escrow', 'restore', out, '--key', key, '--reason', 'the disk was lost');
  assert.match(done.stdout, 'of 1 key, 0 there, 1 came back', done.stderr);
  assert.is((await admin('escrow', 'check')).code, 0);
  const wrong = await admin('escrow', 'restore', out, '--key', to);
  assert.match(wrong.stderr, '[export.key]');
  assert.is(wrong.code, 2);
  writeFileSync(key, generateKeyPairSync('x25519').privateKey.export({ type: 'pkcs8', format: 'pem' }));
  assert.match((await admin('escrow', 'restore', out, '--key', key)).stderr, '[export.other-key]');
  const ann = evcAs(await bench.token('ben', 'operator'));
  assert.match((await ann('escrow', 'export', '--to', to, '-o', join(folder, 'none'))).stderr, '[auth.role]');
  assert.is(existsSync(join(folder, 'none')), false);
});

test('accounts, labels, locks and places', async () => {
  await admin('account', 'add', 'plant', '--approval', 'on');
  assert.match(
    (await admin('account', 'list')).stdout,
    /^plant +production +off +100 m +report +optional +on$/m,
  );
  assert.is((await admin('device', 'label', 'edge-02', 'lab', 'hall-1')).stdout, 'edge-02: hall-1, lab\n');
  assert.match((await admin('status', 'label:hall-*')).stdout, /^1 device/m);
  assert.match((await admin('device', 'settings', 'edge-02')).stdout, /^account +factory\nhostname +eve-/m);
  const set = await admin('device', 'settings', 'edge-02', 'timer.config.interval=60', 'debug=a=b');
  assert.match(set.stdout, /^debug +a=b\nhostname .*\ntimer\.config\.interval +60$/m, set.stderr);
  const unset = await admin('device', 'settings', 'edge-02', '--unset', 'debug');
  assert.not.match(unset.stdout, 'debug');
  const json = JSON.parse((await admin('device', 'settings', 'edge-02', '--json')).stdout);
  assert.equal(Object.keys(json).sort(), ['account', 'hostname', 'timer.config.interval']);
  assert.is(json['timer.config.interval'], '60');
  const twice = await admin('device', 'settings', 'edge-02', '--unset', 'debug');
  assert.is(twice.code, 2);
  assert.match(twice.stderr, /edge-02 has no setting debug/);
  assert.match((await admin('device', 'settings', 'edge-02', 'debug')).stderr, /debug is no KEY=VALUE/);
  const locked = await admin('device', 'lock', 'edge-02', '--radius', '5');
  assert.is(locked.stdout, 'edge-02: Location-Lock off, for itself\n', locked.stderr);
  assert.match((await admin('device', 'lock', 'edge-02')).stdout, 'as account factory');
  const place = await admin('accept-place', 'edge-02', '--reason', 'x');
  assert.is(place.code, 4);
  assert.match(place.stdout, 'it is where it was locked to');
  const shown = (await admin('device', 'show', 'edge-02')).stdout;
  assert.match(shown, /^labels +hall-1, lab$/m);
});

test('a token is made, used within its bounds, and taken back', async () => {
  const made = await admin('token', 'add', 'ann', '--role', 'viewer', '--account', 'plant', '--days', '3');
  const [token = ''] = made.stdout.split('\n');
  assert.match(token, /^evc_[0-9a-f]{12}_[\w-]{43}$/, made.stderr);
  const ann = evcAs(token);
  assert.match((await ann('status')).stdout, 'no device is registered yet');
  const denied = await ann('account', 'add', 'x');
  assert.is(denied.code, 4);
  assert.match(denied.stderr, /the token ann is of viewer {2}\[auth\.role\]\nhint: /);
  assert.match((await ann('why', 'edge-01')).stderr, '[device.unknown]');
  assert.match((await admin('token', 'list')).stdout, /^[0-9a-f]{12} +ann +viewer +plant +.* +admin$/m);
  assert.match((await admin('token', 'revoke', 'ann', '--reason', 'gone')).stdout, 'lets nobody in any more');
  assert.match((await ann('status')).stderr, '[auth.revoked]');
});

test('keys are listed and taken back, and devices wait', async () => {
  const out = join(folder, 'config');
  assert.is((await admin('key', 'add', '--out', out, '--account', 'plant', '--approval')).code, 0);
  const listed = (await admin('key', 'list')).stdout;
  const [, id = ''] = /^([0-9a-f]{12}) +onboarding +plant +0 of 1 +.* left +on$/m.exec(listed) ?? [];
  assert.ok(id !== '', listed);
  assert.match((await admin('key', 'waiting')).stdout, 'no device waits');
  const nobody = await admin('key', 'approve', 'nobody', '--reason', 'x');
  assert.match(nobody.stderr, '[enrolment.unknown]');
  assert.match((await admin('key', 'revoke', id, '--reason', 'lost')).stdout, 'lets nobody in any more');
});

test('an address is told what happens, and what it did not take is shown', async () => {
  const added = await admin('webhook', 'add', 'http://127.0.0.1:9/x', '--event', 'verdict.given');
  const [, id = ''] = /^webhook ([0-9a-f]{8}) is told/.exec(added.stdout) ?? [];
  assert.match(added.stdout, /^whsec_[\w+/]+=$/m, added.stderr);
  assert.match((await admin('webhook', 'list')).stdout, new RegExp(`^${id} +0 +0 +well +http://127`, 'm'));
  const wrong = await admin('webhook', 'add', 'http://example.com/');
  assert.match(wrong.stderr, '[webhook.url]');
  const dead = { seq: 1, at: 0, event: 'verdict.given', device: uud.id, why: 'it answers 503' };
  const [view] = await evc.webhooks.list();
  assert.ok(view);
  const text = webhooksText([{ ...view, deadLetters: [dead], why: 'it answers 503', tries: 3 }], 60_000);
  assert.match(text, /it answers 503, try 3/);
  assert.match(text, /1m 0s ago +verdict\.given +[0-9a-f]{8}….* +it answers 503$/m);
  assert.match((await admin('webhook', 'retry', id)).stdout, '0 are left');
  assert.match((await admin('webhook', 'remove', id, '--reason', 'gone')).stdout, 'told nothing more');
});

test('the audit log says who, what, to which and why, and what is otherwise now', async () => {
  const { stdout } = await admin('audit');
  for (const line of [/admin +key\.revoked .*lost/, /admin +token\.added/, /admin +account\.added +plant/])
    assert.match(stdout, line);
  const ours = await admin('audit', 'edge-01', '--json');
  const entries = JSON.parse(ours.stdout) as { what: string; reason: string }[];
  assert.is(entries.find(({ what }) => what === 'state.accepted')?.reason, 'ours');
});

test('events are told as they happen, and a watched list is shown again', async () => {
  const env = { EVC_TOKEN: bench.admin };
  const events = new Running('evc', ['events', 'edge-02', ...where], env);
  const watched = new Running('evc', ['status', 'serial:edge-02', '--watch', ...where], env);
  await watched.line(/1 device: 1 trusted/);
  const told = events.line(/edge-02 +rotation\.asked/);
  // The reader says nothing when it is ready, so it is asked for until it was told.
  const asking = setInterval(() => void evc.operator.rotateKey('edge-02').catch(() => undefined), 200);
  const device = await evc.operator.find('edge-02');
  const again = setInterval(() => void evc.operator.rotateKey(device), 200);
  await told;
  clearInterval(asking);
  clearInterval(again);
  const seen = watched.lines.length;
  await evc.operator.retire(device, 'ann', 'over');
  await watched.line(/1 device: 1 retired/, seen);
  assert.is(await watched.stop(), 0);
  assert.is(await events.stop(), 0);
});

const program = new Command('evc').option('--help');
const account = program.command('account');
account.command('add').option('--kind <kind>');
account.command('list');
program.command('accept').option('--reason <text>').option('--secret', 'x');

test('a shell completes commands, the commands below them, and their options', () => {
  const script = completionScript(program, 'bash');
  const complete = (...words: string[]) => {
    const ask = `${script}\nCOMP_WORDS=(evc ${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length}; _evc; echo "\${COMPREPLY[@]}"`;
    const { stdout, stderr, status } = spawnSync('bash', ['-c', ask], { encoding: 'utf8', cwd: folder });
    assert.is(status, 0, stderr);
    return stdout.trim();
  };
  assert.is(complete('acc'), 'account accept');
  assert.is(complete('account', ''), 'add list --help');
  assert.is(complete('account', 'add', '--k'), '--kind');
  assert.is(complete('accept', 'edge-01', '--r'), '--reason');
  assert.is(complete('accept', 'root'), 'root.pem', 'a file, where nothing of ours fits');
  assert.match(completionScript(program, 'zsh'), 'bashcompinit');
});

test('the completion of the whole command is a script that bash reads', async () => {
  const { stdout, code } = await runToEnd('evc', ['completion', 'bash']);
  assert.is(code, 0);
  assert.match(stdout, /'evc token add'\) words='.*--role.*'/);
  assert.is(spawnSync('bash', ['-n'], { input: stdout }).status, 0);
});

test.run();
