// What a record asked for, carried out. Each may be asked for again after a crash, and then does no harm: a reply that
// nobody waits for is dropped by the device, a verdict that came twice is ignored by the record.

import type { Clock } from '../../machines/clock.ts';
import type {
  Attempt,
  DeviceRecordContext,
  DeviceRecordSnapshot,
  Reply,
} from '../../machines/device-record.ts';
import type { Grounds } from '../../machines/flow.ts';
import type { Downlink } from '../downlink.ts';
import { openEvidence } from '../evidence.ts';
import { activeRules } from '../images/allow-rules.ts';
import type { Catalogue } from '../images/catalogue.ts';
import type { KnownLogs } from '../known-logs.ts';
import type { Effect, Step, Store } from '../store/store.ts';
import type { LogBytes } from '../verify/known-boots.ts';
import type { VerifierPool } from '../verify/pool.ts';
import type { Basis } from '../verify/verify.ts';
import type { Judged } from './recorder.ts';
import type { RecordRunner } from './runner.ts';

/** Grounds on which what a device shows is its baseline from then on. */
const newBaselines: ReadonlySet<Grounds> = new Set(['first-boot', 'acceptance', 'upgrade']);

export interface EffectOptions {
  store: Store;
  clock: Clock;
  catalogue: Catalogue;
  downlink: Downlink;
  logs: KnownLogs;
  verifier: VerifierPool;
}

export function performer({ store, clock, catalogue, downlink, logs, verifier }: EffectOptions) {
  return async (effect: Effect, runner: RecordRunner, stored?: Step['evidence']): Promise<void> => {
    const { device } = effect;
    switch (effect.type) {
      case 'reply':
        return downlink.reply(device, effect.params as Reply);
      case 'push':
        return downlink.push(device, (effect.params as { what: string }).what);
      case 'verify':
        return judge(device, (effect.params as { attempt: Attempt }).attempt, runner, stored);
      default:
        throw new TypeError(`no effect is called ${effect.type}`);
    }
  };

  async function judge(
    device: string,
    attempt: Attempt,
    runner: RecordRunner,
    stored: Step['evidence'],
  ): Promise<void> {
    const latest = await runner.latest(device);
    // What changed since the quote came raised the basis, and the record asks again.
    const snapshot = latest && waitsFor(latest, attempt) ? latest : await runner.read(device);
    // Another controller was faster, or the device began anew: nobody waits for this verdict any more.
    if (!snapshot || !waitsFor(snapshot, attempt)) return;
    const bytes = stored?.id === attempt.id ? stored.bytes : await store.evidence(attempt.id);
    if (!bytes) return;
    const { context } = snapshot;
    const judged = await judgeEvidence(device, bytes, attempt, context);
    await runner.send(
      device,
      {
        type: 'verdict.given',
        attempt: attempt.id,
        verdict: judged.verdict,
        basis: context.basis,
        rotate: context.rotate,
      },
      { judged },
    );
  }

  async function judgeEvidence(
    device: string,
    bytes: Uint8Array,
    attempt: Attempt,
    context: DeviceRecordContext,
  ): Promise<Judged> {
    const evidence = await openEvidence(bytes, (sha256) => logs.find(sha256));
    const firmware = evidence.versions.firmware;
    const basis = await basisOf(attempt, context, firmware, store, catalogue, logs);
    const at = clock.now();
    const verdict = await verifier.verify(evidence, basis, at);
    // Kept before the verdict counts: a baseline without the log that explains it would explain nothing.
    const becomesBaseline = verdict.grounds !== null && newBaselines.has(verdict.grounds);
    for (const { sha256, bytes: log } of verdict.genuine ? evidence.boot.logs : [])
      await (becomesBaseline ? logs.keep(sha256, log) : logs.offer(device, sha256, log));
    return { attempt: attempt.id, at, basis, verdict, bytes, logs: evidence.boot.logs };
  }
}

function waitsFor(snapshot: DeviceRecordSnapshot, { id }: Attempt): boolean {
  return snapshot.matches({ integrity: 'verifying' }) && snapshot.context.attempt?.id === id;
}

/** What the record and the catalogue say that this evidence should show. */
export async function basisOf(
  attempt: Pick<Attempt, 'nonceHash'>,
  context: DeviceRecordContext,
  firmware: string,
  store: Store,
  catalogue: Catalogue,
  logs: Pick<KnownLogs, 'find'>,
): Promise<Basis> {
  const { baseline, acceptance, upgrade, account, place, clock: last, identity } = context;
  const blobs = await Promise.all(
    (baseline?.logs ?? []).map(async (sha256) => ({ sha256, bytes: await logs.find(sha256) })),
  );
  const locks = account !== null && account.kind !== 'manufacturing' && account.locationLock;
  return {
    nonceHash: attempt.nonceHash,
    key: identity && { akName: identity.akName, akPublic: identity.akPublic },
    software: {
      baseline: baseline && {
        pcrs: baseline.pcrs,
        logs: blobs.flatMap(({ sha256, bytes }) => (bytes ? [{ sha256, bytes }] : [])),
        versions: baseline.versions,
      },
      acceptance: acceptance && {
        pcrs: acceptance.pcrs,
        logs: await logsOf(acceptance.attempt, store, logs),
      },
      upgrade: upgrade && {
        to: upgrade.to,
        until: upgrade.until,
        entries: await catalogue.entries(upgrade.to),
      },
      firmware: await catalogue.firmware(firmware),
      former: context.history.map(({ versions }) => versions.image),
      catalogue: await catalogue.versions(),
      rules: await activeRules(store, account?.id ?? null),
    },
    place: { locked: locks ? place.locked : null, radius: account?.radius ?? 0 },
    lastClock: last && {
      resetCount: last.resetCount,
      restartCount: last.restartCount,
      clock: BigInt(last.clock),
      firmware: BigInt(last.firmware),
    },
  };
}

/** The logs of an attempt, none where its evidence is not kept any more. */
async function logsOf(attempt: string, store: Store, logs: Pick<KnownLogs, 'find'>): Promise<LogBytes[]> {
  const bytes = await store.evidence(attempt);
  return bytes ? (await openEvidence(bytes, (sha256) => logs.find(sha256))).boot.logs : [];
}
