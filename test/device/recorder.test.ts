import { randomBytes } from 'node:crypto';
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { recordingPath } from '../../device/cli/run.ts';
import { DeviceRecorder } from '../../device/recorder.ts';
import { AttemptRing, RecordingFile } from '../../device/recording-file.ts';
import { type Transport, TransportError } from '../../device/tpm/transport.ts';
import { readRecording } from '../../formats/recording/read.ts';
import { replay } from '../../formats/recording/replay.ts';
import { charts } from '../../machines/charts.ts';
import { SimulatedClock } from '../kit/clock.ts';
import { inWorld } from '../kit/world.ts';

const folder = mkdtempSync(join(tmpdir(), 'eve-recorder-'));
test.after(() => rmSync(folder, { recursive: true }));

test('the ring: a file for each attempt from power on, the last ones kept, each replays alone', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    const kept = join(folder, 'ring');
    const ring = new AttemptRing(device.recorder, { folder: kept, keep: 3 });
    for (let i = 0; i < 2; i++) {
      await device.node.reboot('test');
      await world.attested(device);
    }
    // EVC asks again, twice: no power on, and files of their own.
    for (let i = 0; i < 2; i++) {
      const quotes = () => world.steps.filter(({ event }) => event.type === 'verdict.given').length;
      const before = quotes();
      await world.evc.operator.rotateKey(device.id);
      await world.until('another verdict', () => quotes() > before, 30 * 60_000);
      await world.attested(device);
    }
    await ring.close();
    const names = readdirSync(kept).sort();
    assert.equal(names, ['attempt-000002.jsonl', 'attempt-000003.jsonl', 'attempt-000004.jsonl']);
    for (const name of names) {
      const { lines, notes, header } = readRecording(readFileSync(join(kept, name), 'utf8'));
      assert.equal(notes, []);
      assert.match(header.about ?? '', /^attempt [234]$/);
      const { divergence, steps, unchecked } = replay(lines, { charts });
      assert.equal([divergence, unchecked], [null, 0]);
      assert.ok(steps > 20, `${name}: ${steps}`);
      assert.is(statSync(join(kept, name)).mode & 0o77, 0, 'for nobody else');
    }
  }));

test('a ring whose disk fails keeps nothing and costs the device nothing, until the disk is well', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    const kept = join(folder, 'failing');
    // No folder can be made, read or emptied where a file is.
    writeFileSync(kept, '');
    const ring = new AttemptRing(device.recorder, { folder: kept, keep: 3, now: true });
    const verdicts = () => world.steps.filter(({ event }) => event.type === 'verdict.given').length;
    const another = async () => {
      const before = verdicts();
      await world.evc.operator.rotateKey(device.id);
      await world.until('another verdict', () => verdicts() > before, 30 * 60_000);
      await world.attested(device);
    };
    await device.node.reboot('test');
    await world.attested(device);
    await another();
    rmSync(kept);
    await another();
    assert.equal(readdirSync(kept), ['attempt-000001.jsonl']);
    rmSync(kept, { recursive: true });
    writeFileSync(kept, '');
    await another();
    await ring.close();
    assert.equal(
      device.events.filter(({ kind }) => kind === 'failed'),
      [],
    );
  }));

test('a file that is full takes no more, says how much is missing, and replays as far as it goes', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    const path = join(folder, 'full.jsonl');
    const file = new RecordingFile(path, { most: 200_000 });
    const detach = device.recorder.attach(file);
    await device.node.reboot('test');
    await world.attested(device);
    detach();
    await file.close();
    assert.ok(statSync(path).size < 210_000);
    const { lines } = readRecording(readFileSync(path, 'utf8'));
    const last = lines.at(-1);
    assert.ok(last?.kind === 'dropped' && last.lines > 10);
    assert.is(replay(lines, { charts }).divergence, null);
  }));

for (const often of [37, 11, 5])
  test(`what is told in pieces of ${often} lines, with gaps between, replays`, () =>
    inWorld(async (world) => {
      const device = await world.addDevice();
      const told: string[] = [];
      let asked = 0;
      const detach = device.recorder.attach({
        line: (text) => void told.push(text),
        room: () => Math.floor(asked++ / often) % 2 === 0,
      });
      await device.node.reboot('test');
      await world.attested(device);
      detach();
      const { lines } = readRecording(`${told.join('\n')}\n`);
      assert.ok(lines.filter(({ kind }) => kind === 'dropped').length > 3);
      assert.is(replay(lines, { charts }).divergence, null);
    }));

test('a packed file unpacks to what a plain one holds', async () => {
  const paths = [join(folder, 'a.jsonl'), join(folder, 'a.jsonl.gz')];
  for (const path of paths) {
    const file = new RecordingFile(path);
    for (let i = 0; i < 5000; i++) file.line(`${i} ü`);
    await file.close();
  }
  const [plain, packed] = paths.map((path) => readFileSync(path));
  assert.equal(gunzipSync(packed as Buffer), plain);
});

test('a disk that fails ends the recording, says so once, and nothing else', async () => {
  const errors: Error[] = [];
  const file = new RecordingFile(join(folder, 'no', 'such', 'folder.jsonl'), {
    onError: (error) => errors.push(error),
  });
  for (let i = 0; i < 5000; i++) file.line('x'.repeat(100));
  await file.close();
  assert.is(errors.length, 1);
  assert.is(file.room(), false);
  file.line('more');
});

for (const end of ['jsonl', 'jsonl.gz'])
  test(`a full disk ends a recording in ${end}, and closing it`, async () => {
    const path = join(folder, `full-disk.${end}`);
    symlinkSync('/dev/full', path);
    const errors: string[] = [];
    const file = new RecordingFile(path, {
      onError: (error) => errors.push((error as { code?: string }).code ?? ''),
    });
    // More than the packer keeps to itself.
    for (let i = 0; i < 100 && file.room(); i++) {
      for (let k = 0; k < 50; k++) file.line(randomBytes(10_000).toString('base64'));
      await new Promise((resolve) => setImmediate(resolve));
    }
    const closed = file.close().then(() => 'closed');
    const stop = new AbortController();
    const late = setTimeout(2000, 'open after 2 s', { signal: stop.signal });
    assert.is(await Promise.race([closed, late.catch(() => 'stopped')]), 'closed');
    stop.abort();
    assert.equal(errors, ['ENOSPC']);
  });

test('of TPM commands: name, handles, response code and time, and nothing of what they carry', async () => {
  const command = Buffer.from(`80020000005f0000015881010001${'aa'.repeat(20)}`, 'hex');
  const responses = ['80010000000a00000000', '80010000000a00000922', '8001'];
  const closed: Transport = {
    send: async () => {
      const next = responses.shift();
      if (next === undefined) throw new TransportError('timeout', 'no answer');
      return Buffer.from(next, 'hex');
    },
    close: async () => undefined,
  };
  const recorder = new DeviceRecorder({ clock: new SimulatedClock(), mono: () => 1 });
  const lines: string[] = [];
  recorder.attach({ line: (text) => void lines.push(text) });
  const tpm = recorder.tpm(closed);
  for (let i = 0; i < 3; i++) await tpm.send(command);
  await tpm.send(command).catch(() => undefined);
  const [, ...shown] = lines.map((line) => JSON.parse(line));
  assert.equal(
    shown.map(({ command: name, handles, code, ms }) => [name, handles, code, ms]),
    [
      ['Quote', ['0x81010001'], 'TPM_RC_SUCCESS', 0],
      ['Quote', ['0x81010001'], 'TPM_RC_RETRY', 0],
      ['Quote', ['0x81010001'], 'no header', 0],
      ['Quote', ['0x81010001'], 'no response: timeout', 0],
    ],
  );
  assert.not.match(lines.join(''), 'aaaa');
});

test('each component has a file of its own, and each of its lives', () => {
  const base = join(folder, 'boot.jsonl.gz');
  assert.is(recordingPath(base, undefined), base);
  assert.is(recordingPath(base, 'device-steps'), base);
  assert.is(recordingPath(base, 'client'), join(folder, 'boot.client.jsonl.gz'));
  assert.is(recordingPath(join(folder, 'a'), 'x.jsonl'), join(folder, 'a.x.jsonl'));
});

test.run();
