import { suite } from 'uvu';
import { deviceSteps } from '../../machines/device-steps.ts';
import { testRules } from '../kit/chart-rules.ts';
import { Coverage } from '../kit/coverage.ts';

const test = suite('device-steps');
const coverage = new Coverage(deviceSteps);

testRules(test, deviceSteps, {
  coverage,
  stimuli: {
    events: [
      { type: 'client.settled', state: 'provisioned' },
      { type: 'vault.settled', status: 'unlocked' },
      { type: 'tpm.settled', state: 'ready' },
      { type: 'component.failed', component: 'info-task', why: { code: 'internal.error', text: 'it broke' } },
      { type: 'reboot.requested', reason: 'update' },
    ],
    answers: { startComponents: [null], reboot: [null] },
  },
  resting: { running: 'everything runs; what fails and who wants a reboot says so' },
});

test.run();
