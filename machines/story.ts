// The story of a device: what its components and its record at EVC did, told as the numbered steps of the sequences. Pure:
// the same happenings tell the same story, live or from a recording.
import type { Finding, Verdict } from './flow.ts';
import { portSteps, type Sequence, type StepKey, type StepText, stepTexts } from './story-steps.ts';

/** One numbered step: who told whom what, and what it changed. */
export interface StoryStep {
  device: string;
  /** ms since the epoch. */
  at: number;
  /** `S1.9`; a sequence alone for what has no number in it. */
  step: string;
  from: string;
  to: string;
  what: string;
  changed: string;
}

/** Something that happened on a device; as far as a story needs it. */
export interface DeviceHappening {
  kind: string;
  at: number;
  component?: string;
  port?: string;
  phase?: string;
  state?: unknown;
  context?: object;
  boot?: { image: string; slot: string };
  up?: boolean;
}

/** One step of a device record. */
export interface RecordHappening {
  at: number;
  event: { type: string };
  before: unknown;
  after: unknown;
  effects: readonly { type: string; params: object }[];
}

type Fields = Record<string, string | number>;

/** Tells the stories of devices as they happen. */
export class Story {
  readonly #tellers = new Map<string, Teller>();

  /** Steps that a happening on the device completed, in order. */
  device(device: string, happening: DeviceHappening): StoryStep[] {
    return this.#teller(device).device(happening);
  }

  /** Steps that a step of the device's record completed, in order. */
  record(device: string, happening: RecordHappening): StoryStep[] {
    return this.#teller(device).record(happening);
  }

  #teller(device: string): Teller {
    const teller = this.#tellers.get(device) ?? new Teller(device);
    this.#tellers.set(device, teller);
    return teller;
  }
}

class Teller {
  readonly #device: string;
  #sequence: Sequence | null = null;
  /** Happened, and not yet numbered, because the boot has not shown which sequence it is. */
  #unnumbered: { key: StepKey; fields: Fields; at: number }[] = [];
  readonly #told = new Set<string>();
  readonly #contexts = new Map<string, Record<string, unknown>>();
  /** Happened to an earlier boot, and decides what the next one is. */
  #staged: string | null = null;
  #givenUp = false;
  #offline = false;
  #escrowed = 0;
  #at = 0;
  #steps: StoryStep[] = [];

  constructor(device: string) {
    this.#device = device;
  }

  device({ kind, at, component = '', port, phase, state, context, boot }: DeviceHappening): StoryStep[] {
    this.#at = at;
    if (kind === 'boot' && boot) this.#booted(boot);
    if (kind === 'port' && phase !== 'fails') this.#ported(`${component} ${port} ${phase}`);
    if (kind === 'state') {
      this.#contexts.set(component, (context ?? {}) as Record<string, unknown>);
      this.#entered(component, nameOf(state));
    }
    return this.#take();
  }

  record({ at, event, before, after, effects }: RecordHappening): StoryStep[] {
    this.#at = at;
    const was = regions(before);
    const is = regions(after);
    const { upgrade, reason, verdict } = event as {
      upgrade?: { from: string; to: string };
      reason?: string;
      verdict?: Verdict;
    };
    if (event.type === 'upgrade.assigned' && upgrade) {
      this.#say('assigned', { from: upgrade.from, to: upgrade.to });
      this.#told.delete('notKnown');
    }
    if (event.type === 'state.accepted') this.#say('stateAccepted', { reason: reason ?? '' });
    if (event.type === 'place.accepted') this.#say('placeAccepted', { reason: reason ?? '' });
    if (verdict && was.integrity === 'verifying' && is.integrity !== 'verifying')
      this.#judged(verdict, effects);
    if (was.location !== is.location) {
      if (is.location === 'locked' && was.location === 'baselinePending') this.#say('placeLocked');
      if (is.location === 'locked' && was.location === 'umd') this.#say('inPlace');
      if (is.location === 'umd') this.#say('moved');
    }
    if (was.software !== is.software) {
      if (is.software === 'committed') this.#say('commitTaken');
      if (is.software === 'rolledBack') this.#say('windowClosed');
    }
    return this.#take();
  }

  #booted({ image, slot }: { image: string; slot: string }): void {
    const trial = this.#staged === image;
    const back = this.#givenUp || (this.#staged !== null && !trial);
    this.#sequence = trial ? 'S4' : back ? 'fallback' : null;
    if (!trial) this.#staged = null;
    this.#givenUp = false;
    this.#offline = false;
    this.#unnumbered = [];
    this.#told.clear();
    this.#contexts.clear();
    this.#tell('boot', { image, slot });
  }

  #ported(what: string): void {
    // Only who was never here registers.
    if (what === 'client register begins') this.#is('S1');
    if (what === 'base-os stageSlot ends') {
      const { wanted } = this.#contexts.get('base-os') as { wanted?: { version: string } | null };
      this.#staged = wanted?.version ?? null;
      this.#say('staged', { version: this.#staged ?? '' });
    }
    if (what === 'vault-manager sealKey ends')
      this.#tell(this.#told.has('vaultLocked') ? 'vaultReopened' : 'vaultSealed');
    const key = portSteps[what];
    if (key && !(key === 'uuid' && this.#offline)) this.#tell(key);
  }

  #entered(component: string, state: string): void {
    const context = this.#contexts.get(component) ?? {};
    if (component === 'client' && state === 'provisionedOffline') {
      this.#offline = true;
      this.#tell('offline');
    }
    if (component === 'vault-manager') this.#vault(state, context);
    if (component === 'tpm-manager' && state.startsWith('ready')) this.#tell('tpmReady');
    if (component === 'attest-task' && state.startsWith('nonceWait') && this.#told.has('refusal'))
      this.#tell('again');
    if (component === 'config-task') this.#configured(state, context);
    if (component === 'info-task') {
      const { version = 0 } = (context.escrowed as { version: number } | null) ?? {};
      // The same key again, after a reboot, is no news.
      if (version > this.#escrowed) this.#tell('escrowed', { version });
      this.#escrowed = Math.max(this.#escrowed, version);
    }
    if (component === 'base-os') this.#baseOs(state, context);
  }

  #vault(state: string, { unlockedBy, exported, mismatchingPcrs }: Record<string, unknown>): void {
    if (state.startsWith('locked')) {
      this.#is('S3');
      const pcrs = Array.isArray(mismatchingPcrs) ? mismatchingPcrs.join(', ') : '';
      this.#tell('vaultLocked', { pcrs });
    }
    if (!state.startsWith('unlocked')) return;
    if (unlockedBy === 'tpm') {
      this.#is(this.#offline ? 'S2b' : 'S2');
      this.#tell('vaultOpen');
    }
    if (unlockedBy === 'created' && exported) this.#tell('vaultPublished');
  }

  #configured(state: string, context: Record<string, unknown>): void {
    const { full, source, error } = context as {
      full?: number;
      source?: string;
      error?: { code: string } | null;
    };
    if (source === 'evc' && (full ?? 0) > 0) this.#tell('fullConfig');
    if (state !== 'forbidden' || !error) return;
    this.#tell(error.code === 'config.forbidden' ? 'forbidden' : 'partialConfig');
  }

  #baseOs(state: string, context: Record<string, unknown>): void {
    const { committed, error } = context as { committed?: string | null; error?: { text: string } | null };
    if (state === 'fallingBack') {
      this.#givenUp = true;
      this.#staged = null;
      this.#tell('fallingBack', { why: error?.text ?? 'the trial ended' });
    }
    if (committed && !this.#told.has('committed')) {
      this.#staged = null;
      this.#tell('committed', { version: committed });
    }
  }

  #judged(
    { accepted, genuine, grounds, findings, versions }: Verdict,
    effects: RecordHappening['effects'],
  ): void {
    if (!accepted) {
      this.#refused(findings, genuine);
      return;
    }
    this.#told.delete('refusal');
    if (grounds === 'first-boot') this.#tell('firstBoot');
    if (grounds === 'acceptance') this.#tell('acceptance');
    if (grounds === 'upgrade') {
      this.#tell('replayed');
      this.#tell('compared');
      this.#tell('allKnown', { to: versions?.image ?? '' });
    }
    if (grounds === 'baseline' || grounds === 'allowed' || grounds === 'fallback') this.#tell('baseline');
    for (const { params } of effects) {
      const { key } = (params as { body?: { key?: { version: number } | null } | null }).body ?? {};
      if (key) this.#tell('keySent', { version: key.version });
    }
  }

  #refused(findings: readonly Finding[], genuine: boolean): void {
    this.#told.add('refusal');
    const pcrs = [
      ...new Set(findings.flatMap(({ code, pcr }) => (code === 'policy.pcr.unexpected' ? [pcr] : []))),
    ];
    const where = pcrs.length > 0 ? `PCR ${pcrs.join(', ')}` : (findings[0]?.code ?? 'refused');
    if (this.#sequence === 'S4') {
      this.#tell('notKnown', { where });
      return;
    }
    this.#tell('lookedUp', { result: genuine ? 'no match' : 'the evidence is not genuine' });
    this.#tell('notLocated');
    this.#tell('refused', { where });
  }

  /** The boot has shown which sequence it is; what S4 and its end look like was known before. */
  #is(sequence: Sequence): void {
    if (this.#sequence !== null) return;
    this.#sequence = sequence;
    const waiting = this.#unnumbered;
    this.#unnumbered = [];
    for (const { key, fields, at } of waiting) this.#say(key, fields, at);
  }

  /** A step that happens once in a boot. */
  #tell(key: StepKey, fields: Fields = {}): void {
    if (this.#told.has(key)) return;
    this.#told.add(key);
    const { step }: StepText = stepTexts[key];
    if (this.#sequence === null && typeof step !== 'string')
      this.#unnumbered.push({ key, fields, at: this.#at });
    else this.#say(key, fields);
  }

  /** A step that may happen again in the same boot. */
  #say(key: StepKey, fields: Fields = {}, at = this.#at): void {
    const { step, told }: StepText = stepTexts[key];
    const number = typeof step === 'string' ? step : step[this.#sequence ?? 'S2'];
    if (number === undefined) return;
    const [from, to, what, changed] = told.map((text) => filled(text, fields)) as [
      string,
      string,
      string,
      string,
    ];
    this.#steps.push({ device: this.#device, at, step: number, from, to, what, changed });
  }

  #take(): StoryStep[] {
    const steps = this.#steps;
    this.#steps = [];
    return steps;
  }
}

function filled(text: string, fields: Fields): string {
  return text.replace(/\{(\w+)\}/g, (_, name: string) => String(fields[name] ?? ''));
}

function regions(value: unknown): Record<string, string> {
  return (typeof value === 'object' && value !== null ? value : {}) as Record<string, string>;
}

/** `{ locked: 'waitingForKey' }` as `locked.waitingForKey`. */
function nameOf(value: unknown): string {
  if (typeof value === 'string') return value;
  const [[name = '', inner] = []] = Object.entries((value ?? {}) as object);
  return inner === undefined ? name : `${name}.${nameOf(inner)}`;
}
