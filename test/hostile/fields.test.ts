// deadline: 180 s
// A device with its own key and TPM, root and all, that lies in each field of what it says, one at a time: EVC refuses it by name,
// believes nothing of it, and a device beside it is answered as before.
import { create, type DescMessage, type MessageInitShape } from '@bufbuild/protobuf';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  CertsRequestSchema,
  ConfigRequestSchema,
  UuidRequestSchema,
  ZAttestReqSchema,
  ZAttestReqType,
  ZInfoMsgSchema,
  ZRegisterMsgSchema,
} from '../../formats/wire/eve_pb.ts';
import type { Endpoint } from '../../formats/wire/topics.ts';
import { reasons } from '../../machines/reasons.ts';
import { EvcBench, quoteOf } from '../kit/controller.ts';
import { LabBoard, sha256 } from '../kit/evidence.ts';
import { type SoftDevice, softDevice } from '../kit/logins.ts';
import { codeOf } from './answers.ts';
import { lies } from './lies.ts';

const bench = await EvcBench.open();
const board = await LabBoard.open();
await board.boot();
const liar = await enrolled('liar');
const witness = await softDevice();
await bench.register(witness, await bench.onboardingKey(), 'witness');
await bench.certify(liar, board);

let told = 0;
let refused = 0;
const codes = new Map<string, number>();

test.after(async () => {
  await bench.close();
  await board.close();
});

async function enrolled(serial: string): Promise<SoftDevice> {
  const device = await softDevice();
  await bench.register(device, await bench.onboardingKey(), serial);
  return device;
}

async function tell<Desc extends DescMessage>(
  endpoint: Endpoint,
  schema: Desc,
  message: MessageInitShape<Desc>,
): Promise<string | null> {
  const topic = bench.topic(liar, endpoint);
  const before = bench.refused.length;
  const frame = await bench.frame(liar, topic, schema, message);
  const answers = await bench.receive(topic, frame);
  assert.ok(answers.length <= 1, `${answers.length} answers`);
  const code = codeOf(answers, bench.refused.slice(before));
  told++;
  if (code === null) return null;
  refused++;
  codes.set(code, (codes.get(code) ?? 0) + 1);
  assert.ok(code in reasons && !code.startsWith('internal.'), `${code} is a reason with a name`);
  return code;
}

/** The device beside it. */
async function witnessed(): Promise<void> {
  const answer = await bench.ask(witness, 'uuid', UuidRequestSchema, {});
  assert.is(answer.status, 200);
}

/**
 * What changes nothing of what is believed: fields of EVE that EVC does not read, since TPM and key say it themselves; an order; a
 * byte behind the end of a gzip member [RFC 1952, 2.2], since what is inside has to lead to the quote.
 */
const immaterial = new RegExp(
  [
    /^certs: reversed$/,
    /^certs\.0\.(hashAlgo|certHash|cert): /,
    /^certs\.0\.metaDataItems: (the first twice|reversed|1000 of them)$/,
    /^quote\.(signature|tpmBinaryEventLogHash|configEventLogHash): /,
    /^quote\.pcrValues: reversed$/,
    /^quote\.(tpmBinaryEventLog|configEventLog): one more$/,
  ]
    .map(({ source }) => source)
    .join('|'),
);

test('each field of a quote', async () => {
  const nonceOf = () => bench.nonce(liar);
  const first = await evidence(await nonceOf());
  const names = lies(ZAttestReqSchema, first).map(({ name }) => name);
  const taken: string[] = [];
  for (const [index, name] of names.entries()) {
    const lie = lies(ZAttestReqSchema, await evidence(await nonceOf()))[index];
    if (!lie) throw new TypeError(`there is no lie ${name}`);
    if ((await tell('attest', ZAttestReqSchema, lie.message)) === null) taken.push(name);
  }
  assert.equal(
    taken.filter((name) => !immaterial.test(name)),
    [],
  );
  assert.ok(names.length > 40, `${names.length} lies`);
  await witnessed();
});

test('each field of the keys and certificates of a TPM', async () => {
  const certs = await bench.certs(board);
  const message = create(ZAttestReqSchema, { reqType: ZAttestReqType.ATTEST_REQ_CERT, certs });
  const taken: string[] = [];
  for (const { name, message: lie } of lies(ZAttestReqSchema, message))
    if ((await tell('attest', ZAttestReqSchema, lie)) === null) taken.push(name);
  assert.equal(
    taken.filter((name) => !immaterial.test(name)),
    [],
  );
  await witnessed();
});

test('each field of a registration, a configuration, a report and the rest ends in an answer with a name', async () => {
  const key = await bench.onboardingKey();
  const messages: [Endpoint, DescMessage, Record<string, unknown>][] = [
    ['register', ZRegisterMsgSchema, { pemCert: key.certificate, serial: 's', softSerial: 't' }],
    ['config', ConfigRequestSchema, { configHash: '0', integrityToken: Buffer.alloc(100, 1) }],
    ['info', ZInfoMsgSchema, { key: 'k', body: '{"a":1}' }],
    ['uuid', UuidRequestSchema, {}],
    ['certs', CertsRequestSchema, {}],
    [
      'attest',
      ZAttestReqSchema,
      { reqType: ZAttestReqType.ATTEST_REQ_PROOF, proof: { challenge: 'c', proof: Buffer.alloc(32) } },
    ],
    [
      'attest',
      ZAttestReqSchema,
      {
        reqType: ZAttestReqType.ATTEST_REQ_STORE_KEYS,
        storageKeys: { integrityToken: Buffer.alloc(100, 1), keys: [{ key: Buffer.alloc(40, 2) }] },
      },
    ],
  ];
  for (const [endpoint, schema, body] of messages)
    for (const { message } of lies(schema, create(schema, body))) await tell(endpoint, schema, message);
  const record = await bench.evc.runner.read(liar.id);
  assert.ok(Object.keys(record?.context.info ?? {}).length <= 16, 'reports of a device are bounded');
  assert.equal(record?.context.escrow, [], 'no key was taken');
  await witnessed();
});

test('what was told, and what became of it', () => {
  console.log(`FIGURES: lies in fields: ${told} told, ${refused} refused by ${codes.size} names`);
  assert.ok(refused > 100 && codes.size >= 12, `${refused} by ${[...codes.keys()].join()}`);
});

async function evidence(nonce: Uint8Array) {
  const claims = board.claims({ tokenHash: sha256(Buffer.from('a token')) });
  const quote = quoteOf(await board.present({ nonce, claims }));
  return create(ZAttestReqSchema, { reqType: ZAttestReqType.ATTEST_REQ_QUOTE, quote });
}

test.run();
