// The record of a device as EVC keeps it: pure transitions, so a test is what went in, what came out, and what is kept.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createActor, initialTransition, transition } from 'xstate';
import {
  type Account,
  type Attempt,
  type DeviceRecordContext,
  type DeviceRecordEvent,
  type DeviceRecordSnapshot,
  deviceRecord,
  type EkCertificate,
  type Identity,
  type Reply,
  type RequestRef,
} from '../../machines/device-record.ts';
import type { BaseOsConfig, Location, Verdict } from '../../machines/flow.ts';
import { hour, minute } from '../../machines/waiting.ts';
import type { Unstamped } from '../kit/chart.ts';
import { namelessOf, unusedOf } from '../kit/chart-rules.ts';
import { Coverage } from '../kit/coverage.ts';

type Event = Unstamped<DeviceRecordEvent>;
interface Effect {
  type: string;
  params: Record<string, unknown>;
}

const coverage = new Coverage(deviceRecord, deviceRecord);
const explored = new Coverage(deviceRecord, deviceRecord);
const start = Date.UTC(2026, 0, 1);
const factory: Account = {
  id: 'factory',
  kind: 'manufacturing',
  locationLock: false,
  radius: 100,
  moved: 'report',
};
const site: Account = { ...factory, id: 'site', kind: 'production', locationLock: true };
const identity: Identity = {
  akName: 'ak1',
  akPublic: '01',
  ekName: 'ek1',
  ekTrust: 'first-use',
  ecdhPublic: '02',
};
const otherTpm: Identity = { ...identity, akName: 'ak2', ekName: 'ek2' };
const here: Location = { latitude: 52, longitude: 13, accuracy: 5, at: start };
const there: Location = { ...here, latitude: 48 };
const versions = { image: '1.0', firmware: 'fw' };
const image: BaseOsConfig = {
  version: '2.0',
  url: 'https://evc/2.0',
  sha256: 'aa',
  size: 1,
  signature: 'AA',
  testWindow: minute,
  retryCounter: 0,
};
const clock = { resetCount: 1, restartCount: 0, clock: '1', safe: true, firmware: '1' };
const good: Verdict = {
  genuine: true,
  accepted: true,
  grounds: 'first-boot',
  findings: [],
  pcrs: { '0': '00' },
  logs: ['l1'],
  versions,
  location: { fix: null, vouched: false, moved: false },
  clock,
};
const unknownSoftware: Verdict = {
  ...good,
  accepted: false,
  grounds: null,
  findings: [{ code: 'policy.software.unknown', text: 'unknown' }],
  pcrs: { '0': '11' },
};
const forged: Verdict = {
  ...unknownSoftware,
  genuine: false,
  findings: [{ code: 'evidence.quote.signature', text: 'forged' }],
  pcrs: {},
  versions: null,
  clock: null,
};

class RecordRun {
  now = start;
  coverage = coverage;
  #requests = 0;
  #attempts = 0;
  snapshot: DeviceRecordSnapshot = initialTransition(deviceRecord)[0];
  /** Of the last event. */
  effects: Effect[] = [];

  get context(): DeviceRecordContext {
    return this.snapshot.context;
  }

  state(region: string): string {
    return (this.snapshot.value as Record<string, string>)[region] ?? '';
  }

  send(event: Event): this {
    const stamped = { ...event, at: this.now, dice: 0.5 } as DeviceRecordEvent;
    // As the runner has it: each step starts from what the store gives back.
    const stored = JSON.parse(JSON.stringify(deviceRecord.getPersistedSnapshot(this.snapshot)));
    // An actor tells which transitions a step takes; the pure function does not.
    const actor = createActor(deviceRecord, { snapshot: stored, inspect: this.coverage.inspect }).start();
    actor.send(stamped);
    actor.stop();
    const [next, actions] = transition(deviceRecord, deviceRecord.resolveState(stored), stamped);
    this.snapshot = next;
    this.effects = (actions as unknown as Effect[]).map(({ type, params }) => ({ type, params }));
    return this;
  }

  request(endpoint: RequestRef['endpoint']): RequestRef {
    return { endpoint, id: `r${++this.#requests}` };
  }

  all(type: string): Record<string, unknown>[] {
    return this.effects.filter((effect) => effect.type === type).map(({ params }) => params);
  }

  /** The one answer to the last event. */
  reply(): Reply {
    const replies = this.all('reply') as unknown as Reply[];
    assert.is(replies.length, 1, 'one answer');
    return replies[0] as Reply;
  }

  why(): string {
    const { body } = this.reply();
    return body && 'why' in body ? (body.why?.code ?? '') : '';
  }

  register(account = factory): this {
    return this.send({
      type: 'device.registered',
      request: this.request('register'),
      uuid: 'u1',
      serial: 's1',
      account,
      settings: { ntp: 'a' },
    });
  }

  certify(of = identity, taken = false): this {
    return this.send({
      type: 'certificate.received',
      request: this.request('attest'),
      identity: of,
      taken,
      challenge: { id: 'c1', credentialBlob: 'AA', encryptedSecret: 'AA' },
      proofHash: `proof of ${of.akName}`,
    });
  }

  prove(proof = 'proof of ak1', challenge = 'c1'): this {
    return this.send({
      type: 'proof.received',
      request: this.request('attest'),
      challenge,
      proofHash: proof,
    });
  }

  nonce(hash = 'n1'): this {
    return this.send({
      type: 'nonce.requested',
      request: this.request('attest'),
      salt: 'salt',
      nonceHash: hash,
    });
  }

  quote(nonceHash = 'n1'): this {
    const id = `a${++this.#attempts}`;
    const attempt: Attempt = {
      id,
      nonceHash,
      tokenHash: `t-${id}`,
      request: this.request('attest'),
      at: this.now,
    };
    return this.send({ type: 'quote.received', attempt });
  }

  judge(verdict: Verdict, basis = this.context.basis): this {
    return this.send({
      type: 'verdict.given',
      attempt: this.context.attempt?.id ?? 'none',
      verdict,
      basis,
      rotate: false,
    });
  }

  attest(verdict: Verdict): this {
    return this.nonce().quote().judge(verdict);
  }

  config(tokenHash: string | null = this.context.token?.hash ?? null, version = 0): this {
    return this.send({ type: 'config.requested', request: this.request('config'), tokenHash, version });
  }

  key(keyId: string, version: number, tokenHash = this.context.token?.hash ?? 'none'): this {
    return this.send({ type: 'key.received', request: this.request('attest'), tokenHash, keyId, version });
  }

  report(body: Record<string, unknown>): this {
    return this.send({ type: 'info.received', request: this.request('info'), key: 'base-os', body });
  }

  upgrade(until = this.now + hour, to = '2.0'): this {
    const baseOs = { ...image, version: to };
    return this.send({ type: 'upgrade.assigned', upgrade: { id: 'up1', from: '1.0', to, until, baseOs } });
  }
}

const registered = (account?: Account) => new RecordRun().register(account);
const certified = (account?: Account) => registered(account).certify().prove();
const trusted = (account?: Account) => certified(account).attest(good);

test('registration: once, and the same answer when it is sent again', () => {
  const record = new RecordRun().nonce();
  assert.is(record.why(), 'enrol.unknown-device');
  record.send({ type: 'uuid.requested', request: record.request('uuid') });
  assert.is(record.why(), 'enrol.unknown-device');
  record.register();
  assert.is(record.state('enrolment'), 'registered');
  assert.is(record.reply().body?.kind, 'registered');
  const { context } = record;
  record.register(site);
  assert.is(record.reply().body?.kind, 'registered');
  assert.equal(record.context.account, context.account);
  record.send({ type: 'uuid.requested', request: record.request('uuid') });
  assert.equal(record.reply().body, { kind: 'uuid', uuid: 'u1' });
});

test('certificate: a challenge, and the proof of the right TPM makes it certified', () => {
  const record = registered().certify();
  assert.equal(record.reply().body, {
    kind: 'certificate',
    challenge: { id: 'c1', credentialBlob: 'AA', encryptedSecret: 'AA' },
  });
  assert.is(record.context.identity, null, 'not before the proof');
  record.prove();
  assert.is(record.state('enrolment'), 'certified');
  assert.equal(record.context.identity, identity);
  assert.not.match(JSON.stringify(record.effects), 'proof of', 'what is right stays here');
});

test('certificate: a wrong proof, another challenge’s, a late one and a sixth one are refused', () => {
  assert.is(registered().certify().prove('wrong').why(), 'enrol.proof-wrong');
  assert.is(registered().certify().prove('proof of ak1', 'c0').why(), 'enrol.proof-wrong');
  assert.is(registered().prove().why(), 'enrol.proof-wrong');

  const late = registered().certify();
  late.now += 5 * minute;
  assert.is(late.prove().why(), 'enrol.proof-wrong');

  const guessing = registered().certify();
  for (let i = 0; i < 5; i++) guessing.prove('wrong');
  assert.is(guessing.prove().why(), 'enrol.proof-wrong', 'not even the right one after five wrong ones');
  assert.is(guessing.state('enrolment'), 'registered');
});

test('a device that lost its state folder registers again, and stays who it is', () => {
  const record = certified().register();
  assert.is(record.reply().body?.kind, 'registered');
  assert.is(record.state('enrolment'), 'certified');
});

const vouched: Identity = { ...identity, ekTrust: 'vendor' };
const strict: Account = { ...factory, requireEkCertificate: true };

test('[N42] another TPM is a finding, with when and which, and one entry however many come', () => {
  const record = trusted().certify(otherTpm);
  assert.equal(record.context.refusedEnrolment, {
    code: 'enrol.other-tpm',
    text: 'this device is enrolled with another TPM; a person has to allow its re-enrolment',
    ekName: 'ek2',
    akName: 'ak2',
    since: start,
    at: start,
    count: 1,
  });
  assert.is(record.state('integrity'), 'trusted', 'what a stranger shows changes no trust');
  const size = JSON.stringify(record.context).length;
  for (let i = 0; i < 1000; i++) {
    record.now += 1000;
    record.certify({ ...otherTpm, ekName: `ek${i % 10}` });
  }
  const { count, since, at, ekName } = record.context.refusedEnrolment ?? {};
  assert.equal([count, since, at, ekName], [1001, start, start + 1_000_000, 'ek9']);
  assert.ok(JSON.stringify(record.context).length < size + 20, 'a stranger does not fill the record');

  record.certify().prove();
  assert.is(record.context.refusedEnrolment?.code, 'enrol.other-tpm', 'it is not for the device to settle');
  record.send({ type: 'reenrolment.allowed', by: 'kim', reason: 'board swapped' });
  assert.is(record.context.refusedEnrolment, null);
});

test('[N47] a TPM that another device is enrolled with is refused, and seen', () => {
  const record = registered().certify(identity, true);
  assert.is(record.why(), 'enrol.tpm-taken');
  assert.is(record.reply().status, 'conflict');
  assert.is(record.context.pending, null);
  assert.is(record.context.refusedEnrolment?.code, 'enrol.tpm-taken');
  assert.is(trusted().certify(otherTpm, true).why(), 'enrol.other-tpm', 'first of all it is another one');
  record.certify().prove();
  assert.is(record.context.refusedEnrolment, null, 'its own TPM settles it');
});

test('keys that are none to be enrolled with are refused by name, and seen', () => {
  const refused = (record: RecordRun) =>
    record.send({
      type: 'certificate.refused',
      request: record.request('attest'),
      status: 'forbidden',
      ekName: 'ek1',
      akName: 'ak1',
      why: { code: 'enrol.ek-other-key', text: 'the certificate is for another key' },
    });
  const record = refused(registered());
  assert.is(record.why(), 'enrol.ek-other-key');
  assert.is(record.reply().status, 'forbidden');
  assert.is(record.context.refusedEnrolment?.code, 'enrol.ek-other-key');
  assert.is(refused(new RecordRun()).why(), 'enrol.unknown-device');
});

test('[N45] an account may insist on vendors: no credential for a TPM that none vouches for', () => {
  const record = registered(strict).certify();
  assert.is(record.why(), 'enrol.ek-required');
  const { body } = record.reply();
  assert.match(body?.kind === 'refused' ? body.why.text : '', 'the TPM has no certificate');
  assert.is(record.context.pending, null);
  assert.is(record.context.refusedEnrolment?.code, 'enrol.ek-required');
  record.certify({
    ...identity,
    ekTrust: 'unknown-vendor',
    ekCertificate: { ...certificate, why: { code: 'enrol.ek-unknown-issuer', text: 'nobody knows CN=X' } },
  });
  assert.match(record.context.refusedEnrolment?.text ?? '', 'nobody knows CN=X');
  record.certify(vouched).prove();
  assert.is(record.state('enrolment'), 'certified');
  assert.is(record.context.refusedEnrolment, null);
});

const certificate: EkCertificate = {
  vendor: 'Nuvoton',
  model: 'NPCT75x',
  version: '7.2',
  serial: '01',
  issuer: 'CN=EK CA',
  chain: ['CN=EK CA', 'CN=Root'],
  notAfter: start,
  sha256: 'aa',
  sent: ['AA=='],
};

test('[N45] a stricter account ends what the TPM was trusted for; a vendor that is known brings it back', () => {
  const record = trusted().send({ type: 'account.changed', account: strict });
  assert.is(record.state('integrity'), 'unattested');
  assert.is(record.context.token, null);
  assert.equal(record.all('push'), [{ what: 'attest' }]);
  assert.is(record.context.refusedEnrolment?.code, 'enrol.ek-required');
  record.nonce().quote();
  const { body } = record.reply();
  assert.ok(body?.kind === 'verdict' && body.code === 'noCertFound');
  assert.is(record.why(), 'enrol.ek-required');
  assert.equal(record.all('verify'), []);
  record.send({
    type: 'endorsement.judged',
    ekName: 'ek1',
    ekTrust: 'vendor',
    ekCertificate: certificate,
  });
  assert.equal(record.context.identity, { ...vouched, ekCertificate: certificate });
  assert.is(record.context.refusedEnrolment, null);
  assert.is(record.attest(good).state('integrity'), 'trusted');
  assert.is(trusted().send({ type: 'account.changed', account: factory }).state('integrity'), 'trusted');
});

test('a root that is taken away takes its trust along; what is said of another TPM is not believed', () => {
  const enrolled = () => registered(strict).certify(vouched).prove().attest(good);
  const record = enrolled();
  record.send({ type: 'endorsement.judged', ekName: 'ek9', ekTrust: 'first-use' });
  assert.equal(record.context.identity, vouched);
  assert.is(record.state('integrity'), 'trusted');
  record.send({ type: 'endorsement.judged', ekName: 'ek1', ekTrust: 'unknown-vendor' });
  assert.is(record.context.identity?.ekTrust, 'unknown-vendor');
  assert.match(record.context.refusedEnrolment?.text ?? '', 'no known vendor vouches for the TPM');
  assert.is(record.state('integrity'), 'unattested');
  assert.is(record.context.token, null);

  record.send({ type: 'account.changed', account: { ...strict, requireEkCertificate: false } });
  assert.is(record.context.refusedEnrolment, null, 'an account that takes it settles it');

  // A verdict that is under way counts no more.
  const verifying = registered(strict).certify(vouched).prove().nonce().quote();
  const attempt = verifying.context.attempt?.id ?? '';
  verifying.send({ type: 'endorsement.judged', ekName: 'ek1', ekTrust: 'first-use' });
  verifying.send({
    type: 'verdict.given',
    attempt,
    verdict: good,
    basis: verifying.context.basis,
    rotate: false,
  });
  assert.is(verifying.context.token, null);
  assert.equal(verifying.all('reply'), []);

  const lax = trusted().send({ type: 'endorsement.judged', ekName: 'ek1', ekTrust: 'first-use' });
  assert.is(lax.state('integrity'), 'trusted', 'an account that does not ask for a vendor');
});

test('another TPM is refused until a person allows it, once', () => {
  const record = trusted().certify(otherTpm);
  assert.is(record.reply().status, 'conflict');
  assert.is(record.why(), 'enrol.other-tpm');
  record.prove('proof of ak2');
  assert.equal(record.context.identity, identity);

  record.send({ type: 'reenrolment.allowed', by: 'kim', reason: 'board swapped' });
  record.certify(otherTpm).prove('proof of ak2');
  assert.equal(record.context.identity, otherTpm);
  assert.is(record.context.token, null, 'trust was in the other one');
  assert.is(record.state('integrity'), 'unattested');
  assert.is(record.context.clock, null, 'what another TPM counted says nothing about this one');
  assert.is(record.certify().why(), 'enrol.other-tpm');
});

test('nonce: lives for two minutes, and the verdict before it stands when it is not used', () => {
  const record = trusted().nonce();
  assert.is(record.state('integrity'), 'challenged');
  assert.equal(record.all('setTimer'), [{ timer: 'nonce', at: start + 2 * minute }]);
  record.send({ type: 'timer.due', timer: 'nonce' });
  assert.is(record.state('integrity'), 'challenged', 'a timer of before says nothing');
  record.now += 2 * minute;
  record.send({ type: 'timer.due', timer: 'nonce' });
  assert.is(record.state('integrity'), 'trusted');

  const refused = certified().attest(unknownSoftware).nonce();
  refused.now += 2 * minute;
  assert.is(refused.send({ type: 'timer.due', timer: 'nonce' }).state('integrity'), 'uud');

  const unattested = certified().nonce();
  unattested.now += 2 * minute;
  assert.is(unattested.send({ type: 'timer.due', timer: 'nonce' }).state('integrity'), 'unattested');
});

test('quote: without a nonce, with another one, with one that ran out, and a second time', () => {
  const without = certified().quote();
  assert.is(without.why(), 'evidence.nonce.none');
  assert.equal(without.all('verify'), []);

  assert.is(certified().nonce('n1').quote('n2').why(), 'evidence.nonce.other');

  const late = certified().nonce();
  late.now += 2 * minute;
  assert.is(late.quote().why(), 'evidence.nonce.expired');

  const twice = certified().nonce().quote();
  assert.is(twice.all('verify').length, 1);
  assert.is(twice.quote().why(), 'evidence.nonce.none', 'the nonce goes with the first quote');
  assert.is(twice.judge(good).quote().why(), 'evidence.nonce.none');
});

test('quote: EVC has to know the TPM first', () => {
  const record = registered().nonce().quote();
  const { body } = record.reply();
  assert.ok(body?.kind === 'verdict' && body.code === 'noCertFound');
  assert.equal(record.all('verify'), []);
});

test('verdict: approval gives the token and the newest key, and makes the first baseline', () => {
  const record = certified().attest(good);
  assert.is(record.state('integrity'), 'trusted');
  const { body } = record.reply();
  assert.ok(body?.kind === 'verdict');
  assert.is(body.code, 'success');
  assert.is(body.until, start + 24 * hour);
  assert.is(body.key, null);
  assert.equal(record.context.token, { hash: 't-a1', until: start + 24 * hour });
  assert.equal(record.context.baseline?.pcrs, good.pcrs);

  record
    .key('k1', 1)
    .key('k2', 2)
    .attest({ ...good, grounds: 'baseline' });
  const again = record.reply().body;
  assert.ok(again?.kind === 'verdict');
  assert.is(again.key?.keyId, 'k2');
});

test('verdict: refusal takes the token back and releases no key', () => {
  for (const [verdict, code] of [
    [unknownSoftware, 'policy.software.unknown'],
    [forged, 'evidence.quote.signature'],
  ] as const) {
    const record = trusted().key('k1', 1).attest(verdict);
    assert.is(record.state('integrity'), 'uud');
    const { body } = record.reply();
    assert.ok(body?.kind === 'verdict');
    assert.is(body.code, 'quoteFailed');
    assert.is(body.key, null);
    assert.is(body.until, 0);
    assert.is(record.why(), code);
    assert.is(record.context.token, null);
    assert.equal(record.all('clearTimer'), [{ timer: 'trust' }]);
    assert.equal(record.context.baseline?.pcrs, good.pcrs, 'the baseline stays');
  }
});

test('verdict: one that rests on what is not so any more is made again', () => {
  const record = trusted().nonce().quote();
  const { basis } = record.context;
  record.upgrade();
  record.judge({ ...good, grounds: 'baseline' }, basis);
  assert.is(record.state('integrity'), 'verifying');
  assert.equal(record.all('reply'), []);
  assert.is(record.all('verify').length, 1);
  record.judge({ ...good, grounds: 'baseline' });
  assert.is(record.state('integrity'), 'trusted');
});

test('verdict: one of another attempt counts nowhere', () => {
  const record = certified(site).nonce().quote();
  const located = { ...good, location: { fix: here, vouched: true, moved: false } };
  record.send({ type: 'verdict.given', attempt: 'a0', verdict: located, basis: 0, rotate: false });
  assert.is(record.state('integrity'), 'verifying');
  assert.is(record.context.place.locked, null);

  // The device gave up on the first attempt and asked for another nonce.
  const { basis } = record.nonce('n2').context;
  record.send({ type: 'verdict.given', attempt: 'a1', verdict: located, basis, rotate: false });
  assert.is(record.state('integrity'), 'challenged');
  assert.is(record.state('location'), 'baselinePending');
  assert.is(record.context.token, null);
});

test('token: good, missing, wrong, superseded and expired', () => {
  const record = trusted();
  assert.is(record.config().reply().body?.kind, 'config');
  assert.is(record.config('t-a1', 1).reply().status, 'unchanged');
  assert.is(record.config(null).why(), 'token.missing');
  assert.is(record.config('rubbish').why(), 'token.wrong');
  record.attest({ ...good, grounds: 'baseline' });
  assert.is(record.config('t-a1').why(), 'token.superseded');
  record.now += 24 * hour;
  assert.is(record.config('t-a2').why(), 'token.expired');
  record.send({ type: 'timer.due', timer: 'trust' });
  assert.is(record.state('integrity'), 'stale');
  assert.is(record.config('t-a2').why(), 'token.superseded');
});

test('trust that runs out while a new attestation is under way does not lose the attestation', () => {
  for (const busy of ['nonce', 'quote'] as const) {
    const record = trusted();
    record.now += 24 * hour - minute;
    record.nonce();
    if (busy === 'quote') record.quote();
    record.now += minute;
    record.send({ type: 'timer.due', timer: 'trust' });
    assert.is(record.context.token, null);
    if (busy === 'nonce') record.quote();
    record.judge({ ...good, grounds: 'baseline' });
    assert.is(record.state('integrity'), 'trusted');
    assert.is(record.reply().body?.kind, 'verdict');
  }
  const unused = trusted();
  unused.now += 24 * hour - minute;
  unused.nonce();
  unused.now += minute;
  unused.send({ type: 'timer.due', timer: 'trust' });
  unused.now += minute;
  assert.is(unused.send({ type: 'timer.due', timer: 'nonce' }).state('integrity'), 'stale');
});

test('configuration: whole for the trusted, the base OS alone for the refused, nothing before a verdict', () => {
  assert.is(certified().config('t').reply().status, 'forbidden');

  const full = trusted().config().reply().body;
  assert.ok(full?.kind === 'config' && !full.partial);
  assert.equal(full.settings, { ntp: 'a' });

  const refused = trusted().upgrade().attest(unknownSoftware).config().reply().body;
  assert.ok(refused?.kind === 'config' && refused.partial);
  assert.equal(refused.settings, {});
  assert.is(refused.baseOs?.version, '2.0', 'the way out');
  assert.is(refused.why?.code, 'policy.software.unknown');
});

test('escrow: with a good token alone, the last four, and the same one again changes nothing', () => {
  const record = trusted();
  assert.equal(record.key('k1', 1).reply().body, { kind: 'stored', keyId: 'k1', version: 1 });
  assert.is(record.state('escrow'), 'held');
  for (let version = 2; version <= 6; version++) record.key(`k${version}`, version);
  record.key('k6', 6);
  assert.equal(
    record.context.escrow.map(({ version }) => version),
    [6, 5, 4, 3],
  );
  assert.is(record.key('k7', 7, 'rubbish').why(), 'token.wrong');
  record.attest(unknownSoftware).key('k7', 7, 't-a1');
  assert.is(record.why(), 'token.superseded');
  assert.is(record.context.escrow[0]?.version, 6);
});

test('rotation: asked for with the next approval, and fulfilled by a new key alone', () => {
  const record = trusted().key('k1', 1).send({ type: 'rotation.asked' });
  assert.equal(record.all('push'), [{ what: 'attest' }]);
  record.attest({ ...good, grounds: 'baseline' });
  const { body } = record.reply();
  assert.ok(body?.kind === 'verdict' && body.rotate);
  assert.is(record.key('k1', 1).context.rotate, true);
  assert.is(record.key('k2', 2).context.rotate, false);
});

test('upgrade: pushed, approved, committed', () => {
  const record = trusted().upgrade();
  assert.is(record.state('software'), 'upgrading');
  assert.equal(record.all('push'), [{ what: 'config' }]);
  assert.equal(record.all('setTimer'), [{ timer: 'upgrade', at: start + hour }]);
  record.attest({ ...good, grounds: 'upgrade', pcrs: { '0': '22' } });
  assert.is(record.state('software'), 'testing');
  assert.equal(record.context.baseline?.pcrs, good.pcrs, 'the baseline stays until the commit');
  record.report({ state: 'idle', committed: '2.0' });
  assert.is(record.reply().body?.kind, 'noted');
  assert.is(record.state('software'), 'committed');
  assert.equal(record.context.baseline?.pcrs, { '0': '22' });
  assert.is(record.context.history.length, 1);
  assert.is(record.context.upgraded?.how, 'committed');
  assert.is(record.context.config.baseOs?.version, '2.0');
});

test('upgrade: a commit that EVC did not approve is only a report', () => {
  const record = trusted().upgrade().report({ state: 'idle', committed: '2.0' });
  assert.is(record.state('software'), 'upgrading');
  assert.is(record.reply().body?.kind, 'noted');
});

test('upgrade: rolled back by the report of a failure, by the old image, and by the end of its window', () => {
  const failed = trusted().upgrade();
  failed.report({ failed: '1.5', retryCounter: 0 });
  assert.is(failed.state('software'), 'upgrading', 'another image');
  failed.report({ failed: '2.0', retryCounter: 0, why: { code: 'baseos.self-test', text: 'broken' } });
  assert.is(failed.state('software'), 'rolledBack');
  assert.is(failed.context.upgraded?.why?.code, 'baseos.self-test');
  assert.is(failed.context.config.baseOs, null, 'what failed is not wanted any more');
  assert.equal(failed.all('clearTimer'), [{ timer: 'upgrade' }]);

  const approvedFirst = trusted()
    .upgrade()
    .attest({ ...good, grounds: 'upgrade' });
  approvedFirst.report({ failed: '2.0', retryCounter: 0 });
  assert.is(approvedFirst.state('software'), 'rolledBack');
  assert.is(approvedFirst.context.upgraded?.why?.code, 'baseos.failed');

  const fell = trusted()
    .upgrade()
    .attest({ ...good, grounds: 'upgrade' });
  fell.attest({ ...good, grounds: 'baseline' });
  assert.is(fell.state('software'), 'rolledBack');
  assert.is(fell.context.upgraded?.why?.code, 'baseos.fell-back');
  assert.is(fell.context.candidate, null);

  for (const approved of [false, true]) {
    const late = trusted().upgrade();
    if (approved) late.attest({ ...good, grounds: 'upgrade' });
    late.send({ type: 'timer.due', timer: 'upgrade' });
    assert.not.equal(late.state('software'), 'rolledBack', 'not before its time');
    late.now += hour;
    late.send({ type: 'timer.due', timer: 'upgrade' });
    assert.is(late.state('software'), 'rolledBack');
    assert.is(late.context.upgraded?.why?.code, 'policy.upgrade.window-closed');
  }
});

test('upgrade: approved in its window and committed beyond it, it is committed; not once the old image was seen', () => {
  const closed = () => {
    const record = trusted()
      .upgrade()
      .attest({ ...good, grounds: 'upgrade', pcrs: { '0': '22' } });
    record.now += hour;
    return record.send({ type: 'timer.due', timer: 'upgrade' });
  };
  const late = closed().attest(unknownSoftware);
  late.report({ state: 'idle', committed: '1.5' });
  assert.is(late.state('software'), 'rolledBack', 'another image');
  late.report({ state: 'idle', committed: '2.0' });
  assert.is(late.reply().body?.kind, 'noted');
  assert.is(late.state('software'), 'committed');
  assert.equal(late.context.baseline?.pcrs, { '0': '22' });
  assert.equal([late.context.upgraded?.how, late.context.upgraded?.why], ['committed', null]);

  const fell = closed().attest({ ...good, grounds: 'baseline' });
  fell.report({ state: 'idle', committed: '2.0' });
  assert.is(fell.state('software'), 'rolledBack');
  assert.equal(fell.context.baseline?.pcrs, good.pcrs);
});

test('upgrade: the failure of an earlier try says nothing about a new one', () => {
  const record = trusted();
  record.send({
    type: 'upgrade.assigned',
    upgrade: {
      id: 'up2',
      from: '1.0',
      to: '2.0',
      until: start + hour,
      baseOs: { ...image, retryCounter: 1 },
    },
  });
  record.report({ failed: '2.0', retryCounter: 0 });
  assert.is(record.state('software'), 'upgrading');
  record.report({ failed: '2.0', retryCounter: 1 });
  assert.is(record.state('software'), 'rolledBack');
});

test('acceptance: of the very evidence that was refused and is genuine, and used up when it is shown', () => {
  const record = trusted().attest(unknownSoftware);
  const accept = (attempt: string) =>
    record.send({ type: 'state.accepted', attempt, by: 'kim', reason: 'new BIOS' });
  accept('a1');
  assert.is(record.context.acceptance, null);
  accept('a2');
  assert.equal(record.context.acceptance?.pcrs, { '0': '11' });
  assert.equal(record.all('push'), [{ what: 'attest' }]);
  record.attest({ ...unknownSoftware, accepted: true, grounds: 'acceptance', findings: [] });
  assert.is(record.context.acceptance, null);
  assert.equal(record.context.baseline?.pcrs, { '0': '11' });

  const fake = trusted().attest(forged);
  fake.send({ type: 'state.accepted', attempt: 'a2', by: 'kim', reason: 'x' });
  assert.is(fake.context.acceptance, null, 'a person accepts software, and no forgery');
});

test('location: the first vouched and trusted one is locked; not in a manufacturing account', () => {
  const at = (fix: Location | null, vouched: boolean, moved = false): Verdict => ({
    ...good,
    grounds: 'baseline',
    location: { fix, vouched, moved },
  });
  const record = certified(site).attest(at(here, false));
  assert.is(record.state('location'), 'baselinePending', 'nothing vouches for it');
  record.attest(at(null, true));
  assert.is(record.state('location'), 'baselinePending');
  record.attest(at(here, true));
  assert.is(record.state('location'), 'locked');
  assert.equal(record.context.place.locked, here);

  assert.is(certified().attest(at(here, true)).state('location'), 'notLocked');

  record.attest(at(there, true, true));
  assert.is(record.state('location'), 'umd');
  assert.is(record.state('integrity'), 'trusted', 'this account only reports');
  record.attest(at(null, true));
  assert.is(record.state('location'), 'umd', 'no fix is no return');
  record.attest(at(here, true));
  assert.is(record.state('location'), 'locked');

  record.attest(at(there, true, true));
  record.send({ type: 'account.changed', account: { ...site, radius: 300 } });
  assert.is(record.state('location'), 'umd', 'another radius says nothing about where it is now');
  record.send({ type: 'place.accepted', by: 'kim', reason: 'moved' });
  assert.is(record.state('location'), 'locked');
  assert.equal(record.context.place.locked, there);

  record.send({ type: 'account.changed', account: { ...site, radius: 500 } });
  assert.is(record.state('location'), 'locked');
  assert.equal(record.context.place.locked, there, 'another radius is no other place');
  record.send({ type: 'account.changed', account: factory });
  assert.is(record.state('location'), 'notLocked');
  assert.is(record.context.place.locked, null);
  record.send({ type: 'account.changed', account: site });
  assert.is(record.state('location'), 'baselinePending');
  record.send({ type: 'account.changed', account: { ...site, locationLock: false } });
  record.send({ type: 'account.changed', account: site });
  assert.is(record.state('location'), 'baselinePending', 'the lock was turned on');

  record.attest(at(here, true));
  record.send({ type: 'account.changed', account: { ...site, id: 'other' } });
  assert.is(record.state('location'), 'baselinePending', 'another enterprise has its own first place');
  assert.is(record.context.place.locked, null);
});

test('location: an account that blocks what moved gives neither token nor key', () => {
  const at = (fix: Location, moved: boolean): Verdict => ({
    ...good,
    grounds: 'baseline',
    location: { fix, vouched: true, moved },
  });
  const record = certified({ ...site, moved: 'block' })
    .attest(at(here, false))
    .key('k1', 1)
    .attest(at(there, true));
  assert.is(record.state('location'), 'umd');
  assert.is(record.state('integrity'), 'uud');
  assert.is(record.context.token, null);
  const { body } = record.reply();
  assert.ok(body?.kind === 'verdict' && body.key === null);
  assert.is(record.why(), 'policy.location.blocked');
});

test('location: a device that is away and blocked does not come back by saying nothing, or by registering again', () => {
  const at = (fix: Location | null, moved: boolean, vouched = true): Verdict => ({
    ...good,
    grounds: 'baseline',
    location: { fix, vouched, moved },
  });
  const record = certified({ ...site, moved: 'block' })
    .attest(at(here, false))
    .key('k1', 1);
  record.attest(at(there, true));
  for (const silent of [at(null, false), at(here, false, false)]) {
    record.attest(silent);
    assert.is(record.state('integrity'), 'uud');
    assert.is(record.context.token, null);
    assert.is(record.context.verdict?.accepted, false);
    const { body } = record.reply();
    assert.ok(body?.kind === 'verdict' && body.code === 'quoteFailed' && body.key === null);
    assert.is(record.why(), 'policy.location.blocked');
  }
  record.register();
  assert.is(record.state('location'), 'umd');
  record.attest(at(there, true));
  assert.equal(record.context.place.locked, here);
  assert.is(record.state('integrity'), 'uud');
  record.attest(at(here, false));
  assert.equal([record.state('integrity'), record.state('location')], ['trusted', 'locked']);
  record.register();
  assert.is(record.state('location'), 'locked');
});

test('retired is the end: nothing is given, and nothing brings it back', () => {
  const record = trusted().key('k1', 1).certify();
  record.send({ type: 'device.retired', by: 'kim', reason: 'sold' });
  assert.is(record.state('enrolment'), 'retired');
  assert.equal(record.all('clearTimer'), [{ timer: 'nonce' }, { timer: 'trust' }]);
  assert.is(record.register().why(), 'enrol.retired');
  assert.is(record.config('t-a1').why(), 'enrol.unknown-device');
  assert.is(record.nonce().why(), 'enrol.unknown-device');
  assert.is(record.quote().why(), 'enrol.unknown-device');
  assert.is(record.certify().why(), 'enrol.unknown-device');
  assert.is(record.key('k2', 2, 't-a1').why(), 'enrol.unknown-device');
  assert.is(record.report({}).why(), 'enrol.unknown-device');
  assert.is(record.prove().why(), 'enrol.unknown-device', 'the challenge of before is void');
  assert.is(record.state('enrolment'), 'retired');
});

test('link and settings', () => {
  const record = registered();
  assert.is(record.state('link'), 'online');
  record.send({ type: 'link.changed', online: false });
  assert.is(record.state('link'), 'offline');
  record.send({ type: 'link.changed', online: true });
  assert.is(record.state('link'), 'online');
  record.send({ type: 'settings.changed', settings: { ntp: 'b' } });
  assert.is(record.context.config.version, 2);
  assert.equal(record.all('push'), [{ what: 'config' }]);
});

/** Mulberry32. */
function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const moved = { fix: there, vouched: true, moved: true };
const moves: ((record: RecordRun) => unknown)[] = [
  (r) => r.register(),
  (r) => r.register(site),
  (r) => r.certify(),
  (r) => r.certify(otherTpm),
  (r) => r.prove(),
  (r) => r.prove('proof of ak2'),
  (r) => r.prove('wrong'),
  (r) => r.nonce(),
  (r) => r.nonce('n2'),
  (r) => r.quote(),
  (r) => r.quote('n2'),
  (r) => r.judge(good),
  (r) => r.judge({ ...good, grounds: 'baseline', location: { fix: here, vouched: true, moved: false } }),
  (r) => r.judge({ ...good, grounds: 'baseline', location: moved }),
  (r) => r.judge({ ...good, grounds: 'upgrade' }),
  (r) => r.judge({ ...good, grounds: 'acceptance' }),
  (r) => r.judge(unknownSoftware),
  (r) => r.judge(forged),
  (r) => r.judge(good, -1),
  (r) => r.config(),
  (r) => r.config('rubbish'),
  (r) => r.config(r.context.formerToken),
  (r) => r.key('k1', 1),
  (r) => r.key('k2', 2, 'rubbish'),
  (r) => r.report({ committed: '2.0' }),
  (r) => r.report({ failed: '2.0', retryCounter: 0 }),
  (r) => r.report({}),
  (r) => r.upgrade(),
  (r) => r.send({ type: 'state.accepted', attempt: r.context.verdict?.attempt ?? '', by: 'k', reason: 'x' }),
  (r) => r.send({ type: 'place.accepted', by: 'k', reason: 'x' }),
  (r) => r.send({ type: 'account.changed', account: factory }),
  (r) => r.send({ type: 'account.changed', account: { ...site, moved: 'block' } }),
  (r) => r.send({ type: 'rotation.asked' }),
  (r) => r.send({ type: 'reenrolment.allowed', by: 'k', reason: 'x' }),
  (r) => r.send({ type: 'uuid.requested', request: r.request('uuid') }),
  (r) => r.send({ type: 'link.changed', online: true }),
  (r) => r.send({ type: 'link.changed', online: false }),
  (r) => r.send({ type: 'timer.due', timer: 'nonce' }),
  (r) => r.send({ type: 'timer.due', timer: 'trust' }),
  (r) => r.send({ type: 'timer.due', timer: 'upgrade' }),
  (r) => {
    r.now += minute;
  },
  (r) => {
    r.now += 12 * hour;
  },
];

test('whatever comes in whatever order: one answer to each request, and nothing for who is not trusted', () => {
  for (let seed = 1; seed <= 150; seed++) {
    const roll = dice(seed);
    const record = seed % 2 ? new RecordRun() : trusted(seed % 4 ? site : factory);
    record.coverage = explored;
    const retireAt = seed % 5 === 0 ? 60 : -1;
    for (let step = 0; step < 120; step++) {
      if (step === retireAt) record.send({ type: 'device.retired', by: 'k', reason: 'x' });
      else
        holds(
          record,
          moves[Math.floor(roll() * moves.length)] as (record: RecordRun) => unknown,
          `seed ${seed}`,
        );
      if (retireAt >= 0 && step >= retireAt) assert.is(record.state('enrolment'), 'retired', `seed ${seed}`);
    }
  }
});

/** Makes one move, and checks what must be so after any. */
function holds(record: RecordRun, move: (record: RecordRun) => unknown, where: string): void {
  record.effects = [];
  const before = record.context;
  let event: Event | null = null;
  const send = record.send.bind(record);
  record.send = (sent) => {
    event = sent;
    return send(sent);
  };
  move(record);
  record.send = send;
  if (!event) return;
  const { type } = event as Event;
  const at = `${where}: ${type}`;

  const asks = type.endsWith('.requested') || type.endsWith('.received') || type === 'device.registered';
  const replies = record.all('reply').length;
  const started = record.all('verify').length;
  if (type === 'quote.received') assert.is(replies + started, 1, at);
  else if (asks) assert.is(replies, 1, at);
  else if (type === 'verdict.given') {
    const awaited = before.attempt !== null && (event as { attempt?: string }).attempt === before.attempt.id;
    assert.is(replies + started, awaited ? 1 : 0, at);
  } else assert.is(replies, 0, at);

  const { context } = record;
  if (record.state('integrity') === 'trusted') {
    assert.ok(context.token, at);
    assert.is(context.verdict?.accepted, true, at);
  }
  if (record.state('integrity') === 'verifying') assert.ok(context.attempt, at);
  if (record.state('integrity') === 'uud') assert.is(context.token, null, at);
  for (const { body } of record.all('reply') as unknown as Reply[]) {
    if (body?.kind === 'config' && !body.partial) assert.ok(before.token && before.active, at);
    if (body?.kind === 'stored') assert.ok(before.token && before.active, at);
    if (body?.kind === 'verdict' && (body.key || body.code === 'success')) {
      assert.is(record.state('integrity'), 'trusted', at);
    }
  }
}

test('everything is described and used, and every transition is taken', () => {
  assert.equal(namelessOf(deviceRecord), []);
  assert.equal(unusedOf(deviceRecord), []);
  console.log(
    `deviceRecord: its tests take ${coverage.taken} of ${coverage.total} transitions, the exploration ${explored.taken}`,
  );
  for (const name of coverage.missing) console.log(`  not by its tests: ${name}`);
  const missing = coverage.missing.filter((name) => explored.missing.includes(name));
  assert.equal(missing, []);
});

test.run();
