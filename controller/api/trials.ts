// Ask before, through the API: what a change would say of evidence that is kept. A POST, since a policy is no address; it writes nothing.
import { mostTrialAttempts, type Trials, type TrialWish } from '../trial/trials.ts';
import type { Operations } from './operation.ts';
import { body, count, fields, filter, limit, names, ref, text } from './schemas.ts';

export function serveTrials(api: Operations, trials: Trials): void {
  api.add<unknown, unknown, Omit<TrialWish, 'accounts'>>({
    id: 'tryChange',
    method: 'POST',
    path: '/api/v1/trials',
    summary:
      'Judges evidence that is kept by another policy, and says what would change; page by page, and nothing is written',
    tag: 'devices',
    role: 'operator',
    reach: 'own',
    body: body({
      filter,
      after: { ...text(64, 0), description: 'next of the page before' },
      limit: { ...limit(50, 200), description: 'devices; a page may be short before the end' },
      attempts: { ...limit(3, mostTrialAttempts), description: 'of each device, the last that were judged' },
      policy: {
        type: 'object',
        additionalProperties: true,
        description: 'as evc replay --what-if takes it, its logs in base64',
      },
      images: {
        ...names(64),
        maxItems: 100,
        description: 'versions; evidence that reports one is judged as if EVC had pushed it',
      },
      accept: {
        ...body({ device: text(200) }),
        description: 'what this device shows is accepted of all; without one, of each what it shows',
      },
    }),
    answer: fields({
      devices: count,
      verdicts: { type: 'array', items: ref('TrialVerdict') },
      skipped: { type: 'array', items: ref('TrialSkip') },
      next: { type: ['string', 'null'] },
    }),
    run: ({ body: wish, caller }) => trials.run({ ...wish, accounts: caller.accounts }),
  });
}
