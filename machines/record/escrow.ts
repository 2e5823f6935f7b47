// Does EVC hold the key of the vault?

import { tokenWhy } from './judgement.ts';
import { ok, stored } from './replies.ts';
import { record } from './setup.ts';

export const escrow = record.createStateConfig({
  description: 'Does EVC hold the key of the vault?',
  initial: 'none',
  on: {
    'key.received': [
      {
        guard: 'keyMayBeStored',
        target: '.held',
        actions: ['takeKey', 'seen', { type: 'reply', params: stored }],
      },
      {
        actions: {
          type: 'reply',
          params: ({ context, event }) =>
            ok(event.request, {
              kind: 'notStored',
              keyId: event.keyId,
              why: tokenWhy(context, event.tokenHash, event.at),
            }),
        },
      },
    ],
  },
  states: {
    none: { description: 'No key is escrowed.' },
    held: { description: 'The newest key and the ones before it are kept.' },
  },
});
