// deadline: 120 s
// Who a device is, through the wire: its TPM's certificate, the proof, and the attacks that others suffered.
import { createHmac } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { makeCredential } from '../../../controller/enrol/credential.ts';
import { tpmId } from '../../../controller/enrol/identity.ts';
import { activateCredential } from '../../../device/tpm/activate.ts';
import { publicKeyOf } from '../../../device/tpm/public-key.ts';
import { encode } from '../../../formats/tpm2/codec.ts';
import { TPM_ALG } from '../../../formats/tpm2/constants.ts';
import { TPMT_PUBLIC } from '../../../formats/tpm2/structures.ts';
import {
  ProblemSchema,
  ZAttestReqSchema,
  ZAttestReqType,
  ZAttestResponseSchema,
  ZCertType,
} from '../../../formats/wire/eve_pb.ts';
import { pem } from '../../../formats/x509/certificate.ts';
import { type Answer, account, bodyOf, certOf, EvcBench, quoteOf, saidOf } from '../../kit/controller.ts';
import { authority, ekCertificate, type Recipe, usage } from '../../kit/ek-certificates.ts';
import { LabBoard, sha256 } from '../../kit/evidence.ts';
import { type SoftDevice, softDevice } from '../../kit/logins.ts';

const { ATTEST_REQ_CERT, ATTEST_REQ_PROOF, ATTEST_REQ_QUOTE } = ZAttestReqType;

const bench = await EvcBench.open();
const board = await LabBoard.open();
const other = await LabBoard.open();
await board.boot();
await other.boot();
const now = bench.clock.now();
const root = authority('Root', { now });
const issuer = authority('EK CA', { now, by: root });
const strict = { ...account, id: 'strict', requireEkCertificate: true };
await bench.evc.accounts.add(strict);

test.after(async () => {
  await bench.close();
  await board.close();
  await other.close();
});

let serials = 0;
async function registered(lent: LabBoard = board): Promise<SoftDevice> {
  const device = await softDevice();
  await bench.register(device, await bench.onboardingKey(), `identity-${serials++}`);
  await bench.lend(lent, device);
  return device;
}

async function certificateOf(of: LabBoard, spoil?: (recipe: Recipe) => Recipe): Promise<Buffer> {
  const spki = publicKeyOf((await of.keys()).ek.public).export({ type: 'spki', format: 'der' });
  return Buffer.from(pem('CERTIFICATE', ekCertificate(issuer, spki, now, spoil)));
}

async function sendCertificate(device: SoftDevice, certificate: Uint8Array, of = board) {
  const certs = await bench.certs(of, certificate);
  return bench.attest(device, { reqType: ATTEST_REQ_CERT, certs });
}

const view = (device: SoftDevice) => bench.evc.operator.show(device.id);

test('a certificate whose vendor is not known, until his root is added; and when it is taken away again', async () => {
  const device = await registered();
  await bench.certify(device, board, await certificateOf(board));
  const before = await view(device);
  assert.is(before.ekTrust, 'unknown-vendor');
  assert.is(before.tpm?.certificate?.why?.code, 'enrol.ek-unknown-issuer');
  assert.match(before.tpm?.certificate?.why?.text ?? '', 'CN=EK CA');

  const half = await bench.evc.endorsers.add(issuer.certificate, 'tester');
  assert.is(half.devices, 1);
  assert.match((await view(device)).tpm?.certificate?.why?.text ?? '', 'CN=Root', 'the next that is missing');
  const whole = await bench.evc.endorsers.add(root.certificate, 'tester');
  assert.is(whole.devices, 1);
  const after = await view(device);
  assert.is(after.ekTrust, 'vendor');
  assert.equal(
    [after.tpm?.certificate?.vendor, after.tpm?.certificate?.model, after.tpm?.certificate?.issuer],
    ['Nuvoton', 'NPCT75x', 'O=Test vendor, CN=EK CA'],
  );
  assert.not('sent' in (after.tpm?.certificate ?? {}), 'people do not read DER');
  assert.is(await bench.evc.endorsers.judge(), 0, 'nothing changed since');

  const [{ id = '' } = {}] = whole.roots;
  assert.is((await bench.evc.endorsers.remove(id, 'tester')).devices, 1);
  assert.is((await view(device)).ekTrust, 'unknown-vendor');
  await bench.evc.endorsers.add(root.certificate, 'tester');
  assert.is((await view(device)).ekTrust, 'vendor');
  const audit = await bench.evc.store.audits({ limit: 100 });
  assert.equal(
    audit
      .map(({ what }) => what)
      .filter((what) => what.startsWith('ek-root'))
      .sort(),
    ['ek-root.added', 'ek-root.added', 'ek-root.added', 'ek-root.removed'],
  );
});

test('a folder that changed while EVC was down is looked at when it starts', async () => {
  const device = await registered();
  await bench.certify(device, board, await certificateOf(board));
  assert.is((await view(device)).ekTrust, 'vendor');
  const { id = '' } = bench.evc.endorsers.list().roots.find(({ kind }) => kind === 'root') ?? {};
  await bench.evc.close();
  bench.evc.ekRoots.remove(id);
  await bench.start();
  await bench.evc.settled();
  assert.is((await view(device)).ekTrust, 'unknown-vendor');
  await bench.evc.endorsers.add(root.certificate, 'tester');
});

test('[N40] the certificate of another key than the credential is made for', async () => {
  const device = await registered();
  assert.is(saidOf(await sendCertificate(device, await certificateOf(other))), '403 enrol.ek-other-key');
  assert.is((await view(device)).refusedEnrolment?.code, 'enrol.ek-other-key');
  assert.is((await bench.evc.runner.read(device.id))?.context.pending, null, 'no credential is out');
});

test('[N34] a certificate for other uses, one of garbage, and too many', async () => {
  const device = await registered();
  const said = async (certificate: Uint8Array) => saidOf(await sendCertificate(device, certificate));
  const noUse = await certificateOf(board, (recipe) => ({
    ...recipe,
    extensions: [...recipe.extensions.filter(({ id }) => id !== '2.5.29.37'), usage([])],
  }));
  assert.is(await said(noUse), '403 enrol.ek-usage');
  assert.is(await said(Buffer.from('garbage')), '403 enrol.ek-unreadable');
  assert.is(await said(Buffer.alloc(100_000, 0x30)), '403 enrol.ek-unreadable');
  const one = await certificateOf(board);
  assert.is(await said(Buffer.concat(Array.from({ length: 9 }, () => one))), '403 enrol.ek-unreadable');
});

test('[N41] what was proven is what quotes are checked with: another key of the same TPM is another', async () => {
  const device = await registered();
  await bench.certify(device, board);
  const nonce = await bench.nonce(device);
  const presented = await other.present({
    nonce,
    claims: other.claims({ tokenHash: sha256(Buffer.from('t')) }),
  });
  const answer = await bench.attest(device, { reqType: ATTEST_REQ_QUOTE, quote: quoteOf(presented) });
  const { quoteResp } = bodyOf(ZAttestResponseSchema, answer);
  assert.is(quoteResp?.findings[0]?.code, 'evidence.quote.signature');

  // The same endorsement key with another attestation key is another pair.
  const { ek, ecdh } = await board.keys();
  const foreign = (await other.keys()).ak;
  const certs = [
    certOf(ZCertType.CERT_TYPE_DEVICE_RESTRICTED_SIGNING, foreign.publicBytes),
    certOf(ZCertType.CERT_TYPE_DEVICE_ENDORSEMENT_RSA, ek.publicBytes),
    certOf(ZCertType.CERT_TYPE_DEVICE_ECDH_EXCHANGE, ecdh.publicBytes),
  ];
  assert.is(saidOf(await bench.attest(device, { reqType: ATTEST_REQ_CERT, certs })), '409 enrol.other-tpm');
});

test('[N42] a device that registers again, with another TPM', async () => {
  const device = await registered();
  await bench.certify(device, board);
  await bench.register(device, await bench.onboardingKey(), `identity-again-${serials}`);
  const before = (await bench.evc.runner.read(device.id))?.context.identity;
  assert.is(saidOf(await sendCertificate(device, new Uint8Array(), other)), '409 enrol.other-tpm');
  assert.equal((await bench.evc.runner.read(device.id))?.context.identity, before);
  const { refusedEnrolment } = await view(device);
  assert.is(refusedEnrolment?.ekName, Buffer.from((await other.keys()).ek.name).toString('hex'));
  assert.is(refusedEnrolment?.at, bench.clock.now());
});

test('[N43] tries are counted, and no answer tells what the right proof is', async () => {
  const device = await registered();
  const answer = await sendCertificate(device, new Uint8Array());
  const { credential } = bodyOf(ZAttestResponseSchema, answer);
  if (!credential) throw new Error('no credential');
  const { ak, ek, srk } = await board.keys();
  const secret = Buffer.from(await activateCredential(board.tpm, { ak, ek, salt: srk }, credential));
  const right = createHmac('sha256', secret).update(credential.id).digest();
  const prove = (proof: Uint8Array) =>
    bench.attest(device, { reqType: ATTEST_REQ_PROOF, proof: { challenge: credential.id, proof } });
  for (let tries = 0; tries < 5; tries++) {
    const refused = await prove(right.with(tries, (right[tries] ?? 0) ^ 1));
    assert.is(saidOf(refused), '403 enrol.proof-wrong');
    const told = Buffer.from(refused.payload);
    for (const value of [right, secret, sha256(right)])
      for (const form of [value, Buffer.from(value.toString('hex')), Buffer.from(value.toString('base64'))])
        assert.is(told.indexOf(form), -1);
  }
  assert.is(saidOf(await prove(right)), '403 enrol.proof-wrong', 'the tries are used up');
  const journal = JSON.stringify(await bench.evc.operator.journal(device.id));
  for (const value of [right, secret]) assert.not.match(journal, Buffer.from(value).toString('hex'));
});

test('[N44] an attestation key that signs what its holder likes', async () => {
  const device = await registered();
  const { device: unrestricted, ek, ecdh } = await board.keys();
  const certs = [
    certOf(ZCertType.CERT_TYPE_DEVICE_RESTRICTED_SIGNING, unrestricted.publicBytes),
    certOf(ZCertType.CERT_TYPE_DEVICE_ENDORSEMENT_RSA, ek.publicBytes),
    certOf(ZCertType.CERT_TYPE_DEVICE_ECDH_EXCHANGE, ecdh.publicBytes),
  ];
  assert.is(
    saidOf(await bench.attest(device, { reqType: ATTEST_REQ_CERT, certs })),
    '422 evidence.identity.key',
  );
});

test('[N45] [N46] an account that insists on a vendor: no certificate, and an unknown one, are no TPM', async () => {
  const device = await registered();
  await bench.evc.operator.moveDevice(device.id, 'strict');
  assert.is(saidOf(await sendCertificate(device, new Uint8Array())), '403 enrol.ek-required');
  const stranger = authority('EK CA', { now });
  const spki = publicKeyOf((await board.keys()).ek.public).export({ type: 'spki', format: 'der' });
  const unknown = await sendCertificate(device, ekCertificate(stranger, spki, now));
  assert.is(saidOf(unknown), '403 enrol.ek-required');
  assert.match(bodyOf(ProblemSchema, unknown).text, 'no certificate of “O=Test vendor, CN=EK CA”');
  assert.is((await bench.evc.runner.read(device.id))?.context.identity, null);
  await bench.certify(device, board, await certificateOf(board));
  assert.is((await view(device)).ekTrust, 'vendor');
});

test('without a vendor’s word, a key is labelled so: it may be a program that poses as a TPM [N46]', async () => {
  const device = await registered();
  await bench.certify(device, board);
  const { ekTrust, tpm } = await view(device);
  assert.is(ekTrust, 'first-use');
  assert.is(tpm?.certificate, null);
});

test('[N47] one TPM for two devices: refused, until the first one is out of service', async () => {
  const first = await registered(other);
  await bench.certify(first, other);
  const second = await softDevice();
  await bench.register(second, await bench.onboardingKey(), `identity-${serials++}`);
  assert.is(saidOf(await sendCertificate(second, new Uint8Array(), other)), '409 enrol.tpm-taken');
  assert.is((await view(second)).refusedEnrolment?.code, 'enrol.tpm-taken');
  await bench.evc.operator.retire(first.id, 'tester', 'its board is scrapped');
  assert.is(saidOf(await sendCertificate(second, new Uint8Array(), other)), '200');
});

test('[N47] what a device says of its endorsement key does not make it another TPM', async () => {
  const first = await registered(other);
  await bench.certify(first, other);
  const second = await softDevice();
  await bench.register(second, await bench.onboardingKey(), `identity-${serials++}`);
  const { ak, ek, ecdh, srk } = await other.keys();
  if (ek.public.type !== TPM_ALG.ECC) throw new Error('not ECC');
  const { unique, objectAttributes } = ek.public;
  const p = 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n;
  const y = p - BigInt(`0x${Buffer.from(unique.y).toString('hex')}`);
  const mirrored = { x: unique.x, y: Buffer.from(y.toString(16).padStart(64, '0'), 'hex') };
  const disguises: TPMT_PUBLIC[] = [
    { ...ek.public, objectAttributes: { ...objectAttributes, noDA: true } },
    { ...ek.public, authPolicy: new Uint8Array(32) },
    { ...ek.public, unique: mirrored },
  ];
  for (const disguise of disguises) {
    // It would have worked: the credential opens in the TPM.
    const secret = Uint8Array.from(Buffer.alloc(32, 5));
    const credential = makeCredential({ ekPublic: disguise, akName: ak.name, secret });
    assert.equal(await activateCredential(other.tpm, { ak, ek, salt: srk }, credential), secret);
    const certs = [
      certOf(ZCertType.CERT_TYPE_DEVICE_RESTRICTED_SIGNING, ak.publicBytes),
      certOf(ZCertType.CERT_TYPE_DEVICE_ENDORSEMENT_RSA, encode(TPMT_PUBLIC, disguise)),
      certOf(ZCertType.CERT_TYPE_DEVICE_ECDH_EXCHANGE, ecdh.publicBytes),
    ];
    assert.is(saidOf(await bench.attest(second, { reqType: ATTEST_REQ_CERT, certs })), '409 enrol.tpm-taken');
  }
  await bench.evc.operator.retire(first.id, 'tester', 'done');
});

interface Proof {
  device: SoftDevice;
  message: { reqType: ZAttestReqType; proof: { challenge: string; proof: Uint8Array } };
}

/** Of the same board, each for a credential of its own. */
async function proofsOf(devices: readonly SoftDevice[]): Promise<Proof[]> {
  const proofs: Proof[] = [];
  for (const device of devices) {
    const { credential } = bodyOf(ZAttestResponseSchema, await sendCertificate(device, new Uint8Array()));
    if (!credential) throw new Error('no credential');
    const { ak, ek, srk } = await board.keys();
    const secret = await activateCredential(board.tpm, { ak, ek, salt: srk }, credential);
    const proof = createHmac('sha256', secret).update(credential.id).digest();
    const message = { reqType: ATTEST_REQ_PROOF, proof: { challenge: credential.id, proof } };
    proofs.push({ device, message });
  }
  return proofs;
}

test('[N47] two devices that prove one TPM at the same time: one of them is it', async () => {
  const devices = [await registered(), await softDevice()];
  const [, second = devices[0]] = devices;
  await bench.register(second as SoftDevice, await bench.onboardingKey(), `identity-${serials++}`);
  // As before anybody proved it.
  await bench.evc.store.put('tpm', tpmId((await board.keys()).ek.public), { device: 'none' });
  const proofs = await proofsOf(devices);
  const said: string[] = [];
  for (const { device, message } of proofs) said.push(saidOf(await bench.attest(device, message)));
  assert.equal(said, ['200', '409 enrol.tpm-taken']);
});

test('[N47] a proof that comes after another took the TPM, and before the record of that one says so', async () => {
  const [first, second] = [await registered(), await softDevice()];
  await bench.register(second, await bench.onboardingKey(), `identity-${serials++}`);
  await bench.evc.store.put('tpm', tpmId((await board.keys()).ek.public), { device: 'none' });
  const [early, late] = (await proofsOf([first, second])) as [Proof, Proof];
  const topic = bench.topic(second, 'attest');
  const frame = await bench.frame(second, topic, ZAttestReqSchema, late.message);
  const answer = () => bench.answers.find((one) => one.topic === topic.replace('/up/', '/down/'));

  const { runner } = bench.evc;
  const send = runner.send.bind(runner);
  runner.send = async (device, event, extras) => {
    if (device === first.id && event.type === 'proof.received') {
      bench.evc.receive(topic, frame);
      while (!answer()) await setImmediate();
    }
    return send(device, event, extras);
  };
  try {
    // Its own answer and the other one's: `attest` expects one.
    const own = bench.topic(first, 'attest');
    await bench.receive(own, await bench.frame(first, own, ZAttestReqSchema, early.message));
  } finally {
    runner.send = send;
  }
  const identities = [first, second].map(async ({ id }) => (await runner.read(id))?.context.identity);
  const [mine, theirs] = await Promise.all(identities);
  assert.ok(mine);
  assert.is(theirs, null);
  assert.is(saidOf(answer() as Answer), '409 enrol.tpm-taken');
});

test.run();
