// Devices through the API: what they are, and the decisions about them.
import type { DeviceLock } from '../accounts.ts';
import type { Decision } from '../decision.ts';
import type { Acceptance, Operator } from '../operator.ts';
import { type Given, type Operations, reach } from './operation.ts';
import { Preconditions } from './preconditions.ts';
import {
  body,
  deviceParams,
  duration,
  fields,
  filter,
  labels,
  limit,
  list,
  lockFields,
  page,
  reason,
  reasoned,
  ref,
  text,
} from './schemas.ts';

type Words = { device: string };
type Reasoned = Given<Words, unknown, { reason: string }>;

const minute = 60_000;
const devices = '/api/v1/devices';
const base = { tag: 'devices', reach: 'device', params: deviceParams } as const;
const decided = { ...base, role: 'operator', versioned: true, answer: ref('Device') } as const;
const mostAtOnce = 500;

export function serveDevices(api: Operations, operator: Operator): void {
  api.add<unknown, { filter?: string; after?: string; limit: number }, unknown>({
    id: 'listDevices',
    method: 'GET',
    path: devices,
    summary:
      'Devices, page by page in the order of their ids; a page may be short before the end, which next tells',
    tag: 'devices',
    role: 'viewer',
    reach: 'own',
    query: body({
      filter,
      after: { ...text(64, 0), description: 'next of the page before' },
      limit: limit(100, 1000),
    }),
    answer: page('devices', ref('DeviceRow')),
    run: ({ query, caller }) => operator.list({ ...query, accounts: caller.accounts }),
  });
  api.add<Words, unknown, unknown>({
    ...base,
    id: 'showDevice',
    method: 'GET',
    path: `${devices}/:device`,
    summary: 'All that EVC knows of a device',
    role: 'viewer',
    versioned: true,
    answer: ref('Device'),
    run: async ({ device, request, reply }) => {
      const view = await operator.show(device);
      return Preconditions.unchanged(request, reply, view.revision) ? undefined : view;
    },
  });
  api.add<Words, unknown, unknown>({
    ...base,
    id: 'showChanges',
    method: 'GET',
    path: `${devices}/:device/changes`,
    summary: 'What an acceptance would change: the baseline, and what the device shows',
    role: 'viewer',
    versioned: true,
    answer: ref('Changes'),
    run: async ({ device, request, reply }) => {
      const view = await operator.changes(device);
      return Preconditions.unchanged(request, reply, view.revision) ? undefined : view;
    },
  });
  api.add<Words, { limit: number }, unknown>({
    ...base,
    id: 'readJournal',
    method: 'GET',
    path: `${devices}/:device/journal`,
    summary: 'What happened to the record of a device, newest first',
    role: 'viewer',
    query: body({ limit: limit(50, 1000) }),
    answer: list('journal', ref('JournalEntry')),
    run: async ({ device, query }) => ({ journal: await operator.journal(device, query.limit) }),
  });
  serveDecisions(api, operator);
}

function serveDecisions(api: Operations, operator: Operator): void {
  api.add<Words, unknown, { reason: string; attempt?: string }>({
    ...decided,
    id: 'acceptDevice',
    method: 'POST',
    path: `${devices}/:device/accept`,
    summary: 'Makes what a device shows its baseline',
    body: body({ reason, attempt: { ...text(64), description: 'the evidence that was looked at' } }, [
      'reason',
    ]),
    run: async (given) => {
      const { device, decision, body: wish } = given;
      const { attempt } = wish;
      const on = { ...(attempt === undefined ? {} : { attempt }), ...revisionOf(decision) };
      return tagged(given, await operator.acceptState(device, decision.by, wish.reason, on));
    },
  });
  api.add<unknown, unknown, { reason: string; devices: Acceptance[] }>({
    id: 'acceptDevices',
    method: 'POST',
    path: '/api/v1/acceptances',
    summary:
      'Accepts what each device of a list shows; the list is given whole, with the evidence that was looked at',
    tag: 'devices',
    role: 'operator',
    reach: 'own',
    body: body(
      {
        reason,
        devices: {
          type: 'array',
          minItems: 1,
          maxItems: mostAtOnce,
          items: fields({ device: text(64), attempt: text(64) }),
        },
      },
      ['reason', 'devices'],
    ),
    answer: list('devices', ref('Accepted')),
    run: async ({ body: { reason: why, devices: wanted }, decision, caller }) => {
      const known = [];
      for (const { device, attempt } of wanted)
        known.push({ device: await operator.find(device, caller.accounts), attempt });
      return { devices: await operator.acceptMany(known, decision.by, why) };
    },
  });
  const reasonedDecision = (
    id: string,
    name: string,
    summary: string,
    decide: (device: string, by: string, why: string, ifRevision?: number) => Promise<{ revision: number }>,
  ) =>
    api.add<Words, unknown, { reason: string }>({
      ...decided,
      id,
      method: 'POST',
      path: `${devices}/:device/${name}`,
      summary,
      body: reasoned,
      run: async (given: Reasoned) => {
        const { device, decision, body: wish } = given;
        return tagged(given, await decide(device, decision.by, wish.reason, decision.ifRevision));
      },
    });
  reasonedDecision('acceptPlace', 'accept-place', 'Locks a device to where it is now', (...args) =>
    operator.acceptPlace(...args),
  );
  reasonedDecision('retireDevice', 'retire', 'Takes a device out of service', (...args) =>
    operator.retire(...args),
  );
  reasonedDecision(
    'allowReenrolment',
    'reenrol',
    'Lets a device come back with another TPM, as after a swap of its board',
    (...args) => operator.allowReenrolment(...args),
  );
  api.add<Words, unknown, { version: string; window: number; testWindow: number; reason?: string }>({
    ...decided,
    id: 'upgradeDevice',
    method: 'POST',
    path: `${devices}/:device/upgrade`,
    summary: 'Pushes an image of the catalogue to a device',
    body: body(
      {
        version: text(64),
        window: { ...duration, default: 60 * minute },
        testWindow: { ...duration, default: 10 * minute },
        reason,
      },
      ['version'],
    ),
    run: async (given) => {
      const { version, window, testWindow } = given.body;
      const wish = { version, window, testWindow };
      return tagged(given, await operator.assignUpgrade(given.device, wish, given.decision));
    },
  });
  api.add<Words, unknown, { account: string; reason?: string }>({
    ...decided,
    id: 'moveDevice',
    method: 'POST',
    path: `${devices}/:device/move`,
    summary: 'Moves a device to another account; its PCR baseline stays',
    body: body({ account: text(64), reason }, ['account']),
    run: async (given) => {
      reach(given.caller, given.body.account);
      return tagged(given, await operator.moveDevice(given.device, given.body.account, given.decision));
    },
  });
  api.add<Words, unknown, unknown>({
    ...decided,
    id: 'rotateKey',
    method: 'POST',
    path: `${devices}/:device/rotate`,
    summary: 'Asks a device for a new master key of its vault',
    run: async (given) => tagged(given, await operator.rotateKey(given.device, given.decision)),
  });
  api.add<Words, unknown, unknown>({
    ...base,
    id: 'showSettings',
    method: 'GET',
    path: `${devices}/:device/settings`,
    summary: 'What the configuration of a device says; not for viewers, since it may hold secrets',
    role: 'operator',
    versioned: true,
    answer: ref('Settings'),
    run: async ({ device, request, reply }) => {
      const view = await operator.settings(device);
      return Preconditions.unchanged(request, reply, view.revision) ? undefined : view;
    },
  });
  api.add<Words, unknown, { settings: Record<string, string> }>({
    ...decided,
    id: 'changeSettings',
    method: 'PUT',
    path: `${devices}/:device/settings`,
    summary: 'What the configuration of a device says, whole',
    body: body(
      {
        settings: {
          type: 'object',
          maxProperties: 200,
          additionalProperties: { type: 'string', maxLength: 4096 },
        },
      },
      ['settings'],
    ),
    run: async (given) =>
      tagged(given, await operator.changeSettings(given.device, given.body.settings, given.decision)),
  });
  api.add<Words, unknown, { labels: string[] }>({
    ...decided,
    versioned: false,
    id: 'labelDevice',
    method: 'PUT',
    path: `${devices}/:device/labels`,
    summary: 'What people call a device, whole',
    body: body({ labels }, ['labels']),
    run: ({ device, body: wish, decision }) => operator.labelDevice(device, wish.labels, decision),
  });
  api.add<Words, unknown, DeviceLock>({
    ...decided,
    id: 'lockDevice',
    method: 'PUT',
    path: `${devices}/:device/lock`,
    summary: 'What a device does otherwise than its account about its place, whole; nothing: as its account',
    body: body(lockFields),
    run: async (given) => tagged(given, await operator.lockDevice(given.device, given.body, given.decision)),
  });
}

/** The new tag, so that the next decision can rest on this one. */
function tagged<View extends { revision: number }>(
  { reply }: Pick<Given<unknown, unknown, unknown>, 'reply'>,
  view: View,
): View {
  reply.header('etag', `"${view.revision}"`);
  return view;
}

function revisionOf({ ifRevision }: Decision): { ifRevision?: number } {
  return ifRevision === undefined ? {} : { ifRevision };
}
