import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { replayCommand } from '../../../controller/cli/replay.ts';
import { runCommand, type Said } from '../../kit/command.ts';
import { lampRecording } from '../../kit/recording.ts';

const folder = mkdtempSync(join(tmpdir(), 'evc-replay-'));
test.after(() => rmSync(folder, { recursive: true }));

const recordings = join(import.meta.dirname, '../../recordings');
const whole = gunzipSync(readFileSync(join(recordings, 's1-onboarding.jsonl.gz'))).toString('utf8');
const spoiled = whole.replace('"value":{"unlocked":"idle"}', '"value":{"unlocked":"resealing"}');

function file(name: string, content: string | Buffer): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

const run = (...args: string[]): Promise<Said> => runCommand(replayCommand(), args);
const good = file('good.jsonl', whole);
const bad = file('bad.jsonl', spoiled);

test('a recording that replays: its steps, 0 divergences, exit code 0', async () => {
  const { stdout, code } = await run(good);
  // Charts may have changed since it was made, which is said behind it.
  assert.match(stdout, /^ok {3}.*good\.jsonl {2}\d+ steps(;.*)?$/m);
  assert.match(stdout, /^1 passed, 0 failed$/m);
  assert.is(code, 0);
});

test('the first divergence: chart, state, event, expected and got; exit code 1', async () => {
  const { stdout, code } = await run(bad);
  assert.is(code, 1);
  for (const line of [
    /^FAIL .*bad\.jsonl/m,
    /^ {5}vault-manager, line \d+, 20\S+Z: its state is another one$/m,
    /^ {5}chart {5}vaultManager\b.*$/m,
    /^ {5}state {5}unlocked\.exporting$/m,
    /^ {5}event {5}xstate\.done\.actor\.exportKey$/m,
    /^ {5}expected {2}unlocked\.resealing$/m,
    /^ {5}got {7}unlocked\.idle$/m,
    /^0 passed, 1 failed$/m,
  ])
    assert.match(stdout, line);
});

test('a folder is all that is in it; --check says what fails and the summary', async () => {
  const inner = join(folder, 'many');
  mkdirSync(join(inner, 'deep'), { recursive: true });
  writeFileSync(join(inner, 'a.jsonl.gz'), gzipSync(whole));
  writeFileSync(join(inner, 'deep', 'b.jsonl'), spoiled);
  writeFileSync(join(inner, 'notes.txt'), 'not a recording');
  const { stdout, code } = await run(inner, '--check');
  assert.is(code, 1);
  assert.match(stdout, /^FAIL .*b\.jsonl/);
  assert.not.match(stdout, /a\.jsonl/);
  assert.match(stdout, /^1 passed, 1 failed$/m);
});

test('--step shows each step as it comes out', async () => {
  const { stdout } = await run(good, '--step');
  assert.match(stdout, /attest-task {3}quote\.made {23}internalQuoteWait\.quoting → attestWait\.sending/);
  assert.match(stdout, /device-record verdict\.given {20}integrity: verifying → trusted/);
});

test('--until ends at a number, a state, or a reason, and says how all charts stand', async () => {
  const at = async (place: string) =>
    /ends at line (\d+): (\S+), (\S+)/.exec((await run(good, '--until', place)).stdout)?.slice(1);
  assert.equal((await at('attestWait'))?.slice(1), ['attest-task', 'quote.made']);
  assert.equal((await at('device-record:trusted'))?.slice(1), ['device-record', 'verdict.given']);
  assert.equal((await at('config.forbidden'))?.slice(1), ['config-task', 'xstate.error.actor.requestConfig']);
  assert.ok(Number((await at('200'))?.[0]) >= 200);
  const { stdout } = await run(good, '--until', 'attestWait');
  assert.match(stdout, /^ {5}vault-manager {2}unlocked\.idle$/m);
});

test('--json is a line a file, with the divergence as it is', async () => {
  const { stdout, code } = await run(good, bad, '--json');
  const lines = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.is(code, 1);
  assert.equal([lines.length, lines[0].divergence, lines[0].kind], [2, null, 'replayed']);
  assert.equal(
    [lines[1].divergence.chart, lines[1].divergence.expected],
    ['vaultManager', { unlocked: 'resealing' }],
  );
});

test('a last line that is cut off is said, and what is before it counts; packed or not', async () => {
  for (const path of [
    file('cut.jsonl', whole.slice(0, -200)),
    file('cut.jsonl.gz', gzipSync(whole).subarray(0, 30_000)),
  ]) {
    const { stdout, code } = await run(path);
    assert.is(code, 0, stdout);
    assert.match(stdout, /line \d+ is cut off; everything before it is here/);
  }
});

const unusable: [what: string, path: string, says: RegExp][] = [
  ['nothing there', join(folder, 'none'), /cannot be read.*\[input\.unreadable\]/],
  ['an empty folder', join(recordings, '../fixtures/recording/none'), /\[input\.unreadable\]/],
  ['no recording', file('rubbish.jsonl', 'hello\n'), /this is no recording.*\[recording\.none\]/],
  [
    'rubbish that is packed',
    file('rubbish.jsonl.gz', Buffer.from('1f8b0800ffffffff', 'hex')),
    /cannot be read|no recording/,
  ],
  [
    'a newer version',
    file('newer.jsonl', whole.replace('"version":1', '"version":2')),
    /version 2.*\[recording\.newer\]/,
  ],
  [
    'a line of 3 MB',
    file('long.jsonl', `${whole}${'x'.repeat(3e6)}`),
    /longer than.*\[recording\.oversize\]/,
  ],
  [
    'a line that is none',
    file('line.jsonl', `${whole}[]\n`),
    /line \d+ is not as it should be.*\[recording\.malformed\]/,
  ],
];
for (const [what, path, says] of unusable)
  test(`unusable: ${what}, exit code 2`, async () => {
    const { stderr, code } = await run(path);
    assert.match(stderr, says);
    assert.is(code, 2);
  });

test('a chart that is not there any more fails the file by name', async () => {
  const { stdout, code } = await run(file('lamp.jsonl', lampRecording()));
  assert.match(stdout, /there is no chart lamp any more/);
  assert.is(code, 1);
});

test('what devices are called is made harmless for a terminal', async () => {
  const evil = spoiled.replaceAll('"component":"vault-manager"', '"component":"\\u001b[31mvault"');
  const { stdout } = await run(file('evil.jsonl', evil));
  assert.not.match(stdout, '\u001b');
});

test('--what-if: the same evidence by another policy, and where the record would stand', async () => {
  const policy = file('policy.json', '{"location": {"radius": 5000000}}');
  const { stdout, code } = await run(join(recordings, 's5-blocked.jsonl.gz'), '--what-if', policy);
  assert.is(code, 0);
  assert.match(stdout, /^ {4}was {5}accepted \(baseline\)$/m);
  assert.match(stdout, /^ {4}record {2}location: umd → locked$/m);
  assert.match(stdout, /^\d of \d verdicts would change$/m);
  const same = await run(join(recordings, 's5-blocked.jsonl.gz'), '--what-if', file('same.json', '{}'));
  assert.match(same.stdout, /^0 of \d verdicts would change$/m);
});

test('--what-if: a policy that is none, and a recording without evidence', async () => {
  const wrong = await run(good, '--what-if', file('wrong.json', '{"location": {"radius": -1}}'));
  assert.match(wrong.stderr, /location\.radius.*\[input\.policy\]/);
  assert.is(wrong.code, 2);
  const none = await run(file('lamp2.jsonl', lampRecording()), '--what-if', file('p.json', '{}'));
  assert.match(none.stderr, /\[recording\.no-evidence\]/);
  assert.is(none.code, 2);
});

test.run();
