// Who may ask, and what people did, through the API.
import type { Store } from '../store/store.ts';
import { type Role, roles, type Tokens } from '../tokens.ts';
import type { Operations } from './operation.ts';
import { body, fields, idParams, limit, list, names, page, reasoned, ref, text } from './schemas.ts';

interface TokenBody {
  name: string;
  role: Role;
  accounts: string[] | null;
  days: number | null;
}

export interface AccessRoutes {
  tokens: Tokens;
  store: Store;
  now(): number;
  /** Id of the device that these words name to this caller. */
  find(words: string, accounts: readonly string[] | null): Promise<string>;
}

const day = 86_400_000;
const tag = 'access';

export function serveAccess(api: Operations, { tokens, store, now, find }: AccessRoutes): void {
  api.add({
    id: 'whoAmI',
    method: 'GET',
    path: '/api/v1/whoami',
    summary: 'What the token of this request may do',
    tag,
    role: 'viewer',
    reach: 'shared',
    answer: ref('Caller'),
    run: ({ caller }) => caller,
  });
  api.add({
    id: 'listTokens',
    method: 'GET',
    path: '/api/v1/tokens',
    summary: 'Tokens, without the tokens themselves',
    tag,
    role: 'admin',
    reach: 'fleet',
    answer: list('tokens', ref('Token')),
    run: async () => ({ tokens: await tokens.list() }),
  });
  api.add<unknown, unknown, TokenBody>({
    id: 'addToken',
    method: 'POST',
    path: '/api/v1/tokens',
    summary: 'Makes a token; it is told once',
    tag,
    role: 'admin',
    reach: 'fleet',
    secret: true,
    body: body(
      {
        name: text(64),
        role: { enum: roles },
        accounts: {
          ...names(64),
          type: ['array', 'null'],
          default: null,
          description: 'of these accounts alone; null: of all',
        },
        days: { type: ['integer', 'null'], minimum: 1, maximum: 3650, default: null },
      },
      ['name', 'role'],
    ),
    answer: fields({ token: { type: 'string' }, view: ref('Token') }),
    status: 201,
    run: ({ body: { name, role, accounts, days }, decision }) =>
      tokens.add({ name, role, accounts, expires: days === null ? null : now() + days * day }, decision),
  });
  api.add<{ token: string }, unknown, { reason: string }>({
    id: 'revokeToken',
    method: 'POST',
    path: '/api/v1/tokens/:token/revoke',
    summary: 'Lets a token in no more; by its name or id',
    tag,
    role: 'admin',
    reach: 'fleet',
    params: idParams('token', 64),
    body: reasoned,
    answer: ref('Token'),
    run: ({ params, decision }) => tokens.revoke(params.token, decision),
  });
  api.add<unknown, { device?: string; subject?: string; before?: number; limit: number }, unknown>({
    id: 'readAudit',
    method: 'GET',
    path: '/api/v1/audit',
    summary: 'Who did what, when, why, and what it changed; newest first',
    tag,
    role: 'viewer',
    reach: 'own',
    query: body({
      device: { ...text(200), description: 'about this device' },
      subject: { ...text(200), description: 'about what has this id' },
      before: { type: 'integer', minimum: 1, description: 'next of the page before' },
      limit: limit(50, 1000),
    }),
    answer: page('entries', ref('AuditEntry')),
    run: async ({ query, caller }) => {
      const { accounts } = caller;
      const { device, before, limit: most } = query;
      const subject = device === undefined ? query.subject : await find(device, accounts);
      const entries = await store.audits({
        limit: most + 1,
        accounts,
        ...(before === undefined ? {} : { before }),
        ...(subject === undefined ? {} : { subject }),
      });
      const shown = entries.slice(0, most);
      const next = entries.length > most ? String(shown.at(-1)?.seq) : null;
      return { entries: shown, next };
    },
  });
}
