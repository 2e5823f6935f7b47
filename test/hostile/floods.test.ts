// Who sends more than anybody can use: what EVC keeps of it has a bound, and a device beside it is answered in as many steps as ever.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { admissionLimits } from '../../controller/admission.ts';
import { UuidRequestSchema } from '../../formats/wire/eve_pb.ts';
import { formatTopic } from '../../formats/wire/topics.ts';
import { EvcBench } from '../kit/controller.ts';
import { softDevice } from '../kit/logins.ts';

const bench = await EvcBench.open();
const witness = await softDevice();
await bench.register(witness, await bench.onboardingKey(), 'witness');
const flooder = await softDevice();
await bench.register(flooder, await bench.onboardingKey(), 'flooder');

test.after(() => bench.close());

/** Steps of the records that the witness costs. */
async function stepsOfWitness(): Promise<number> {
  let steps = 0;
  bench.watch = ({ device }) => {
    if (device === witness.id) steps++;
  };
  const topic = bench.topic(witness, 'uuid');
  const answers = await bench.receive(topic, await bench.frame(witness, topic, UuidRequestSchema, {}));
  const own = answers.filter((answer) => answer.topic.includes(witness.id));
  assert.equal(
    own.map(({ status }) => status),
    [200],
  );
  bench.watch = () => undefined;
  return steps;
}

test('100,000 topics of one device: sixteen wait, and no more', async () => {
  const alone = await stepsOfWitness();
  const payload = new Uint8Array(64);
  let most = 0;
  for (let n = 0; n < 100_000; n++) {
    const topic = formatTopic({ device: flooder.id, direction: 'up', endpoint: 'attest', request: `r${n}` });
    bench.evc.receive(topic, payload);
    if (n % 1000 === 0) {
      await Promise.resolve();
      const { queued, atWork } = bench.evc.admission.load;
      most = Math.max(most, queued + atWork);
    }
  }
  const during = stepsOfWitness();
  assert.ok(most <= admissionLimits.ofDevice, `${most} were under way`);
  assert.ok((await during) <= 2 * alone, 'the witness costs no more');
  await bench.evc.settled();
  assert.is(bench.evc.admission.load.queued, 0);
});

test('100,000 devices that nobody knows leave no record behind', async () => {
  const before = (await bench.evc.store.list('', 10)).length;
  let most = 0;
  for (let n = 0; n < 100_000; n++) {
    const device = n.toString(16).padStart(64, '0');
    bench.evc.receive(
      formatTopic({ device, direction: 'up', endpoint: 'attest', request: 'r' }),
      new Uint8Array(64),
    );
    bench.evc.link(device, true);
    if (n % 500 === 0) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      const { queued, atWork } = bench.evc.admission.load;
      most = Math.max(most, queued + atWork);
    }
  }
  assert.ok(most <= admissionLimits.queued + 2 * admissionLimits.atWork, `${most} were under way`);
  await bench.evc.settled();
  assert.is((await bench.evc.store.list('', 10)).length, before);
  assert.is(await stepsOfWitness(), 1);
});

test.run();
