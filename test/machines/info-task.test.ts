import { suite } from 'uvu';
import { infoTask } from '../../machines/info-task.ts';
import { testRules } from '../kit/chart-rules.ts';
import { Coverage } from '../kit/coverage.ts';

const test = suite('info-task');
const coverage = new Coverage(infoTask);

testRules(test, infoTask, {
  coverage,
  stimuli: {
    events: [
      { type: 'info.changed', key: 'vault', body: { status: 'unlocked' } },
      { type: 'key.published', keyId: 'k1', encryptedKey: 'AAAA' },
      { type: 'key.published', keyId: 'k2', encryptedKey: 'BBBB' },
      { type: 'escrow.requested', keyId: 'k1', tokenHash: 't1', attempt: 1 },
      { type: 'escrow.requested', keyId: 'k2', tokenHash: 't2', attempt: 1 },
      { type: 'link.up' },
    ],
    answers: {
      loadPending: [{ pending: {} }, { pending: { tpm: { state: 'ready' } } }],
      sendInfo: [null],
      storeKey: [
        { keyId: 'k1', version: 1 },
        { keyId: 'k2', version: 2 },
      ],
    },
    failures: { storeKey: ['token.expired'] },
  },
  resting: { idle: 'there is nothing to report until something changes' },
});

test.run();
