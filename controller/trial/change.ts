// What somebody would like to know about: another policy, as JSON, and the basis of a verdict with it in place of what EVC had.
import * as v from 'valibot';
import type { Verdict } from '../../machines/flow.ts';
import { CatalogueError } from '../images/error.ts';
import { entriesOfLogs } from '../images/reference.ts';
import { type AllowRule, ruleFault } from '../verify/allow.ts';
import type { KnownEntry } from '../verify/entries.ts';
import type { Basis, Presented } from '../verify/verify.ts';

const hex = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'no SHA-256 value in hex'));
const degrees = (most: number) => v.pipe(v.number(), v.minValue(-most), v.maxValue(most));
const words = (most: number) => v.pipe(v.string(), v.minLength(1), v.maxLength(most));
/** Logs of reference boots, and rules, that one policy may bring along. */
const most = 20;

const RuleJson = v.pipe(
  v.strictObject({
    pcr: v.pipe(v.number(), v.integer()),
    match: v.variant('kind', [
      v.strictObject({ kind: v.literal('event'), type: words(64), subject: words(512) }),
      v.strictObject({ kind: v.literal('slot-attributes') }),
      v.strictObject({ kind: v.literal('digests'), sha256: v.pipe(v.array(hex), v.maxLength(64)) }),
    ]),
    removal: v.optional(v.boolean(), false),
  }),
  v.rawCheck(({ dataset, addIssue }) => {
    const fault = dataset.typed ? ruleFault(dataset.value) : null;
    if (fault !== null) addIssue({ message: fault });
  }),
);

const PolicyJson = v.strictObject({
  baseline: v.optional(
    v.union([v.null(), v.literal('shown'), v.strictObject({ attempt: v.pipe(v.string(), v.minLength(4)) })]),
  ),
  accept: v.optional(v.record(v.pipe(v.string(), v.regex(/^\d{1,2}$/)), hex)),
  upgrade: v.optional(
    v.nullable(
      v.strictObject({
        to: words(64),
        until: v.optional(v.pipe(v.string(), v.isoTimestamp())),
        logs: v.optional(v.pipe(v.array(v.string()), v.minLength(1), v.maxLength(most))),
      }),
    ),
  ),
  rules: v.optional(
    v.strictObject({
      add: v.optional(v.pipe(v.array(RuleJson), v.maxLength(most)), []),
      remove: v.optional(v.pipe(v.array(words(64)), v.maxLength(most)), []),
    }),
  ),
  location: v.optional(
    v.strictObject({
      locked: v.optional(
        v.nullable(
          v.strictObject({
            latitude: degrees(90),
            longitude: degrees(180),
            accuracy: v.optional(v.number(), 10),
          }),
        ),
      ),
      radius: v.optional(v.pipe(v.number(), v.minValue(1))),
    }),
  ),
});

/** A policy as it is written down; its logs are whatever the reader takes them for. */
export type PolicyWords = v.InferOutput<typeof PolicyJson>;

/** Each part in place of what was; what is left out is as it was. */
export interface Change extends Omit<PolicyWords, 'upgrade' | 'rules'> {
  /** `entries` null: those that the upgrade had already. */
  upgrade?: { to: string; until: number; entries: readonly KnownEntry[] | null } | null;
  rules?: NonNullable<PolicyWords['rules']>;
}

/** What is no policy. The message says which part, and why. */
export class ChangeError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ChangeError';
  }
}

/** Throws ChangeError. */
export function parsePolicy(json: unknown): PolicyWords {
  const parsed = v.safeParse(PolicyJson, json);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  throw new ChangeError(`${v.getDotPath(issue) ?? 'policy'}: ${issue.message}`);
}

/** Reads the logs in it. @param log the bytes that the policy names. Throws ChangeError, and what `log` does. */
export function changeOf(json: unknown, log: (named: string) => Uint8Array): Change {
  const { upgrade, rules, ...policy } = parsePolicy(json);
  const change: Change = { ...policy, ...(rules ? { rules } : {}) };
  if (upgrade === undefined || upgrade === null) return upgrade === null ? { ...change, upgrade } : change;
  const { to, until, logs } = upgrade;
  const end = until === undefined ? Number.MAX_SAFE_INTEGER : Date.parse(until);
  const bytes = logs?.map(log);
  try {
    return { ...change, upgrade: { to, until: end, entries: bytes ? entriesOfLogs(bytes) : null } };
  } catch (cause) {
    if (cause instanceof CatalogueError) throw new ChangeError(`upgrade.logs: ${cause.message}`, { cause });
    throw cause;
  }
}

/** A state that a device showed: what a baseline is made of. */
export type ShownState = NonNullable<Basis['software']['baseline']>;

/**
 * The basis with the change in it.
 * @param stateOf the genuine state that the attempt with this beginning of its id showed
 */
export async function applyChange(
  basis: Basis,
  shown: Presented,
  change: Change,
  stateOf: (attempt: string) => Promise<ShownState>,
): Promise<Basis> {
  const software = { ...basis.software };
  const place = { ...basis.place };
  const { baseline, accept, upgrade, rules, location } = change;
  if (baseline === null) software.baseline = null;
  else if (baseline === 'shown') {
    const pcrs = [...shown.pcrs].map(([pcr, value]) => [String(pcr), Buffer.from(value).toString('hex')]);
    software.baseline = { pcrs: Object.fromEntries(pcrs), logs: shown.boot.logs, versions: shown.versions };
  } else if (baseline) software.baseline = await stateOf(baseline.attempt);
  if (accept) {
    const pcrs = { ...software.baseline?.pcrs, ...accept };
    software.acceptance = { pcrs, logs: shown.boot.logs };
  }
  if (upgrade === null) software.upgrade = null;
  else if (upgrade) {
    const { to, until, entries } = upgrade;
    const recorded = software.upgrade?.to === to ? software.upgrade.entries : [];
    software.upgrade = { to, until, entries: entries ?? recorded };
  }
  if (rules) {
    const kept = software.rules.filter(({ id }) => !rules.remove.includes(id));
    software.rules = [...kept, ...rules.add.map(asked)];
  }
  if (location) {
    const { locked, radius } = location;
    if (locked !== undefined) place.locked = locked && { ...locked, at: 0 };
    if (radius !== undefined) place.radius = radius;
  }
  return { ...basis, software, place };
}

function asked(rule: Pick<AllowRule, 'pcr' | 'match' | 'removal'>, index: number): AllowRule {
  return { ...rule, id: `asked-${index + 1}`, account: null, reason: 'asked about', by: '', at: 0 };
}

/** The state that a verdict found genuine, for `applyChange`; null where it found none. */
export function stateOfVerdict(
  { genuine, pcrs, versions }: Partial<Verdict>,
  { boot }: Pick<Presented, 'boot'>,
): ShownState | null {
  return genuine && pcrs && versions ? { pcrs, logs: boot.logs, versions } : null;
}
