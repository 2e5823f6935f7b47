// deadline: 120 s
// Roll-outs with a real EVC and records that were told what a device would have told: some commit, some fall back.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OperatorError } from '../../../controller/decision.ts';
import type { RolloutWish } from '../../../controller/rollout/rollouts.ts';
import type { Identity } from '../../../machines/device-record.ts';
import type { Verdict } from '../../../machines/flow.ts';
import { account, EvcBench } from '../../kit/controller.ts';
import { LabBoard } from '../../kit/evidence.ts';
import { rejects } from '../../kit/rejects.ts';

const bench = await EvcBench.open();
const { evc } = bench;
const { runner, rollouts, store } = evc;
const board = await LabBoard.open();
await board.boot();
const file = join(bench.folder, 'image');
const log = (await board.present()).boot.logs.find(({ kind }) => kind === 'bios')?.bytes ?? new Uint8Array();
for (const version of ['2.0.0', '3.0.0']) {
  writeFileSync(file, version);
  await evc.curator.addImage({ version, logs: [log], file: { path: file } });
}
test.after(async () => {
  await bench.close();
  await board.close();
});

const ann = { by: 'ann', reason: 'security fixes' };
const wish: RolloutWish = {
  ...{ version: '2.0.0', devices: [], accounts: null, stages: [1, 10, 100], haltAt: 10, atOnce: 100 },
  ...{ window: 3_600_000, testWindow: 600_000 },
};
const identity: Identity = { akName: 'ak', akPublic: '', ekName: 'ek', ekTrust: 'first-use', ecdhPublic: '' };
const verdict = (grounds: 'first-boot' | 'upgrade', image: string): Verdict => ({
  ...{ genuine: true, accepted: true, grounds, findings: [], pcrs: { '0': image }, logs: [] },
  versions: { image, firmware: 'fw' },
  location: { fix: null, vouched: false, moved: false },
  clock: null,
});

let requests = 0;
const ref = (endpoint: 'register' | 'attest' | 'info') => ({ endpoint, id: `r${requests++}` });

async function attest(device: string, judged: Verdict): Promise<void> {
  await runner.send(device, { type: 'nonce.requested', request: ref('attest'), salt: 's', nonceHash: 'n' });
  const attempt = `a${requests++}`;
  const request = ref('attest');
  const at = bench.clock.now();
  await runner.send(device, {
    type: 'quote.received',
    attempt: { id: attempt, nonceHash: 'n', tokenHash: 't', request, at },
  });
  const { basis } = (await runner.read(device))?.context ?? { basis: 0 };
  await runner.send(device, { type: 'verdict.given', attempt, verdict: judged, basis, rotate: false });
}

let made = 0;
async function fleet(count: number, of = account): Promise<string[]> {
  const devices: string[] = [];
  for (let i = 0; i < count; i++) {
    const device = `${made++}`.padStart(64, 'c');
    const about = { uuid: `u${made}`, serial: `s${made}`, account: of, settings: {} };
    await runner.send(device, { type: 'device.registered', request: ref('register'), ...about });
    await runner.send(device, {
      type: 'certificate.received',
      ...{ request: ref('attest'), identity: { ...identity, akName: device }, taken: false },
      ...{ challenge: { id: 'c', credentialBlob: '', encryptedSecret: '' }, proofHash: 'p' },
    });
    await runner.send(device, {
      type: 'proof.received',
      request: ref('attest'),
      challenge: 'c',
      proofHash: 'p',
    });
    await attest(device, verdict('first-boot', '1.0.0'));
    devices.push(device);
  }
  return devices;
}

const report = (device: string, body: Record<string, unknown>) =>
  runner.send(device, { type: 'info.received', request: ref('info'), key: 'base-os', body });

async function commits(device: string, version = '2.0.0'): Promise<void> {
  await attest(device, verdict('upgrade', version));
  await report(device, { committed: version });
}

const fails = (device: string, version = '2.0.0') =>
  report(device, { failed: version, why: { code: 'baseos.self-test', text: 'it did not hold' } });

const assigned = async (id: string) =>
  (await rollouts.get(id)).devices
    .filter(({ progress }) => progress === 'assigned')
    .map(({ device }) => device);

test('an image reaches one, then some, then all', async () => {
  const devices = await fleet(20);
  const { id } = await rollouts.add({ ...wish, devices }, ann);
  const begun: number[] = [];
  for (let looks = 0; looks < 10; looks++) {
    await rollouts.look();
    const open = await assigned(id);
    if (open.length === 0) break;
    begun.push(open.length);
    for (const device of open) await commits(device);
  }
  assert.equal(begun, [1, 1, 18]);
  const { state, counts } = await rollouts.get(id);
  assert.equal([state, counts.committed], ['done', 20]);
  const [first] = devices;
  const [entry] = await store.audits({ limit: 1, subject: first ?? '' });
  assert.equal([entry?.by, entry?.what, entry?.reason], ['ann', 'upgrade.assigned', 'security fixes']);
});

test('fifty devices: it halts by itself where more fail than may, and says why', async () => {
  const devices = await fleet(50);
  const { id } = await rollouts.add({ ...wish, devices, stages: [20, 100], haltAt: 20 }, ann);
  await rollouts.look();
  const first = await assigned(id);
  assert.is(first.length, 10);
  for (const [i, device] of first.entries()) await (i < 3 ? fails(device) : commits(device));
  await rollouts.look();
  const halted = await rollouts.get(id);
  assert.equal([halted.state, halted.why], ['halted', '3 of 10 devices failed, and 20 % may']);
  assert.is(halted.counts.waiting, 40);
  assert.ok(
    halted.devices
      .filter(({ progress }) => progress === 'failed')
      .every(({ why }) => why === 'baseos.self-test'),
  );
  await rollouts.look();
  assert.is((await rollouts.get(id)).counts.waiting, 40, 'and begins with nobody any more');
  const [entry] = await store.audits({ limit: 1, subject: id });
  assert.equal([entry?.by, entry?.what], ['evc', 'rollout.halted']);

  await rejects(rollouts.stop(id, ann), OperatorError, ({ code }) => code === 'rollout.not-so');
  const again = await rollouts.resume(id, ann);
  assert.equal([again.state, again.counts.failed], ['running', 0], 'those that failed are tried again');
  await rollouts.look();
  for (const device of await assigned(id)) await commits(device);
  await rollouts.look();
  const rest = await assigned(id);
  assert.is(rest.length, 40);
  await rollouts.stop(id, ann);
  for (const device of rest) await commits(device);
  await rollouts.look();
  const stopped = await rollouts.get(id);
  assert.equal([stopped.state, stopped.counts.committed], ['stopped', 50], 'those under way are followed');
});

test('cancelled, it begins with nobody any more; those under way are followed to their end', async () => {
  const devices = await fleet(10);
  const { id } = await rollouts.add({ ...wish, devices, stages: [20, 100] }, ann);
  await rollouts.look();
  const [first = '', second = ''] = await assigned(id);
  const cancelled = await rollouts.cancel(id, { by: 'bea', reason: 'another image comes' });
  assert.equal([cancelled.state, cancelled.why], ['cancelled', 'another image comes']);
  await commits(first);
  await fails(second);
  await rollouts.look();
  const { state, counts, devices: after } = await rollouts.get(id);
  assert.equal([state, counts.committed, counts.failed, counts.skipped], ['cancelled', 1, 1, 8]);
  assert.ok(after.every(({ progress, why }) => (progress === 'skipped') === (why === 'rollout.not-begun')));
  const [entry] = await store.audits({ limit: 1, subject: id });
  assert.equal([entry?.by, entry?.what], ['bea', 'rollout.cancelled'], 'and no halt comes behind it');
  for (const turn of ['stop', 'resume', 'cancel'] as const)
    await rejects(rollouts[turn](id, ann), OperatorError, ({ code }) => code === 'rollout.not-so');
});

test('what a person does while EVC looks stands', async () => {
  const devices = await fleet(4);
  const { id } = await rollouts.add({ ...wish, devices, stages: [50, 100] }, ann);
  const looking = rollouts.look();
  await rollouts.cancel(id, ann);
  await looking;
  const { state, counts } = await rollouts.get(id);
  assert.is(state, 'cancelled');
  assert.is(counts.waiting, 0);
  // Whoever was begun with is said to be, whichever came first.
  for (const device of await assigned(id)) assert.is((await evc.operator.show(device)).upgrade?.to, '2.0.0');
  assert.is(counts.assigned + counts.skipped, 4);
});

test('devices that cannot be upgraded, or need not, are skipped with the reason', async () => {
  const [runs = '', gone = '', good = ''] = await fleet(3);
  await commitsAlone(runs);
  await evc.operator.retire(gone, 'ann', 'sold');
  const { id } = await rollouts.add({ ...wish, devices: [runs, gone, good], stages: [100] }, ann);
  await rollouts.look();
  const { devices } = await rollouts.get(id);
  const of = (device: string) => devices.find((one) => one.device === device);
  assert.equal([of(runs)?.progress, of(runs)?.why], ['skipped', 'rollout.there']);
  assert.equal([of(gone)?.progress, of(gone)?.why], ['skipped', 'device.unknown']);
  assert.is(of(good)?.progress, 'assigned');
  await evc.operator.assignUpgrade(good, { version: '3.0.0', window: 1000, testWindow: 1000 });
  await rollouts.look();
  const [late] = (await rollouts.get(id)).devices.filter(({ progress }) => progress === 'failed');
  assert.equal([late?.device, late?.why], [good, 'rollout.replaced']);
  await rollouts.stop(id, ann).catch(() => undefined);
});

async function commitsAlone(device: string): Promise<void> {
  await evc.operator.assignUpgrade(device, { version: '2.0.0', window: 1000, testWindow: 1000 });
  await commits(device);
}

test('a window that closes unused is a failure', async () => {
  const [device = ''] = await fleet(1);
  const { id } = await rollouts.add({ ...wish, devices: [device], window: 60_000 }, ann);
  await rollouts.look();
  bench.clock.advanceTo(bench.clock.now() + 61_000);
  // EVC answers its timers and looks itself, as soon as it gets to it; while it looks nobody else does.
  while ((await rollouts.get(id)).state === 'running') await setImmediate();
  const rollout = await rollouts.get(id);
  assert.equal([rollout.state, rollout.counts.failed], ['halted', 1]);
});

test('a look that was lost half-way is made up for: nobody is begun with twice', async () => {
  const [device = ''] = await fleet(1);
  const { id } = await rollouts.add({ ...wish, devices: [device] }, ann);
  await evc.operator.assignUpgrade(device, wish);
  const before = (await evc.operator.show(device)).revision;
  await rollouts.look();
  assert.equal(await assigned(id), [device]);
  assert.is((await evc.operator.show(device)).revision, before);
  await rollouts.stop(id, ann);
});

test('shares ascend to 100, devices are known, and each is in it once', async () => {
  const [device = ''] = await fleet(1);
  for (const stages of [[], [50], [100, 50], [10, 10, 100]])
    await rejects(
      rollouts.add({ ...wish, devices: [device], stages }, ann),
      OperatorError,
      ({ code }) => code === 'rollout.stages',
    );
  await rejects(
    rollouts.add({ ...wish, devices: ['nobody'] }, ann),
    OperatorError,
    ({ code }) => code === 'device.unknown',
  );
  const twice = await rollouts.add({ ...wish, devices: [device, device] }, ann);
  assert.is(twice.counts.all, 1);
  await rollouts.stop(twice.id, ann);
});

test('a token of an account sees its own roll-outs, and reaches no device of others', async () => {
  await evc.accounts.add({ ...account, id: 'plant' });
  const [theirs = ''] = await fleet(1, { ...account, id: 'plant' });
  const [ours = ''] = await fleet(1);
  const one = await rollouts.add({ ...wish, devices: [theirs], accounts: ['plant'] }, ann);
  assert.equal(
    (await rollouts.list(['plant'])).map(({ id }) => id),
    [one.id],
  );
  assert.equal(await rollouts.list(['other']), []);
  await rejects(rollouts.get(one.id, ['other']), OperatorError, ({ code }) => code === 'rollout.unknown');
  await rejects(
    rollouts.add({ ...wish, devices: [ours], accounts: ['plant'] }, ann),
    OperatorError,
    ({ code }) => code === 'device.unknown',
  );
});

test('a device that left the account of a roll-out before its turn is skipped', async () => {
  await evc.accounts.add({ ...account, id: 'left' });
  const [device = ''] = await fleet(1, { ...account, id: 'left' });
  const { id } = await rollouts.add({ ...wish, devices: [device], accounts: ['left'] }, ann);
  await evc.operator.moveDevice(device, account.id);
  await rollouts.look();
  const [one] = (await rollouts.get(id)).devices;
  assert.equal([one?.progress, one?.why], ['skipped', 'device.unknown']);
});

test.run();
