// deadline: 120 s
// The runner of mutants, on a small check: what its tests miss is found, what they notice is not, and what never ends is ended.
import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { runCampaign } from './campaign.ts';
import { type Equivalent, judge } from './equivalents.ts';
import { mutate } from './mutant.ts';

const files = ['test/mutants/fixture/door.ts'];

test('survivors are what the tests do not ask, and nothing else', async () => {
  const done: number[] = [];
  const { mutants, survivors, endless, unreached } = await runCampaign({
    files,
    tests: ['test/mutants/fixture/door-tests.ts'],
    processes: 1,
    onProgress: (count) => done.push(count),
  });
  assert.equal(
    survivors.map(({ line, original, mutated }) => [line, original, mutated]),
    [
      [8, '99', '100'],
      [12, 'age > oldest', 'age >= oldest'],
      [13, "invited && names.includes('ann')", "names.includes('ann')"],
    ],
  );
  assert.ok(endless >= 1, 'a loop that counts up is noticed');
  assert.is(unreached, 0);
  assert.equal(
    done,
    mutants.map((_, i) => i + 1),
  );
  console.log(
    `FIGURES: runner of mutants, tried on a fixture: ${mutants.length} mutants, ${survivors.length} survivors, as planted`,
  );
});

test('tests that fail without any mutant are not believed', async () => {
  let why = '';
  try {
    await runCampaign({ files, tests: ['test/mutants/fixture/spoiled-tests.ts'], processes: 1 });
  } catch (error) {
    why = String(error);
  }
  assert.match(why, /without a mutant: "fails" fails/);
});

test('a listed mutant is no survivor, and one that is listed for nothing is named', () => {
  const [one, other] = mutate(files).mutants;
  assert.ok(one && other);
  if (!one || !other) return;
  const { file, context, original, mutated } = one;
  const listed: Equivalent[] = [{ file, context, original, mutated, why: 'it is the same' }];
  assert.equal(judge({ mutants: [one, other], survivors: [one, other] }, listed), {
    ...{ survivors: [other], equivalent: 1, outdated: [] },
  });
  assert.equal(judge({ mutants: [one, other], survivors: [other] }, listed).outdated, listed);
  assert.equal(judge({ mutants: [], survivors: [] }, listed).outdated, [], 'its file was not tried');
});

test('each that is listed is a mutant of today, and has a reason', () => {
  const path = new URL('./equivalents.json', import.meta.url);
  const listed = JSON.parse(readFileSync(path, 'utf8')) as Equivalent[];
  const { mutants } = mutate([...new Set(listed.map(({ file }) => file))]);
  const key = ({ file, context, original, mutated }: Omit<Equivalent, 'why'>) =>
    [file, context, original, mutated].join('\n');
  const known = new Set(mutants.map(key));
  assert.equal(
    listed.filter((one) => !known.has(key(one)) || one.why.length < 10),
    [],
  );
});

test.run();
