import { suite } from 'uvu';
import { configTask } from '../../machines/config-task.ts';
import { testRules } from '../kit/chart-rules.ts';
import { Coverage } from '../kit/coverage.ts';

const test = suite('config-task');
const coverage = new Coverage(configTask);
const full = { kind: 'full' as const, version: 2, baseOs: null, why: null };
const why = { code: 'policy.software.unknown', text: 'unknown' };

testRules(test, configTask, {
  coverage,
  stimuli: {
    events: [
      { type: 'token.confirmed', tokenHash: 't1' },
      { type: 'token.confirmed', tokenHash: 't2' },
      { type: 'config.pushed' },
      { type: 'link.up' },
    ],
    answers: {
      loadCheckpoint: [
        { version: 0, baseOs: null },
        { version: 2, baseOs: null },
      ],
      requestConfig: [
        full,
        { ...full, version: 1 },
        { ...full, kind: 'partial', why },
        { ...full, kind: 'unchanged' },
      ],
      applyConfig: [null],
      applyCheckpoint: [null],
    },
    failures: { requestConfig: ['config.forbidden'] },
  },
  resting: {},
  pausing: { 'offline.applyingCheckpoint': 'the pause before the next try of EVC runs meanwhile' },
});

test.run();
