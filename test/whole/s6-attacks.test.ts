// S6: each attack fails for its own reason, and nothing is released.

import { randomBytes } from 'node:crypto';
import { renameSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseLog } from '../../formats/eventlog/parse.ts';
import { writeLog } from '../../formats/eventlog/write.ts';
import { attestationKey, deviceKey } from '../../formats/tpm2/templates.ts';
import { encodeFrame } from '../../formats/wire/frame.ts';
import { formatTopic } from '../../formats/wire/topics.ts';
import type { QuoteReply } from '../../machines/attest-task.ts';
import { Attacker, type Plan } from '../kit/attacker.ts';
import { inWorld, type World, type WorldDevice } from '../kit/world.ts';

const minute = 60_000;

async function victim(world: World): Promise<{ device: WorldDevice; attacker: Attacker }> {
  const device = await world.addDevice();
  await world.attested(device);
  return { device, attacker: new Attacker(world, device) };
}

/** Refused, for this reason, with no key, no trust and no configuration for the token that was proposed. */
async function refused(
  world: World,
  device: WorldDevice,
  attacker: Attacker,
  reply: QuoteReply,
  code: string,
): Promise<void> {
  assert.is(reply.why?.code, code);
  assert.is.not(reply.code, 'success');
  assert.is(reply.key, null);
  assert.is(reply.until, 0);
  assert.is.not(await attacker.config(attacker.token), 'full');
  if (reply.code === 'quoteFailed') assert.is(await world.trust(device), 'uud');
}

/** An attack on the evidence alone: true evidence with one thing spoiled. */
function attack(what: string, code: string, plan: Plan): void {
  test(`${what}: ${code}`, () =>
    inWorld(async (world) => {
      const { device, attacker } = await victim(world);
      await refused(world, device, attacker, await attacker.attempt(plan), code);
    }));
}

test('the attacker’s evidence is true where nothing is spoiled', () =>
  inWorld(async (world) => {
    const { attacker } = await victim(world);
    const reply = await attacker.attempt();
    assert.is(reply.code, 'success');
    assert.ok(reply.key);
    assert.is(await attacker.config(attacker.token), 'full');
  }));

test('an old quote replayed, with another nonce out: evidence.nonce.other', () =>
  inWorld(async (world) => {
    const { device, attacker } = await victim(world);
    const old = await attacker.draft();
    await attacker.nonce();
    const reply = await attacker.send(old);
    assert.is(reply.code, 'nonceMismatch');
    await refused(world, device, attacker, reply, 'evidence.nonce.other');
  }));

test('an old quote under a new nonce: evidence.quote.nonce', () =>
  inWorld(async (world) => {
    const { device, attacker } = await victim(world);
    const old = await attacker.draft();
    const reply = await attacker.send({ ...old, nonce: await attacker.nonce() });
    await refused(world, device, attacker, reply, 'evidence.quote.nonce');
  }));

test('[N10] a nonce used twice: evidence.nonce.none', () =>
  inWorld(async (world) => {
    const { attacker } = await victim(world);
    const draft = await attacker.draft();
    assert.is((await attacker.send(draft)).code, 'success');
    const again = await attacker.send(draft);
    assert.is(again.code, 'nonceMismatch');
    assert.is(again.why?.code, 'evidence.nonce.none');
    assert.is(again.key, null);
  }));

test('a nonce after its time: evidence.nonce.none, since it is taken back', () =>
  inWorld(async (world) => {
    const { device, attacker } = await victim(world);
    const draft = await attacker.draft();
    await world.run(3 * minute);
    await refused(world, device, attacker, await attacker.send(draft), 'evidence.nonce.none');
  }));

test('a nonce that was never handed out: evidence.nonce.none', () =>
  inWorld(async (world) => {
    const { device, attacker } = await victim(world);
    await refused(
      world,
      device,
      attacker,
      await attacker.attempt({ nonce: randomBytes(32) }),
      'evidence.nonce.none',
    );
  }));

test('a quote of another TPM: evidence.quote.signature', () =>
  inWorld(async (world) => {
    const { device, attacker } = await victim(world);
    const other = await world.addDevice();
    await world.attested(other);
    await refused(
      world,
      device,
      attacker,
      await attacker.attempt({ quoteOf: other }),
      'evidence.quote.signature',
    );
  }));

test('[N43] a signature key that is not in the endorsement key’s TPM: enrol.proof-wrong, and a third try changes nothing', () =>
  inWorld(async (world) => {
    const { device, attacker } = await victim(world);
    const other = await world.addDevice();
    await world.attested(other);
    await world.evc.operator.allowReenrolment(device.id, 'tester', 'so that the proof is what refuses');
    const evc = await attacker.node.evc();
    const mine = other.node.node?.bus.latest('tpm-manager/EdgeNodeCert');
    const theirs = await latestCert(world, device);
    // The attestation key of one TPM with the endorsement key of another.
    const mixed = { ...theirs, ...(mine as typeof theirs), ekPublic: theirs.ekPublic, ekCertificate: '' };
    const { signal } = new AbortController();
    const { challenge } = await attacker.during(evc.sendCertificate(mixed, signal));
    assert.ok(challenge);
    const opened = await attacker.node.tpm
      .activate(
        Buffer.from(challenge.credentialBlob, 'base64'),
        Buffer.from(challenge.encryptedSecret, 'base64'),
      )
      .then(
        () => 'opened',
        (error: Error & { rcName?: string }) => error.rcName ?? error.name,
      );
    assert.is.not(opened, 'opened');
    for (let tries = 0; tries < 3; tries++) {
      const proof = attacker.during(evc.sendProof(challenge.id, randomBytes(32).toString('hex'), signal));
      assert.is(
        await proof.then(
          () => 'accepted',
          (error) => (error as { code: string }).code,
        ),
        'enrol.proof-wrong',
      );
    }
  }));

test('an attestation key that signs what its holder likes: evidence.identity.key', () =>
  inWorld(async (world) => {
    const { device, attacker } = await victim(world);
    const evc = await attacker.node.evc();
    const cert = await latestCert(world, device);
    const { device: unrestricted } = await attacker.node.tpm.keys();
    const akPublic = Buffer.from(unrestricted.publicBytes).toString('hex');
    const sent = attacker.during(evc.sendCertificate({ ...cert, akPublic }, new AbortController().signal));
    assert.is(
      await sent.then(
        () => 'accepted',
        (error) => (error as { code: string }).code,
      ),
      'evidence.identity.key',
    );
    assert.not(unrestricted.public.objectAttributes.restricted);
    assert.ok(attestationKey.objectAttributes.restricted && !deviceKey.objectAttributes.restricted);
  }));

test('[N42] another TPM under a known device: enrol.other-tpm, until a person allows it', () =>
  inWorld(async (world) => {
    const { device, attacker } = await victim(world);
    const other = await world.addDevice();
    await world.attested(other);
    const evc = await attacker.node.evc();
    const theirs = await latestCert(world, other);
    const { signal } = new AbortController();
    const send = () =>
      attacker.during(evc.sendCertificate(theirs, signal)).then(
        ({ challenge }) => (challenge ? 'challenged' : 'known'),
        (error) => (error as { code: string }).code,
      );
    assert.is(await send(), 'enrol.other-tpm');
    const seen = (await world.view(device)).refusedEnrolment;
    assert.is(seen?.code, 'enrol.other-tpm');
    assert.is(seen?.akName, theirs.name);
    assert.is(seen?.at, world.clock.now());
    assert.is(await world.trust(device), 'trusted', 'what a stranger shows changes no trust');
    await world.evc.operator.allowReenrolment(device.id, 'tester', 'the board was swapped');
    assert.is((await world.view(device)).refusedEnrolment, null);
    // Nobody lends a TPM to a device while it answers for its own.
    assert.is(await send(), 'enrol.tpm-taken');
    await world.evc.operator.retire(other.id, 'tester', 'its TPM moved');
    assert.is(await send(), 'challenged');
  }));

attack('a log cut short', 'evidence.log.mismatch', {
  spoil: (draft) => withoutEvent(draft, (count) => count - 1),
});
attack('a log with an event more', 'evidence.log.mismatch', { spoil: (draft) => repeatEvent(draft) });
attack('a log reordered', 'evidence.log.mismatch', { spoil: (draft) => swapEvents(draft) });
attack('a log with one digest changed', 'evidence.log.mismatch', { spoil: (draft) => changeDigest(draft) });
attack('a log cut in the middle of an event', 'evidence.log.truncated', {
  spoil: ({ logs }) => {
    const [bios] = logs;
    if (bios) bios.bytes = bios.bytes.subarray(0, bios.bytes.length - 5);
  },
});
attack('no log', 'evidence.log.absent', { spoil: (draft) => draft.logs.splice(0) });
attack('a log that replays and whose event data was edited', 'evidence.log.data-edited', {
  spoil: (draft) => editData(draft),
});
attack('a quote over fewer PCRs', 'evidence.quote.selection', { pcrs: [0, 1, 2, 3, 4, 5, 6, 7] });
attack('PCR values beside the quote that it does not cover', 'evidence.quote.selection', {
  pcrs: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13],
  spoil: ({ quote }) => quote.pcrs.set(14, Buffer.alloc(32, 1)),
});
attack('other PCR values than the quote covers', 'evidence.quote.digest', {
  spoil: ({ quote }) => quote.pcrs.set(9, Buffer.alloc(32, 1)),
});
attack('a broken signature of the quote', 'evidence.quote.signature', {
  spoil: ({ quote }) => {
    quote.signature[quote.signature.length - 1] = (quote.signature.at(-1) ?? 0) ^ 1;
  },
});
test('a forgery in between does not make EVC forget what the TPM counted', () =>
  inWorld(async (world) => {
    const { device, attacker } = await victim(world);
    const before = (await world.evc.runner.read(device.id))?.context.clock;
    assert.ok(before);
    const bad = await attacker.attempt({
      spoil: ({ quote }) => {
        quote.signature[quote.signature.length - 1] = (quote.signature.at(-1) ?? 0) ^ 1;
      },
    });
    assert.is(bad.why?.code, 'evidence.quote.signature');
    assert.equal((await world.evc.runner.read(device.id))?.context.clock, before);
  }));

attack('claims swapped under a valid quote', 'evidence.quote.nonce', {
  spoil: (draft) => {
    draft.claims = Uint8Array.from(draft.claims);
    draft.claims[draft.claims.length - 1] = (draft.claims.at(-1) ?? 0) ^ 1;
  },
});
attack('an empty quote from a device that had a TPM before', 'evidence.quote.absent', {
  spoil: (draft) => {
    draft.quote = { attest: new Uint8Array(), signature: new Uint8Array(), pcrs: new Map() };
  },
});

test('an unknown version that names known events is UUD by what it measured, not by what it says', () =>
  inWorld(async (world) => {
    const { device, attacker } = await victim(world);
    // Known PCRs under a false name: what runs is the baseline, whatever it calls itself.
    const reply = await attacker.attempt({ versions: { image: '9.9.9', firmware: 'x' } });
    assert.is(reply.code, 'success');
    // Other software under the name of a pushed image.
    await world.offerImage({ version: '2.0.0' });
    await world.evc.operator.assignUpgrade(device.id, {
      version: '2.0.0',
      window: 60 * minute,
      testWindow: minute,
    });
    device.net.cutAtImage = '2.0.0';
    await attacker.node.tpm.tpm.pcrExtend(9, { sha256: Buffer.alloc(32, 1) });
    const bad = await attacker.attempt({ versions: { image: '2.0.0', firmware: '1.0.0' } });
    // Its log does not explain what it did, so it does not even get as far as the policy.
    await refused(world, device, attacker, bad, 'evidence.log.mismatch');
  }));

test('an upgrade that EVC did not push: policy.upgrade.not-pushed', () =>
  softwareAttack('2.0.0', 'policy.upgrade.not-pushed', { known: true }));
test('an image that nobody knows: policy.software.unknown', () =>
  softwareAttack('2.0.0', 'policy.software.unknown', { known: false }));
test('another image than the one that EVC pushed: policy.upgrade.other-version', () =>
  softwareAttack('2.0.0', 'policy.upgrade.other-version', { known: true, pushed: '3.0.0' }));

test('an older image than the committed one: policy.version.older', () =>
  inWorld(async (world) => {
    const { device } = await victim(world);
    await world.offerImage({ version: '2.0.0' });
    await world.evc.operator.assignUpgrade(device.id, {
      version: '2.0.0',
      window: 60 * minute,
      testWindow: minute,
    });
    await world.until(
      'it is committed',
      async () => (await world.view(device)).upgraded?.how === 'committed',
      60 * minute,
    );
    await world.attested(device);
    // Somebody points the boot loader at the old slot.
    world.bootSlot(device, 'IMGA');
    // Where the image is at hand, a fast device may heal itself before it is judged.
    const committed = world.evc.catalogue.file((await world.evc.catalogue.get('2.0.0'))?.sha256 ?? '');
    renameSync(committed, `${committed}.away`);
    const steps = world.steps.length;
    await device.node.reboot('test');
    const refusals = () =>
      world.steps
        .slice(steps)
        .flatMap(({ event }) =>
          event.type === 'verdict.given' && !event.verdict.accepted ? [event.verdict] : [],
        );
    await world.until('the old image is refused', () => refusals().length > 0, 10 * minute);
    assert.is(refusals()[0]?.findings[0]?.code, 'policy.version.older');
    renameSync(`${committed}.away`, committed);
    // The partial configuration names the committed image, so the device heals itself.
    await world.until(
      'it runs the committed image',
      async () => (await world.trust(device)) === 'trusted',
      60 * minute,
    );
    assert.is((await world.view(device)).verdict?.versions?.image, '2.0.0');
  }));

test('[N14] tokens: guessed, of another device, of the boot before, none', () =>
  inWorld(async (world) => {
    const { device, attacker } = await victim(world);
    const other = await victim(world);
    assert.is(await attacker.config(randomBytes(32)), 'token.wrong');
    assert.is(await attacker.config(null), 'token.missing');
    const theirs = other.device.node.node?.vault.backend.get('itoken') ?? null;
    assert.is(await attacker.config(theirs), 'token.wrong');
    const before = device.node.node?.vault.backend.get('itoken') ?? null;
    assert.is(await attacker.config(before), 'full');
    await device.node.reboot('test');
    await world.attested(device);
    assert.is(await attacker.config(before), 'token.superseded');
  }));

test('a device that publishes on another device’s topic is cut, and the other one hears nothing of it', () =>
  inWorld(async (world) => {
    const { device, attacker } = await victim(world);
    const other = await victim(world);
    const steps = world.steps.length;
    const topic = formatTopic({ device: other.device.id, direction: 'up', endpoint: 'attest', request: 'x' });
    const frame = encodeFrame({
      kind: 'request',
      status: 0,
      retryAfter: 0,
      patience: 0,
      container: randomBytes(100),
    });
    await attacker.publishRaw(topic, frame);
    await world.quiet();
    assert.ok(world.refused.some((line) => line.startsWith('acl.publish') && line.includes(device.id)));
    assert.is(world.steps.slice(steps).filter((step) => step.device === other.device.id).length, 0);
    await world.attested(device);
  }));

test('a message with a broken signature, or signed by another key: wire.signature', () =>
  inWorld(async (world) => {
    const { attacker } = await victim(world);
    const evc = await attacker.evcSignedBy(async () => randomBytes(64));
    const asked = attacker.during(evc.requestNonce(new AbortController().signal));
    assert.is(
      await asked.then(
        () => 'answered',
        (error) => (error as { code: string }).code,
      ),
      'wire.signature',
    );
  }));

async function softwareAttack(
  image: string,
  code: string,
  how: { known: boolean; pushed?: string },
): Promise<void> {
  await inWorld(async (world) => {
    const { device } = await victim(world);
    if (how.known) await world.offerImage({ version: image });
    // The upgrade that is under way cannot be fetched, so the device runs what somebody else put there.
    if (how.pushed) {
      await world.offerImage({ version: how.pushed });
      device.net.up = false;
      await device.node.reboot('test');
      await world.evc.operator.assignUpgrade(device.id, {
        version: how.pushed,
        window: 600 * minute,
        testWindow: minute,
      });
    }
    await world.replaceImage(device, { version: image });
    device.net.up = true;
    await device.node.reboot('test');
    await world.until('the device is UUD', async () => (await world.trust(device)) === 'uud', 30 * minute);
    assert.is((await world.view(device)).verdict?.findings[0]?.code, code);
    assert.not(device.node.node?.vault.unlocked);
  });
}

async function latestCert(world: World, device: WorldDevice) {
  const topic = 'tpm-manager/EdgeNodeCert';
  await world.until(
    'the certificate is published',
    () => device.node.node?.bus.latest(topic) !== undefined,
    10 * minute,
  );
  return device.node.node?.bus.latest(topic) as import('../../machines/tpm-manager.ts').EdgeNodeCert;
}

type Draft = Parameters<NonNullable<Plan['spoil']>>[0];

function edit(draft: Draft, change: (events: ReturnType<typeof fieldsOf>) => void): void {
  const bios = draft.logs[0];
  if (!bios) throw new TypeError('no log to spoil');
  const log = parseLog(bios.bytes);
  const events = fieldsOf(log);
  change(events);
  bios.bytes = writeLog({ format: log.format, events });
}

function fieldsOf(log: ReturnType<typeof parseLog>) {
  return log.events.map(({ pcr, type, digests, data }) => ({
    pcr,
    type,
    digests: digests.map((tagged) => ({ ...tagged, digest: Uint8Array.from(tagged.digest) })),
    data: Uint8Array.from(data),
  }));
}

function withoutEvent(draft: Draft, which: (count: number) => number): void {
  edit(draft, (events) => events.splice(which(events.length), 1));
}

function repeatEvent(draft: Draft): void {
  edit(draft, (events) => {
    const last = events.at(-1);
    if (last) events.push(last);
  });
}

function swapEvents(draft: Draft): void {
  edit(draft, (events) => {
    const grub = events.flatMap(({ pcr }, index) => (pcr === 8 ? [index] : []));
    const [a = 0, b = 1] = grub;
    [events[a], events[b]] = [events[b] as (typeof events)[0], events[a] as (typeof events)[0]];
  });
}

function changeDigest(draft: Draft): void {
  edit(draft, (events) => {
    const tagged = events.find(({ pcr }) => pcr === 9)?.digests;
    const digest = tagged?.find(({ digest }) => digest.length === 32)?.digest;
    if (digest) digest[0] = (digest[0] ?? 0) ^ 1;
  });
}

/** The text of a GRUB command, which its digest covers. */
function editData(draft: Draft): void {
  edit(draft, (events) => {
    const data = events.find(({ pcr }) => pcr === 8)?.data;
    if (data) data[data.length - 2] = (data[data.length - 2] ?? 0) ^ 1;
  });
}

test.run();
