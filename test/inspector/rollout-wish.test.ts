import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { noFacts } from '../../formats/filter/row.ts';
import { meantBy, planText, readPlan, type WishText, wishFields } from '../../inspector/rollout-wish.ts';

const wish: WishText = { version: '2.0.0', ...wishFields };

test('what is usual is a plan', () => {
  assert.equal(readPlan(wish).plan, {
    ...{ version: '2.0.0', stages: [1, 10, 100], haltAt: 10, atOnce: 100 },
    ...{ window: 3_600_000, testWindow: 600_000 },
  });
  assert.equal(readPlan({ ...wish, shares: '0.5%, 20 %,all' }).plan?.stages, [0.5, 20, 100]);
});

const wrong: [field: keyof WishText, texts: string[]][] = [
  ['version', ['']],
  ['shares', ['', '10', '10,10,all', '50,20,all', 'some', '0,all', '-1,all', '101', `${'1,'.repeat(21)}all`]],
  ['halt', ['', 'ten', '101', '-1', '1e9']],
  ['once', ['0', '', '10001', '1.5', 'all']],
  ['window', ['', '1', '0s', '31d', '1w', '-1h']],
  ['test', ['', '10 minutes', '9999999s']],
];

for (const [field, texts] of wrong)
  test(`a wrong ${field} is named`, () => {
    for (const text of texts) assert.is(readPlan({ ...wish, [field]: text }).problem?.field, field, text);
  });

test('who runs the image and who is retired is left out, and counted', () => {
  const device = (trust: string, image: string) => ({
    ...{ device: trust + image, serial: '', uuid: '', account: '', labels: [], seen: 0, revision: 1, trust },
    facts: { ...noFacts, image },
  });
  const meant = meantBy([device('uud', '1'), device('trusted', '2'), device('retired', '1')], '2');
  assert.equal([meant.devices.map((one) => one.device), meant.there, meant.retired], [['uud1'], 1, 1]);
});

test('how it would go is said in devices', () => {
  const halts = '; it halts when more than 10 % of those that were begun with fail';
  assert.is(
    planText({ stages: [1, 10, 100], haltAt: 10 }, 50),
    `1 device first, then 5, then all 50${halts}`,
  );
  assert.is(planText({ stages: [100], haltAt: 10 }, 50), `all 50 at once${halts}`);
  assert.is(planText({ stages: [1, 10, 100], haltAt: 10 }, 2), `1 device first, then all 2${halts}`);
  assert.is(planText({ stages: [1, 100], haltAt: 10 }, 1), `the device at once${halts}`);
});

test.run();
