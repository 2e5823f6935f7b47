// Accounts through the API.
import type { Account } from '../../machines/device-record.ts';
import { type Accounts, newAccount, tagOf } from '../accounts.ts';
import { type Operations, reach } from './operation.ts';
import { Preconditions } from './preconditions.ts';
import { accountFields, body, idParams, list, ref, text } from './schemas.ts';

type Named = { account: string };

const base = { tag: 'accounts', reach: 'own' } as const;
const path = '/api/v1/accounts/:account';
const params = idParams('account', 64);

export function serveAccounts(api: Operations, accounts: Accounts): void {
  api.add({
    ...base,
    id: 'listAccounts',
    method: 'GET',
    path: '/api/v1/accounts',
    summary: 'The accounts',
    role: 'viewer',
    answer: list('accounts', ref('Account')),
    run: async ({ caller }) => ({ accounts: await accounts.list(caller.accounts) }),
  });
  api.add<unknown, unknown, Partial<Account> & { id: string }>({
    ...base,
    id: 'addAccount',
    method: 'POST',
    path: '/api/v1/accounts',
    summary: 'Adds an account',
    role: 'admin',
    reach: 'fleet',
    body: body({ id: text(64), ...accountFields }, ['id']),
    answer: ref('Account'),
    status: 201,
    run: ({ body: wish, decision }) => accounts.add({ ...newAccount, ...wish }, decision),
  });
  api.add<Named, unknown, unknown>({
    ...base,
    id: 'showAccount',
    method: 'GET',
    path,
    summary: 'An account',
    role: 'viewer',
    params,
    versioned: true,
    answer: ref('Account'),
    run: async ({ params: named, caller, request, reply }) => {
      reach(caller, named.account);
      const account = await accounts.get(named.account);
      return Preconditions.unchanged(request, reply, tagOf(account)) ? undefined : account;
    },
  });
  api.add<Named, unknown, Partial<Omit<Account, 'id'>>>({
    ...base,
    id: 'changeAccount',
    method: 'PATCH',
    path,
    summary: 'Changes an account; its devices follow',
    role: 'admin',
    params,
    body: body(accountFields),
    versioned: true,
    answer: ref('Account'),
    run: async ({ params: named, body: change, caller, decision, ifMatch, reply }) => {
      reach(caller, named.account);
      const account = await accounts.change(named.account, change, decision, ifMatch);
      reply.header('etag', `"${tagOf(account)}"`);
      return account;
    },
  });
}
