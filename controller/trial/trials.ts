// Ask before: evidence that EVC keeps, judged again with a change in place of what it was judged by. Each attempt stands for itself,
// on what EVC knew at its time; nothing is written.
import { setImmediate as turn } from 'node:timers/promises';
import type { Finding, Grounds, Verdict } from '../../machines/flow.ts';
import { OperatorError } from '../decision.ts';
import { openEvidence } from '../evidence.ts';
import type { Catalogue, CatalogueImage } from '../images/catalogue.ts';
import { CatalogueError } from '../images/error.ts';
import type { KnownLogs } from '../known-logs.ts';
import type { ListWish, Operator } from '../operator.ts';
import { basisOfJson, logNames } from '../record/basis.ts';
import type { RecordRunner } from '../record/runner.ts';
import { type AttemptRow, attemptsKept, type DeviceRow, type Store } from '../store/store.ts';
import type { VerifierPool } from '../verify/pool.ts';
import type { Basis, Presented } from '../verify/verify.ts';
import {
  applyChange,
  type Change,
  ChangeError,
  changeOf,
  type ShownState,
  stateOfVerdict,
} from './change.ts';

export interface TrialOptions {
  store: Store;
  operator: Pick<Operator, 'list' | 'find'>;
  runner: Pick<RecordRunner, 'read'>;
  catalogue: Pick<Catalogue, 'get' | 'firmware'>;
  logs: Pick<KnownLogs, 'find'>;
  verifier: Pick<VerifierPool, 'verify'>;
  /** ms, from any moment. */
  mono?(): number;
}

/** What is asked about, and which evidence. */
export interface TrialWish extends ListWish {
  /** Of each device, the last so many that were judged. */
  attempts: number;
  /** As `parsePolicy` reads it; logs in base64. */
  policy?: object;
  /** Versions of the catalogue: evidence that reports one is judged as if EVC had pushed it. */
  images?: readonly string[];
  /** As if somebody had accepted what this device shows now; without one, what each shows. */
  accept?: { device?: string };
}

/** A verdict in short. */
export interface Said {
  accepted: boolean;
  genuine: boolean;
  grounds: Grounds | null;
  /** The first. */
  finding: Finding | null;
}

export interface TrialVerdict {
  device: string;
  serial: string;
  account: string;
  /** Id of the evidence. */
  attempt: string;
  /** When it was judged, ms since the epoch. */
  judged: number;
  changes: boolean;
  before: Said;
  after: Said;
}

/** What cannot be judged again; `why` is a code. */
export type TrialSkip = Pick<TrialVerdict, 'device' | 'serial' | 'attempt'> & { why: string };

/** A page, as of a list of devices. */
export interface TrialPage {
  /** That were looked at. */
  devices: number;
  verdicts: TrialVerdict[];
  skipped: TrialSkip[];
  next: string | null;
}

/** ms after which a page ends before its time, so that no request keeps EVC. */
const longest = 2000;
const mostAtOnce = 2;
export const mostTrialAttempts = attemptsKept;

interface Judged {
  judged: number;
  basis: unknown;
  verdict: Verdict;
}

type Acceptance = Basis['software']['acceptance'];

/** What is otherwise, for all devices. */
interface Prepared {
  change: Change;
  images: ReadonlyMap<string, CatalogueImage>;
  acceptanceOf(device: string): Promise<Acceptance>;
}

/** A device whose evidence is judged again. */
interface Tried extends Prepared {
  device: string;
  acceptance: Acceptance;
  /** Its attempts that were judged, newest first. */
  kept: readonly AttemptRow[];
}

class Skip extends Error {
  readonly code: string;
  constructor(code: string) {
    super(code);
    this.code = code;
  }
}

export class Trials {
  readonly #options: TrialOptions;
  readonly #mono: () => number;
  #running = 0;

  constructor(options: TrialOptions) {
    this.#options = options;
    this.#mono = options.mono ?? (() => performance.now());
  }

  /** Throws OperatorError trial.nothing, trial.policy, trial.busy and those of lists, CatalogueError image.unknown. */
  async run(wish: TrialWish): Promise<TrialPage> {
    if (this.#running >= mostAtOnce)
      throw new OperatorError('trial.busy', 503, `${mostAtOnce} others ask already; ask again in a moment`);
    this.#running++;
    try {
      return await this.#page(wish, await this.#prepare(wish));
    } finally {
      this.#running--;
    }
  }

  async #page({ attempts, ...wish }: TrialWish, prepared: Prepared): Promise<TrialPage> {
    const { devices, next } = await this.#options.operator.list(wish);
    const page: TrialPage = { devices: 0, verdicts: [], skipped: [], next };
    const end = this.#mono() + longest;
    for (const row of devices) {
      await this.#device(row, attempts, prepared, page);
      page.devices++;
      if (this.#mono() < end) continue;
      if (row !== devices.at(-1)) page.next = row.device;
      break;
    }
    return page;
  }

  async #device(
    { device, serial, account }: DeviceRow,
    most: number,
    prepared: Prepared,
    page: TrialPage,
  ): Promise<void> {
    const kept = (await this.#options.store.attempts(device)).filter(({ evidence }) => evidence !== '');
    const acceptance = kept.length === 0 ? null : await prepared.acceptanceOf(device);
    const tried: Tried = { ...prepared, device, acceptance, kept };
    for (const row of kept.slice(0, most)) {
      const about = { device, serial, attempt: row.evidence };
      try {
        const former = await this.#judged(device, row);
        const { judged, verdict } = former;
        const again = await this.#again(row.evidence, former, tried);
        const changes = words(verdict) !== words(again);
        page.verdicts.push({
          ...about,
          account,
          judged,
          changes,
          before: said(verdict),
          after: said(again),
        });
      } catch (error) {
        if (!(error instanceof Skip)) throw error;
        page.skipped.push({ ...about, why: error.code });
      }
      // Devices come first: what they sent meanwhile has its turn.
      await turn();
    }
  }

  /** What its verdict rested on, as the recording of the attempt has it. */
  async #judged(device: string, { attempt, evidence }: AttemptRow): Promise<Judged> {
    const lines = (await this.#options.store.attemptLines(device, attempt)) ?? [];
    for (const line of lines.toReversed()) {
      if (!line.includes('"kind":"evidence"')) continue;
      const body = JSON.parse(line) as Judged & { kind: string; attempt: string };
      if (body.kind === 'evidence' && body.attempt === evidence) return body;
    }
    throw new Skip('trial.basis-gone');
  }

  async #again(id: string, { basis: json, judged, verdict }: Judged, tried: Tried): Promise<Verdict> {
    const { logs, verifier } = this.#options;
    const shown = await this.#shown(id);
    const blobs = new Map<string, Uint8Array>();
    for (const name of logNames(json)) {
      const bytes = await logs.find(name);
      if (!bytes) throw new Skip('trial.log-gone');
      blobs.set(name, bytes);
    }
    const recorded = basisOfJson(json, (sha256) => blobs.get(sha256));
    const { change, images, acceptance } = tried;
    const basis = await applyChange(recorded, shown, change, (wanted) => this.#state(wanted, tried));
    if (acceptance) basis.software.acceptance = acceptance;
    // As the quote vouched for them; what stands beside it nobody vouches for.
    const { versions } = verdict;
    const image = versions && images.get(versions.image);
    if (image) {
      basis.software.upgrade = {
        to: image.version,
        until: Number.MAX_SAFE_INTEGER,
        entries: image.entries,
      };
      basis.software.firmware =
        (await this.#options.catalogue.firmware(versions.firmware)) ?? basis.software.firmware;
    }
    return verifier.verify(shown, basis, judged);
  }

  async #shown(id: string): Promise<Presented> {
    const bytes = await this.#options.store.evidence(id);
    if (!bytes) throw new Skip('trial.evidence-gone');
    try {
      return await openEvidence(bytes, (sha256) => this.#options.logs.find(sha256));
    } catch {
      // It was opened when it was judged: a log that it names is not there any more.
      throw new Skip('trial.log-gone');
    }
  }

  /** What an attempt of this device showed. */
  async #state(wanted: string, { device, kept }: Tried): Promise<ShownState> {
    const row = kept.find(({ evidence }) => evidence.startsWith(wanted));
    if (!row) throw new Skip('attempt.unknown');
    const { verdict } = await this.#judged(device, row);
    const state = stateOfVerdict(verdict, await this.#shown(row.evidence));
    if (!state) throw new Skip('attempt.unknown');
    return state;
  }

  async #prepare({ policy, images = [], accept, accounts = null }: TrialWish): Promise<Prepared> {
    if (policy === undefined && images.length === 0 && accept === undefined)
      throw new OperatorError('trial.nothing', 422, 'say what to try: a policy, images or an acceptance');
    const change = readChange(policy ?? {});
    const { upgrade } = change;
    if (upgrade && upgrade.entries === null) upgrade.entries = (await this.#image(upgrade.to)).entries;
    const known = new Map<string, CatalogueImage>();
    for (const version of new Set(images)) known.set(version, await this.#image(version));
    const acceptanceOf = await this.#acceptance(accept, accounts);
    return { change, images: known, acceptanceOf };
  }

  async #image(version: string): Promise<CatalogueImage> {
    const image = await this.#options.catalogue.get(version);
    if (!image) throw new CatalogueError('image.unknown', `the catalogue has no image ${version}`);
    return image;
  }

  async #acceptance(
    accept: TrialWish['accept'],
    accounts: readonly string[] | null,
  ): Promise<Prepared['acceptanceOf']> {
    if (accept === undefined) return async () => null;
    const { device: named } = accept;
    if (named === undefined) return (device) => this.#acceptable(device);
    const device = await this.#options.operator.find(named, accounts);
    const one = await this.#acceptable(device);
    if (!one)
      throw new OperatorError(
        'device.nothing-to-accept',
        409,
        'the device shows nothing that could be accepted: it is trusted as it is, or its evidence is not genuine or not kept',
      );
    return async () => one;
  }

  /** What a person could accept of a device now. */
  async #acceptable(device: string): Promise<Acceptance> {
    const verdict = (await this.#options.runner.read(device))?.context.verdict;
    if (!verdict?.genuine || verdict.accepted) return null;
    try {
      return { pcrs: verdict.pcrs, logs: (await this.#shown(verdict.attempt)).boot.logs };
    } catch (error) {
      if (error instanceof Skip) return null;
      throw error;
    }
  }
}

const base64 = /^[A-Za-z0-9+/]+={0,2}$/;

function readChange(policy: object): Change {
  try {
    return changeOf(policy, (log) => {
      if (!base64.test(log)) throw new ChangeError('upgrade.logs: a log is in base64');
      return Buffer.from(log, 'base64');
    });
  } catch (error) {
    if (error instanceof ChangeError) throw new OperatorError('trial.policy', 422, error.message);
    throw error;
  }
}

function said({ accepted, genuine, grounds, findings }: Verdict): Said {
  return { accepted, genuine, grounds, finding: findings[0] ?? null };
}

/** All that a person would see of a verdict. */
function words({ accepted, genuine, grounds, findings }: Verdict): string {
  return JSON.stringify([accepted, genuine, grounds, findings]);
}
