// Every chart, for whoever draws, records or replays them.
import type { AnyStateMachine } from 'xstate';
import { attestTask } from './attest-task.ts';
import { baseOs } from './base-os.ts';
import { client } from './client.ts';
import { configTask } from './config-task.ts';
import { deviceRecord } from './device-record.ts';
import { deviceSteps } from './device-steps.ts';
import { infoTask } from './info-task.ts';
import { tpmManager } from './tpm-manager.ts';
import { vaultManager } from './vault-manager.ts';

/** Of a device, in the order in which it starts them. */
export const deviceCharts: readonly AnyStateMachine[] = [
  deviceSteps,
  client,
  vaultManager,
  tpmManager,
  attestTask,
  infoTask,
  configTask,
  baseOs,
];

/** By id. */
export const charts: ReadonlyMap<string, AnyStateMachine> = new Map(
  [...deviceCharts, deviceRecord as AnyStateMachine].map((chart) => [chart.id, chart]),
);
