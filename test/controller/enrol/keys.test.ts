// Who is let in: keys with a count and an end, taken back; devices that wait for a person.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OperatorError } from '../../../controller/decision.ts';
import type { KeyWish } from '../../../controller/enrol/keys.ts';
import { admitDevice, EnrolmentRefused, type OnboardingKey } from '../../../controller/enrol/onboarding.ts';
import { account, EvcBench } from '../../kit/controller.ts';
import { type SoftDevice, softDevice } from '../../kit/logins.ts';
import { rejects } from '../../kit/rejects.ts';

const bench = await EvcBench.open();
const { evc } = bench;
const ann = { by: 'ann', reason: 'for the test' };
test.after(() => bench.close());

async function keyOf(wish: Partial<KeyWish> = {}): Promise<SoftDevice> {
  const expires = bench.clock.now() + 86_400_000;
  const made = await evc.keys.add({ name: 'k', account: account.id, limit: 2, expires, ...wish });
  const { raw } = new X509Certificate(made.certificate);
  return { id: made.id, key: createPrivateKey(made.key), certificate: raw };
}

let serials = 0;
async function register(key: SoftDevice, device?: SoftDevice): Promise<{ device: SoftDevice; code: string }> {
  const known = device ?? (await softDevice());
  const before = bench.refused.length;
  const answer = await bench.register(known, key, `s-${serials++}`);
  const code = bench.refused.slice(before).map((text) => text.split(':')[0])[0] ?? '';
  return { device: known, code: code || (answer.status < 300 ? 'registered' : `${answer.status}`) };
}

test('a key is good for as many devices as it says, and says how many it let in', async () => {
  const key = await keyOf();
  assert.is((await register(key)).code, 'registered');
  assert.is((await register(key)).code, 'registered');
  assert.is((await register(key)).code, 'enrol.key-used-up');
  const view = (await evc.keys.list()).find(({ id }) => id === key.id);
  assert.equal([view?.used, view?.limit, view?.state], [2, 2, 'used-up']);
  assert.equal(await evc.keys.list(['nobody']), []);
  assert.equal(Object.keys(view ?? {}).includes('key'), false);
});

test('a key that was taken back lets nobody in, and those that it let in stay', async () => {
  const key = await keyOf();
  const { device } = await register(key);
  await rejects(
    evc.keys.revoke(key.id, ann, ['nobody']),
    OperatorError,
    ({ code }) => code === 'key.unknown',
  );
  const view = await evc.keys.revoke(key.id.slice(0, 12), ann);
  assert.is(view.state, 'expired');
  assert.is((await register(key)).code, 'enrol.key-expired');
  assert.is((await register(key, device)).code, 'registered');
  const [entry] = await evc.store.audits({ limit: 1, subject: key.id });
  assert.equal([entry?.by, entry?.what, entry?.reason], ['ann', 'key.revoked', 'for the test']);
});

test('a device waits for a person where its key says so, and is let in when it asks again', async () => {
  const key = await keyOf({ approval: true });
  const { device, code } = await register(key);
  assert.is(code, 'enrol.awaits-approval');
  assert.is(await evc.store.load(device.id), null, 'it has no record yet');
  assert.is((await register(key, device)).code, 'enrol.awaits-approval', 'asking again changes nothing');
  const waiting = await evc.keys.waiting();
  assert.equal(
    waiting.map((one) => [one.device, one.account, one.state]),
    [[device.id, account.id, 'waiting']],
  );
  assert.equal(await evc.keys.waiting(['nobody']), []);
  await rejects(
    evc.keys.answer(device.id, 'approved', ann, ['nobody']),
    OperatorError,
    ({ code: refused }) => refused === 'enrolment.unknown',
  );
  await evc.keys.answer(device.id.slice(0, 8), 'approved', ann);
  assert.is((await register(key, device)).code, 'registered');
  assert.equal(await evc.keys.waiting(), [], 'it waits no more');
  assert.is((await register(key, device)).code, 'registered', 'and is not asked about again');
});

test('a device that was sent away stays away, until a person thinks otherwise', async () => {
  const key = await keyOf({ approval: true });
  const { device } = await register(key);
  await evc.keys.answer(device.id, 'refused', ann);
  assert.is((await register(key, device)).code, 'enrol.not-approved');
  await evc.keys.answer(device.id, 'approved', ann);
  assert.is((await register(key, device)).code, 'registered');
});

test('no more devices wait with a key than it is good for', async () => {
  const key = await keyOf({ approval: true });
  const first = await register(key);
  await register(key);
  assert.is((await register(key)).code, 'enrol.key-used-up');
  assert.is((await register(key, first.device)).code, 'enrol.awaits-approval', 'who waits is not sent away');
  for (const { device } of await evc.keys.waiting()) await evc.keys.answer(device, 'refused', ann);
});

test('whom a person refused takes no place of those who wait, and is let in by itself no more than before', async () => {
  const key = await keyOf({ approval: true });
  const junk = [await register(key), await register(key)];
  assert.is((await register(key)).code, 'enrol.key-used-up');
  for (const { device } of junk) await evc.keys.answer(device.id, 'refused', ann);
  const honest = await register(key);
  assert.is(honest.code, 'enrol.awaits-approval');
  assert.is((await register(key)).code, 'enrol.awaits-approval');
  assert.is((await register(key)).code, 'enrol.key-used-up', 'no more wait than before');
  for (const { device } of junk) assert.is((await register(key, device)).code, 'enrol.not-approved');
  const stored = await evc.store.get<OnboardingKey>('onboarding-key', key.id);
  assert.is(stored?.waiting?.length, 2, 'asking again takes no place either');

  await evc.keys.answer(honest.device.id, 'approved', ann);
  assert.is((await register(key, honest.device)).code, 'registered');
  const [first] = junk;
  if (!first) throw new Error('none');
  await evc.keys.answer(first.device.id, 'approved', ann);
  assert.is((await register(key, first.device)).code, 'registered', 'a person thought otherwise');
  assert.is((await evc.keys.list()).find(({ id }) => id === key.id)?.used, 2);
  for (const { device } of await evc.keys.waiting()) await evc.keys.answer(device, 'refused', ann);
});

test('a key that let in many devices is as small as one that let in a few, and forgets none', async () => {
  const key = await keyOf({ limit: 300 });
  const admitted = (device: string) =>
    admitDevice(evc.store, bench.clock.now(), { key: key.certificate, device, serial: device });
  const stored = () => evc.store.get<OnboardingKey>('onboarding-key', key.id);
  const used = async () => (await evc.keys.list()).find(({ id }) => id === key.id)?.used;
  for (let i = 0; i < 200; i++) await admitted(`many-${i}`);
  assert.is((await stored())?.devices.length, 64);
  assert.is(await used(), 200);
  for (const again of ['many-0', 'many-135', 'many-136', 'many-199']) await admitted(again);
  assert.is(await used(), 200, 'the same device again costs nothing');

  // As documents were before: all devices in one list, those that had waited as well.
  const old = Array.from({ length: 299 }, (_, i) => `old-${i}`);
  await evc.store.update<OnboardingKey>('onboarding-key', key.id, (found) => {
    const { used: _, ...rest } = found as OnboardingKey;
    return { ...rest, devices: old, waiting: ['old-3', 'still'] };
  });
  await admitted('old-0');
  assert.is(await used(), 299);
  await admitted('many-new');
  assert.is(await used(), 300);
  assert.equal((await stored())?.waiting, ['still']);
  for (const again of ['old-0', 'old-298', 'many-new']) await admitted(again);
  await rejects(admitted('one-more'), EnrolmentRefused, ({ code }) => code === 'enrol.key-used-up');
});

test('an account asks for approval whatever the key says, and what has registered is not asked again', async () => {
  const key = await keyOf();
  const { device } = await register(key);
  await evc.accounts.change(account.id, { approval: true });
  assert.is((await register(key, device)).code, 'registered');
  assert.is((await register(key)).code, 'enrol.awaits-approval');
  await evc.accounts.change(account.id, { approval: false });
});

test.run();
