import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SlotStore } from '../../../device/baseos/slots.ts';
import { StateFolder } from '../../../device/state.ts';
import { inFolder } from '../../kit/folders.ts';
import { refusal } from '../../kit/rejects.ts';

const why = { code: 'test', text: 'test' };

const withSlots = (work: (slots: SlotStore, again: () => SlotStore, state: StateFolder) => void) =>
  inFolder((folder) => {
    const state = new StateFolder(folder);
    const slots = new SlotStore(state);
    mkdirSync(slots.directory('IMGA'), { recursive: true });
    writeFileSync(join(slots.directory('IMGA'), 'image'), '1.0');
    slots.install('1.0');
    slots.chooseForBoot(0);
    work(slots, () => new SlotStore(new StateFolder(folder)), state);
  });

function write(slots: SlotStore, version: string): void {
  writeFileSync(join(slots.beginWrite(), 'image'), version);
  slots.finishWrite(version);
}

const imageIn = (slots: SlotStore, label: 'IMGA' | 'IMGB') =>
  readFileSync(join(slots.directory(label), 'image'), 'utf8');

test('without an image there is nothing to boot', () =>
  inFolder((folder) => {
    const slots = new SlotStore(new StateFolder(folder));
    assert.not(slots.installed);
    for (const work of [
      () => slots.read(),
      () => slots.chooseForBoot(0),
      () => slots.commit(),
      () => slots.finishWrite('x'),
    ])
      assert.is(refusal(work), 'baseos.no-slot');
  }));

test('the image of the factory boots, again and again', () =>
  withSlots((slots, again) => {
    for (let i = 0; i < 3; i++) assert.equal(again().chooseForBoot(i), { label: 'IMGA', trying: false });
    assert.equal(slots.read(), {
      current: { label: 'IMGA', version: '1.0', state: 'active' },
      other: { label: 'IMGB', version: '', state: 'unused' },
      trial: null,
      failed: null,
    });
  }));

test('a new image is tried, and committed', () =>
  withSlots((slots, again) => {
    write(slots, '2.0');
    assert.is(imageIn(slots, 'IMGB'), '2.0');
    assert.equal(slots.read().other, { label: 'IMGB', version: '2.0', state: 'unused' });
    // Written and not staged: it is not tried.
    assert.equal(again().chooseForBoot(0), { label: 'IMGA', trying: false });
    const staged = slots.stage('2.0', 100, 3);
    assert.equal([staged.other.state, staged.trial], ['updating', null]);
    assert.equal(again().chooseForBoot(1000), { label: 'IMGB', trying: true });
    // Counted from the boot, whatever EVC answers.
    assert.equal(again().read().trial, { until: 1300, window: 100 });
    const committed = again().commit();
    assert.equal(
      [committed.current, committed.other.state, committed.trial, committed.failed],
      [{ label: 'IMGB', version: '2.0', state: 'active' }, 'unused', null, null],
    );
    assert.equal(again().chooseForBoot(2000), { label: 'IMGB', trying: false });
  }));

test('an image is tried once: not committed, the old one boots and says why', () =>
  withSlots((slots, again) => {
    write(slots, '2.0');
    slots.stage('2.0', 100, 3);
    again().chooseForBoot(0);
    // It hung, and somebody pulled the plug.
    assert.equal(again().chooseForBoot(50), { label: 'IMGA', trying: false });
    const { current, other, trial, failed } = again().read();
    assert.equal([current.label, other.state, trial], ['IMGA', 'unused', null]);
    assert.equal(
      [failed?.version, failed?.retryCounter, failed?.why.code],
      ['2.0', 3, 'baseos.not-committed'],
    );
    assert.equal(again().chooseForBoot(60), { label: 'IMGA', trying: false });
  }));

test('an image that gives itself up is not booted again, for its own reason', () =>
  withSlots((slots, again) => {
    write(slots, '2.0');
    slots.stage('2.0', 100, 4);
    slots.chooseForBoot(0);
    const given = slots.abandon(why);
    assert.equal(given.failed, { version: '2.0', retryCounter: 4, why });
    assert.is(given.trial, null);
    assert.equal(again().chooseForBoot(1), { label: 'IMGA', trying: false });
    assert.equal(again().read().failed, { version: '2.0', retryCounter: 4, why });
    // Tried again by the word of EVC: the old failure is history.
    assert.is(slots.stage('2.0', 100, 5).failed, null);
    assert.equal(again().chooseForBoot(2), { label: 'IMGB', trying: true });
  }));

test('giving up when nothing is on trial changes nothing', () =>
  withSlots((slots) => {
    const before = slots.read();
    assert.equal(slots.abandon(why), before);
  }));

test('while an image is on trial nobody touches the one to fall back to', () =>
  withSlots((slots) => {
    write(slots, '2.0');
    slots.stage('2.0', 100, 0);
    slots.chooseForBoot(0);
    writeFileSync(join(slots.beginWrite(), 'image'), '3.0');
    assert.is(
      refusal(() => slots.finishWrite('3.0')),
      'baseos.not-committed',
    );
    assert.is(
      refusal(() => slots.stage('1.0', 100, 0)),
      'baseos.not-committed',
    );
    assert.is(imageIn(slots, 'IMGA'), '1.0');
    assert.equal(slots.chooseForBoot(1), { label: 'IMGA', trying: false });
  }));

test('only what the slot holds can be tried', () =>
  withSlots((slots) => {
    assert.is(
      refusal(() => slots.stage('2.0', 100, 0)),
      'baseos.image-missing',
    );
    write(slots, '2.0');
    assert.is(
      refusal(() => slots.stage('2.1', 100, 0)),
      'baseos.image-missing',
    );
    assert.equal(slots.chooseForBoot(0), { label: 'IMGA', trying: false });
  }));

test('a slot whose writing was cut short anywhere is never taken for a whole one', () =>
  withSlots((slots, again, state) => {
    write(slots, '2.0');
    const { write: save } = state;
    for (const cut of [1, 2, 3, 4]) {
      writeFileSync(join(slots.beginWrite(), 'image'), '3.0');
      let saves = 0;
      state.write = (name, bytes) => {
        if (++saves === cut) throw new Error('power');
        save.call(state, name, bytes);
      };
      assert.throws(() => slots.finishWrite('3.0'), /power/);
      state.write = save;
      const { other } = again().read();
      const named = other.version;
      // A name stands for what is in the slot, or for nothing.
      if (named !== '') assert.is(imageIn(again(), 'IMGB'), named, `cut ${cut}`);
      assert.is(
        refusal(() => again().stage('3.0', 100, 0)),
        'baseos.image-missing',
      );
      assert.equal(again().chooseForBoot(0), { label: 'IMGA', trying: false });
    }
    write(slots, '3.0');
    assert.is(imageIn(slots, 'IMGB'), '3.0');
  }));

test('what an earlier write left is not mixed in', () =>
  withSlots((slots) => {
    writeFileSync(join(slots.beginWrite(), 'old'), 'x');
    const folder = slots.beginWrite();
    assert.not(existsSync(join(folder, 'old')));
  }));

// ---- A machine, whose boot loader chooses

const noted = (work: (slots: SlotStore, state: StateFolder) => void) =>
  inFolder((folder) => {
    const state = new StateFolder(folder);
    const slots = new SlotStore(state);
    slots.noteBoot('IMGA', '1.0', 'boot 1', 0);
    slots.beginReplace();
    slots.written('2.0');
    slots.stage('2.0', 10, 1);
    work(slots, state);
  });

test('a machine that nobody installed has the slot that it booted from', () =>
  inFolder((folder) => {
    const slots = new SlotStore(new StateFolder(folder));
    slots.noteBoot('IMGB', '1.0', 'boot 1', 0);
    assert.equal(slots.read(), {
      current: { label: 'IMGB', version: '1.0', state: 'active' },
      other: { label: 'IMGA', version: '', state: 'unused' },
      trial: null,
      failed: null,
    });
  }));

test('the boot loader takes the updated slot: it is on trial, also when the agent starts anew', () =>
  noted((slots) => {
    slots.noteBoot('IMGB', '2.0', 'boot 2', 100);
    const { current, trial } = slots.read();
    assert.equal(
      [current, trial],
      [
        { label: 'IMGB', version: '2.0', state: 'inprogress' },
        { until: 130, window: 10 },
      ],
    );
    slots.noteBoot('IMGB', '2.0', 'boot 2', 120);
    assert.equal(slots.read().trial, trial);
    assert.equal(slots.commit().current.state, 'active');
    slots.noteBoot('IMGB', '2.0', 'boot 3', 200);
    assert.equal([slots.read().current.state, slots.read().failed], ['active', null]);
  }));

test('the boot loader took an uncommitted slot again, so it had been told: the trial goes on', () =>
  noted((slots) => {
    slots.noteBoot('IMGB', '2.0', 'boot 2', 100);
    slots.noteBoot('IMGB', '2.0', 'boot 3', 1000);
    assert.equal([slots.read().current.state, slots.read().trial?.until], ['inprogress', 1030]);
  }));

for (const [what, boots, code] of [
  ['never started the updated slot', [], 'baseos.not-booted'],
  ['went back from an uncommitted one', ['IMGB'], 'baseos.not-committed'],
] as const)
  test(`the boot loader ${what}: the image failed, and why`, () =>
    noted((slots) => {
      for (const label of boots) slots.noteBoot(label, '2.0', 'boot 2', 100);
      slots.noteBoot('IMGA', '1.0', 'boot 3', 200);
      const { current, other, trial, failed } = slots.read();
      assert.equal([current.state, other.state, trial], ['active', 'unused', null]);
      assert.equal([failed?.version, failed?.retryCounter, failed?.why.code], ['2.0', 1, code]);
    }));

test('an agent that starts anew after staging does not take its own boot for a refusal of the boot loader', () =>
  noted((slots) => {
    slots.noteBoot('IMGA', '1.0', 'boot 1', 100);
    assert.equal([slots.read().other.state, slots.read().failed], ['updating', null]);
  }));

const full = (state: StateFolder, work: () => void) => {
  const { write } = state;
  state.write = () => {
    throw Object.assign(new Error('write'), { code: 'ENOSPC' });
  };
  work();
  state.write = write;
};

test('a boot that cannot be noted counts all the same, and is noted with the next change', () =>
  inFolder((folder) => {
    const state = new StateFolder(folder);
    const slots = new SlotStore(state);
    full(state, () => {
      slots.noteBoot('IMGA', '1.0', 'boot 1', 0);
      assert.not(state.has('slots/slots.json'));
      assert.is(slots.read().current.version, '1.0');
      assert.is(
        refusal(() => slots.beginReplace()),
        'disk.full',
      );
    });
    slots.beginReplace();
    slots.written('2.0');
    slots.stage('2.0', 10, 1);
    const again = new SlotStore(new StateFolder(folder));
    again.noteBoot('IMGA', '1.0', 'boot 1', 100);
    assert.equal([again.read().other.state, again.read().failed], ['updating', null]);
  }));

for (const label of ['IMGA', 'IMGB'] as const)
  test(`a boot of ${label} that cannot be noted while a slot is on trial is refused`, () =>
    noted((slots, state) => {
      full(state, () =>
        assert.is(
          refusal(() => slots.noteBoot(label, '2.0', 'boot 2', 100)),
          'disk.full',
        ),
      );
      assert.equal([slots.read().current.label, slots.read().other.state], ['IMGA', 'updating']);
    }));

test('a slot that was cut short while it was written passes for none', () =>
  noted((slots) => {
    slots.beginReplace();
    assert.is(
      refusal(() => slots.stage('2.0', 10, 1)),
      'baseos.image-missing',
    );
  }));

test.run();
