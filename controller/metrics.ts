// Numbers for Prometheus: the fleet as it stands, and what happens. Counted as steps of records pass by; what stands in the store is
// asked when somebody scrapes.
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { DeviceRecordSnapshot } from '../machines/device-record.ts';
import type { RunnerEvent } from './record/runner.ts';
import type { Rollouts } from './rollout/rollouts.ts';
import type { Store } from './store/store.ts';

export interface MetricsOptions {
  store: Store;
  rollouts: Rollouts;
  /** When each certificate ends, ms since the epoch. */
  certificates(): readonly { name: string; until: number }[];
  /** Messages that wait, and that are worked at. */
  load(): { queued: number; atWork: number };
  now(): number;
}

/** Codes come from devices as well; those that nobody expects share one name, so that they cannot fill a memory. */
const mostCodes = 200;
/** Seconds. From the first word of an attempt to its verdict, and from a registration to trust. */
const judging = [0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30];
const trusting = [1, 5, 10, 30, 60, 300, 900, 3600, 21_600, 86_400];
const mostFollowed = 10_000;

export class Metrics {
  readonly #registry = new Registry();
  readonly #options: MetricsOptions;
  readonly #codes = new Set<string>();
  /** Of devices that were heard of and not judged yet: when. */
  readonly #asked = new Map<string, number>();
  readonly #registered = new Map<string, number>();
  readonly #steps: Counter;
  readonly #verdicts: Counter<'outcome' | 'reason'>;
  readonly #refused: Counter<'code'>;
  readonly #shed: Counter<'how'>;
  readonly #judged: Histogram;
  readonly #trusted: Histogram;
  readonly #upgrades: Counter<'how'>;

  constructor(options: MetricsOptions) {
    this.#options = options;
    const registers = [this.#registry];
    this.#steps = new Counter({ name: 'evc_steps_total', help: 'Steps of device records', registers });
    this.#verdicts = new Counter({
      name: 'evc_verdicts_total',
      help: 'Verdicts, by what came of them and the code of the first finding',
      labelNames: ['outcome', 'reason'],
      registers,
    });
    this.#refused = new Counter({
      name: 'evc_refused_messages_total',
      help: 'Messages of devices that were refused before a record saw them, by code',
      labelNames: ['code'],
      registers,
    });
    this.#shed = new Counter({
      name: 'evc_shed_messages_total',
      help: 'Messages of devices that were more than EVC can do: told to come back, or not answered',
      labelNames: ['how'],
      registers,
    });
    this.#judged = new Histogram({
      name: 'evc_attestation_seconds',
      help: 'From the request for a nonce to the verdict',
      buckets: judging,
      registers,
    });
    this.#trusted = new Histogram({
      name: 'evc_time_to_trust_seconds',
      help: 'From a registration to the first trust',
      buckets: trusting,
      registers,
    });
    this.#upgrades = new Counter({
      name: 'evc_upgrades_total',
      help: 'Upgrades that are over, by how they ended',
      labelNames: ['how'],
      registers,
    });
    this.#gauges(registers);
  }

  /** A step of a record. */
  step({ device, at, event, before, after, snapshot }: RunnerEvent): void {
    this.#steps.inc();
    if (event.type === 'device.registered') this.#follow(this.#registered, device, at);
    if (event.type === 'nonce.requested') this.#follow(this.#asked, device, at);
    if (event.type === 'verdict.given') this.#verdict(device, at, before, snapshot);
    const [was, is] = [before as Record<string, string>, after as Record<string, string>];
    if (was.software === is.software) return;
    if (is.software === 'committed' || is.software === 'rolledBack') this.#upgrades.inc({ how: is.software });
  }

  /** A message that no record saw. */
  refused(code: string): void {
    this.#refused.inc({ code: this.#known(code) });
  }

  /** What was too much. */
  shed({ putOff, dropped }: { putOff: number; dropped: number }): void {
    this.#shed.inc({ how: 'put-off' }, putOff);
    this.#shed.inc({ how: 'dropped' }, dropped);
  }

  /** In the text format of Prometheus. */
  async text(): Promise<{ type: string; text: string }> {
    return { type: this.#registry.contentType, text: await this.#registry.metrics() };
  }

  #verdict(device: string, at: number, before: unknown, { context }: DeviceRecordSnapshot): void {
    // Judged once more, since the record had changed: there is no verdict yet.
    if ((before as Record<string, string>).integrity !== 'verifying' || context.verdict?.at !== at) return;
    const { accepted, findings, grounds } = context.verdict;
    const reason = accepted ? (grounds ?? 'none') : (findings[0]?.code ?? 'none');
    this.#verdicts.inc({ outcome: accepted ? 'trusted' : 'refused', reason: this.#known(reason) });
    const asked = this.#asked.get(device);
    this.#asked.delete(device);
    if (asked !== undefined) this.#judged.observe((at - asked) / 1000);
    const registered = this.#registered.get(device);
    if (!accepted || registered === undefined) return;
    this.#registered.delete(device);
    this.#trusted.observe((at - registered) / 1000);
  }

  #follow(map: Map<string, number>, device: string, at: number): void {
    if (map.size >= mostFollowed) map.delete(map.keys().next().value as string);
    map.set(device, at);
  }

  #known(code: string): string {
    if (!this.#codes.has(code) && this.#codes.size >= mostCodes) return 'other';
    this.#codes.add(code);
    return code;
  }

  #gauges(registers: Registry[]): void {
    const { store, rollouts, load, now, certificates } = this.#options;
    new Gauge({
      name: 'evc_certificate_seconds',
      help: 'Until a certificate of EVC ends; EVC renews all but the root 60 days before',
      labelNames: ['certificate'],
      registers,
      collect() {
        for (const { name, until } of certificates()) this.set({ certificate: name }, (until - now()) / 1000);
      },
    });
    new Gauge({
      name: 'evc_messages',
      help: 'Messages of devices by where they are',
      labelNames: ['where'],
      registers,
      collect() {
        const { queued, atWork } = load();
        this.set({ where: 'queued' }, queued);
        this.set({ where: 'at-work' }, atWork);
      },
    });
    new Gauge({
      name: 'evc_devices',
      help: 'Devices by account and trust',
      labelNames: ['account', 'trust'],
      registers,
      async collect() {
        this.reset();
        for (const { devices, ...labels } of await store.counts()) this.set(labels, devices);
      },
    });
    new Gauge({
      name: 'evc_rollout_devices',
      help: 'Devices of the roll-outs that are not over, by progress',
      labelNames: ['rollout', 'version', 'progress'],
      registers,
      async collect() {
        this.reset();
        for (const { id, version, state, counts } of await rollouts.list()) {
          if (state !== 'running' && state !== 'halted') continue;
          const { all: _, ...progresses } = counts;
          for (const [progress, count] of Object.entries(progresses))
            this.set({ rollout: id, version, progress }, count);
        }
      },
    });
    new Gauge({
      name: 'evc_next_timer_seconds',
      help: 'Until the next timer of a record is due; below zero when EVC is behind',
      registers,
      async collect() {
        const next = await store.nextTimer();
        this.set(next === null ? 0 : (next - now()) / 1000);
      },
    });
    const escrowed = new Gauge({
      name: 'evc_escrowed_devices',
      help: 'Devices whose master key is in escrow',
      registers,
    });
    const oldest = new Gauge({
      name: 'evc_escrow_age_seconds',
      help: 'Of the device whose newest key in escrow is the oldest',
      registers,
    });
    new Gauge({
      name: 'evc_waiting_effects',
      help: 'Answers, pushes and verdicts that records asked for and that are not done',
      registers,
      async collect() {
        const health = await store.health();
        this.set(health.effects);
        escrowed.set(health.escrowed);
        oldest.set(health.oldestEscrow === null ? 0 : (now() - health.oldestEscrow) / 1000);
      },
    });
  }
}
