// deadline: 180 s
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { processesWith, Running, runToEnd } from '../../kit/process.ts';
import { missingInOrder } from '../../kit/trace.ts';

const folder = mkdtempSync(join(tmpdir(), 'up-'));
test.after(() => rmSync(folder, { recursive: true, force: true }));

interface Line {
  kind: string;
  step?: string;
  story?: string;
  ok?: boolean;
  trust?: string;
  failed?: number;
}

function linesOf(stdout: string): Line[] {
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Line);
}

test('evc up plays the onboarding with processes of their own, and ends with 0', async () => {
  const { code, stdout, stderr } = await runToEnd('evc', ['up', '--exit', '--json', '--story', 'onboarding']);
  assert.is(code, 0, stderr + stdout);
  const lines = linesOf(stdout);
  const steps = lines.flatMap(({ kind, step }) => (kind === 'step' && step ? [step] : []));
  assert.is(missingInOrder(steps, ['S1.1', 'S1.2', 'S1.3', 'S1.4', 'S1.5', 'S1.6']), null);
  assert.is(
    missingInOrder(steps, ['S1.7', 'S1.8', 'S1.9', 'S1.11', 'S1.10', 'S1.12', 'S1.13', 'S1.15', 'S1.16']),
    null,
  );
  assert.is(missingInOrder(steps, ['S1.13', 'S1.17']), null);
  assert.ok(steps.includes('S1.14'));
  assert.equal(
    lines.filter(({ kind }) => kind === 'end').map(({ story, ok }) => [story, ok]),
    [['onboarding', true]],
  );
  assert.equal(
    lines.filter(({ kind }) => kind === 'device').map(({ trust }) => trust),
    ['trusted'],
  );
  assert.is(lines.at(-1)?.failed, 0);
});

test('a killed evc up leaves nothing running', async () => {
  const data = join(folder, 'killed');
  const up = new Running('evc', ['up', '--data', data, '--story', 'onboarding']);
  await up.line(/Ctrl-C ends everything/);
  assert.ok((await processesWith(data)).length >= 3);
  await up.stop('SIGKILL');
  // They end by themselves: what tells them is that their parent is gone.
  while ((await processesWith(data)).length > 0) await new Promise(setImmediate);
});

test('Ctrl-C ends everything in order', async () => {
  const data = join(folder, 'interrupted');
  const up = new Running('evc', ['up', '--data', data, '--story', 'onboarding']);
  await up.line(/Ctrl-C ends everything/);
  await up.stop('SIGINT');
  assert.equal(await processesWith(data), []);
  assert.not(existsSync(join(data, 'evc/service.json')));
});

test('a folder that is in use is not touched', async () => {
  const data = mkdtempSync(join(folder, 'used-'));
  writeFileSync(join(data, 'mine'), '');
  const { code, stderr } = await runToEnd('evc', ['up', '--data', data, '--exit']);
  assert.is(code, 2);
  assert.match(stderr, 'is not empty');
});

test('--story list names the stories', async () => {
  const { code, stdout } = await runToEnd('evc', ['up', '--story', 'list']);
  assert.is(code, 0);
  for (const name of [
    'onboarding',
    'restart',
    'offline',
    'unknown',
    'upgrade',
    'fallback',
    'moved',
    'eve-update',
    'eve-bios',
  ]) {
    assert.match(stdout, new RegExp(`^${name} `, 'm'));
  }
});

test.run();
