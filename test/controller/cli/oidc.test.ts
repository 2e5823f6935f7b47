// deadline: 300 s
// `evc oidc` and `evc session` as an administrator types them, against a real provider and people who logged in at it.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { explain } from '../../../controller/cli/failure.ts';
import { oidcCommands, ruleOf, sessionCommands, sessionsText } from '../../../controller/cli/oidc.ts';
import { runCommand } from '../../kit/command.ts';
import { LoginBench, page } from '../../kit/login-bench.ts';
import { runToEnd } from '../../kit/process.ts';
import { clientId, clientSecret } from '../../kit/provider.ts';

const bench = await LoginBench.open();
const folder = mkdtempSync(join(tmpdir(), 'evc-oidc-'));
const file = (name: string, text: string) => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};
const root = file('root.pem', bench.api.root);
const secretFile = file('secret', `${clientSecret}\n`);
test.after(async () => {
  await bench.close();
  rmSync(folder, { recursive: true });
});

const where = (url = bench.api.url) => ['--url', url, '--root', root];
const evcAs = (token: string, url = bench.api.url) =>
  async function run(...args: string[]) {
    const program = new Command('evc');
    oidcCommands(program.command('oidc'));
    sessionCommands(program.command('session'));
    process.env.EVC_TOKEN = token;
    const said = await runCommand(program, [...args, ...where(url)]);
    assert.not.match(said.stdout + said.stderr, clientSecret);
    return said;
  };
const admin = evcAs(bench.api.admin);
/** As a process, where what the command itself makes of it counts. */
const evc = (...args: string[]) => runToEnd('evc', [...args, ...where()], { EVC_TOKEN: bench.api.admin });
const rules = ['--role', 'evc-admins=admin', 'plant-7=operator:factory'];
const set = (...more: string[]) =>
  admin(
    ...['oidc', 'set', '--issuer', bench.provider.issuer, '--client-id', clientId, ...rules],
    ...['--client-secret-file', secretFile, '--public-url', bench.api.url, ...more],
  );

test('before a provider is set, nothing is there to show, remove or list, and what sets one is said', async () => {
  for (const args of [
    ['oidc', 'show'],
    ['oidc', 'remove', '--reason', 'x'],
  ]) {
    const { code, stderr, stdout } = await admin(...args);
    assert.equal([code, stdout], [4, '']);
    assert.match(
      stderr,
      /^no provider of logins is set: evc oidc set \[oidc\.unset\]\nhint: .*evc oidc set$/m,
    );
  }
  assert.equal(await admin('session', 'list'), { code: 0, stdout: 'nobody is logged in\n', stderr: '' });
});

test('what cannot be a provider is refused with what to do, and nothing is set', async () => {
  const wrong = (...args: string[]) => admin('oidc', 'set', '--client-id', clientId, ...rules, ...args);
  const nobody = await wrong('--issuer', 'http://127.0.0.1:9');
  assert.is(nobody.code, 4);
  assert.match(nobody.stderr, /does not answer as one \[oidc\.unreachable\]\nhint: Look whether it runs/);
  const plain = await wrong('--issuer', 'http://idp.example.com');
  assert.is(plain.code, 4);
  assert.match(plain.stderr, /\[oidc\.issuer\]\nhint: Write it as the provider names itself/);
  const path = await wrong('--issuer', bench.provider.issuer, '--public-url', 'https://evc.example.com/evc');
  assert.is(path.code, 4);
  assert.match(path.stderr, /\[oidc\.public-url\]\nhint: .*\/oidc\/callback/);
  const account = await admin(
    ...['oidc', 'set', '--issuer', bench.provider.issuer, '--client-id', clientId],
    ...['--role', 'a=viewer:nowhere'],
  );
  assert.is(account.code, 4);
  assert.match(account.stderr, /there is no account nowhere \[account\.unknown\]\nhint: evc account list/);
  assert.match((await admin('oidc', 'show')).stderr, '[oidc.unset]');
});

const usage: [string, string[], RegExp][] = [
  ['no issuer', ['oidc', 'set', '--client-id', 'x', '--role', 'a=admin'], /--issuer <url>/],
  ['no rule', ['oidc', 'set', '--issuer', 'https://a', '--client-id', 'x'], /--role <value=role/],
  ['no reason to remove', ['oidc', 'remove'], /--reason <text>/],
  ['no session', ['session', 'end', '--reason', 'x'], /missing required argument 'id'/],
  ['no reason to end', ['session', 'end', 'x'], /--reason <text>/],
];
for (const [name, args, says] of usage)
  test(`wrong usage: ${name}`, async () => {
    const { code, stderr, stdout } = await evc(...args);
    assert.equal([code, stdout], [2, ''], stderr);
    assert.match(stderr, says);
  });

test('wrong usage of what is given: the value, and what it may be', async () => {
  const hours = await set('--hours', '25');
  assert.is(hours.code, 2);
  assert.match(hours.stderr, /--hours 25 .*\nhint: a number from 1 to 24/);
  const rule = await set('--role', 'staff=owner');
  assert.is(rule.code, 2);
  assert.match(rule.stderr, /--role staff=owner .*\nhint: write VALUE=ROLE .*viewer, operator, admin/);
  const none = await set('--client-secret-file', join(folder, 'none'));
  assert.is(none.code, 2);
  assert.match(none.stderr, /none cannot be read \[input\.unreadable\]\nhint: /);
  const empty = await set('--client-secret-file', file('empty', '\n'));
  assert.is(empty.code, 2);
  assert.match(empty.stderr, /empty holds no secret of 1 to 2000 characters .*\nhint: /);
  assert.match((await admin('oidc', 'show')).stderr, '[oidc.unset]');
});

test('a provider is set, and shown without its secret', async () => {
  const done = await set('--hours', '2');
  assert.is(done.code, 0, done.stderr);
  const shown = await evc('oidc', 'show');
  assert.equal([shown.code, shown.stdout], [0, done.stdout]);
  assert.is(
    shown.stdout,
    [
      `people log in at ${bench.provider.issuer} for 2 hours`,
      'EVC is evc there, with a secret; it asks for openid profile email',
      `the provider has to allow ${bench.api.url}/oidc/callback`,
      `and, where it logs people out, to lead back to ${bench.api.url}/`,
      '',
      'GROUPS      ROLE      ACCOUNTS',
      'evc-admins  admin     all',
      'plant-7     operator  factory',
      '',
    ].join('\n'),
  );
  const json = JSON.parse((await admin('oidc', 'show', '--json')).stdout);
  assert.is(json.confidential, true);
  assert.is(json.hours, 2);
  assert.is(json.redirectUri, `${bench.api.url}/oidc/callback`);
  assert.equal(json.roles, [
    { value: 'evc-admins', role: 'admin', accounts: null },
    { value: 'plant-7', role: 'operator', accounts: ['factory'] },
  ]);
  const open = await set('--role-claim', 'realm_access.roles', '--scope', 'profile', '--json');
  const { roleClaim, scopes, hours } = JSON.parse(open.stdout);
  assert.equal([roleClaim, scopes, hours], ['realm_access.roles', ['profile'], 8]);
  assert.is((await set()).code, 0);
});

test('who is logged in is listed, and is logged out with a reason that is kept', async () => {
  const cookie = await bench.session('ben');
  const listed = await admin('session', 'list');
  const [head = '', line = '', ...more] = listed.stdout.trimEnd().split('\n');
  assert.match(head, /^ID +WHO +ROLE +LEFT +ACCOUNTS +SUBJECT$/);
  const [, id = ''] = /^([0-9a-f]{18}) +ben@example\.com +operator +7h 5\dm +factory +ben$/.exec(line) ?? [];
  assert.ok(id !== '', line);
  assert.equal(more, []);
  const { sessions } = JSON.parse((await admin('session', 'list', '--json')).stdout);
  assert.equal(
    sessions.map(({ id: one, subject, role }: Record<string, string>) => [one, subject, role]),
    [[id, 'ben', 'operator']],
  );
  assert.not.match(JSON.stringify(sessions), /hash|secret|token/i);
  const ended = await admin('session', 'end', id, '--reason', 'left the company');
  assert.equal(ended, { code: 0, stdout: 'ben@example.com is logged out\n', stderr: '' });
  assert.is((await bench.as(cookie, 'GET', '/api/v1/whoami', page)).json.code, 'auth.session');
  const again = await admin('session', 'end', id, '--reason', 'x');
  assert.is(again.code, 4);
  assert.match(again.stderr, /there is no session [0-9a-f]{18} \[session\.unknown\]\nhint: evc session list/);
  const { json } = await bench.api.call('GET', '/api/v1/audit?limit=10');
  const log = json.entries as { what: string; reason: string }[];
  assert.is(log.find(({ what }) => what === 'session.ended')?.reason, 'left the company');
});

test('a name that a provider made up does not move the terminal, and a long one leaves what is needed', () => {
  const session = {
    id: 'a'.repeat(18),
    issuer: 'https://idp.example.com',
    subject: '3f0c2a81-d94b-47e3-9a1f-5f0c2a81d94b',
    username: `\u001b[2Jann.with-a-long-name@plant-7.example.com`,
    role: 'admin' as const,
    accounts: null,
    began: 0,
    expires: 7_200_000,
  };
  const text = sessionsText([session, { ...session, expires: 1 }], 3_600_000);
  assert.not.match(text, '\u001b');
  const lines = text.split('\n');
  assert.is(lines.length, 2, 'what has run out is not listed');
  for (const line of lines) assert.ok([...line].length <= 80, line);
  assert.match(text, /^a{18} {3}\[2Jann\.with-[a-z-]+… {2}admin {2}1h 0m {2}all {7}3f0c2a81/m);
});

test('a rule is VALUE=ROLE, for accounts or all', () => {
  assert.equal(ruleOf('cn=evc,dc=x=admin'), { value: 'cn=evc,dc=x', role: 'admin', accounts: null });
  assert.equal(ruleOf('p=viewer:a,b'), { value: 'p', role: 'viewer', accounts: ['a', 'b'] });
  for (const text of ['', '=admin', 'a=', 'a=owner', 'a', 'a=admin:', 'a=Admin'])
    try {
      ruleOf(text);
      assert.unreachable(text);
    } catch (error) {
      assert.is(explain(error).exitCode, 2, text);
    }
});

test('none of it is for an operator, for a token that is none, or where no EVC is', async () => {
  const ann = evcAs(await bench.api.token('ann', 'operator'));
  for (const args of [
    ['oidc', 'show'],
    ['oidc', 'remove', '--reason', 'x'],
    ['session', 'list'],
    ['session', 'end', 'x', '--reason', 'x'],
  ]) {
    const { code, stderr } = await ann(...args);
    assert.is(code, 4);
    assert.match(stderr, /the token ann is of operator \[auth\.role\]\nhint: /);
  }
  const nobody = await evcAs('evc_000000000000_none')('oidc', 'show');
  assert.is(nobody.code, 4);
  assert.match(nobody.stderr, /\[auth\.wrong\]\nhint: give another in EVC_TOKEN/);
  const away = await evcAs(bench.api.admin, 'https://localhost:9')('session', 'list');
  assert.is(away.code, 3);
  assert.match(away.stderr, /\[evc\.unreachable\]\nhint: .*evc serve/);
});

test('with the provider removed all are logged out, and nobody logs in', async () => {
  const cookie = await bench.session('ann');
  const removed = await admin('oidc', 'remove', '--reason', 'another provider');
  assert.equal(removed, {
    code: 0,
    stdout: `nobody logs in at ${bench.provider.issuer} any more\n`,
    stderr: '',
  });
  assert.is((await bench.as(cookie, 'GET', '/api/v1/whoami', page)).json.code, 'auth.session');
  assert.equal((await admin('session', 'list', '--json')).stdout, '{"sessions":[]}\n');
  const answer = await bench.api.call('GET', '/oidc/login', { token: null });
  assert.equal([answer.status, answer.json.code], [404, 'oidc.unset']);
});

test.run();
