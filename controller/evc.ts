// EVC, whole: keys, store, record runner, downlink and timers. Where its messages come from and go to is the caller's
// matter: the embedded broker, or any other.
import { join } from 'node:path';
import { LRUCache } from 'lru-cache';
import { readTopic } from '../formats/wire/topics.ts';
import type { Clock } from '../machines/clock.ts';
import type { Spans } from '../telemetry/spans.ts';
import { Accounts } from './accounts.ts';
import { Admission, type AdmissionLimits, type Shed } from './admission.ts';
import { certificateViews } from './certificates.ts';
import { Downlink } from './downlink.ts';
import { EkRoots } from './enrol/ek-roots.ts';
import { Endorsers } from './enrol/endorsers.ts';
import { OnboardingKeys } from './enrol/keys.ts';
import type { RegisteredDevice } from './enrol/onboarding.ts';
import { EscrowExport } from './escrow-export.ts';
import { Catalogue } from './images/catalogue.ts';
import { Curator } from './images/curator.ts';
import { KnownLogs } from './known-logs.ts';
import { Metrics } from './metrics.ts';
import { Login } from './oidc/login.ts';
import { Sessions } from './oidc/sessions.ts';
import { OidcSettingsStore } from './oidc/settings.ts';
import { Operator } from './operator.ts';
import { loadPki, type Pki } from './pki.ts';
import { performer } from './record/effects.ts';
import { RecordRecorder } from './record/recorder.ts';
import { RecordRunner, type RunnerEvent } from './record/runner.ts';
import { runTimers } from './record/timers.ts';
import { Rollouts } from './rollout/rollouts.ts';
import { LibsqlStore } from './store/libsql.ts';
import type { Store } from './store/store.ts';
import { OpenStreams, Tokens } from './tokens.ts';
import { AttemptSpans } from './tracing.ts';
import { Trials } from './trial/trials.ts';
import { VerifierPool } from './verify/pool.ts';
import { Webhooks } from './webhook/webhooks.ts';

export interface EvcOptions {
  /** EVC's data folder, as `evc init` made it. */
  data: string;
  /** Where records live, closed with EVC; a file in the data folder without it. */
  store?: Store;
  clock: Clock;
  /** Sends one message to a device. */
  publish(topic: string, bytes: Uint8Array): Promise<void>;
  /** Where devices fetch images: `https://host:port`. */
  imageBase(): string;
  /** Threads that judge when many attempts wait at once. Default: none, all is judged on this one. */
  verifierThreads?: number;
  watch?(event: RunnerEvent): void;
  onRefused?(topic: string, code: string, text: string): void;
  /** More comes than EVC can do: what was put off, once a second while it lasts. */
  onShed?(shed: Shed): void;
  admission?: Partial<AdmissionLimits>;
  /** Who is told how long attempts took. */
  spans?: Spans;
}

/** Devices whose account is known without asking the store. */
const accountsKnown = 20_000;
/** When a request may come back that reached an EVC on its way down, ms. */
const comeBack = 5000;

export class Evc {
  readonly pki: Pki;
  readonly clock: Clock;
  readonly store: Store;
  readonly runner: RecordRunner;
  readonly recorder: RecordRecorder;
  readonly downlink: Downlink;
  readonly catalogue: Catalogue;
  readonly curator: Curator;
  readonly operator: Operator;
  readonly accounts: Accounts;
  readonly keys: OnboardingKeys;
  readonly endorsers: Endorsers;
  readonly streams = new OpenStreams();
  readonly tokens: Tokens;
  readonly sessions: Sessions;
  readonly oidc: OidcSettingsStore;
  readonly login: Login;
  readonly rollouts: Rollouts;
  readonly webhooks: Webhooks;
  readonly trials: Trials;
  readonly escrowExport: EscrowExport;
  readonly metrics: Metrics;
  readonly ekRoots: EkRoots;
  readonly admission: Admission;
  readonly #accounts = new LRUCache<string, string>({ max: accountsKnown });
  readonly #spans: AttemptSpans | null;
  readonly #verifier: VerifierPool;
  readonly #stopping = new AbortController();
  /** Ends what webhooks are told: the journal has it still, and the next start tells it. */
  readonly #telling = new AbortController();
  readonly #working = new Set<Promise<unknown>>();
  readonly #timers: Promise<void>;
  #stoppingNow = false;

  private constructor(options: EvcOptions, store: Store) {
    const { clock, data } = options;
    this.pki = loadPki(join(data, 'pki'));
    this.clock = clock;
    this.store = store;
    this.recorder = new RecordRecorder({ clock });
    this.ekRoots = new EkRoots(join(data, 'ek-roots'));
    this.keys = new OnboardingKeys({ store, clock });
    const { streams } = this;
    const { secret } = this.pki;
    this.tokens = new Tokens({ store, clock, streams });
    this.sessions = new Sessions({ store, clock, streams });
    this.oidc = new OidcSettingsStore(store, secret);
    this.login = new Login({ settings: this.oidc, sessions: this.sessions, clock, secret });
    const logs = new KnownLogs(store);
    this.downlink = new Downlink({
      store,
      logs,
      runner: () => this.runner,
      pki: this.pki,
      clock,
      ekRoots: this.ekRoots,
      publish: (topic, bytes) => {
        this.recorder.message(topic, bytes);
        return options.publish(topic, bytes);
      },
      onRefused: (topic, code, text) => {
        this.metrics.refused(code);
        options.onRefused?.(topic, code, text);
      },
    });
    this.catalogue = new Catalogue(store, this.pki, join(data, 'images'));
    this.curator = new Curator({ store, clock, catalogue: this.catalogue, pki: this.pki });
    this.#verifier = new VerifierPool(options.verifierThreads ?? 0);
    const { catalogue, downlink } = this;
    const perform = performer({ store, clock, catalogue, downlink, logs, verifier: this.#verifier });
    this.#spans = options.spans ? new AttemptSpans(options.spans) : null;
    this.runner = new RecordRunner({
      ...(this.#spans ? { spans: this.#spans } : {}),
      store,
      clock,
      perform,
      recorder: this.recorder,
      watch: (step) => {
        this.metrics.step(step);
        const { account } = step.snapshot.context;
        if (account) this.#accounts.set(step.device, account.id);
        options.watch?.(step);
      },
    });
    this.admission = new Admission({
      clock,
      handle: ({ topic, payload, arrived }) => downlink.receive(topic, payload, arrived),
      putOff: ({ topic }, retryAfter) => downlink.putOff(topic, retryAfter),
      accountOf: (device) => this.#accountOf(device),
      signal: this.#stopping.signal,
      ...(options.admission ? { limits: options.admission } : {}),
      onShed: (shed) => {
        this.metrics.shed(shed);
        options.onShed?.(shed);
      },
    });
    const { runner, ekRoots } = this;
    this.accounts = new Accounts({ store, clock, runner });
    this.endorsers = new Endorsers({ store, clock, runner, ekRoots });
    this.operator = new Operator({
      store,
      clock,
      runner,
      catalogue: this.catalogue,
      accounts: this.accounts,
      imageBase: options.imageBase,
    });
    const { operator } = this;
    this.escrowExport = new EscrowExport({ store, clock, operator, runner });
    this.trials = new Trials({ store, operator, runner, catalogue, logs, verifier: this.#verifier });
    this.rollouts = new Rollouts({ store, clock, runner, operator });
    this.metrics = new Metrics({
      store,
      rollouts: this.rollouts,
      load: () => this.admission.load,
      certificates: () => certificateViews(this.pki),
      now: () => clock.now(),
    });
    const { signal } = this.#stopping;
    this.webhooks = new Webhooks({ store, clock, pki: this.pki, signal: this.#telling.signal });
    this.#timers = runTimers(store, runner, clock, signal, () => {
      // Nobody waits for the addresses of others.
      this.#track(this.webhooks.look());
      return this.rollouts.look();
    });
  }

  /** Opens the data folder and finishes what an earlier life left behind. Throws StoreError. */
  static async open(options: EvcOptions): Promise<Evc> {
    const evc = new Evc(options, options.store ?? LibsqlStore.open(join(options.data, 'evc.db')));
    await evc.runner.recover();
    // The folder may have changed while nobody was looking.
    evc.#track(evc.endorsers.judge());
    return evc;
  }

  /** A message of a device. */
  receive(topic: string, payload: Uint8Array): void {
    this.recorder.message(topic, payload);
    this.#spans?.message(topic);
    const asked = readTopic(topic);
    const arrived = this.clock.now();
    if (this.#stoppingNow) {
      if (asked?.direction === 'up') this.#track(this.downlink.putOff(topic, comeBack));
      return;
    }
    if (asked?.direction === 'up')
      this.admission.offer({ device: asked.device, endpoint: asked.endpoint, topic, payload, arrived });
    // It says what is wrong with the topic.
    else this.#track(this.downlink.receive(topic, payload, arrived));
  }

  /** A device connected, or its last connection ended. */
  link(device: string, online: boolean): void {
    this.#track(
      this.store.get('device', device).then((known) => {
        // Whoever only logged in is nobody yet: no record is made for it.
        if (known) return this.runner.send(device, { type: 'link.changed', online });
        return undefined;
      }),
    );
  }

  /** It takes no new work, and is on its way down. */
  get stopping(): boolean {
    return this.#stoppingNow;
  }

  /**
   * Takes no new requests, which are told when to come back, and finishes those that it has. Resolves with what is stored and not
   * done, which the next start does, and with whether all was finished within `patience` ms.
   */
  async finish(patience: number): Promise<{ finished: boolean; effects: number }> {
    this.#stoppingNow = true;
    this.#telling.abort();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<false>((resolve) => {
      timer = setTimeout(() => resolve(false), patience);
    });
    const left = async () => {
      await this.settled();
      return (await this.store.health()).effects;
    };
    const effects = await Promise.race([left(), late]);
    clearTimeout(timer);
    return effects === false ? { finished: false, effects: 0 } : { finished: true, effects };
  }

  /** Resolves when nothing is under way. */
  async settled(): Promise<void> {
    await this.admission.settled();
    while (this.#working.size > 0) await Promise.allSettled(this.#working);
    await this.runner.settled();
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    this.#telling.abort();
    await this.#timers;
    await this.settled();
    await this.#verifier.close();
    await this.store.close();
  }

  async #accountOf(device: string): Promise<string> {
    const known = this.#accounts.get(device);
    if (known !== undefined) return known;
    const registered = await this.store.get<RegisteredDevice>('device', device);
    const account = registered?.account ?? '';
    if (registered) this.#accounts.set(device, account);
    return account;
  }

  #track(work: Promise<unknown>): void {
    const tracked = work.catch(() => undefined).finally(() => this.#working.delete(tracked));
    this.#working.add(tracked);
  }
}
