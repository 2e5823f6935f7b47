// deadline: 120 s
import { gunzipSync, gzipSync } from 'node:zlib';
import { create, toBinary } from '@bufbuild/protobuf';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { encode } from '../../formats/tpm2/codec.ts';
import { TPMT_PUBLIC } from '../../formats/tpm2/structures.ts';
import {
  AttestStorageKeysResponseCode,
  AttestVolumeKeyType,
  AuthContainerSchema,
  CertsRequestSchema,
  ConfigRequestSchema,
  InfoResponseSchema,
  TpmHashAlgo,
  UuidRequestSchema,
  UuidResponseSchema,
  ZAttestReqSchema,
  ZAttestReqType,
  ZAttestResponseCode,
  ZAttestResponseSchema,
  ZCertType,
  ZControllerCertSchema,
  ZInfoMsgSchema,
  ZRegisterMsgSchema,
} from '../../formats/wire/eve_pb.ts';
import { encodeFrame } from '../../formats/wire/frame.ts';
import {
  type Answer,
  bodyOf,
  type Crooked,
  certOf,
  configOf,
  EvcBench,
  quoteOf,
  saidOf,
} from '../kit/controller.ts';
import { LabBoard, labNonce, sha256 } from '../kit/evidence.ts';
import { type SoftDevice, softDevice } from '../kit/logins.ts';
import { stepOf } from '../kit/stores.ts';

const {
  ATTEST_REQ_CERT,
  ATTEST_REQ_LOG,
  ATTEST_REQ_NONCE,
  ATTEST_REQ_PROOF,
  ATTEST_REQ_QUOTE,
  ATTEST_REQ_STORE_KEYS,
} = ZAttestReqType;

const bench = await EvcBench.open();
const board = await LabBoard.open();
await board.boot();
const witness = await softDevice();
await bench.register(witness, await bench.onboardingKey(), 'witness');
await bench.certify(witness, board);
const stranger = await softDevice();

test.after(async () => {
  await bench.close();
  await board.close();
});

let serials = 0;
/** A device that is registered, and no more. */
async function registered(): Promise<SoftDevice> {
  const device = await softDevice();
  const answer = await bench.register(device, await bench.onboardingKey(), `serial-${serials++}`);
  assert.is(saidOf(answer), '200');
  return device;
}

const uuid = (device: SoftDevice, crooked?: Crooked) =>
  bench.ask(device, 'uuid', UuidRequestSchema, {}, crooked);

/** Runs something bad, and shows that the witness never noticed. */
async function undisturbed(work: () => Promise<void>): Promise<void> {
  const before = await bench.evc.runner.read(witness.id);
  await work();
  assert.equal(await bench.evc.runner.read(witness.id), before);
  assert.is(saidOf(await uuid(witness)), '200');
}

// ---- The envelope

test('an honest question is answered, signed by EVC and bound to it', async () => {
  const answer = await uuid(witness);
  assert.is(saidOf(answer), '200');
  assert.match(bodyOf(UuidResponseSchema, answer).uuid, /^[0-9a-f-]{36}$/);
  assert.equal(
    [bodyOf(UuidResponseSchema, answer).binding?.topic, bodyOf(UuidResponseSchema, answer).binding?.status],
    [answer.topic, 200],
  );
});

test('a topic that is none is dropped, with its reason', () =>
  undisturbed(async () => {
    for (const topic of [
      '',
      'eve/v2',
      `eve/v2/${witness.id}/up/format/1`,
      `eve/v2/${witness.id}/up/uuid/a b`,
      'x'.repeat(70_000),
    ]) {
      assert.equal(await bench.receive(topic, new Uint8Array(20)), []);
      assert.match(bench.refused.at(-1) ?? '', /^wire\.topic: /);
      assert.ok((bench.refused.at(-1) ?? '').length < 200);
    }
    // Its own answers, sent back to it.
    const down = `eve/v2/${witness.id}/down/uuid/r`;
    assert.equal(await bench.receive(down, await bench.frame(witness, down, UuidRequestSchema, {})), []);
  }));

test('a frame that is none', () =>
  undisturbed(async () => {
    const topic = () => bench.topic(witness, 'uuid');
    const sent = async (bytes: Uint8Array) => (await bench.receive(topic(), bytes)).map(saidOf);
    assert.equal(await sent(new Uint8Array()), ['422 wire.frame']);
    assert.equal(await sent(new Uint8Array(15)), ['422 wire.frame']);
    assert.equal(await sent(Uint8Array.of(9, ...new Uint8Array(30))), ['422 wire.frame']);
    assert.equal(await sent(Uint8Array.of(1, 7, ...new Uint8Array(30))), ['422 wire.frame']);
    assert.equal(await sent(new Uint8Array(600 * 1024)), ['422 wire.oversize']);
    for (const kind of ['reply', 'push'] as const)
      assert.is(saidOf(await uuid(witness, { kind })), '422 wire.frame');
  }));

test('a container that is none', () =>
  undisturbed(async () => {
    const sent = async (container: Uint8Array) => {
      const frame = encodeFrame({ kind: 'request', status: 0, retryAfter: 0, patience: 0, container });
      return (await bench.receive(bench.topic(witness, 'uuid'), frame)).map(saidOf);
    };
    assert.equal(await sent(new Uint8Array()), ['422 wire.malformed']);
    assert.equal(await sent(Buffer.from('{"json": true}')), ['422 wire.malformed']);
    assert.equal(
      await sent(
        toBinary(
          AuthContainerSchema,
          create(AuthContainerSchema, { protectedPayload: { payload: new Uint8Array(5) } }),
        ),
      ),
      ['422 wire.malformed'],
    );
    const large = {
      protectedPayload: { payload: new Uint8Array(5) },
      signatureHash: new Uint8Array(64),
      senderCert: new Uint8Array(9000),
    };
    assert.equal(await sent(toBinary(AuthContainerSchema, create(AuthContainerSchema, large))), [
      '422 wire.malformed',
    ]);
  }));

test('a signature that is broken, and one of another device', () =>
  undisturbed(async () => {
    const other = await registered();
    assert.is(saidOf(await uuid(witness, { by: other })), '401 wire.signature');
    const broken = (container: Uint8Array) => {
      const copy = Uint8Array.from(container);
      copy[copy.length - 1] = (copy.at(-1) ?? 0) ^ 1;
      return copy;
    };
    assert.is(saidOf(await uuid(witness, { change: broken })), '401 wire.signature');
    // The certificate that a sender shows proves nothing: the key on record does.
    assert.is(saidOf(await uuid(witness, { by: other, withCertificate: true })), '401 wire.signature');
  }));

test('a message that was signed for another topic, request or status', () =>
  undisturbed(async () => {
    const boundTo = bench.topic(witness, 'uuid');
    assert.is(saidOf(await uuid(witness, { boundTo })), '422 wire.binding');
    assert.is(saidOf(await uuid(witness, { boundTo: '' })), '422 wire.binding');
    assert.is(saidOf(await uuid(witness, { status: 200 })), '422 wire.binding');
    const other = await registered();
    assert.is(saidOf(await uuid(witness, { boundTo: bench.topic(other, 'uuid') })), '422 wire.binding');
  }));

test('a payload that is no such message', () =>
  undisturbed(async () => {
    // Field 2 as a string in an attestation request is a message there.
    assert.is(
      saidOf(
        await bench.ask(witness, 'attest', ZRegisterMsgSchema, {
          onBoardKey: 'x',
          pemCert: Buffer.of(255, 255),
        }),
      ),
      '422 wire.malformed',
    );
  }));

test('a record that a newer controller has is left to it, and the device asks again', async () => {
  const device = await registered();
  const row = await bench.evc.store.load(device.id);
  const { version = 0, snapshot = {} } = row ?? {};
  await bench.evc.store.commit(stepOf(device.id, version, { snapshot: { ...snapshot, chart: 1000 } }));
  const answer = await uuid(device);
  assert.is(saidOf(answer), '503 store.ahead');
  assert.ok(answer.retryAfter > 0);
  assert.equal((await bench.evc.store.load(device.id))?.version, version + 1);
});

test('a request that lay here for longer than somebody waits for its answer is not worked on', () =>
  undisturbed(async () => {
    const said = async (patience: number, waited: number) => {
      const topic = bench.topic(witness, 'uuid');
      const frame = await bench.frame(witness, topic, UuidRequestSchema, {}, { patience });
      const before = bench.answers.length;
      bench.evc.receive(topic, frame);
      bench.clock.pass(waited);
      await bench.evc.settled();
      return bench.answers.slice(before).map(saidOf);
    };
    assert.equal(await said(10_000, 10_001), []);
    assert.equal(await said(10_000, 10_000), ['200']);
    assert.equal(await said(0, 10_001), ['200']);
    // EVC's clock was set back meanwhile.
    assert.equal(await said(10_000, -3_600_000), ['200']);
  }));

test('EVC’s certificates are for everybody, known or not', async () => {
  const answer = await bench.ask(stranger, 'certs', CertsRequestSchema, {});
  assert.is(saidOf(answer), '200');
  const types = bodyOf(ZControllerCertSchema, answer).certs.map(({ type }) => type);
  assert.equal(types, [ZCertType.CERT_TYPE_CONTROLLER_SIGNING, ZCertType.CERT_TYPE_CONTROLLER_ECDH_EXCHANGE]);
});

test('a device that EVC does not know has to register, and leaves no trace', () =>
  undisturbed(async () => {
    assert.is(saidOf(await uuid(stranger)), '400 enrol.unknown-device');
    assert.is(saidOf(await bench.config(stranger, null)), '400 enrol.unknown-device');
    assert.is(
      saidOf(await bench.attest(stranger, { reqType: ATTEST_REQ_NONCE })),
      '400 enrol.unknown-device',
    );
    bench.evc.link(stranger.id, true);
    await bench.evc.settled();
    assert.is(await bench.evc.store.load(stranger.id), null);
  }));

// ---- Registration

test('an onboarding key that is unknown, expired or used up', () =>
  undisturbed(async () => {
    const device = await softDevice();
    assert.is(saidOf(await bench.register(device, await softDevice(), 'k1')), '403 enrol.unknown-key');
    const expired = await bench.onboardingKey({ expires: bench.clock.now() });
    assert.is(saidOf(await bench.register(device, expired, 'k1')), '403 enrol.key-expired');
    const once = await bench.onboardingKey({ limit: 1 });
    const first = await softDevice();
    assert.is(saidOf(await bench.register(first, once, 'k2')), '200');
    assert.is(saidOf(await bench.register(device, once, 'k1')), '403 enrol.key-used-up');
    // Who was refused took no serial number, and who is in may ask again.
    assert.is(saidOf(await bench.register(await softDevice(), await bench.onboardingKey(), 'k1')), '200');
    assert.is(saidOf(await bench.register(first, once, 'k2')), '200');
    assert.is(
      (await bench.evc.store.get<{ devices: string[] }>('onboarding-key', once.id))?.devices.length,
      1,
    );
  }));

test('a serial number that another device has', () =>
  undisturbed(async () => {
    const key = await bench.onboardingKey({ limit: 5 });
    const first = await softDevice();
    assert.is(saidOf(await bench.register(first, key, 'twin')), '200');
    assert.is(saidOf(await bench.register(await softDevice(), key, 'twin')), '409 enrol.serial-taken');
    assert.is(
      (await bench.evc.store.get<{ devices: string[] }>('onboarding-key', key.id))?.devices.length,
      1,
    );
    await bench.evc.operator.retire(first.id, 'test', 'broken board');
    assert.is(saidOf(await bench.register(await softDevice(), key, 'twin')), '200');
    assert.is(saidOf(await bench.register(first, key, 'twin')), '409 enrol.serial-taken');
  }));

test('of two boards with one serial number that come at the same moment one is taken', async () => {
  const key = await bench.onboardingKey({ limit: 5 });
  const boards = await Promise.all([softDevice(), softDevice()]);
  const topics = boards.map((device) => bench.topic(device, 'register'));
  const frames = await Promise.all(
    boards.map((device, i) =>
      bench.frame(
        device,
        topics[i] as string,
        ZRegisterMsgSchema,
        { pemCert: Buffer.from(Buffer.from(device.certificate).toString('base64')), serial: 'race' },
        { by: key, withCertificate: true },
      ),
    ),
  );
  const before = bench.answers.length;
  for (const [i, frame] of frames.entries()) bench.evc.receive(topics[i] as string, frame);
  await bench.evc.settled();
  assert.equal(bench.answers.slice(before).map(saidOf).sort(), ['200', '409 enrol.serial-taken']);
});

test('a registration that is not what it seems', () =>
  undisturbed(async () => {
    const key = await bench.onboardingKey({ limit: 5 });
    const device = await softDevice();
    const other = await softDevice();
    assert.is(
      saidOf(await bench.register(device, key, 'r1', { shown: other.certificate })),
      '403 enrol.other-device',
    );
    assert.is(
      saidOf(await bench.register(device, key, 'r1', { shown: Buffer.from('no certificate') })),
      '422 wire.malformed',
    );
    assert.is(saidOf(await bench.register(device, { ...key, key: other.key }, 'r1')), '401 wire.signature');
    assert.is(
      saidOf(await bench.register(device, { ...key, certificate: Buffer.from('rubbish') }, 'r1')),
      '422 wire.malformed',
    );
    assert.is(
      saidOf(await bench.register(device, key, 'r1', { withCertificate: false })),
      '422 wire.malformed',
    );
    for (const serial of ['', '   ', 'x'.repeat(101), '\x1b[2J', 'ser\0ial', 'sérial'])
      assert.is(
        saidOf(await bench.register(device, key, serial)),
        '422 wire.malformed',
        JSON.stringify(serial),
      );
    // A key that can never sign a request must not use the onboarding key up.
    const odd = await softDevice('P-384');
    assert.is(saidOf(await bench.register(odd, key, 'r1')), '403 enrol.certificate');
    assert.is(
      (await bench.evc.store.get<{ devices: string[] }>('onboarding-key', key.id))?.devices.length,
      0,
    );
  }));

// ---- Identity

test('keys that cannot attest', () =>
  undisturbed(async () => {
    const device = await registered();
    const { ak, ek, ecdh, device: deviceKey } = await board.keys();
    const [akCert, ekCert, ecdhCert] = await bench.certs(board);
    const sent = async (...certs: Parameters<typeof certOf>[]) =>
      saidOf(
        await bench.attest(device, { reqType: ATTEST_REQ_CERT, certs: certs.map((one) => certOf(...one)) }),
      );
    const akAs = (bytes: Uint8Array) =>
      [ZCertType.CERT_TYPE_DEVICE_RESTRICTED_SIGNING, bytes] as Parameters<typeof certOf>;
    const ekAs = (bytes: Uint8Array) =>
      [ZCertType.CERT_TYPE_DEVICE_ENDORSEMENT_RSA, bytes] as Parameters<typeof certOf>;
    const ecdhAs = (bytes: Uint8Array) =>
      [ZCertType.CERT_TYPE_DEVICE_ECDH_EXCHANGE, bytes] as Parameters<typeof certOf>;
    const good = [akAs(ak.publicBytes), ekAs(ek.publicBytes), ecdhAs(ecdh.publicBytes)] as const;
    assert.ok(akCert && ekCert && ecdhCert);

    // Signs what it is given, so its quotes would be anybody's.
    assert.is(await sent(akAs(deviceKey.publicBytes), good[1], good[2]), '422 evidence.identity.key');
    assert.is(await sent(akAs(ek.publicBytes), good[1], good[2]), '422 evidence.identity.key');
    assert.is(await sent(good[0], ekAs(ak.publicBytes), good[2]), '422 evidence.identity.key');
    const { public: area } = ek;
    const off = {
      ...area,
      unique: { x: new Uint8Array(32).fill(1), y: new Uint8Array(32).fill(1) },
    } as typeof area;
    assert.is(await sent(good[0], ekAs(encode(TPMT_PUBLIC, off)), good[2]), '422 evidence.identity.key');

    assert.is(await sent(), '422 wire.malformed');
    assert.is(await sent(good[0], good[1]), '422 wire.malformed');
    assert.is(await sent(good[0], good[0], good[1], good[2]), '422 wire.malformed');
    assert.is(await sent(akAs(new Uint8Array()), good[1], good[2]), '422 wire.malformed');
    for (let length = 0; length < ak.publicBytes.length; length += 3)
      assert.is(await sent(akAs(ak.publicBytes.subarray(0, length)), good[1], good[2]), '422 wire.malformed');
    assert.is(
      await sent(akAs(Buffer.concat([ak.publicBytes, Buffer.of(0)])), good[1], good[2]),
      '422 wire.malformed',
    );
    assert.is((await bench.evc.runner.read(device.id))?.context.identity, null);
  }));

test('a proof that is wrong, guessed, or for another challenge', async () => {
  const device = await registered();
  const certs = await bench.certs(board);
  await bench.lend(board, device);
  const answer = await bench.attest(device, { reqType: ATTEST_REQ_CERT, certs });
  const { credential } = bodyOf(ZAttestResponseSchema, answer);
  const prove = async (challenge: string, proof: Uint8Array) =>
    saidOf(await bench.attest(device, { reqType: ATTEST_REQ_PROOF, proof: { challenge, proof } }));
  assert.is(await prove(credential?.id ?? '', new Uint8Array(32)), '403 enrol.proof-wrong');
  assert.is(await prove('x'.repeat(10_000), new Uint8Array(32)), '403 enrol.proof-wrong');
  assert.is(saidOf(await bench.attest(device, { reqType: ATTEST_REQ_PROOF })), '403 enrol.proof-wrong');
  assert.is((await bench.evc.runner.read(device.id))?.context.identity, null);
});

test('another TPM in a device that is enrolled', async () => {
  const device = await registered();
  await bench.certify(device, board);
  const other = await LabBoard.open();
  try {
    const certs = await bench.certs(other);
    assert.is(saidOf(await bench.attest(device, { reqType: ATTEST_REQ_CERT, certs })), '409 enrol.other-tpm');
  } finally {
    await other.close();
  }
});

// ---- Evidence

test('a log that EVC has costs 32 bytes; one that it has not is asked for, and the nonce is still good', async () => {
  const device = await registered();
  await bench.certify(device, board);
  const attempt = async (change: (quote: ReturnType<typeof quoteOf>) => object) => {
    const nonce = await bench.nonce(device);
    const claims = board.claims({ tokenHash: sha256(sha256(nonce)) });
    const quote = quoteOf(await board.present({ nonce, claims }));
    return (more: object = {}) =>
      bench.attest(device, { reqType: ATTEST_REQ_QUOTE, quote: { ...quote, ...change(quote), ...more } });
  };
  const hashes = (quote: ReturnType<typeof quoteOf>) => ({
    tpmBinaryEventLog: new Uint8Array(),
    tpmBinaryEventLogHash: sha256(gunzipSync(quote.tpmBinaryEventLog)),
    configEventLog: new Uint8Array(),
    configEventLogHash: sha256(gunzipSync(quote.configEventLog)),
  });
  const verdictOf = (answer: Answer) => bodyOf(ZAttestResponseSchema, answer).quoteResp?.response;

  const referring = await attempt(hashes);
  assert.is(saidOf(await referring()), '404 evidence.log.unknown');
  assert.is(saidOf(await referring({ tpmBinaryEventLogHash: new Uint8Array(31) })), '422 wire.malformed');
  // The same nonce, with the logs.
  const whole = quoteOf(await board.present({ nonce: labNonce, claims: null }));
  const logs = { tpmBinaryEventLog: whole.tpmBinaryEventLog, configEventLog: whole.configEventLog };
  assert.is(verdictOf(await referring(logs)), 1);
  assert.is(verdictOf(await (await attempt(hashes))()), 1);
});

test('a log in pieces: in order, each again if need be, and nothing but the log that was announced', async () => {
  const device = await registered();
  // A boot that EVC never saw.
  const other = await LabBoard.open();
  await other.boot({ version: '7.7.7' });
  await bench.certify(device, other);
  const nonce = await bench.nonce(device);
  const quote = quoteOf(await other.present({ nonce, claims: other.claims() }));
  const packed = Buffer.from(quote.tpmBinaryEventLog);
  const hash = sha256(gunzipSync(packed));
  const send = async (offset: number, data: Uint8Array, more: object = {}) => {
    const log = { sha256: hash, size: packed.length, offset, data, ...more };
    const answer = await bench.attest(device, { reqType: ATTEST_REQ_LOG, log });
    return answer.status === 200 ? bodyOf(ZAttestResponseSchema, answer).log?.received : saidOf(answer);
  };
  const cut = packed.length >> 1;
  assert.is(await send(0, packed.subarray(0, cut)), cut);
  assert.is(await send(0, packed.subarray(0, cut)), cut);
  assert.is(await send(cut + 1, packed.subarray(cut + 1)), '422 wire.malformed');
  const spoilt = Buffer.from(packed.subarray(cut));
  spoilt[10] = (spoilt[10] as number) ^ 1;
  assert.is(await send(cut, spoilt), '422 wire.malformed');
  const inPieces = { tpmBinaryEventLog: new Uint8Array(), tpmBinaryEventLogHash: hash };
  const judge = () => bench.attest(device, { reqType: ATTEST_REQ_QUOTE, quote: { ...quote, ...inPieces } });
  assert.is(saidOf(await judge()), '404 evidence.log.unknown');
  assert.is(await send(cut, packed.subarray(cut)), packed.length);
  assert.is(await send(cut, packed.subarray(cut)), packed.length);
  assert.is(bodyOf(ZAttestResponseSchema, await judge()).quoteResp?.response, 1);

  for (const wrong of [{ size: 0 }, { size: 2 << 20 }, { size: 10 }, { sha256: new Uint8Array(5) }])
    assert.is(await send(0, packed.subarray(0, cut), wrong), '422 wire.malformed');
  assert.is(await send(0, new Uint8Array()), '422 wire.malformed');
  assert.is(saidOf(await bench.attest(device, { reqType: ATTEST_REQ_LOG })), '422 wire.malformed');
  await other.close();
});

test('evidence that cannot be read is refused, and the nonce is still good', async () => {
  const device = await registered();
  await bench.certify(device, board);
  const nonce = await bench.nonce(device);
  const token = sha256(Buffer.from('t'));
  const presented = await board.present({ nonce, claims: board.claims({ tokenHash: sha256(token) }) });
  const honest = quoteOf(presented);
  const sent = async (quote: Partial<typeof honest>) =>
    saidOf(await bench.attest(device, { reqType: ATTEST_REQ_QUOTE, quote: { ...honest, ...quote } }));

  // A bomb: 100 MB of zeros in 100 KB.
  const bomb = gzipSync(Buffer.alloc(100 * 1024 * 1024));
  const before = process.memoryUsage().rss;
  assert.is(await sent({ tpmBinaryEventLog: bomb }), '422 wire.malformed');
  assert.is(await sent({ configEventLog: bomb }), '422 wire.malformed');
  assert.ok(process.memoryUsage().rss - before < 64 * 1024 * 1024);
  assert.is(await sent({ tpmBinaryEventLog: Buffer.from('no gzip') }), '422 wire.malformed');
  assert.is(
    await sent({ tpmBinaryEventLog: honest.tpmBinaryEventLog.subarray(0, 50) }),
    '422 wire.malformed',
  );
  assert.is(
    await sent({ pcrValues: [...honest.pcrValues, ...honest.pcrValues.slice(0, 1)] }),
    '422 wire.malformed',
  );
  const many = Array.from({ length: 65 }, (_, index) => ({
    index,
    hashAlgo: TpmHashAlgo.SHA1,
    value: new Uint8Array(),
  }));
  assert.is(await sent({ pcrValues: many }), '422 wire.malformed');
  assert.is(saidOf(await bench.attest(device, { reqType: ATTEST_REQ_QUOTE })), '422 wire.malformed');

  const answer = await bench.attest(device, { reqType: ATTEST_REQ_QUOTE, quote: honest });
  assert.is(
    bodyOf(ZAttestResponseSchema, answer).quoteResp?.response,
    ZAttestResponseCode.ATTEST_RESPONSE_CODE_SUCCESS,
  );
  // Once, and never again.
  const again = await bench.attest(device, { reqType: ATTEST_REQ_QUOTE, quote: honest });
  const { quoteResp } = bodyOf(ZAttestResponseSchema, again);
  assert.equal(
    [quoteResp?.response, quoteResp?.findings.map(({ code }) => code)],
    [ZAttestResponseCode.ATTEST_RESPONSE_CODE_NONCE_MISMATCH, ['evidence.nonce.none']],
  );
});

test('a request of a type that does not exist', () =>
  undisturbed(async () => {
    for (const reqType of [0, 5, 999, 1001, -1])
      assert.is(saidOf(await bench.attest(witness, { reqType })), '422 wire.malformed');
    assert.is(saidOf(await bench.attest(witness, {})), '422 wire.malformed');
  }));

// ---- Tokens and keys

test('a token opens the configuration, and none, another one or another device’s does not', async () => {
  const device = await registered();
  await bench.certify(device, board);
  assert.is(saidOf(await bench.config(device, null)), '403 token.missing');
  const token = await bench.trusted(device, board);
  const full = await bench.config(device, token);
  assert.equal([saidOf(full), configOf(full)?.partial], ['200', false]);
  assert.is(saidOf(await bench.config(device, null)), '403 token.missing');
  assert.is(saidOf(await bench.config(device, new Uint8Array(32))), '403 token.wrong');
  assert.is(saidOf(await bench.config(device, new Uint8Array())), '403 token.wrong');
  const newer = await bench.trusted(device, board);
  assert.is(saidOf(await bench.config(device, token)), '403 token.superseded');
  assert.is(saidOf(await bench.config(device, newer)), '200');
  const other = await registered();
  assert.is(saidOf(await bench.config(other, newer)), '403 token.wrong');
});

test('a box that was made for another purpose, another device, another EVC, or by nobody', async () => {
  const device = await registered();
  await bench.certify(device, board);
  const token = await bench.trusted(device, board);
  const sent = async (integrityToken: Uint8Array) =>
    saidOf(await bench.ask(device, 'config', ConfigRequestSchema, { integrityToken }));
  assert.is(await sent(bench.sealed(device, token)), '200');
  assert.is(await sent(bench.sealed(device, token, 'vault key in transit')), '422 wire.malformed');
  assert.is(await sent(bench.sealed(witness, token)), '422 wire.malformed');
  assert.is(await sent(token), '422 wire.malformed');
  assert.is(await sent(new Uint8Array(5000)), '422 wire.malformed');
  const box = bench.sealed(device, token);
  for (let at = 0; at < box.length; at += 7) {
    const changed = Uint8Array.from(box);
    changed[at] = (changed[at] ?? 0) ^ 0x40;
    assert.is(await sent(changed), '422 wire.malformed', `byte ${at}`);
  }
});

test('a key is escrowed with a good token alone, one at a time', async () => {
  const device = await registered();
  await bench.certify(device, board);
  const token = await bench.trusted(device, board);
  const boxed = (key: Uint8Array, keyId = 'k1') => ({
    keyType: AttestVolumeKeyType.VSK,
    key: bench.sealed(device, key, 'vault key in transit'),
    keyId,
  });
  const store = (integrityToken: Uint8Array, keys = [boxed(Buffer.from('secret'))]) =>
    bench.attest(device, { reqType: ATTEST_REQ_STORE_KEYS, storageKeys: { integrityToken, keys } });
  assert.is(saidOf(await store(new Uint8Array())), '403 token.missing');
  assert.is(saidOf(await bench.attest(device, { reqType: ATTEST_REQ_STORE_KEYS })), '403 token.missing');
  const { storageKeysResp: wrong } = bodyOf(
    ZAttestResponseSchema,
    await store(bench.sealed(device, new Uint8Array(32))),
  );
  assert.equal(
    [wrong?.response, wrong?.problem?.code],
    [AttestStorageKeysResponseCode.ITOKEN_MISMATCH, 'token.wrong'],
  );
  const good = () => bench.sealed(device, token);
  assert.is(saidOf(await store(good(), [])), '422 wire.malformed');
  assert.is(
    saidOf(await store(good(), [boxed(Buffer.from('a')), boxed(Buffer.from('b'))])),
    '422 wire.malformed',
  );
  assert.is(
    saidOf(await store(good(), [{ ...boxed(Buffer.from('a')), key: Buffer.from('in the clear') }])),
    '422 wire.malformed',
  );
  assert.is(await bench.evc.store.lastEscrow(device.id), 0);

  const stored = await store(good());
  assert.is(bodyOf(ZAttestResponseSchema, stored).storageKeysResp?.escrowVersion, 1);
  assert.equal(Buffer.from((await bench.evc.store.escrowed(device.id, 1))?.box ?? []).toString(), 'secret');
  // Again, after a lost receipt: the same version. Another key: the next one, and the first is still there.
  assert.is(bodyOf(ZAttestResponseSchema, await store(good())).storageKeysResp?.escrowVersion, 1);
  assert.is(
    bodyOf(ZAttestResponseSchema, await store(good(), [boxed(Buffer.from('newer'), 'k2')])).storageKeysResp
      ?.escrowVersion,
    2,
  );
  assert.equal(Buffer.from((await bench.evc.store.escrowed(device.id, 1))?.box ?? []).toString(), 'secret');
});

test('a quote without claims proposes no token, and an empty one does not pass for it', async () => {
  const device = await registered();
  await bench.certify(device, board);
  const nonce = await bench.nonce(device);
  const presented = await board.present({ nonce, claims: null });
  const answer = await bench.attest(device, { reqType: ATTEST_REQ_QUOTE, quote: quoteOf(presented) });
  assert.is(
    bodyOf(ZAttestResponseSchema, answer).quoteResp?.response,
    ZAttestResponseCode.ATTEST_RESPONSE_CODE_SUCCESS,
  );
  assert.is(saidOf(await bench.config(device, null)), '403 token.missing');
  assert.is(saidOf(await bench.config(device, new Uint8Array())), '403 token.wrong');
  const keys = [{ key: bench.sealed(device, Buffer.from('x'), 'vault key in transit'), keyId: 'k' }];
  const store = await bench.attest(device, { reqType: ATTEST_REQ_STORE_KEYS, storageKeys: { keys } });
  assert.is(saidOf(store), '403 token.missing');
  assert.is(await bench.evc.store.lastEscrow(device.id), 0);
});

// ---- Reports

test('a report is a JSON object of a bearable size', async () => {
  const device = await registered();
  const report = async (body: string, key = 'status') =>
    saidOf(await bench.ask(device, 'info', ZInfoMsgSchema, { key, body }));
  for (const body of ['', '{', 'null', '[]', '"text"', '1', `{"a":"${'x'.repeat(40_000)}"}`])
    assert.is(await report(body), '422 wire.malformed');
  assert.is(await report(`{"a":"${'x'.repeat(500_000)}"}`), '422 wire.malformed');
  assert.is(await report('{}', 'k'.repeat(101)), '422 wire.malformed');
  const nested = (depth: number) => `{"a":${'['.repeat(depth)}${']'.repeat(depth)}}`;
  assert.is(await report(nested(32)), '422 wire.malformed');
  assert.is(await report(nested(15_000)), '422 wire.malformed');
  assert.is(await report(nested(31)), '200');
  const good = await bench.ask(device, 'info', ZInfoMsgSchema, { key: 'status', body: '{"a":1}' });
  assert.is(saidOf(good), '200');
  bodyOf(InfoResponseSchema, good);
  assert.equal((await bench.evc.runner.read(device.id))?.context.info, { status: { a: 1 } });
});

test('a device does not fill its record with reports', async () => {
  const device = await registered();
  const report = async (key: string) =>
    saidOf(await bench.ask(device, 'info', ZInfoMsgSchema, { key, body: '{"a":1}' }));
  assert.is(await report('__proto__'), '200');
  for (let i = 0; i < 15; i++) assert.is(await report(`report ${i}`), '200');
  assert.is(await report('one more'), '422 wire.malformed');
  assert.is(await report('constructor'), '422 wire.malformed');
  // A newer one of a kind that is there takes the place of the older.
  assert.is(await report('report 3'), '200');
  const { info = {} } = (await bench.evc.runner.read(device.id))?.context ?? {};
  assert.equal([Object.keys(info).length, Object.getPrototypeOf(info) === Object.prototype], [16, true]);
});

test('a report of 10 MB is not even unpacked', () =>
  undisturbed(async () => {
    const topic = bench.topic(witness, 'info');
    const answers = await bench.receive(topic, new Uint8Array(10 * 1024 * 1024));
    assert.equal(answers.map(saidOf), ['422 wire.oversize']);
  }));

// ---- EVC's own trouble

test('when EVC cannot store, it says so, asks for patience and gives nothing away', async () => {
  const device = await registered();
  const { store } = bench.evc;
  const { commit } = store;
  store.commit = () => Promise.reject(new Error('password=hunter2 in /var/lib'));
  try {
    const answer = await bench.attest(device, { reqType: ATTEST_REQ_NONCE });
    assert.equal([saidOf(answer), answer.retryAfter], ['503 internal.error', 5000]);
    assert.not(Buffer.from(answer.payload).toString('latin1').includes('hunter2'));
  } finally {
    store.commit = commit;
  }
  assert.is((await bench.nonce(device)).length, 32);
});

test('no field of a request can be cut anywhere and do harm', () =>
  undisturbed(async () => {
    const topic = bench.topic(witness, 'attest');
    const whole = await bench.frame(witness, topic, ZAttestReqSchema, {
      reqType: ATTEST_REQ_CERT,
      certs: await bench.certs(board),
    });
    for (let length = 0; length < whole.length; length += 11) {
      const [answer] = await bench.receive(topic, whole.subarray(0, length));
      assert.match(
        answer ? saidOf(answer) : '',
        /^(422 wire\.(frame|malformed)|401 wire\.signature)$/,
        `${length} bytes`,
      );
    }
  }));

test.run();
