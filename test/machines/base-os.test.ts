import { suite } from 'uvu';
import { baseOs, type Slots } from '../../machines/base-os.ts';
import type { BaseOsConfig } from '../../machines/flow.ts';
import { testRules } from '../kit/chart-rules.ts';
import { Coverage } from '../kit/coverage.ts';

const test = suite('base-os');
const coverage = new Coverage(baseOs);

const slots: Slots = {
  current: { label: 'IMGA', version: '1.0', state: 'active' },
  other: { label: 'IMGB', version: '', state: 'unused' },
  trial: null,
  failed: null,
};
const trial: Slots = {
  current: { label: 'IMGB', version: '2.0', state: 'inprogress' },
  other: { label: 'IMGA', version: '1.0', state: 'active' },
  trial: { until: Date.UTC(2026, 0, 1, 1), window: 60_000 },
  failed: null,
};
const committed: Slots = { ...trial, current: { ...trial.current, state: 'active' }, trial: null };
const image = (version: string): BaseOsConfig => ({
  version,
  url: `https://evc/${version}`,
  sha256: version,
  size: 1,
  signature: 'AA',
  testWindow: 60_000,
  retryCounter: 0,
});

testRules(test, baseOs, {
  coverage,
  stimuli: {
    events: [
      { type: 'baseos.wanted', baseOs: image('2.0') },
      { type: 'baseos.wanted', baseOs: image('3.0') },
      { type: 'baseos.wanted', baseOs: image('1.0') },
      { type: 'config.full' },
    ],
    answers: {
      loadSlots: [slots, trial],
      fetchImage: [null],
      verifyImage: [null],
      writeSlot: [null],
      stageSlot: [slots],
      selfTest: [null],
      commitSlot: [committed],
      abandonSlot: [slots],
    },
    failures: { fetchImage: ['baseos.image-size'] },
  },
  resting: { idle: 'what is wanted runs' },
});

test.run();
