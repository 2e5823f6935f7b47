// deadline: 120 s
// EVC and a device as processes: recorded on both sides, live and afterwards, and replayed.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readRecording } from '../../../formats/recording/read.ts';
import { Running, runToEnd } from '../../kit/process.ts';

const folder = mkdtempSync(join(tmpdir(), 'evc-record-'));
const data = join(folder, 'evc');
const state = join(folder, 'd');
const env = { EVC_DATA: data };
const evc = (...args: string[]) => runToEnd('evc', args, env);
test.after(() => rmSync(folder, { recursive: true }));

test('a device is recorded here and there, live and from what is kept, and everything replays', async () => {
  await evc('init');
  const serve = new Running('evc', ['serve', '--json', '--mqtt-port', '0', '--https-port', '0'], env);
  await serve.line(/"kind":"serving"/);
  await evc('key', 'add', '--out', join(state, 'config'), '--serial', 'rec-1');
  await runToEnd('eve', ['image', 'create', join(folder, 'i'), '--version', '1.0.0']);
  const own = join(folder, 'device.jsonl.gz');
  const eve = new Running('eve', ['run', '--state', state, '--image', join(folder, 'i'), '--record', own]);
  let stopped = false;
  try {
    await eve.line(/attest-task +complete/);
    const live = join(folder, 'live.jsonl');
    const record = new Running('evc', ['record', 'rec-1', '-o', live, '--until', 'trusted', '--json'], env);
    for (let tries = 0; tries < 200 && !existsSync(live); tries++)
      await new Promise((resolve) => setTimeout(resolve, 50));
    eve.process.kill('SIGHUP');
    const said = JSON.parse(await record.line(/^\{"lines"/)) as {
      ended: string;
      dropped: number;
      steps: number;
    };
    assert.is(await record.ended, 0);
    assert.equal([said.ended, said.dropped], ['until', 0]);
    assert.ok(said.steps >= 3);

    const { stdout } = await evc('attempt', 'list', 'rec-1');
    assert.match(stdout, /^ATTEMPT +BEGUN +LASTED +STEPS +EVIDENCE +OUTCOME$/m);
    assert.match(stdout, /^2 .* trusted \(first-boot\)$/m);
    const kept = join(folder, 'last.jsonl.gz');
    assert.is((await evc('attempt', 'show', 'rec-1', 'last', '-o', kept)).code, 0);
    const shown = await evc('attempt', 'show', 'rec-1', '2');
    assert.is(readRecording(shown.stdout).header.about, 'attempt 2');
    const none = await evc('attempt', 'show', 'rec-1', '77');
    assert.match(none.stderr, /no attempt 77 .*\[attempt\.unknown\]\nhint: evc attempt list/);
    assert.is(none.code, 4);

    const seconds = await evc('record', 'rec-1', '--until', '1');
    assert.is(seconds.code, 0, seconds.stderr);
    assert.match(seconds.stderr, /\d+ steps in \d+ lines/);
    readRecording(seconds.stdout);

    assert.is(await eve.stop(), 0);
    stopped = true;
    const ring = join(state, 'persist', 'recordings');
    assert.ok(readdirSync(ring).length >= 2);
    const replayed = await evc('replay', live, kept, own, ring);
    assert.is(replayed.code, 0, replayed.stdout + replayed.stderr);
    assert.match(replayed.stdout, /^[5-9] passed, 0 failed$/m);

    const { header, lines } = readRecording(gunzipSync(readFileSync(own)).toString('utf8'));
    assert.match(header.device, /^[0-9a-f]{64}$/);
    for (const kind of ['boot', 'power', 'tpm', 'message', 'link'])
      assert.ok(
        lines.some((line) => line.kind === kind),
        kind,
      );
    // The administrator's token, and the keys on EVC's disk, are in none of them.
    const token = readFileSync(join(data, 'token'), 'utf8').trim();
    const all = [
      readFileSync(live, 'utf8'),
      gunzipSync(readFileSync(kept)).toString(),
      gunzipSync(readFileSync(own)).toString(),
    ];
    const pem = readFileSync(join(state, 'config', 'onboard.key.pem'), 'utf8').split('\n')[1] ?? '';
    for (const text of all) for (const secret of [token, pem]) assert.ok(!text.includes(secret));
  } finally {
    if (!stopped) await eve.stop();
    assert.is(await serve.stop(), 0);
  }
});

test('what is wrong is said, with the next thing to do', async () => {
  const until = await runToEnd('evc', ['record', 'x', '--until', 'doomsday', '--data', data], env);
  assert.match(until.stderr, /--until doomsday.*\nhint: known: trusted, refused, or a number of seconds/);
  assert.is(until.code, 2);
  const attempts = await runToEnd('eve', ['run', '--state', state, '--attempts', 'many']);
  assert.match(attempts.stderr, /--attempts many.*\nhint: how many recordings/);
  assert.is(attempts.code, 2);
  const nowhere = await runToEnd('eve', [
    'run',
    '--state',
    state,
    '--record',
    join(folder, 'no/such/a.jsonl'),
  ]);
  assert.match(nowhere.stderr, /cannot be written.*\nhint: give another file with --record FILE/);
  assert.is(nowhere.code, 1);
});

test.run();
