// Everything at one moment: where each chart stands, what the device and EVC keep beside them, what is on its way between them,
// and what may still go wrong. A move changes a copy of it.
import { eventOf as busEventOf } from '../../device/wiring.ts';
import type { Attempt, DeviceRecordContext, Reply, Timer } from '../../machines/device-record.ts';
import type { Component } from '../../machines/device-steps.ts';
import { type Chart, type ChartEvent, type Invoked, type Standing, type Stepped, stamp } from './chart.ts';
import { boot, type Device, localPorts, PortFailure } from './device.ts';
import { type Answer, answerOf, type EvcState, eventOf, failed, type Request } from './evc.ts';
import { freshName } from './names.ts';

/** On its way, at one end or the other. Never changed: another takes its place. */
export interface Message {
  /** `up`: to EVC. `with-evc`: EVC has it, and answers later. `down`: an answer. `push`: what EVC says by itself. */
  readonly at: 'up' | 'with-evc' | 'down' | 'push';
  /** Index of the chart that asked; of none for a push. */
  readonly chart: number;
  /** Of the invocation. */
  readonly port: string;
  readonly id: string;
  /** Whether it is still waited for. */
  readonly awaited: boolean;
  readonly body: Request | Answer | string;
}

/** How often each thing may still go wrong, and each thing be done by a person. */
export type Budget = Readonly<Record<string, number>>;

/** All but the charts. Its parts are shared with other situations until `owned` makes them this one's own. */
export interface Rest {
  device: Device;
  evc: EvcState;
  net: readonly Message[];
  left: Record<string, number>;
  /** What a chart could not take, or the device could not do. */
  broken: string | null;
}

/** What happened in a move, in order. */
export type Fact =
  | { kind: 'event'; chart: Chart; event: ChartEvent; before: Standing; step: Stepped }
  | { kind: 'begin'; chart: Chart; input: object; standing: Standing }
  | { kind: 'off'; reason: string }
  | { kind: 'reply'; reply: Reply; event: ChartEvent }
  | { kind: 'ask'; chart: Chart; port: string; input: Record<string, unknown> };

/** The charts that take part, in the order in which what they do on the device alone comes first. */
export interface Cast {
  /** Of the device. */
  charts: readonly Chart[];
  record: Chart;
}

const onTheNet = new Set([
  'register',
  'fetchUuid',
  'sendCertificate',
  'sendProof',
  'requestNonce',
  'sendQuote',
  'storeKey',
  'requestConfig',
  'sendInfo',
]);
/** What changes nothing at EVC, so that nobody can tell whether it came late or not at all. */
const withoutTrace = new Set(['fetchUuid', 'requestConfig', 'sendInfo']);
/** Longer than any exchange of components that has an end. */
const mostEvents = 500;

export class Situation {
  readonly cast: Cast;
  standings: Standing[];
  record: Standing;
  rest: Rest;
  readonly facts: Fact[] = [];
  readonly #own = new Set<'device' | 'evc' | 'left'>();
  #queue: { to: number; event: ChartEvent }[] = [];

  constructor(cast: Cast, standings: readonly Standing[], record: Standing, rest: Rest) {
    this.cast = cast;
    this.standings = [...standings];
    this.record = record;
    this.rest = rest;
  }

  get recordContext(): DeviceRecordContext {
    return this.record.context as unknown as DeviceRecordContext;
  }

  /** From here on its parts are others' as well. */
  share(): void {
    this.#own.clear();
  }

  /** Where a component stands. Throws TypeError where it takes no part. */
  of(name: Component): Standing {
    const standing = this.standings[this.indexOf(name)];
    if (!standing) throw new TypeError(`${name} takes no part`);
    return standing;
  }

  has(name: Component): boolean {
    return this.indexOf(name) >= 0;
  }

  indexOf(name: string): number {
    return this.cast.charts.findIndex((chart) => chart.name === name);
  }

  /** All that anybody remembers, as text, to make a name that is new. */
  inUse = (): string[] => [
    ...[...this.standings, this.record].map(({ text }) => text),
    JSON.stringify(this.rest),
  ];

  /** A part of the rest that may be changed. */
  owned<Part extends 'device' | 'evc' | 'left'>(part: Part): Rest[Part] {
    if (!this.#own.has(part)) {
      this.#own.add(part);
      this.rest[part] = structuredClone(this.rest[part]);
    }
    return this.rest[part];
  }

  /** The device starts, or starts again. */
  powerOn(reason: string): void {
    this.facts.push({ kind: 'off', reason });
    const { rest, cast } = this;
    // What went out goes on its way; what comes back finds nobody.
    this.abandon(() => true);
    boot(this.owned('device'));
    this.#queue = [];
    this.standings = cast.charts.map((chart) => {
      const input = chart.name === 'attest-task' ? { certified: rest.device.certified } : {};
      const standing = chart.begin(input);
      this.facts.push({ kind: 'begin', chart, input, standing });
      return standing;
    });
    for (const index of cast.charts.keys()) this.#ask(index, this.#standing(index).invoked);
    this.#deliverAll();
  }

  /** A component dies and starts again where it was: its ports run again, and it is told what the others show. */
  restart(index: number): void {
    const standing = this.#standing(index);
    this.#letGo(
      index,
      standing.invoked.map(({ id }) => id),
    );
    this.#ask(index, standing.invoked);
    for (const [other, chart] of this.cast.charts.entries()) {
      for (const [type, text] of Object.entries(this.#standing(other).shown)) {
        this.#tell(index, `${chart.name}/${type}`, JSON.parse(text));
      }
    }
    this.#deliverAll();
  }

  /** Sends an event to a chart of the device, and all that follows from it at once. */
  send(index: number, event: ChartEvent): void {
    this.#queue.push({ to: index, event });
    this.#deliverAll();
  }

  /** A port answers. */
  answer(index: number, id: string, answer: Answer): void {
    const event =
      'ok' in answer
        ? { type: `xstate.done.actor.${id}`, output: { value: answer.ok, ...stamp } }
        : { type: `xstate.error.actor.${id}`, error: { ...answer.fail, ...stamp } };
    this.send(index, event);
  }

  /** A port of the device alone does its work. */
  perform(index: number, { id, port, input }: Invoked): void {
    const perform = localPorts[port];
    if (!perform) throw new TypeError(`the exploration has no port ${port}`);
    let answer: Answer;
    try {
      answer = { ok: perform(this.owned('device'), input, this.inUse) };
    } catch (error) {
      if (error instanceof PortFailure) answer = failed(error.code);
      else {
        // The device's own rules refuse, which its chart has to take.
        const { code } = error as { code?: string };
        if (code === undefined) throw error;
        answer = failed(code);
      }
    }
    this.answer(index, id, answer);
  }

  /** A message of the device reaches EVC. */
  arrive(message: Message): void {
    const request = message.body as Request;
    const event = eventOf(request, this.recordContext, this.inUse);
    this.#remove(message);
    this.#replied = null;
    this.tellRecord(event, request.software);
    const reply = this.#replied as Reply | null;
    if (reply) {
      const answer = answerOf(request.port, reply, request.input);
      this.#down({ ...message, at: 'down', body: answer });
      this.#persistAnswer(message, request, answer);
    } else if (request.port === 'sendQuote') {
      this.#put({ ...message, at: 'with-evc' });
      this.#sweep();
    }
  }

  /** An answer reaches the device. */
  take(message: Message): void {
    this.#remove(message);
    const answer = message.body as Answer;
    if (message.port === 'requestConfig' && 'ok' in answer) {
      const reply = answer.ok as { kind: string; version: number; baseOs: Device['checkpoint'] };
      if (reply.kind !== 'unchanged')
        this.owned('device').staged = {
          version: reply.version,
          partial: reply.kind === 'partial',
          baseOs: reply.baseOs as never,
        };
    }
    if (message.port === 'sendInfo') this.owned('device').outbox = {};
    const code = (answer as { ok?: { code?: string } }).ok?.code;
    if (message.port === 'sendQuote' && code === 'noCertFound') this.owned('device').certified = null;
    const proven =
      message.port === 'sendProof' || (message.port === 'sendCertificate' && !challenged(answer));
    if (proven && 'ok' in answer) this.owned('device').certified = certOf(this);
    this.answer(message.chart, message.port, answer);
  }

  /** EVC steps the record, and keeps what it asks for. */
  tellRecord(event: ChartEvent, software = ''): void {
    const { record: chart } = this.cast;
    const before = this.record;
    const step = chart.step(before, event);
    this.facts.push({ kind: 'event', chart, event, before, step });
    this.record = step.to;
    if (step.error) this.rest.broken ??= `${chart.name} broke at ${event.type}: ${step.error}`;
    for (const { type, params } of step.actions) {
      switch (type) {
        case 'reply':
          this.#reply(params as unknown as Reply, event);
          break;
        case 'verify': {
          const attempt = params.attempt as Attempt;
          const evc = this.owned('evc');
          const shown =
            software || (evc.judging.find((one) => one.attempt.id === attempt.id)?.software ?? '');
          evc.judging = [
            ...evc.judging.filter((one) => one.attempt.id !== attempt.id),
            { attempt, software: shown },
          ];
          break;
        }
        case 'push':
          this.#put({ at: 'push', chart: -1, port: '', id: '', awaited: true, body: String(params.what) });
          break;
        case 'setTimer':
          this.owned('evc').timers[String(params.timer)] = Number(params.at);
          break;
        case 'clearTimer':
          delete this.owned('evc').timers[String(params.timer)];
      }
    }
    this.#sweep();
  }

  timerFires(timer: string): void {
    const at = this.rest.evc.timers[timer];
    if (at === undefined) throw new TypeError(`no timer ${timer} is set`);
    delete this.owned('evc').timers[timer];
    this.tellRecord({ type: 'timer.due', timer: timer as Timer, at });
  }

  /** The connection breaks: who waits is told, and what was on its way down is gone. */
  cutLink(): void {
    this.owned('device').link = false;
    const waiting = this.rest.net.filter(({ awaited, at }) => awaited && at !== 'push');
    this.abandon(({ at }) => at !== 'push');
    for (const { chart, port } of waiting) {
      if (this.#standing(chart).invoked.some(({ id }) => id === port))
        this.answer(chart, port, failed('link.lost'));
    }
  }

  relink(): void {
    this.owned('device').link = true;
    for (const name of ['client', 'info-task', 'config-task'] as const) {
      if (this.has(name)) this.send(this.indexOf(name), { type: 'link.up' });
    }
  }

  drop(message: Message): void {
    this.#remove(message);
  }

  /** Nobody waits for these messages any more; they go on their way all the same. */
  abandon(which: (message: Message) => boolean): void {
    this.rest.net = this.rest.net.map((message) =>
      message.awaited && which(message) ? { ...message, awaited: false } : message,
    );
    this.#sweep();
  }

  repeat(message: Message): void {
    this.#put({ ...message, awaited: false });
    this.#sweep();
  }

  #put(message: Message): void {
    this.rest.net = [...this.rest.net, message];
  }

  #replied: Reply | null = null;

  #reply(reply: Reply, event: ChartEvent): void {
    this.facts.push({ kind: 'reply', reply, event });
    const later = this.rest.net.find(({ at, id }) => at === 'with-evc' && id === reply.request.id);
    if (!later) {
      this.#replied = reply;
      return;
    }
    this.#remove(later);
    const { input } = later.body as Request;
    this.#down({ ...later, at: 'down', body: answerOf(later.port, reply, input) });
  }

  #down(message: Message): void {
    if (message.awaited) this.#put(message);
  }

  #persistAnswer(message: Message, { port }: Request, answer: Answer): void {
    if (port === 'register' && 'ok' in answer && message.awaited) this.owned('device').registered = true;
  }

  /** What is asked anew. */
  #ask(index: number, invoked: readonly Invoked[]): void {
    for (const { id, port, input } of invoked) {
      this.facts.push({ kind: 'ask', chart: this.cast.charts[index] as Chart, port, input });
      if (!onTheNet.has(port)) continue;
      const { software, link } = this.rest.device;
      if (port === 'sendInfo') this.owned('device').outbox = { [String(input.key)]: input.body as object };
      if (!link) continue;
      const { at: _, dice: __, ...asked } = input;
      const message = { at: 'up' as const, chart: index, port: id, awaited: true };
      if (port === 'sendQuote' && !this.#quoteIsHere(asked.nonce)) {
        this.#put({ ...message, at: 'down', id: '', body: failed('attest.no-quote') });
        continue;
      }
      const name = port === 'sendQuote' ? freshName('attempt', this.inUse()) : '';
      const body: Request = { id: name, port, input: asked, software: port === 'sendQuote' ? software : '' };
      this.#put({ ...message, id: name, body });
    }
  }

  #quoteIsHere(nonce: unknown): boolean {
    if (!this.has('tpm-manager')) return true;
    const shown = JSON.parse(this.of('tpm-manager').shown.AttestQuote ?? 'null') as Record<
      string,
      unknown
    > | null;
    return shown !== null && !('error' in shown) && shown.nonce === nonce;
  }

  #letGo(index: number, ids: readonly string[]): void {
    if (ids.length > 0) this.abandon(({ chart, port }) => chart === index && ids.includes(port));
  }

  #tell(index: number, topic: string, body: object | null): void {
    const name = this.cast.charts[index]?.name as Component;
    const event = busEventOf(name, topic, body);
    if (!event || !this.#matters(event)) return;
    this.#queue.push({ to: index, event });
  }

  /** Reports that decide nothing at EVC, or say what it was told already, are left out. */
  #matters(event: ChartEvent): boolean {
    if (event.type !== 'info.changed') return true;
    if (event.key !== 'base-os') return false;
    const { state: _, why: __, ...report } = event.body as Record<string, unknown>;
    if (report.committed === '' && report.failed === undefined) return false;
    const text = JSON.stringify(report);
    if (this.rest.device.reported === text) return false;
    this.owned('device').reported = text;
    event.body = report;
    return true;
  }

  #deliverAll(): void {
    for (let count = 0; this.#queue.length > 0; count++) {
      if (count > mostEvents) {
        this.rest.broken ??= 'the components answer each other without an end';
        return;
      }
      const { to, event } = this.#queue.shift() as { to: number; event: ChartEvent };
      this.#step(to, event);
    }
  }

  #step(index: number, event: ChartEvent): void {
    const chart = this.cast.charts[index] as Chart;
    const before = this.#standing(index);
    if (before.status !== 'active') return;
    const step = chart.step(before, event);
    this.facts.push({ kind: 'event', chart, event, before, step });
    this.standings[index] = step.to;
    if (step.error) this.rest.broken ??= `${chart.name} broke at ${event.type}: ${step.error}`;
    if (step.to.status !== 'active') this.rest.broken ??= `${chart.name} ended at ${event.type}`;
    this.#letGo(index, step.ended);
    this.#ask(
      index,
      step.to.invoked.filter(({ id }) => step.begun.includes(id)),
    );
    for (const { type, body } of step.published) {
      for (const other of this.cast.charts.keys()) this.#tell(other, `${chart.name}/${type}`, body);
    }
  }

  /** What changes nothing any more does not tell one state from another. */
  #sweep(): void {
    const { judging } = this.rest.evc;
    const traced = ({ at, port, id, awaited }: Message) => {
      if (awaited || (at === 'up' && !withoutTrace.has(port))) return true;
      return at === 'with-evc' && judging.some(({ attempt }) => attempt.id === id);
    };
    if (!this.rest.net.every(traced)) this.rest.net = this.rest.net.filter(traced);
  }

  #remove(message: Message): void {
    const index = this.rest.net.indexOf(message);
    if (index >= 0) this.rest.net = this.rest.net.toSpliced(index, 1);
  }

  #standing(index: number): Standing {
    return this.standings[index] as Standing;
  }
}

function challenged(answer: Answer): boolean {
  return 'ok' in answer && (answer.ok as { challenge: unknown }).challenge !== null;
}

function certOf(situation: Situation): string | null {
  return situation.has('tpm-manager')
    ? ((situation.of('tpm-manager').context as { cert: { name: string } | null }).cert?.name ?? null)
    : null;
}
