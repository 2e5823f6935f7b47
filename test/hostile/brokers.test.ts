// deadline: 180 s
// A broker that lies: it has every message, and keeps, repeats, swaps and forges them as it likes. It gains nothing, each side says
// by name what it does not believe, and all is well when an honest broker takes its place.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UuidRequestSchema, ZAttestReqSchema, ZAttestReqType } from '../../formats/wire/eve_pb.ts';
import { decodeFrame, encodeFrame } from '../../formats/wire/frame.ts';
import { parseTopic } from '../../formats/wire/topics.ts';
import { keptPromises } from '../faults/promises.ts';
import { Between } from '../kit/between.ts';
import { EvcBench, quoteOf } from '../kit/controller.ts';
import { LabBoard, sha256 } from '../kit/evidence.ts';
import { softDevice } from '../kit/logins.ts';
import { manufacturing, World, type WorldDevice } from '../kit/world.ts';
import { codeOf } from './answers.ts';

const minute = 60_000;
type Deliver = (payload: Uint8Array) => Promise<void>;

/** What a broker does with an answer of EVC; `kept` are those before it, of any device. */
type Lie = (topic: string, payload: Uint8Array, kept: readonly [string, Uint8Array][]) => Uint8Array | null;

class LyingBroker extends Between {
  lie: Lie | null = null;
  readonly #kept: [string, Uint8Array][] = [];

  override async down(topic: string, payload: Uint8Array, deliver: Deliver): Promise<void> {
    const told = this.lie === null ? payload : this.lie(topic, payload, this.#kept);
    this.#kept.push([topic, payload]);
    if (told) await deliver(told);
  }
}

const endpointOf = (topic: string) => parseTopic(topic).endpoint;
const deviceOf = (topic: string) => parseTopic(topic).device;

const answers: [what: string, code: string, lie: Lie][] = [
  [
    'an older answer of EVC to the same device',
    'wire.binding',
    (topic, payload, kept) =>
      kept.findLast(
        ([other]) => endpointOf(other) === endpointOf(topic) && deviceOf(other) === deviceOf(topic),
      )?.[1] ?? payload,
  ],
  [
    'an answer of EVC to another device',
    'wire.binding',
    (topic, payload, kept) =>
      kept.findLast(
        ([other]) => endpointOf(other) === endpointOf(topic) && deviceOf(other) !== deviceOf(topic),
      )?.[1] ?? payload,
  ],
  [
    'an answer with another status',
    'wire.binding',
    (_, payload) => {
      const frame = decodeFrame(payload);
      return encodeFrame({ ...frame, status: frame.status === 200 ? 403 : 200 });
    },
  ],
  ['no answer at all', 'link.timeout', () => null],
  ['rubbish', 'link.timeout', (_, payload) => Buffer.alloc(payload.length, 7)],
];

for (const [what, code, lie] of answers) {
  test(`a device is told ${what}: ${code}, and it gets over it`, async () => {
    const broker = new LyingBroker();
    const world = await World.start([manufacturing], undefined, broker);
    try {
      const [device, other] = [await world.addDevice(), await world.addDevice()];
      await world.attested(device);
      await world.attested(other);
      const from = device.events.length;
      broker.lie = (topic, payload, kept) =>
        deviceOf(topic) === device.id ? lie(topic, payload, kept) : payload;
      await device.node.reboot('test');
      await world.until(`${code} is said`, () => saidSince(device, from).includes(code), 30 * minute);
      // The one beside it is served as ever.
      await other.node.reboot('test');
      await world.attested(other);
      broker.lie = null;
      await world.attested(device);
      await keptPromises(world, device);
      world.recordings.check();
    } finally {
      await world.stop();
    }
  });
}

function saidSince(device: WorldDevice, from: number): string[] {
  return device.events
    .slice(from)
    .flatMap((event) => (event.kind === 'port' && event.phase === 'fails' ? [event.code ?? ''] : []));
}

test('EVC is told what a device said before, what another one said, and half of it', async () => {
  const bench = await EvcBench.open();
  const board = await LabBoard.open();
  try {
    await board.boot();
    const [device, other] = [await softDevice(), await softDevice()];
    for (const one of [device, other])
      await bench.register(one, await bench.onboardingKey(), one.id.slice(0, 8));
    await bench.certify(device, board);
    const nonce = await bench.nonce(device);
    const claims = board.claims({ tokenHash: sha256(Buffer.from('a token')) });
    const quote = quoteOf(await board.present({ nonce, claims }));
    const topic = bench.topic(device, 'attest');
    const reqType = ZAttestReqType.ATTEST_REQ_QUOTE;
    const frame = await bench.frame(device, topic, ZAttestReqSchema, { reqType, quote });
    await bench.receive(topic, frame);
    const trust = async () => (await bench.evc.runner.read(device.id))?.value;
    const before = await trust();
    const refusals = new Set<string>();
    let lied = 0;
    const told = async (at: string, bytes: Uint8Array) => {
      lied++;
      const dropped = bench.refused.length;
      const code = codeOf(await bench.receive(at, bytes), bench.refused.slice(dropped));
      refusals.add(code ?? 'taken');
    };
    // The same again, a hundred times; its nonce is used.
    for (let again = 0; again < 100; again++) await told(topic, frame);
    const verdicts = (await bench.evc.store.journal(device.id, 1000)).filter(
      ({ event }) => event === 'verdict.given',
    );
    assert.is(verdicts.length, 1, 'one verdict, whatever is repeated');
    assert.equal(await trust(), before);
    // On the topic of another request, and of another device.
    await told(bench.topic(device, 'attest'), frame);
    await told(bench.topic(other, 'attest'), frame);
    for (const length of [0, 1, 15, 16, 17, frame.length >> 1, frame.length - 1])
      await told(topic, frame.slice(0, length));
    assert.equal(await trust(), before);
    assert.equal([...refusals].sort(), [
      'evidence.nonce.none',
      'wire.binding',
      'wire.frame',
      'wire.malformed',
      'wire.signature',
    ]);
    const answer = await bench.ask(other, 'uuid', UuidRequestSchema, {});
    assert.is(answer.status, 200);
    console.log(
      `FIGURES: lies of a broker: ${answers.length} kinds to a device, ${lied} messages to EVC, refused as ${[...refusals].sort().join(', ')}`,
    );
  } finally {
    await bench.close();
    await board.close();
  }
});

test.run();
