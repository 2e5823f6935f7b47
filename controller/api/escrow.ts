// Keys in escrow through the API: whether they would come back, out for safe-keeping, and back in.
import { checkEscrow } from '../escrow.ts';
import type { EscrowExport, KeptKey } from '../escrow-export.ts';
import type { Operator } from '../operator.ts';
import type { RecordRunner } from '../record/runner.ts';
import type { Store } from '../store/store.ts';
import type { Operations } from './operation.ts';
import {
  base64,
  body,
  count,
  fields,
  filter,
  limit,
  list,
  page,
  reason,
  ref,
  text,
  time,
} from './schemas.ts';

export interface EscrowRoutes {
  exporter: EscrowExport;
  operator: Operator;
  store: Store;
  runner: RecordRunner;
}

interface ListQuery {
  filter?: string;
  after?: string;
  limit: number;
}

const tag = 'enrolment';
const path = '/api/v1/escrow';
const after = { ...text(64, 0), description: 'next of the page before' } as const;
const mostRestored = 500;

export function serveEscrow(api: Operations, { exporter, operator, store, runner }: EscrowRoutes): void {
  api.add<unknown, ListQuery, unknown>({
    id: 'checkEscrow',
    method: 'GET',
    path,
    summary: 'Whether the key of each device in escrow is there and readable, page by page',
    tag,
    role: 'viewer',
    reach: 'own',
    query: body({ filter, after, limit: limit(100, 1000) }),
    answer: page('escrow', ref('EscrowCheck')),
    run: async ({ query, caller }) => {
      const { devices, next } = await operator.list({ ...query, accounts: caller.accounts });
      return { escrow: await checkEscrow(store, runner, devices), next };
    },
  });
  api.add<unknown, unknown, ListQuery & { key: string }>({
    id: 'exportEscrow',
    method: 'POST',
    path: `${path}/export`,
    summary:
      'Keys in escrow for safe-keeping, page by page, each a JWE for this public key; they stay sealed for the TPMs of their devices',
    tag,
    role: 'admin',
    reach: 'own',
    body: body(
      {
        key: { ...text(10_000), description: 'PEM: RSA from 2048 bits, P-256, P-384, P-521 or X25519' },
        filter,
        after,
        limit: limit(100, 200),
      },
      ['key'],
    ),
    answer: fields({
      sealed: { type: 'string' },
      devices: count,
      keys: count,
      lost: count,
      next: { type: ['string', 'null'] },
    }),
    run: ({ body: { key, ...wish }, caller }) => exporter.page(key, { ...wish, accounts: caller.accounts }),
  });
  api.add<unknown, unknown, { keys: KeptKey[]; reason?: string }>({
    id: 'restoreEscrow',
    method: 'POST',
    path: `${path}/restore`,
    summary:
      'Puts keys back that records list and the store has not; without a reason it says what would come back',
    tag,
    role: 'admin',
    reach: 'own',
    body: body(
      {
        keys: {
          type: 'array',
          minItems: 1,
          maxItems: mostRestored,
          items: fields({
            device: text(64),
            version: count,
            keyId: text(64),
            at: time,
            box: base64(8192),
          }),
        },
        reason,
      },
      ['keys'],
    ),
    answer: list('keys', ref('RestoredKey')),
    run: async ({ body: { keys }, decision, caller }) => ({
      keys: await exporter.restore(keys, { ...decision, accounts: caller.accounts }),
    }),
  });
}
