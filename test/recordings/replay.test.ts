// Every recording in this folder replays on the charts of today, for ever: a recording becomes a test by being put here.
// `npm run recordings` makes those of the sequences and attacks anew.
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readRecordingFile } from '../../controller/cli/recording-file.ts';
import { replayFile } from '../../controller/cli/replay.ts';
import { whatIf } from '../../controller/cli/what-if.ts';
import type { Line } from '../../formats/recording/format.ts';
import { replay } from '../../formats/recording/replay.ts';
import { attestTask } from '../../machines/attest-task.ts';
import { charts } from '../../machines/charts.ts';
import { vaultManager } from '../../machines/vault-manager.ts';

const here = import.meta.dirname;
const files = readdirSync(here).filter((name) => /\.jsonl(\.gz)?$/.test(name));
const largest = 5 * 1024 * 1024;

for (const name of files) {
  test(`${name} replays`, async () => {
    const { steps, divergence, unchecked, unknown, notes } = await replayFile(join(here, name));
    assert.is(divergence, null);
    assert.equal([unchecked, unknown, notes], [0, [], []]);
    assert.ok(steps > 50, `${steps} steps`);
  });
}

test('there is one of each sequence, and the attacks', () => {
  const names = files.map((name) => name.replace(/\.jsonl(\.gz)?$/, ''));
  const sequences = ['s1-onboarding', 's2-restart', 's2b-offline', 's3-unknown-software', 's4-commit', 's4-fall-back', 's5-moved'];
  assert.equal(
    sequences.filter((name) => !names.includes(name)),
    [],
  );
  assert.ok(names.filter((name) => name.startsWith('s6-')).length >= 30);
});

test('all of them together stay small', () => {
  const size = files.reduce((sum, name) => sum + statSync(join(here, name)).size, 0);
  assert.ok(size < largest, `${size} bytes`);
});

async function linesOf(name: string): Promise<Line[]> {
  const lines: Line[] = [];
  await readRecordingFile(join(here, name), (more) => {
    lines.push(...more);
    return false;
  });
  return lines;
}

test('a guard that was changed is found where it first decides otherwise', async () => {
  const changed = attestTask.provide({ guards: { ofThisNonce: () => false } });
  const { divergence } = replay(await linesOf('s1-onboarding.jsonl.gz'), {
    charts: new Map([...charts, [attestTask.id, changed]]),
  });
  assert.equal([divergence?.component, divergence?.chart], ['attest-task', 'attestTask']);
  assert.is(divergence?.event.type, 'quote.made');
  assert.equal(divergence?.state, { internalQuoteWait: 'quoting' });
  assert.equal([divergence?.differs, divergence?.got], ['state', { internalQuoteWait: 'quoting' }]);
  assert.equal(divergence?.expected, { attestWait: 'sending' });
});

test('an action that remembers something else is found with the field that it concerns', async () => {
  const { assign } = await import('xstate');
  const changed = vaultManager.provide({
    actions: { takeExport: assign({ exported: null }) },
  } as never);
  const { divergence } = replay(await linesOf('s2-restart.jsonl.gz'), {
    charts: new Map([...charts, [vaultManager.id, changed]]),
  });
  assert.is(divergence?.chart, 'vaultManager');
  assert.is(divergence?.differs, 'context');
  assert.ok(divergence?.context.some(({ path }) => path.startsWith('exported')));
});

test('the evidence of a moved device, judged with a wider circle, would have been accepted without a finding', async () => {
  const changes = await whatIf(join(here, 's5-blocked.jsonl.gz'), { location: { radius: 5_000_000 } });
  const blocked = changes.find(({ changes: differs }) => differs);
  const location = (states: unknown) => (states as { location: string }).location;
  assert.ok(blocked);
  assert.ok(blocked.before.findings.some(({ code }) => code === 'policy.location.moved'));
  assert.equal(blocked.after.findings.filter(({ code }) => code === 'policy.location.moved'), []);
  assert.equal([location(blocked.before.states), location(blocked.after.states)], ['umd', 'locked']);
});

test('unknown software, judged as what is wanted, would have been trusted; a forgery never', async () => {
  const unknown = await whatIf(join(here, 's3-unknown-software.jsonl.gz'), { baseline: 'shown' });
  const first = unknown.find(({ before }) => !before.accepted);
  assert.equal([first?.before.accepted, first?.after.accepted, first?.after.grounds], [false, true, 'baseline']);
  const integrity = (states: unknown) => (states as { integrity: string }).integrity;
  assert.equal([integrity(first?.before.states), integrity(first?.after.states)], ['uud', 'trusted']);
  const forged = await whatIf(join(here, 's6-a-broken-signature-of-the-quote.jsonl.gz'), { baseline: 'shown' });
  assert.ok(forged.length > 1);
  assert.ok(forged.some(({ after }) => !after.genuine && !after.accepted));
});

test('the upgrade that EVC pushed, had its window been closed', async () => {
  const changes = await whatIf(join(here, 's4-commit.jsonl.gz'), {
    upgrade: { to: '2.0.0', until: 0, entries: null },
  });
  const upgrade = changes.find(({ before }) => before.grounds === 'upgrade');
  assert.is(upgrade?.after.findings[0]?.code, 'policy.upgrade.window-closed');
});

test.run();
