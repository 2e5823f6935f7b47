// What an earlier program left is brought forward; what a later one left is not touched.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openPersist, type PersistStep } from '../../device/persist.ts';
import { StateFolder } from '../../device/state.ts';
import { inFolder } from '../kit/folders.ts';
import { runToEnd } from '../kit/process.ts';
import { refusal } from '../kit/rejects.ts';

const inPersist = (work: (path: string) => void | Promise<void>) =>
  inFolder((folder) => work(join(folder, 'persist')));
const rename: PersistStep = (folder) => {
  const { name } = folder.restore<{ name: string }>('names') ?? { name: '' };
  folder.checkpoint('names', { called: name });
};
const upper: PersistStep = (folder) => {
  const { called } = folder.restore<{ called: string }>('names') ?? { called: '' };
  folder.checkpoint('names', { called: called.toUpperCase() });
};

test('a folder without a number is of the first version, and nothing is written into it', () =>
  inPersist((path) => {
    openPersist(path);
    assert.equal(readdirSync(path), []);
  }));

test('an older folder goes through each step that it lacks, once', () =>
  inPersist((path) => {
    new StateFolder(path).checkpoint('names', { name: 'a' });
    const names = () => openPersist(path, { steps: [rename, upper] }).restore('names');
    assert.equal(openPersist(path, { steps: [rename] }).restore('names'), { called: 'a' });
    assert.equal(names(), { called: 'A' });
    assert.equal(names(), { called: 'A' });
    assert.equal(new StateFolder(path).restore('version'), { version: 3 });
  }));

test('a step that was cut short is done again, and those before it are not', () =>
  inPersist((path) => {
    new StateFolder(path).checkpoint('names', { name: 'a' });
    const cut: PersistStep = () => {
      throw new Error('the power went');
    };
    assert.throws(() => openPersist(path, { steps: [rename, cut] }), /the power went/);
    assert.equal(new StateFolder(path).restore('version'), { version: 2 });
    assert.equal(openPersist(path, { steps: [rename, upper] }).restore('names'), { called: 'A' });
  }));

test('a folder of a newer program is left alone, with a sentence', () =>
  inPersist((path) => {
    openPersist(path, { steps: [() => undefined, () => undefined] });
    const before = readFileSync(join(path, 'version'));
    assert.is(
      refusal(() => openPersist(path, { steps: [() => undefined] })),
      'state.newer',
    );
    assert.equal(readFileSync(join(path, 'version')), before);
    assert.equal(
      readdirSync(path).filter((name) => !name.startsWith('version')),
      [],
    );
  }));

test('eve says so, and runs nothing', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'persist');
    openPersist(path, { steps: [() => undefined] });
    const says = /persist was written by a newer eve \(state 2, this one knows 1\); run that one/;
    const image = join(folder, 'image');
    await runToEnd('eve', ['image', 'create', image, '--version', '1.0.0']);
    const installed = await runToEnd('eve', ['install', '--image', image, '--state', folder]);
    assert.is(installed.code, 1);
    assert.match(installed.stderr, says);
    const doctor = await runToEnd('eve', ['doctor', '--state', folder]);
    assert.match(doctor.stdout, says);
    assert.equal(
      readdirSync(path).filter((name) => !name.startsWith('version')),
      [],
    );
  }));

test.run();
