// Roll-outs through the API.
import type { Rollouts } from '../rollout/rollouts.ts';
import type { Operations } from './operation.ts';
import { body, duration, idParams, list, reason, reasoned, ref, text } from './schemas.ts';

interface RolloutBody {
  version: string;
  devices: string[];
  stages: number[];
  haltAt: number;
  atOnce: number;
  window: number;
  testWindow: number;
  reason: string;
}

const minute = 60_000;
const path = '/api/v1/rollouts';
const percent = { type: 'number', exclusiveMinimum: 0, maximum: 100 } as const;
const one = { tag: 'devices', reach: 'own', params: idParams('rollout', 64) } as const;

export function serveRollouts(api: Operations, rollouts: Rollouts, most: number): void {
  api.add({
    id: 'listRollouts',
    method: 'GET',
    path,
    summary: 'Roll-outs, the newest first, and how far they are',
    tag: 'devices',
    role: 'viewer',
    reach: 'own',
    answer: list('rollouts', ref('Rollout')),
    run: async ({ caller }) => ({ rollouts: await rollouts.list(caller.accounts) }),
  });
  api.add<unknown, unknown, RolloutBody>({
    id: 'startRollout',
    method: 'POST',
    path,
    summary: 'Brings an image to many devices, share by share; the list of devices is given whole',
    tag: 'devices',
    role: 'operator',
    reach: 'own',
    body: body(
      {
        version: text(64),
        devices: { type: 'array', minItems: 1, maxItems: most, items: text(200) },
        stages: {
          type: 'array',
          minItems: 1,
          maxItems: 20,
          items: percent,
          default: [1, 10, 100],
          description: 'percent of the devices, ascending to 100',
        },
        haltAt: {
          type: 'number',
          minimum: 0,
          maximum: 100,
          default: 10,
          description: 'percent that may fail',
        },
        atOnce: { type: 'integer', minimum: 1, maximum: 10_000, default: 100 },
        window: { ...duration, default: 60 * minute },
        testWindow: { ...duration, default: 10 * minute },
        reason,
      },
      ['version', 'devices', 'reason'],
    ),
    answer: ref('Rollout'),
    status: 201,
    run: ({ body: { reason: _, ...wish }, caller, decision }) =>
      rollouts.add({ ...wish, accounts: caller.accounts }, decision),
  });
  api.add<{ rollout: string }, unknown, unknown>({
    ...one,
    id: 'showRollout',
    method: 'GET',
    path: `${path}/:rollout`,
    summary: 'A roll-out, device by device',
    role: 'viewer',
    answer: ref('RolloutDevices'),
    run: ({ params, caller }) => rollouts.get(params.rollout, caller.accounts),
  });
  for (const [id, verb, summary] of [
    ['stopRollout', 'stop', 'Begins with no further device'],
    ['resumeRollout', 'resume', 'Goes on, and with the devices that failed once more'],
    ['cancelRollout', 'cancel', 'Ends for good: devices that wait are skipped, those under way go on'],
  ] as const)
    api.add<{ rollout: string }, unknown, { reason: string }>({
      ...one,
      id,
      method: 'POST',
      path: `${path}/:rollout/${verb}`,
      summary,
      role: 'operator',
      body: reasoned,
      answer: ref('Rollout'),
      run: ({ params, caller, decision }) => rollouts[verb](params.rollout, decision, caller.accounts),
    });
}
