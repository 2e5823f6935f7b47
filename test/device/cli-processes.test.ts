// deadline: 120 s
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { processesWith, Running, runToEnd } from '../kit/process.ts';

const folder = mkdtempSync(join(tmpdir(), 'eve-mp-'));
test.after(() => rmSync(folder, { recursive: true }));

const complete = /^[\d:.]+ +attest-task +complete/;

test('each component in a process of its own: attested, after the death of any of them and after a reboot', async () => {
  const data = join(folder, 'evc');
  const state = join(folder, 'd');
  await runToEnd('evc', ['init', '--data', data]);
  const evc = new Running('evc', [
    'serve',
    '--json',
    '--data',
    data,
    '--mqtt-port',
    '0',
    '--https-port',
    '0',
  ]);
  await evc.line(/"kind":"serving"/);
  await runToEnd('evc', ['key', 'add', '--out', join(state, 'config'), '--serial', 'mp-1'], {
    EVC_DATA: data,
  });
  await runToEnd('eve', ['image', 'create', join(folder, 'i'), '--version', '1.0.0']);
  const eve = new Running('eve', ['run', '--processes', '--state', state, '--image', join(folder, 'i')], {
    WATCHDOG_USEC: '8000000',
  });
  try {
    await eve.line(complete);
    const [attestTask] = await processesWith(`run attest-task --config ${state}`);
    assert.ok(attestTask);
    let from = eve.lines.length;
    process.kill(attestTask, 'SIGKILL');
    await eve.line(/attest-task +failed: attest-task ended with SIGKILL/, from);
    await eve.line(complete, from);

    // One that hangs is noticed by its silence.
    const [hung] = await processesWith(`run config-task --config ${state}`);
    assert.ok(hung);
    from = eve.lines.length;
    process.kill(hung, 'SIGSTOP');
    await eve.line(/config-task +failed: config-task ended with SIGKILL/, from);
    await eve.line(/config-task +idle/, from);

    // Its key is in its memory alone: the next one unseals it anew.
    const [vault] = await processesWith(`run vault-manager --config ${state}`);
    assert.ok(vault);
    from = eve.lines.length;
    process.kill(vault, 'SIGKILL');
    await eve.line(/vault-manager +unsealing/, from);
    await eve.line(/vault-manager +unlocked\.idle/, from);
    const status = await runToEnd('eve', ['status', '--state', state]);
    assert.match(status.stdout, /^vault +unlocked by tpm, kept by (file|fscrypt)$/m);

    from = eve.lines.length;
    eve.process.kill('SIGHUP');
    await eve.line(/boots 1\.0\.0 from IMGA/, from);
    await eve.line(complete, from);
    const { stdout } = await runToEnd('evc', ['device', 'show', 'mp-1', '--json'], { EVC_DATA: data });
    const view = JSON.parse(stdout) as { trust: string; verdict: { grounds: string } };
    assert.is(view.trust, 'trusted');
    assert.is(view.verdict.grounds, 'baseline');

    // Each of them keeps its last attempts: two boots, and the life that was killed.
    const kept = (component: string) => readdirSync(join(state, 'persist', 'recordings', component)).length;
    assert.ok(kept('device-steps') >= 2);
    assert.ok(kept('attest-task') >= 3);
    const first = join(state, 'persist', 'recordings', 'attest-task', 'attempt-000001.jsonl');
    const replayed = await runToEnd('evc', ['replay', first, '--check']);
    assert.match(replayed.stdout, /1 passed, 0 failed/);
  } finally {
    assert.is(await eve.stop(), 0);
    assert.match(eve.lines.at(-1) ?? '', /^the agent has stopped; /);
    assert.equal(await processesWith(`--config ${state}`), []);
    assert.is(await evc.stop(), 0);
  }
});

test.run();
