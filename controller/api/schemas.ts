// What the API takes and gives, as JSON Schema 2020-12: requests are checked against it, and the document of the API consists of it.
import { filterKeys } from '../../formats/filter/filter.ts';
import { roles } from '../tokens.ts';

const day = 86_400_000;

export const text = (most: number, least = 1) =>
  ({ type: 'string', minLength: least, maxLength: most }) as const;
export const names = (most: number) => ({ type: 'array', maxItems: 1000, items: text(most) }) as const;
export const flag = { type: 'boolean' } as const;
export const count = { type: 'integer', minimum: 0 } as const;
/** ms since the epoch. */
export const time = { type: 'integer', minimum: 0, description: 'ms since the epoch' } as const;
export const duration = { type: 'integer', minimum: 1, maximum: 365 * day, description: 'ms' } as const;
export const reason = { ...text(500), description: 'why; it is kept' } as const;
export const base64 = (most: number) =>
  ({ type: 'string', maxLength: most, pattern: '^[A-Za-z0-9+/]+={0,2}$' }) as const;
export const limit = (usual: number, most: number) =>
  ({ type: 'integer', minimum: 1, maximum: most, default: usual }) as const;

/** An object with these fields and no others; all of them are there but the optional ones. */
export function fields(properties: object, optional: readonly string[] = []) {
  const required = Object.keys(properties).filter((name) => !optional.includes(name));
  return { type: 'object', additionalProperties: false, properties, required } as const;
}

/** A body with these fields, of which some must be there. */
export function body(properties: object, required: readonly string[] = []) {
  return { type: 'object', additionalProperties: false, properties, required } as const;
}

export const list = (name: string, of: object) => fields({ [name]: { type: 'array', items: of } });
export const page = (name: string, of: object) =>
  fields({ [name]: { type: 'array', items: of }, next: { type: ['string', 'null'] } });
export const ref = (name: keyof typeof components) => ({ $ref: `#/components/schemas/${name}` }) as const;
const orNull = (schema: object) => ({ anyOf: [schema, { type: 'null' }] }) as const;
const any = { type: 'object', additionalProperties: true } as const;

export const reasoned = body({ reason }, ['reason']);
export const deviceParams = fields({
  device: { ...text(200), description: 'its id, the start of it, its UUID or its serial number' },
});
export const idParams = (name: string, most = 200) => fields({ [name]: text(most) });

export const filter = {
  type: 'string',
  maxLength: 500,
  description: `terms that must all hold, like trust:uud pcr:8 -label:lab; keys: ${filterKeys.map(({ key, says }) => `${key} (${says})`).join('; ')}`,
} as const;

export const lockFields = {
  locationLock: flag,
  radius: { type: 'number', minimum: 1, maximum: 1_000_000, description: 'metres' },
  moved: { enum: ['report', 'block'] },
} as const;

export const accountFields = {
  kind: { enum: ['manufacturing', 'production'] },
  ...lockFields,
  requireEkCertificate: flag,
  approval: { ...flag, description: 'a person lets each new device in' },
} as const;

/** What people with a value of the claim may do. */
export const oidcRole = fields({
  value: { ...text(500), description: 'of the claim, as the provider writes it' },
  role: { enum: roles },
  accounts: { ...names(64), type: ['array', 'null'], description: 'for these alone; null: for all' },
});

export const labels = { type: 'array', maxItems: 32, items: text(64) } as const;

const location = fields({
  latitude: { type: 'number' },
  longitude: { type: 'number' },
  accuracy: { type: 'number' },
  at: time,
});
const versions = fields({ image: { type: 'string' }, firmware: { type: 'string' } });
const why = fields({ code: { type: 'string' }, text: { type: 'string' } });
const pcrs = { type: 'object', additionalProperties: { type: 'string' } } as const;
const facts = fields({
  online: flag,
  reason: { type: 'string' },
  why: { type: 'string' },
  pcrs: { type: 'array', items: count },
  image: { type: 'string' },
  firmware: { type: 'string' },
  upgrade: { type: 'string' },
});
const row = {
  device: { type: 'string' },
  revision: count,
  serial: { type: 'string' },
  uuid: { type: 'string' },
  account: { type: 'string' },
  trust: { type: 'string' },
  seen: time,
  labels: { type: 'array', items: { type: 'string' } },
  facts,
} as const;
const findings = { type: 'array', items: { $ref: '#/components/schemas/Finding' } } as const;
const source = {
  type: 'object',
  additionalProperties: true,
  required: ['kind'],
  properties: { kind: { type: 'string' } },
};
const who = fields({ at: time, by: { type: 'string' }, reason: { type: 'string' } });

const progresses = ['waiting', 'assigned', 'committed', 'failed', 'skipped'] as const;
const rollout = {
  id: { type: 'string' },
  version: { type: 'string' },
  by: { type: 'string' },
  reason: { type: 'string' },
  created: time,
  accounts: { type: ['array', 'null'], items: { type: 'string' } },
  stages: { type: 'array', items: { type: 'number' } },
  stage: count,
  haltAt: { type: 'number' },
  atOnce: count,
  window: count,
  testWindow: count,
  state: { enum: ['running', 'halted', 'stopped', 'cancelled', 'done'] },
  why: { type: 'string' },
  counts: fields({ all: count, ...Object.fromEntries(progresses.map((one) => [one, count])) }),
} as const;

const session = {
  id: { type: 'string' },
  issuer: { type: 'string' },
  subject: { type: 'string' },
  username: { type: 'string' },
  role: { enum: roles },
  accounts: { type: ['array', 'null'], items: { type: 'string' } },
  began: time,
  expires: time,
} as const;

const said = fields({
  accepted: flag,
  genuine: flag,
  grounds: { type: ['string', 'null'] },
  finding: orNull({ $ref: '#/components/schemas/Finding' }),
});

export const components = {
  Problem: {
    ...fields({
      type: { type: 'string' },
      title: { type: 'string' },
      status: { type: 'integer' },
      detail: { type: 'string' },
      code: { type: 'string', description: 'one of the reasons of machines/reasons.ts; it is stable' },
    }),
    description: 'a refusal [RFC 9457]',
  },
  Finding: fields(
    {
      code: { type: 'string' },
      text: { type: 'string' },
      pcr: count,
      event: count,
      seen: { type: 'string' },
      allowed: { type: 'string' },
      remedy: { type: 'string' },
    },
    ['pcr', 'event', 'seen', 'allowed', 'remedy'],
  ),
  DeviceRow: fields(row),
  Device: fields({
    ...row,
    states: any,
    verdict: orNull(
      fields({
        attempt: { type: 'string' },
        at: time,
        accepted: flag,
        genuine: flag,
        grounds: { type: ['string', 'null'] },
        findings,
        pcrs,
        versions: orNull(versions),
      }),
    ),
    baseline: orNull(fields({ versions, at: time, grounds: { type: 'string' }, pcrs })),
    upgrade: orNull(fields({ from: { type: 'string' }, to: { type: 'string' }, until: time })),
    upgraded: orNull(
      fields({
        from: { type: 'string' },
        to: { type: 'string' },
        at: time,
        how: { enum: ['committed', 'rolledBack'] },
        why: orNull(why),
      }),
    ),
    lock: fields(lockFields),
    place: fields({ locked: orNull(location), seen: orNull(location) }),
    escrow: { type: 'array', items: fields({ keyId: { type: 'string' }, version: count, at: time }) },
    ekTrust: { type: 'string' },
    tpm: orNull(fields({ ekName: { type: 'string' }, akName: { type: 'string' }, certificate: orNull(any) })),
    refusedEnrolment: orNull(any),
    boot: orNull(any),
    config: count,
    online: flag,
  }),
  Settings: fields({
    device: { type: 'string' },
    revision: count,
    settings: { type: 'object', additionalProperties: { type: 'string' } },
  }),
  Changes: {
    ...fields({
      device: { type: 'string' },
      revision: count,
      serial: { type: 'string' },
      account: { type: 'string' },
      trust: { type: 'string' },
      software: orNull(
        fields({
          attempt: { type: 'string' },
          at: time,
          from: orNull(versions),
          to: orNull(versions),
          pcrs: {
            type: 'array',
            items: fields({
              pcr: count,
              baseline: { type: ['string', 'null'] },
              shown: { type: ['string', 'null'] },
            }),
          },
          findings,
        }),
      ),
      place: orNull(fields({ locked: orNull(location), seen: orNull(location) })),
    }),
    description: 'what an acceptance would change',
  },
  Accepted: fields({
    device: { type: 'string' },
    attempt: { type: 'string' },
    refused: orNull(fields({ code: { type: 'string' }, detail: { type: 'string' } })),
  }),
  EscrowCheck: fields({
    device: { type: 'string' },
    serial: { type: 'string' },
    version: count,
    at: time,
    former: count,
    state: { enum: ['good', 'none', 'missing', 'unreadable'] },
  }),
  RestoredKey: fields({
    device: { type: 'string' },
    version: count,
    outcome: { enum: ['there', 'missing', 'restored', 'unlisted', 'unreadable'] },
  }),
  JournalEntry: fields({ seq: count, at: time, event: { type: 'string' }, body: any }),
  Attempt: fields({
    attempt: count,
    begun: time,
    ended: time,
    steps: count,
    dropped: count,
    evidence: { type: 'string' },
    outcome: { type: 'string' },
  }),
  TrialVerdict: fields({
    device: { type: 'string' },
    serial: { type: 'string' },
    account: { type: 'string' },
    attempt: { type: 'string' },
    judged: time,
    changes: flag,
    before: said,
    after: said,
  }),
  TrialSkip: fields({
    device: { type: 'string' },
    serial: { type: 'string' },
    attempt: { type: 'string' },
    why: { type: 'string' },
  }),
  Account: fields({ id: { type: 'string' }, ...accountFields }, ['requireEkCertificate', 'approval']),
  Key: fields({
    id: { type: 'string' },
    name: { type: 'string' },
    account: { type: 'string' },
    limit: count,
    used: count,
    expires: time,
    approval: flag,
    state: { enum: ['good', 'expired', 'used-up'] },
  }),
  MadeKey: {
    ...fields({ id: { type: 'string' }, key: { type: 'string' }, certificate: { type: 'string' } }),
    description: 'key and certificate in PEM; the key is told once',
  },
  Waiting: fields({
    device: { type: 'string' },
    serial: { type: 'string' },
    account: { type: 'string' },
    key: { type: 'string' },
    since: time,
    state: { enum: ['waiting', 'approved', 'refused'] },
  }),
  Caller: fields({
    id: { type: 'string' },
    name: { type: 'string' },
    role: { enum: roles },
    accounts: { type: ['array', 'null'], items: { type: 'string' } },
    expires: { type: ['integer', 'null'] },
  }),
  Token: fields({
    id: { type: 'string' },
    name: { type: 'string' },
    role: { enum: roles },
    accounts: { type: ['array', 'null'], items: { type: 'string' } },
    expires: { type: ['integer', 'null'] },
    created: time,
    by: { type: 'string' },
    revoked: orNull(fields({ at: time, by: { type: 'string' } })),
  }),
  Oidc: fields({
    issuer: { type: 'string' },
    clientId: { type: 'string' },
    confidential: { ...flag, description: 'it has a secret, which is not told' },
    roleClaim: { type: 'string' },
    roles: { type: 'array', items: oidcRole },
    scopes: { type: 'array', items: { type: 'string' } },
    hours: count,
    publicUrl: { type: ['string', 'null'] },
    redirectUri: { type: 'string', description: 'to be allowed at the provider' },
    logoutUri: { type: 'string', description: 'to be allowed there for after a logout' },
    by: { type: 'string' },
    at: time,
  }),
  Session: fields(session),
  LoggedOut: fields({
    ...session,
    provider: {
      type: ['string', 'null'],
      description: 'where a browser goes to be logged out at the provider, too; null: nowhere',
    },
  }),
  AuditEntry: fields({
    seq: count,
    at: time,
    by: { type: 'string' },
    what: { type: 'string' },
    subject: { type: 'string' },
    account: { type: 'string' },
    reason: { type: 'string' },
    before: orNull(any),
    after: orNull(any),
  }),
  Image: fields({
    version: { type: 'string' },
    sha256: { type: 'string' },
    size: count,
    added: time,
    source,
    measurements: count,
  }),
  ImageEntries: fields({
    version: { type: 'string' },
    sha256: { type: 'string' },
    size: count,
    signature: { type: 'string' },
    added: time,
    source,
    entries: { type: 'array', items: any },
  }),
  Firmware: fields({
    firmware: { type: 'string' },
    vendor: { type: 'string' },
    added: time,
    source,
    measurements: count,
  }),
  FirmwareEntries: fields({
    firmware: { type: 'string' },
    vendor: { type: 'string' },
    added: time,
    source,
    entries: { type: 'array', items: any },
  }),
  Envelope: fields({
    payloadType: { type: 'string' },
    payload: { type: 'string' },
    signatures: {
      type: 'array',
      items: fields({ keyid: { type: 'string' }, sig: { type: 'string' } }),
    },
  }),
  Signer: fields({
    id: { type: 'string' },
    name: { type: 'string' },
    signs: { enum: ['images', 'firmware'] },
    vendor: { type: 'string' },
    publicKey: { type: 'string' },
    reason: { type: 'string' },
    by: { type: 'string' },
    at: time,
    removed: orNull(who),
  }),
  AllowRule: fields(
    {
      id: { type: 'string' },
      account: { type: ['string', 'null'] },
      pcr: count,
      match: source,
      removal: flag,
      reason: { type: 'string' },
      by: { type: 'string' },
      at: time,
      removed: orNull(who),
    },
    ['removed'],
  ),
  EkRoot: fields({
    id: { type: 'string' },
    file: { type: 'string' },
    kind: { enum: ['root', 'intermediate'] },
    subject: { type: 'string' },
    issuer: { type: 'string' },
    notBefore: { type: 'integer' },
    notAfter: { type: 'integer' },
  }),
  Service: fields({ mqttPort: count, httpsPort: count, hosts: names(253), since: time }),
  Rollout: fields(rollout),
  RolloutDevices: fields({
    ...rollout,
    devices: {
      type: 'array',
      items: fields({
        device: { type: 'string' },
        serial: { type: 'string' },
        progress: { enum: progresses },
        why: { type: 'string' },
      }),
    },
  }),
  Webhook: fields({
    id: { type: 'string' },
    url: { type: 'string' },
    events: { type: 'array', items: { type: 'string' } },
    accounts: { type: ['array', 'null'], items: { type: 'string' } },
    by: { type: 'string' },
    created: time,
    delivered: count,
    tries: count,
    why: { type: 'string' },
    deadLetters: {
      type: 'array',
      items: fields({
        seq: count,
        at: time,
        event: { type: 'string' },
        device: { type: 'string' },
        why: { type: 'string' },
      }),
    },
  }),
  Upload: fields({ upload: { type: 'string' }, size: count, sha256: { type: 'string' } }),
} as const;
