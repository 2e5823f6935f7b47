import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Said, TrialVerdict } from '../../inspector/answers.ts';
import {
  nothingTried,
  readTrial,
  saidText,
  shownVerdicts,
  skippedBy,
  type TrialText,
  trialText,
  withPage,
} from '../../inspector/trial.ts';

const text: TrialText = { kind: 'accept', shown: '', versions: '', policy: '', filter: '', attempts: '3' };

test('each kind is asked for as EVC takes it', () => {
  assert.equal(readTrial(text).wish, { attempts: 3, accept: {} });
  assert.equal(readTrial({ ...text, shown: ' edge-01 ', filter: 'trust:uud' }).wish, {
    ...{ attempts: 3, filter: 'trust:uud' },
    accept: { device: 'edge-01' },
  });
  assert.equal(readTrial({ ...text, kind: 'images', versions: '1.1.0, 2.0.0,' }).wish, {
    attempts: 3,
    images: ['1.1.0', '2.0.0'],
  });
  const policy = { location: { radius: 50 } };
  assert.equal(readTrial({ ...text, kind: 'policy', policy: JSON.stringify(policy) }).wish, {
    attempts: 3,
    policy,
  });
});

test('what is wrong is said, and nothing is asked', () => {
  const wrong: [Partial<TrialText>, RegExp][] = [
    [{ attempts: '0' }, /^attempts: .* 1 to 8/],
    [{ attempts: '9' }, /^attempts/],
    [{ attempts: 'all' }, /^attempts/],
    [{ kind: 'images', versions: ' , ' }, /^images: name/],
    [{ kind: 'images', versions: 'v,'.repeat(101) }, /^images: 100/],
    [{ kind: 'policy' }, /^policy: write/],
    [{ kind: 'policy', policy: '{' }, /^policy: /],
    [{ kind: 'policy', policy: '[]' }, /^policy: an object/],
    [{ kind: 'policy', policy: 'null' }, /^policy: an object/],
  ];
  for (const [part, problem] of wrong) {
    const read = readTrial({ ...text, ...part });
    assert.is(read.wish, null);
    assert.match(read.problem, problem);
  }
});

const trusted: Said = { accepted: true, genuine: true, grounds: 'baseline', finding: null };
const refused: Said = {
  ...{ accepted: false, genuine: true, grounds: null },
  finding: { code: 'policy.software.unknown', text: 'unknown' },
};
const verdict = (serial: string, before: Said, after: Said): TrialVerdict => ({
  ...{ device: serial, serial, account: 'a', attempt: 'e', judged: 0 },
  ...{ changes: before !== after, before, after },
});

test('what would be refused stands first, and is counted apart', () => {
  const page = {
    devices: 3,
    verdicts: [
      verdict('same', trusted, trusted),
      verdict('gained', refused, trusted),
      verdict('lost', trusted, refused),
    ],
    skipped: [{ device: 'd', serial: '', attempt: 'e', why: 'trial.log-gone' }],
    next: null,
  };
  const trial = withPage(withPage(nothingTried, page), { ...page, devices: 0, verdicts: [] });
  const names = (all: boolean) => shownVerdicts(trial, all).map(({ serial }) => serial);
  assert.equal(names(false), ['lost', 'gained']);
  assert.equal(names(true), ['lost', 'gained', 'same']);
  assert.is(
    trialText(trial),
    '2 of 3 verdicts of 3 devices would be otherwise: 1 refused that is trusted, 1 trusted that is refused.',
  );
  assert.equal([...skippedBy(trial)], [['trial.log-gone', 2]]);
  assert.is(trialText(nothingTried), 'Nothing would change in 0 verdicts of 0 devices.');
});

test('a verdict in a word', () => {
  assert.is(saidText(trusted), 'trusted (baseline)');
  assert.is(saidText(refused), 'policy.software.unknown');
  assert.is(saidText({ ...refused, genuine: false }), 'not genuine: policy.software.unknown');
});

test.run();
