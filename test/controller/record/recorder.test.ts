import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { attemptRecording } from '../../../controller/record/attempt.ts';
import { basisJson, basisOfJson, logNames, logsOf } from '../../../controller/record/basis.ts';
import { readRecording } from '../../../formats/recording/read.ts';
import { replay } from '../../../formats/recording/replay.ts';
import { charts } from '../../../machines/charts.ts';
import { Attacker } from '../../kit/attacker.ts';
import { inWorld, type World, type WorldDevice } from '../../kit/world.ts';

const minute = 60_000;

async function attested(world: World): Promise<WorldDevice> {
  const device = await world.addDevice();
  await world.attested(device);
  return device;
}

test('each attempt is kept: from the request for a nonce to the next, with its evidence, and it replays', () =>
  inWorld(async (world) => {
    const device = await attested(world);
    await device.node.reboot('test');
    await world.attested(device);
    const { store, recorder } = world.evc;
    const attempts = await store.attempts(device.id);
    assert.equal(
      attempts.map(({ outcome }) => outcome),
      ['trusted (baseline)', 'trusted (first-boot)', ''],
    );
    for (const attempt of attempts) {
      const lines = await attemptRecording(store, recorder, device.id, attempt);
      assert.ok(lines);
      const recording = readRecording(lines.join('\n'));
      assert.is(recording.header.about, `attempt ${attempt.attempt}`);
      const { divergence, unchecked, steps } = replay(recording.lines, { charts });
      assert.equal([divergence, unchecked, steps], [null, 0, attempt.steps + 1]);
      const evidence = recording.lines.filter((line) => line.kind === 'evidence');
      assert.is(evidence.length, attempt.evidence === '' ? 0 : 1);
      for (const line of evidence) if (line.kind === 'evidence') assert.ok((line.bytes?.length ?? 0) > 1000);
    }
    // The second names the log of the first, so that is in the recording too.
    const [last] = attempts;
    assert.ok(last);
    const text = (await attemptRecording(store, recorder, device.id, last))?.join('\n') ?? '';
    assert.match(text, '"kind":"blob"');
  }));

test('the nonces of many attempts do not fill the store', () =>
  inWorld(async (world) => {
    const device = await attested(world);
    const attacker = new Attacker(world, device);
    for (let i = 0; i < 12; i++) await attacker.nonce();
    const attempts = await world.evc.store.attempts(device.id);
    assert.is(attempts.length, 8);
    assert.is(await world.evc.store.attemptLines(device.id, 1), null);
  }));

test('a reader that stops reading misses lines, is told how many, and nobody waits for it', () =>
  inWorld(async (world) => {
    const device = await attested(world);
    const { recorder, runner } = world.evc;
    const slow: string[] = [];
    const fast: string[] = [];
    let room = true;
    const leave = [
      recorder.listen(device.id, await runner.read(device.id), {
        line: (text) => void slow.push(text),
        room: () => room,
      }),
      recorder.listen(device.id, await runner.read(device.id), {
        line: (text) => void fast.push(text),
        room: () => true,
      }),
    ];
    await world.run(5 * minute);
    const before = slow.length;
    room = false;
    const steps = world.steps.length;
    await device.node.reboot('test');
    await world.attested(device);
    assert.ok(world.steps.length > steps + 5);
    assert.is(slow.length, before);
    room = true;
    await world.run(10 * minute);
    for (const stop of leave) stop();
    const { lines } = readRecording(slow.join('\n'));
    const [dropped] = lines.filter((line) => line.kind === 'dropped');
    assert.ok(dropped?.kind === 'dropped' && dropped.lines > 20);
    assert.is(replay(lines, { charts }).divergence, null);
    const all = readRecording(fast.join('\n')).lines;
    assert.is(replay(all, { charts }).divergence, null);
    assert.ok(all.some((line) => line.kind === 'message') && all.some((line) => line.kind === 'evidence'));
    const heard = fast.length;
    await world.run(10 * minute);
    assert.is(fast.length, heard, 'who left hears nothing');
  }));

test('messages are shown decoded; those with a secret without their bytes, and its name instead', () =>
  inWorld(async (world) => {
    const device = await attested(world);
    const lines: string[] = [];
    world.evc.recorder.listen(device.id, null, { line: (text) => void lines.push(text), room: () => true });
    await device.node.reboot('test');
    await world.attested(device);
    const messages = readRecording(lines.join('\n')).lines.flatMap((line) =>
      line.kind === 'message' ? [line] : [],
    );
    const nonce = messages.find(({ withheld }) => withheld?.includes('ZAttestNonceResp.nonce'));
    assert.equal([nonce?.bytes, nonce?.direction], [undefined, 'down']);
    assert.match(JSON.stringify(nonce?.body), '"nonce":{"nonce":"withheld"}');
    const settings = messages.find(({ withheld }) => withheld?.includes('EdgeDevConfig.settings'));
    assert.is(settings?.bytes, undefined);
    const quote = messages.find(({ body }) => typeof body === 'object' && body !== null && 'quote' in body);
    assert.ok((quote?.bytes?.length ?? 0) > 1000);
    assert.equal(
      messages.filter(({ withheld }) => withheld?.includes('unreadable')),
      [],
    );
  }));

test('a basis goes through JSON and back, its logs by their names', () => {
  const bytes = Uint8Array.of(1, 2, 3);
  const sha256 = 'ab'.repeat(32);
  const basis = {
    nonceHash: '00',
    key: null,
    software: {
      baseline: { pcrs: { 0: 'aa' }, logs: [{ sha256, bytes }], versions: { image: '1', firmware: '2' } },
    },
    lastClock: { clock: 2n ** 63n },
  } as never;
  const json = JSON.parse(JSON.stringify(basisJson(basis)));
  assert.equal(
    basisOfJson(json, () => bytes),
    basis,
  );
  assert.equal([logNames(json), logsOf(basis)], [[sha256], [{ sha256, bytes }]]);
  const without = basisOfJson(json, () => undefined) as unknown as {
    software: { baseline: { logs: unknown[] } };
  };
  assert.equal(without.software.baseline.logs, []);
  const deep = JSON.parse(`${'['.repeat(100)}${']'.repeat(100)}`);
  assert.throws(
    () => basisOfJson(deep, () => undefined),
    (error: Error) => error instanceof RangeError,
  );
});

test.run();
