// Turns what charts do into lines, as XState tells it (`inspect`, synchronously), and hands them to whoever listens. With no
// listener it costs nothing; one that comes late is told first how everything stands.
import type { AnyActorRef, AnyStateMachine, InspectionEvent } from 'xstate';
import { definitionJson } from './definition.ts';
import {
  type Body,
  type Header,
  type Place,
  recordingFormat,
  recordingVersion,
  type StateValue,
  secretsOf,
  type TakenTransition,
} from './format.ts';
import { LateLine, type Said, type Same } from './line.ts';

export interface RecorderOptions {
  /** Program and version. */
  by: string;
  /** Id of the device, hex; empty while it is not known. */
  device: string;
  /** ms since the epoch. */
  now(): number;
  /** ms, never backwards. */
  mono(): number;
  /** SHA-256, hex. */
  hash(text: string): string;
  /** What stands in a recording for a secret: the same for the same secret, and nothing that leads back to it. */
  label(secret: string): string;
}

/** Somebody who keeps or sends lines. None of it may throw or wait. */
export interface Sink {
  /** One line, without its end. */
  line(text: string): void;
  /** Takes lines instead of `line`, whose text it makes when it has many: what that saves is most of what a line costs. */
  late?(line: LateLine): void;
  /** Whether there is room for more; without it lines are dropped, counted, and the count is told when there is. */
  room?(): boolean;
  /** No chart is in the middle of a step: a sink may be taken off or put on here. */
  between?(): void;
}

/** Takes lines before they are text, secrets and all: for whoever keeps none. */
export type Follower = (component: string, body: Body) => void;

/** One chart that runs. */
export interface Tap {
  /** For XState's `inspect`. */
  inspect(event: InspectionEvent): void;
  /** The actor that runs now goes on from a snapshot. To be called before it starts. */
  restored(): void;
}

interface Running {
  component: string;
  chart: AnyStateMachine;
  hash: string;
  secrets: ReadonlySet<string>;
  actor: AnyActorRef | null;
  /** Id of this life of the chart. */
  life: string;
  restored: boolean;
  begun: boolean;
  input: unknown;
  /** Context of the last line, to tell what changed. */
  context: Record<string, unknown>;
}

type Snapshot = { status: string; value: StateValue; context: Record<string, unknown> };

const none: ReadonlySet<string> = new Set();

export class Recorder {
  readonly #options: RecorderOptions;
  /** With the number of lines that each missed. */
  readonly #sinks = new Map<Sink, number>();
  #follower: Follower | null = null;
  readonly #running = new Set<Running>();
  #n = 0;
  #lives = 0;
  #device: string;

  constructor(options: RecorderOptions) {
    this.#options = options;
    this.#device = options.device;
  }

  /** Whether anybody listens: what is costly to make need not be made otherwise. */
  get on(): boolean {
    return this.#sinks.size > 0 || this.#follower !== null;
  }

  get device(): string {
    return this.#device;
  }

  /** The device is known from now on. */
  identify(device: string): void {
    if (device === '' || device === this.#device) return;
    this.#device = device;
    this.add('recorder', { kind: 'device', device });
  }

  /** Gives the sink a header, the charts and the state of each, and every line from now on, until the result is called. */
  attach(sink: Sink, about?: string): () => void {
    sink.line(JSON.stringify(this.header(about)));
    const shown = new Set<string>();
    for (const running of this.#running) {
      if (!shown.has(running.hash)) give(sink, this.#chartLine(running));
      shown.add(running.hash);
    }
    this.#standTo(sink);
    this.#sinks.set(sink, 0);
    return () => {
      const missed = this.#sinks.get(sink) ?? 0;
      this.#sinks.delete(sink);
      if (missed > 0) give(sink, this.#droppedLine(missed));
    };
  }

  #standTo(sink: Sink): void {
    for (const running of this.#running) {
      if (running.begun && running.actor)
        give(sink, this.#actorLine(running, snapshotOf(running.actor), true));
    }
  }

  /** Hands every line of a chart to a program instead of writing it down. */
  follow(follower: Follower): void {
    this.#follower = follower;
  }

  header(about?: string): Header {
    const { by, now } = this.#options;
    return {
      recording: recordingFormat,
      version: recordingVersion,
      made: now(),
      by,
      device: this.#device,
      ...(about === undefined ? {} : { about }),
    };
  }

  /** Follows a chart. Its definition is written once. */
  chart(component: string, chart: AnyStateMachine): Tap {
    const running: Running = {
      component,
      chart,
      hash: this.#follower ? '' : hashOf(chart, this.#options.hash),
      secrets: new Set(secretsOf(chart)),
      actor: null,
      life: '',
      restored: false,
      begun: false,
      input: undefined,
      context: {},
    };
    const known = [...this.#running].find((other) => other.component === component);
    const shown = [...this.#running].some(({ hash }) => hash === running.hash);
    if (known) this.#running.delete(known);
    this.#running.add(running);
    if (this.#sinks.size > 0 && !shown) this.#emit(this.#chartLine(running));
    return {
      inspect: (event) => this.#inspect(running, event),
      restored: () => {
        running.restored = true;
      },
    };
  }

  /**
   * Adds a line that no chart made. `secrets` names the fields in it that are replaced by labels, and `weight` is about how
   * many characters it has.
   */
  add(
    component: string,
    body: Said,
    { secrets = none, weight }: { secrets?: ReadonlySet<string>; weight?: number } = {},
  ): void {
    if (this.#sinks.size > 0) this.#emit(this.#line(component, body, secrets, weight));
  }

  #inspect(running: Running, event: InspectionEvent): void {
    const ours = event.actorRef === running.actor;
    switch (event.type) {
      case '@xstate.actor':
        if (!isRoot(event.actorRef)) return;
        running.actor = event.actorRef as AnyActorRef;
        running.life = `${running.component}:${++this.#lives}`;
        running.restored = false;
        running.begun = false;
        return;
      case '@xstate.event':
        if (ours && event.event.type === 'xstate.init')
          running.input = (event.event as { input?: unknown }).input;
        else if (ours && this.on)
          this.#tell(running, { kind: 'event', actor: running.life, event: event.event }, true);
        else if (running.begun && event.event.type === 'xstate.init' && this.on) this.#asked(running, event);
        return;
      case '@xstate.microstep':
        if (ours && running.begun && this.on && event.event.type !== 'xstate.stop')
          this.#took(running, event._transitions);
        return;
      case '@xstate.action': {
        const { type, params } = event.action;
        if (ours && running.begun && this.on && !/^xstate\./.test(type))
          this.#tell(running, { kind: 'action', actor: running.life, action: type, params });
        return;
      }
      case '@xstate.snapshot':
        if (ours) this.#stands(running, event.event.type, event.snapshot as unknown as Snapshot);
        return;
    }
  }

  #asked(running: Running, event: Extract<InspectionEvent, { type: '@xstate.event' }>): void {
    const { id, src } = event.actorRef as unknown as { id: string; src: unknown };
    const { input } = event.event as { input?: unknown };
    this.#tell(running, {
      kind: 'invoke',
      actor: running.life,
      id,
      port: typeof src === 'string' ? src : id,
      ...(input === undefined ? {} : { input }),
    });
  }

  /** What it took are the chart's own transitions, so they do not change. */
  #took({ component, life, secrets }: Running, transitions: readonly object[]): void {
    if (this.#follower)
      this.#follower(component, { kind: 'microstep', actor: life, transitions: transitions.map(takenOf) });
    if (this.#sinks.size > 0)
      this.#emit(this.#line(component, () => microstepJson(life, transitions), secrets));
  }

  #stands(running: Running, cause: string, snapshot: Snapshot): void {
    if (cause === 'xstate.stop') {
      running.actor = null;
      if (running.begun && this.on) this.#tell(running, { kind: 'stop', actor: running.life });
      running.begun = false;
      return;
    }
    if (!running.begun) {
      running.begun = true;
      running.context = snapshot.context;
      if (this.#follower)
        this.#follower(running.component, this.#actorBody(running, snapshot, running.restored));
      if (this.#sinks.size > 0) this.#emit(this.#actorLine(running, snapshot, running.restored));
      return;
    }
    // Kept here alone: a sink may be told how a chart stands in the midst of its step, and others wait for what that changed.
    const before = running.context;
    running.context = snapshot.context;
    if (!this.on) return;
    const { life } = running;
    this.#tell(running, () => snapshotBody(life, before, snapshot));
  }

  #actorBody(running: Running, { value, context }: Snapshot, restored: boolean): Body {
    const { life, chart, hash, input } = running;
    const body: Body = { kind: 'actor', actor: life, chart: chart.id, hash, restored, value, context };
    return restored ? body : { ...body, input };
  }

  #actorLine(running: Running, snapshot: Snapshot, restored: boolean): LateLine {
    return this.#line(running.component, this.#actorBody(running, snapshot, restored), running.secrets);
  }

  #tell(running: Running, body: Body | (() => Body), between = false): void {
    // Before the line has its number: a sink that is put on now is told first how everything stands.
    if (between) for (const sink of [...this.#sinks.keys()]) sink.between?.();
    if (this.#follower) this.#follower(running.component, typeof body === 'function' ? body() : body);
    if (this.#sinks.size > 0) this.#emit(this.#line(running.component, body, running.secrets), between);
  }

  #chartLine({ component, chart, hash }: Running): LateLine {
    return LateLine.same(this.#place(component), sameOf(chart, hash));
  }

  #line(component: string, body: Said, secrets: ReadonlySet<string>, weight?: number): LateLine {
    const { label } = this.#options;
    return LateLine.of(this.#place(component), body, {
      secrets,
      label,
      ...(weight === undefined ? {} : { weight }),
    });
  }

  #place(component: string): Place {
    const { now, mono } = this.#options;
    return { n: this.#n++, at: now(), mono: Math.round(mono() * 1000) / 1000, component };
  }

  #droppedLine(lines: number): LateLine {
    return this.#line('recorder', { kind: 'dropped', lines, why: 'there was no room for them' }, none);
  }

  /** @param between no chart is in the middle of a step */
  #emit(line: LateLine, between = false): void {
    for (const [sink, missed] of this.#sinks) {
      const room = sink.room?.() ?? true;
      // After a gap it goes on where the states of all charts can be told, and nowhere else.
      if (!room || (missed > 0 && !between)) {
        this.#sinks.set(sink, missed + 1);
        continue;
      }
      if (missed > 0) {
        this.#sinks.set(sink, 0);
        give(sink, this.#droppedLine(missed));
        this.#standTo(sink);
        // What is to be told has its number already, and has to come after these.
        give(sink, line.numbered(this.#n++));
        continue;
      }
      give(sink, line);
    }
  }
}

/** What a recorder wants, for lines that nobody keeps. */
export const silent: RecorderOptions = {
  by: '',
  device: '',
  now: () => 0,
  mono: () => 0,
  hash: () => '',
  label: (secret) => secret,
};

const said = new WeakMap<AnyStateMachine, Same>();

/** What says a chart: made once, since it is most of a short recording. */
function sameOf(chart: AnyStateMachine, hash: string): Same {
  const known = said.get(chart);
  if (known) return known;
  const json = `{"kind":"chart","chart":${JSON.stringify(chart.id)},"hash":"${hash}","definition":${definitionJson(chart)}}`;
  const same = { json, bytes: new TextEncoder().encode(json) };
  said.set(chart, same);
  return same;
}

/** The JSON of what says a chart. */
export function chartJson(chart: AnyStateMachine, hash: string): string {
  return sameOf(chart, hash).json;
}

function give(sink: Sink, line: LateLine): void {
  if (sink.late) sink.late(line);
  else sink.line(line.text);
}

const hashes = new WeakMap<AnyStateMachine, string>();

/** SHA-256 of the definition of a chart, hex: made once, since charts do not change. */
export function hashOf(chart: AnyStateMachine, hash: (text: string) => string): string {
  const known = hashes.get(chart) ?? hash(definitionJson(chart));
  hashes.set(chart, known);
  return known;
}

function isRoot(actor: unknown): boolean {
  return (actor as { _parent?: unknown })._parent === undefined;
}

function snapshotOf(actor: AnyActorRef): Snapshot {
  return actor.getSnapshot() as unknown as Snapshot;
}

interface Transition {
  source: { id: string };
  eventType: string;
  target?: readonly { id: string }[];
  actions: readonly (string | { type?: string })[];
}

const taken = new WeakMap<object, TakenTransition>();

/** How a chart stands after a step: of what it remembers, what changed. */
export function snapshotBody(life: string, before: Readonly<Record<string, unknown>>, now: Snapshot): Body {
  const { status, value, context } = now;
  const changed: Record<string, unknown> = {};
  for (const key of Object.keys(context)) if (context[key] !== before[key]) changed[key] = context[key];
  const removed = Object.keys(before).filter(
    (key) => context[key] === undefined && before[key] !== undefined,
  );
  return {
    kind: 'snapshot',
    actor: life,
    status,
    value,
    context: changed,
    ...(removed.length > 0 ? { removed } : {}),
  };
}

/** Joined of what is made once, since these are many. */
function microstepJson(life: string, transitions: readonly object[]): string {
  const joined = transitions.map(takenJson).join();
  return `{"kind":"microstep","actor":${JSON.stringify(life)},"transitions":[${joined}]}`;
}

const takenJsons = new WeakMap<object, string>();

function takenJson(transition: object): string {
  const known = takenJsons.get(transition) ?? JSON.stringify(takenOf(transition));
  takenJsons.set(transition, known);
  return known;
}

/** Made once for each, since they are those of the chart. */
export function takenOf(transition: object): TakenTransition {
  const known = taken.get(transition) ?? takenIn(transition);
  taken.set(transition, known);
  return known;
}

/** XState types these transitions loosely; what is read here is the same in their definition. */
function takenIn(transition: object): TakenTransition {
  const { source, eventType, target = [], actions = [] } = transition as Transition;
  return {
    from: source.id,
    event: eventType,
    to: target.map(({ id }) => id),
    actions: actions.map((action) => (typeof action === 'string' ? action : (action.type ?? ''))),
  };
}
