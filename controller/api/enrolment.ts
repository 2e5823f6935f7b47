// Who may register a device, through the API: onboarding keys, devices that wait for a person, and vendors of TPMs.
import type { Endorsers } from '../enrol/endorsers.ts';
import type { OnboardingKeys } from '../enrol/keys.ts';
import { type Operations, reach } from './operation.ts';
import { base64, body, count, fields, flag, idParams, list, reason, reasoned, ref, text } from './schemas.ts';

export interface EnrolmentRoutes {
  keys: OnboardingKeys;
  endorsers: Endorsers;
  now(): number;
}

interface KeyBody {
  name: string;
  account: string;
  limit: number;
  days: number;
  approval: boolean;
}

const day = 86_400_000;
const tag = 'enrolment';

export function serveEnrolment(api: Operations, { keys, endorsers, now }: EnrolmentRoutes): void {
  api.add({
    id: 'listKeys',
    method: 'GET',
    path: '/api/v1/keys',
    summary: 'Onboarding keys, without the keys themselves',
    tag,
    role: 'viewer',
    reach: 'own',
    answer: list('keys', ref('Key')),
    run: async ({ caller }) => ({ keys: await keys.list(caller.accounts) }),
  });
  api.add<unknown, unknown, KeyBody>({
    id: 'addKey',
    method: 'POST',
    path: '/api/v1/keys',
    summary: 'Makes an onboarding key; it is told once',
    tag,
    role: 'operator',
    reach: 'own',
    secret: true,
    body: body(
      {
        name: text(64),
        account: { ...text(64), default: 'default' },
        limit: { type: 'integer', minimum: 1, maximum: 1_000_000, default: 1 },
        days: { type: 'integer', minimum: 1, maximum: 3650, default: 30 },
        approval: { ...flag, default: false },
      },
      ['name'],
    ),
    answer: ref('MadeKey'),
    status: 201,
    run: ({ body: { days, ...wish }, caller, decision }) => {
      reach(caller, wish.account);
      return keys.add({ ...wish, expires: now() + days * day }, decision);
    },
  });
  api.add<{ key: string }, unknown, { reason: string }>({
    id: 'revokeKey',
    method: 'POST',
    path: '/api/v1/keys/:key/revoke',
    summary: 'Takes an onboarding key back; devices that registered with it stay',
    tag,
    role: 'operator',
    reach: 'own',
    params: idParams('key', 64),
    body: reasoned,
    answer: ref('Key'),
    run: ({ params, decision, caller }) => keys.revoke(params.key, decision, caller.accounts),
  });
  api.add({
    id: 'listWaiting',
    method: 'GET',
    path: '/api/v1/enrolments',
    summary: 'Devices that wait for a person to let them in',
    tag,
    role: 'viewer',
    reach: 'own',
    answer: list('enrolments', ref('Waiting')),
    run: async ({ caller }) => ({ enrolments: await keys.waiting(caller.accounts) }),
  });
  for (const [id, verb, answer, summary] of [
    ['approveDevice', 'approve', 'approved', 'Lets a device in; it registers when it asks next'],
    ['refuseDevice', 'refuse', 'refused', 'Sends a device away for good'],
  ] as const)
    api.add<{ waiting: string }, unknown, { reason: string }>({
      id,
      method: 'POST',
      path: `/api/v1/enrolments/:waiting/${verb}`,
      summary,
      tag,
      role: 'operator',
      reach: 'own',
      params: idParams('waiting'),
      body: body({ reason }, ['reason']),
      answer: ref('Waiting'),
      run: ({ params, decision, caller }) => keys.answer(params.waiting, answer, decision, caller.accounts),
    });

  const changed = fields({ roots: { type: 'array', items: ref('EkRoot') }, devices: count });
  api.add({
    id: 'listEkRoots',
    method: 'GET',
    path: '/api/v1/ek-roots',
    summary: 'Certificates of vendors of TPMs, and files that are of no use',
    tag,
    role: 'viewer',
    reach: 'shared',
    answer: fields({
      roots: { type: 'array', items: ref('EkRoot') },
      unusable: { type: 'array', items: fields({ file: { type: 'string' }, why: { type: 'string' } }) },
    }),
    run: () => endorsers.list(),
  });
  api.add<unknown, unknown, { certificates: string }>({
    id: 'addEkRoots',
    method: 'POST',
    path: '/api/v1/ek-roots',
    summary: 'Believes a vendor of TPMs; devices are judged again',
    tag,
    role: 'admin',
    reach: 'fleet',
    body: body({ certificates: base64(6_000_000) }, ['certificates']),
    answer: changed,
    status: 201,
    run: ({ body: { certificates }, decision }) =>
      endorsers.add(Buffer.from(certificates, 'base64'), decision.by),
  });
  api.add<{ root: string }, unknown, unknown>({
    id: 'removeEkRoot',
    method: 'DELETE',
    path: '/api/v1/ek-roots/:root',
    summary: 'Believes a vendor no more; devices are judged again',
    tag,
    role: 'admin',
    reach: 'fleet',
    params: idParams('root', 64),
    answer: changed,
    run: ({ params, decision }) => endorsers.remove(params.root, decision.by),
  });
}
