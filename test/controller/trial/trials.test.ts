// deadline: 120 s
// What a change would say of evidence that is kept: as the verdict was with nothing changed, and nothing is written.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OperatorError } from '../../../controller/decision.ts';
import { openEvidence } from '../../../controller/evidence.ts';
import { CatalogueError } from '../../../controller/images/error.ts';
import type { Store } from '../../../controller/store/store.ts';
import { type TrialOptions, type TrialPage, Trials } from '../../../controller/trial/trials.ts';
import { VerifierPool } from '../../../controller/verify/pool.ts';
import { ApiBench } from '../../kit/api.ts';
import { rejects } from '../../kit/rejects.ts';
import { storeWith } from '../../kit/stores.ts';

const bench = await ApiBench.open();
const { evc } = bench.evc;
const { trials, store, operator, runner, catalogue, curator } = evc;
const { uud, trusted, board } = await bench.devices();
test.after(async () => {
  await bench.close();
  await board.close();
});

const all = { limit: 50, attempts: 8 };
const blob = async (sha256: string) => (await store.blob(sha256)) ?? null;
const attempt = async () => (await runner.read(uud.id))?.context.verdict?.attempt ?? '';
/** The log of the firmware and the boot loader, as the device that is not trusted showed it. */
const shownLog = async () => {
  const bytes = await store.evidence(await attempt());
  assert.ok(bytes);
  const { boot } = await openEvidence(bytes, blob);
  return boot.logs.find(({ kind }) => kind === 'bios')?.bytes ?? new Uint8Array();
};
/** `device: before → after` of those that would be otherwise. */
const changes = ({ verdicts }: TrialPage) =>
  verdicts
    .filter((one) => one.changes)
    .map(({ serial, before, after }) => `${serial}: ${inShort(before)} → ${inShort(after)}`);
const inShort = ({ accepted, grounds, finding }: TrialPage['verdicts'][number]['after']) =>
  accepted ? grounds : finding?.code;
const coded = (wanted: string) => (error: { code: string }) => error.code === wanted;

/** Trials on a store, or with logs or time, that are otherwise. */
const trialsWith = (changed: Partial<Store>, more: Partial<TrialOptions> = {}) =>
  new Trials({
    store: storeWith(store, changed),
    operator,
    runner,
    catalogue,
    logs: { find: blob },
    verifier: new VerifierPool(0),
    ...more,
  });

test('with nothing changed every verdict comes out as it was given', async () => {
  const page = await trials.run({ ...all, policy: {} });
  assert.equal([page.devices, page.verdicts.length, page.skipped, page.next], [2, 3, [], null]);
  assert.equal(changes(page), []);
  assert.equal(
    page.verdicts.filter(({ device }) => device === uud.id).map(({ before }) => inShort(before)),
    ['policy.software.unknown', 'first-boot'],
    'newest first',
  );
});

test('an acceptance: what is shown would be trusted, and nothing is written', async () => {
  const stands = async () => [
    (await operator.show(uud.id)).revision,
    await store.journalEnd(),
    (await store.audits({ limit: 1000 })).length,
    (await store.ids('idempotency')).length,
  ];
  const before = await stands();
  const wanted = ['edge-01: policy.software.unknown → acceptance'];
  assert.equal(changes(await trials.run({ ...all, accept: {} })), wanted);
  assert.equal(changes(await trials.run({ ...all, accept: { device: 'edge-01' } })), wanted);
  const call = { body: { ...all, accept: {} } };
  const { status, json } = await bench.call('POST', '/api/v1/trials', call);
  assert.equal([status, changes(json as unknown as TrialPage)], [200, wanted]);
  assert.equal(await stands(), before);
  assert.is((await runner.read(uud.id))?.context.acceptance, null);
});

test('what one device shows says nothing of what another showed before', async () => {
  const page = await trials.run({ ...all, filter: 'serial:edge-02', accept: { device: 'edge-01' } });
  assert.equal([page.devices, page.verdicts.length, changes(page)], [1, 1, []]);
});

test('images: evidence that reports one would be trusted when all it measured is of it', async () => {
  await rejects(trials.run({ ...all, images: ['6.6.6'] }), CatalogueError, coded('image.unknown'));
  const log = await shownLog();
  const upgrade = { to: '6.6.6', logs: [Buffer.from(log).toString('base64')] };
  const wanted = ['edge-01: policy.software.unknown → upgrade'];
  const tried = await trials.run({ ...all, attempts: 1, policy: { upgrade } });
  assert.equal(changes(tried), wanted);
  await curator.addImage({ version: '6.6.6', logs: [log] });
  assert.equal(changes(await trials.run({ ...all, images: ['6.6.6'] })), wanted);
  const { entries } = await curator.image('6.6.6');
  await catalogue.add({
    version: '6.6.6',
    entries: entries.filter(({ pcr }) => pcr !== 8),
    source: { kind: 'log' },
    added: 1,
  });
  assert.equal(changes(await trials.run({ ...all, images: ['6.6.6'] })), [
    'edge-01: policy.software.unknown → policy.upgrade.unknown-entries',
  ]);
});

test('a baseline: another attempt of the device, what it shows, or none', async () => {
  const policy = { baseline: { attempt: (await attempt()).slice(0, 12) } };
  const page = await trials.run({ ...all, filter: 'serial:edge-01', policy });
  assert.equal(changes(page), [
    'edge-01: policy.software.unknown → baseline',
    'edge-01: first-boot → policy.software.unknown',
  ]);
  const shown = await trials.run({ ...all, policy: { baseline: 'shown' } });
  assert.ok(shown.verdicts.every(({ after }) => after.grounds === 'baseline'));
  const others = await trials.run({ ...all, filter: 'serial:edge-02', policy });
  assert.equal(
    others.skipped.map(({ why }) => why),
    ['attempt.unknown'],
    'an attempt of another device is none of this one',
  );
});

test('a rule allows what it names, and one that allows too much is none', async () => {
  const { verdicts } = await trials.run({ ...all, attempts: 1, policy: { rules: { remove: ['slots'] } } });
  assert.is(verdicts.length, 2);
  const page = await trials.run({
    ...all,
    policy: { rules: { add: [{ pcr: 5, match: { kind: 'digests', sha256: ['ab'.repeat(32)] } }] } },
  });
  assert.equal(changes(page), [], 'nobody showed that');
  for (const [policy, says] of [
    [{ rules: { add: [{ pcr: 4, match: { kind: 'slot-attributes' } }] } }, /^rules\.add\.0: .*PCR 5/],
    [{ location: { radius: 0 } }, /^location\.radius: /],
    [{ upgrade: { to: 'x', logs: ['!'] } }, /base64/],
    [{ upgrade: { to: 'x', logs: ['AAAA'] } }, /^upgrade\.logs: this is no log/],
    [{ surplus: 1 }, /surplus/],
  ] as const)
    await rejects(trials.run({ ...all, policy }), OperatorError, ({ code, message }) => {
      assert.match(message, says);
      return code === 'trial.policy';
    });
  await rejects(trials.run(all), OperatorError, coded('trial.nothing'));
});

test('what is not kept whole is skipped, and it is said why', async () => {
  const why = async (one: Trials) => {
    const { skipped, verdicts } = await one.run({ ...all, filter: 'serial:edge-01', policy: {} });
    return [...verdicts.map(() => 'judged'), ...skipped.map((skip) => skip.why)];
  };
  assert.equal(await why(trialsWith({})), ['judged', 'judged']);
  assert.equal(await why(trialsWith({ evidence: async () => null })), Array(2).fill('trial.evidence-gone'));
  assert.equal(await why(trialsWith({ attemptLines: async () => [] })), Array(2).fill('trial.basis-gone'));
  const none = trialsWith({}, { logs: { find: async () => null } });
  // The first boot was judged on no log but its own, which came with it.
  assert.equal((await why(none)).filter((one) => one === 'trial.log-gone').length > 0, true);
});

test('a page ends in time, and the next one goes on', async () => {
  let ms = 0;
  const slow = trialsWith({}, { mono: () => (ms += 1500) });
  const seen: string[] = [];
  let after = '';
  for (let pages = 1; ; pages++) {
    const page = await slow.run({ ...all, after, policy: {} });
    seen.push(...new Set(page.verdicts.map(({ serial }) => serial)));
    if (page.next === null) {
      assert.equal([pages, seen.sort(), page.devices], [1, ['edge-01', 'edge-02'], 2]);
      break;
    }
    after = page.next;
  }
  ms = 0;
  const slower = trialsWith({}, { mono: () => (ms += 3000) });
  const first = await slower.run({ ...all, policy: {} });
  assert.is(first.devices, 1);
  assert.ok(first.next);
  const second = await slower.run({ ...all, after: first.next, policy: {} });
  assert.equal([second.devices, second.next], [1, null]);
  assert.is.not(first.verdicts[0]?.device, second.verdicts[0]?.device);
});

test('two ask at a time, and a third is told so', async () => {
  const asked = [1, 2, 3].map(() => trials.run({ ...all, policy: {} }));
  await rejects(asked[2] as Promise<unknown>, OperatorError, coded('trial.busy'));
  const pages = await Promise.all(asked.slice(0, 2));
  assert.equal(
    pages.map(({ devices }) => devices),
    [2, 2],
  );
  assert.is((await trials.run({ ...all, policy: {} })).devices, 2);
});

test('devices of other accounts are not there', async () => {
  const accounts = ['plant'];
  assert.is((await trials.run({ ...all, accounts, policy: {} })).devices, 0);
  await rejects(
    trials.run({ ...all, accounts, accept: { device: 'edge-01' } }),
    OperatorError,
    coded('device.unknown'),
  );
  await rejects(
    trials.run({ ...all, accept: { device: trusted.id } }),
    OperatorError,
    coded('device.nothing-to-accept'),
  );
});

test.run();
