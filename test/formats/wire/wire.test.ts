import { createHash, generateKeyPairSync, sign, verify } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { boxInfo, decodeBox, encodeBox } from '../../../formats/wire/box.ts';
import { encloseMessage, openContainer, readMessage } from '../../../formats/wire/envelope.ts';
import {
  AuthContainerSchema,
  BindingSchema,
  PushSchema,
  SealedBoxSchema,
  UuidResponseSchema,
} from '../../../formats/wire/eve_pb.ts';
import { decodeFrame, encodeFrame, type Frame, maxContainer } from '../../../formats/wire/frame.ts';
import { imageManifest } from '../../../formats/wire/image-manifest.ts';
import { base64url, loginInput, loginToken, readLogin } from '../../../formats/wire/login.ts';
import {
  downFilter,
  endpoints,
  formatEventTopic,
  formatTopic,
  isDeviceId,
  parseEventTopic,
  parseTopic,
  type Topic,
  upFilter,
} from '../../../formats/wire/topics.ts';
import { WireError } from '../../../formats/wire/wire-error.ts';

const device = 'ab'.repeat(32);

function refused(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    assert.instance(error, WireError, `${error}`);
    return (error as WireError).code;
  }
  return 'accepted';
}

// ---- Topics

const plain = { noNullPrototype: true };
const topics = fc.record(
  {
    device: fc.stringMatching(/^[0-9a-f]{64}$/),
    direction: fc.constantFrom('up' as const, 'down' as const),
    endpoint: fc.constantFrom(...endpoints),
    request: fc.stringMatching(/^[A-Za-z0-9_-]{1,32}$/),
  },
  plain,
);

test('a topic reads back as it was', () => {
  fc.assert(fc.property(topics, (topic) => assert.equal(parseTopic(formatTopic(topic)), topic)));
  const push: Topic = { device, direction: 'down', endpoint: 'push', request: '1' };
  assert.equal(parseTopic(formatTopic(push)), push);
});

test('no topic with one character more, less or another is another topic of anybody else', () => {
  fc.assert(
    fc.property(topics, fc.nat(120), fc.string({ minLength: 0, maxLength: 2 }), (topic, at, text) => {
      const whole = formatTopic(topic);
      const changed = whole.slice(0, at) + text + whole.slice(at + 1);
      let read: Topic;
      try {
        read = parseTopic(changed);
      } catch (error) {
        return assert.is((error as WireError).code, 'wire.topic');
      }
      // What still reads is what it says, letter by letter.
      return assert.is(formatTopic(read), changed);
    }),
  );
});

test('a topic is made of nothing but ids', () => {
  const topic: Topic = { device, direction: 'up', endpoint: 'uuid', request: 'r' };
  for (const bad of [
    { device: 'x' },
    { device: device.toUpperCase() },
    { request: '' },
    { request: 'a/b' },
    { request: '+' },
    { request: 'r'.repeat(33) },
  ])
    assert.throws(
      () => formatTopic({ ...topic, ...bad }),
      (error: Error) => error instanceof TypeError,
    );
  assert.equal([isDeviceId(device), isDeviceId(`${device}\n`), isDeviceId('')], [true, false, false]);
  assert.equal([downFilter(device), upFilter], [`eve/v2/${device}/down/#`, 'eve/v2/+/up/#']);
});

test('the topic of an event reads back as it was, and is none of a device', () => {
  const event = { device, account: 'plant-7', event: 'verdict.given' };
  const topic = formatEventTopic(event) ?? '';
  assert.is(topic, `eve/v2/events/${device}/plant-7/verdict.given`);
  assert.equal(parseEventTopic(topic), event);
  assert.throws(() => parseTopic(topic));
  for (const bad of [{ device: 'x' }, { account: 'a/b' }, { account: '' }, { account: '+' }, { event: '#' }])
    assert.is(formatEventTopic({ ...event, ...bad }), null, JSON.stringify(bad));
});

test('the error of a topic is short and does nothing to a terminal', () => {
  try {
    parseTopic(`\x1b[2J\x07${'x'.repeat(100_000)}`);
    assert.unreachable();
  } catch (error) {
    const { message } = error as Error;
    assert.ok(message.length < 140 && /^[\x20-\x7e]*$/.test(message));
  }
});

// ---- Frames

const frames = fc
  .record(
    {
      kind: fc.constantFrom('request' as const, 'reply' as const, 'push' as const),
      status: fc.nat(0xffff),
      wait: fc.nat(0xffffffff),
      container: fc.uint8Array({ maxLength: 300 }),
    },
    plain,
  )
  .map(({ wait, ...frame }) => ({
    ...frame,
    retryAfter: frame.kind === 'request' ? 0 : wait,
    patience: frame.kind === 'request' ? wait : 0,
  }));

test('a frame reads back as it was, and its header cut anywhere does not', () => {
  fc.assert(
    fc.property(frames, (frame) => {
      const bytes = encodeFrame(frame);
      assert.equal(
        { ...decodeFrame(bytes), container: Uint8Array.from(decodeFrame(bytes).container) },
        frame,
      );
      for (let length = 0; length < 16; length++)
        assert.is(
          refused(() => decodeFrame(bytes.subarray(0, length))),
          'wire.frame',
        );
    }),
  );
});

test('a frame is read where it lies in a larger buffer', () => {
  const frame: Frame = {
    kind: 'reply',
    status: 200,
    retryAfter: 3,
    patience: 0,
    container: Uint8Array.of(5),
  };
  const around = new Uint8Array(40).fill(0xee);
  around.set(encodeFrame(frame), 7);
  const read = decodeFrame(around.subarray(7, 24));
  assert.equal([read.status, read.retryAfter, read.patience, [...read.container]], [200, 3, 0, [5]]);
});

test('the time of day that an earlier program wrote into its frames is not read', () => {
  const bytes = encodeFrame({
    kind: 'request',
    status: 0,
    retryAfter: 0,
    patience: 7,
    container: Uint8Array.of(5),
  });
  const timed = Uint8Array.from(bytes, (byte, at) => (at >= 8 && at < 16 ? 0xff : byte));
  assert.equal(decodeFrame(timed), decodeFrame(bytes));
  assert.is(decodeFrame(timed).patience, 7);
});

test('a frame of another version or kind, or too large', () => {
  const bytes = encodeFrame({
    kind: 'request',
    status: 0,
    retryAfter: 0,
    patience: 0,
    container: new Uint8Array(),
  });
  const changed = (at: number, value: number) =>
    Uint8Array.from(bytes, (byte, index) => (index === at ? value : byte));
  for (const version of [0, 2, 255])
    assert.is(
      refused(() => decodeFrame(changed(0, version))),
      'wire.frame',
    );
  for (const kind of [3, 255])
    assert.is(
      refused(() => decodeFrame(changed(1, kind))),
      'wire.frame',
    );
  const large = new Uint8Array(maxContainer + 1);
  assert.is(
    refused(() => encodeFrame({ kind: 'request', status: 0, retryAfter: 0, patience: 0, container: large })),
    'wire.oversize',
  );
  assert.is(
    refused(() => decodeFrame(new Uint8Array(16 + maxContainer + 1))),
    'wire.oversize',
  );
  const largest = encodeFrame({
    kind: 'push',
    status: 0,
    retryAfter: 0,
    patience: 0,
    container: large.subarray(1),
  });
  assert.is(decodeFrame(largest).container.length, maxContainer);
});

test('a pause that a frame cannot hold is the longest that it can', () => {
  const held = (retryAfter: number) =>
    decodeFrame(
      encodeFrame({ kind: 'reply', status: 503, retryAfter, patience: 0, container: new Uint8Array() }),
    ).retryAfter;
  assert.equal([held(-5), held(1e12), held(0.6)], [0, 0xffffffff, 1]);
});

// ---- Envelope

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest();
const certificate = Buffer.from('certificate');
const signer = {
  certificate,
  sign: (payload: Uint8Array) => sign('sha256', payload, { key: privateKey, dsaEncoding: 'ieee-p1363' }),
};
const where = { topic: `eve/v2/${device}/down/uuid/r`, status: 200, at: 1_700_000_000_000 };
const message = create(UuidResponseSchema, { uuid: 'u', manufacturer: 'm', productName: 'p' });
const enclose = (withCertificate = false) =>
  encloseMessage(UuidResponseSchema, message, where, signer, sha256, withCertificate);

test('a message comes out as it went in, signed and bound to its place', async () => {
  const opened = openContainer(await enclose());
  assert.ok(
    verify('sha256', opened.payload, { key: publicKey, dsaEncoding: 'ieee-p1363' }, opened.signature),
  );
  assert.equal(Buffer.from(opened.senderHash), sha256(certificate));
  assert.is(opened.senderCertificate.length, 0);
  const read = readMessage(UuidResponseSchema, opened.payload, where);
  assert.equal(
    [read.uuid, read.manufacturer, read.productName, read.binding?.at],
    ['u', 'm', 'p', BigInt(where.at)],
  );
  assert.equal(Buffer.from(openContainer(await enclose(true)).senderCertificate), certificate);
  // The message of the caller is as it was.
  assert.is(message.binding, undefined);
});

test('a message is read in its own place alone', async () => {
  const { payload } = openContainer(await enclose());
  const read = (topic: string, status: number) =>
    refused(() => readMessage(UuidResponseSchema, payload, { topic, status }));
  assert.is(read(where.topic, 200), 'accepted');
  assert.is(read(`${where.topic}x`, 200), 'wire.binding');
  assert.is(read(where.topic.replace('down', 'up'), 200), 'wire.binding');
  assert.is(read(where.topic, 304), 'wire.binding');
  assert.is(
    refused(() =>
      readMessage(PushSchema, toBinary(PushSchema, create(PushSchema, { what: 'attest' })), where),
    ),
    'wire.binding',
  );
});

test('a container cut at any byte is malformed, or does not hold what was signed', async () => {
  const whole = await enclose(true);
  for (let length = 0; length < whole.length; length++) {
    const code = refused(() => {
      const opened = openContainer(whole.subarray(0, length));
      const genuine = verify(
        'sha256',
        opened.payload,
        { key: publicKey, dsaEncoding: 'ieee-p1363' },
        opened.signature,
      );
      // Only the certificate is missing, which the signature does not cover.
      assert.ok(genuine && opened.senderCertificate.length === 0);
    });
    assert.ok(code === 'wire.malformed' || code === 'accepted', `${length}: ${code}`);
  }
});

test('no bytes make it throw anything but a WireError', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      for (const work of [
        () => decodeFrame(bytes),
        () => openContainer(bytes),
        () => readMessage(UuidResponseSchema, bytes, where),
        () => decodeBox(bytes),
        () => parseTopic(Buffer.from(bytes).toString('latin1')),
      ])
        refused(work);
      readLogin(Buffer.from(bytes).toString('latin1'));
    }),
    { numRuns: 500 },
  );
});

test('lengths that a peer states and does not send', () => {
  // Field 1, length-delimited, 2 GB and more.
  for (const length of ['ffffffff07', 'ffffffff0f', 'ffffffffffffffffff01', '80808080808080808080'])
    assert.is(
      refused(() => openContainer(Buffer.from(`0a${length}00`, 'hex'))),
      'wire.malformed',
    );
  // Groups within groups.
  assert.is(
    refused(() => openContainer(Buffer.alloc(100_000, 0x0b))),
    'wire.malformed',
  );
});

test('a signature of another length, and a certificate that is too long', () => {
  const container = (fields: object) =>
    toBinary(
      AuthContainerSchema,
      create(AuthContainerSchema, {
        protectedPayload: { payload: Uint8Array.of(1) },
        signatureHash: new Uint8Array(64),
        ...fields,
      }),
    );
  assert.is(
    refused(() => openContainer(container({}))),
    'accepted',
  );
  for (const size of [0, 63, 65, 96])
    assert.is(
      refused(() => openContainer(container({ signatureHash: new Uint8Array(size) }))),
      'wire.malformed',
    );
  assert.is(
    refused(() => openContainer(container({ senderCert: new Uint8Array(8193) }))),
    'wire.malformed',
  );
  assert.is(
    refused(() =>
      openContainer(
        toBinary(AuthContainerSchema, create(AuthContainerSchema, { signatureHash: new Uint8Array(64) })),
      ),
    ),
    'wire.malformed',
  );
});

test('fields that this side does not know are skipped', () => {
  const binding = toBinary(BindingSchema, create(BindingSchema, { topic: where.topic, status: 200 }));
  // Field 1000 with the binding, then field 2000 that nobody knows.
  const bytes = Buffer.concat([
    Buffer.from('c23e', 'hex'),
    Buffer.of(binding.length),
    binding,
    Buffer.from('827d03616263', 'hex'),
  ]);
  assert.is(readMessage(UuidResponseSchema, bytes, where).uuid, '');
});

// ---- Boxes

const box = {
  ephemeral: Uint8Array.of(4, ...new Uint8Array(64)),
  iv: new Uint8Array(12),
  data: new Uint8Array(48),
};

test('a box reads back, and with one size wrong it does not', () => {
  const { ephemeral, iv, data } = decodeBox(encodeBox(box));
  assert.equal(
    [Uint8Array.from(ephemeral), Uint8Array.from(iv), Uint8Array.from(data)],
    [box.ephemeral, box.iv, box.data],
  );
  for (const wrong of [
    { ephemeral: box.ephemeral.subarray(1) },
    { ephemeral: Uint8Array.of(2, ...new Uint8Array(32)) },
    { ephemeral: Uint8Array.of(6, ...new Uint8Array(64)) },
    { iv: new Uint8Array(16) },
    { iv: new Uint8Array() },
    { data: new Uint8Array(15) },
    { data: new Uint8Array(5000) },
  ])
    assert.is(
      refused(() => decodeBox(encodeBox({ ...box, ...wrong }))),
      'wire.malformed',
    );
  assert.is(
    refused(() => decodeBox(toBinary(SealedBoxSchema, create(SealedBoxSchema, { version: 2, ...box })))),
    'wire.malformed',
  );
  const whole = encodeBox(box);
  for (let length = 0; length < whole.length; length++)
    assert.is(
      refused(() => decodeBox(whole.subarray(0, length))),
      'wire.malformed',
    );
});

test('what is bound into a box differs for each purpose and context', () => {
  const texts = (['integrity token', 'vault key in transit', 'vault key for the TPM'] as const).flatMap(
    (purpose) => ['', 'a', 'b'].map((context) => Buffer.from(boxInfo(purpose, context)).toString('hex')),
  );
  assert.is(new Set(texts).size, texts.length);
});

// ---- Logins and manifests

test('a login reads back as it was', () => {
  const claims = { sub: device, aud: 'evc', iat: 1, exp: 61, jti: 'j', cb: 'c' };
  const input = loginInput(claims, certificate);
  const login = readLogin(loginToken(input, new Uint8Array(64).fill(7)));
  assert.equal(login?.claims, claims);
  assert.equal(
    [Buffer.from(login?.certificate ?? []), Buffer.from(login?.signed ?? []).toString()],
    [certificate, input],
  );
  const { cb: _none, ...unbound } = claims;
  assert.equal(readLogin(loginToken(loginInput(unbound, certificate), new Uint8Array(64)))?.claims, unbound);
});

test('a login whose claims are of other types is none', () => {
  const good: Record<string, unknown> = { sub: device, aud: 'evc', iat: 1, exp: 61, jti: 'j' };
  const header = base64url(
    Buffer.from(JSON.stringify({ alg: 'ES256', x5c: [certificate.toString('base64')] })),
  );
  const read = (claims: unknown) =>
    readLogin(`${header}.${base64url(Buffer.from(JSON.stringify(claims)))}.${base64url(new Uint8Array(64))}`);
  assert.ok(read(good));
  for (const wrong of [{ sub: 1 }, { aud: ['evc'] }, { iat: '1' }, { exp: null }, { jti: {} }, { cb: 5 }])
    assert.is(read({ ...good, ...wrong }), null);
  for (const none of [null, 'text', 5, []]) assert.is(read(none), null);
});

test('base64url has no sign that a URL or a dot could be', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) =>
      assert.is(base64url(bytes), Buffer.from(bytes).toString('base64url')),
    ),
  );
});

test('two images never have the same manifest', () => {
  const image = { version: '1.0', sha256: 'aa', size: 5 };
  const text = (change: object) => Buffer.from(imageManifest({ ...image, ...change })).toString();
  assert.is(text({}), 'eve-attest image 1\n1.0\naa\n5\n');
  assert.is(new Set([text({}), text({ version: '1.1' }), text({ sha256: 'ab' }), text({ size: 6 })]).size, 4);
});

test.run();
