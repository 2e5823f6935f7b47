// A counterexample as a recording: the charts run through what the exploration found, for `evc replay` and the inspector.
import { createHash } from 'node:crypto';
import { type Actor, type AnyStateMachine, createActor } from 'xstate';
import { Recorder } from '../../formats/recording/recorder.ts';
import { type Chart, type ChartEvent, type Standing, stamp } from './chart.ts';
import { GoodRun } from './good-end.ts';
import { namePattern, type Renaming } from './names.ts';
import { normalise } from './rests.ts';
import { type Broken, begin, retrace, type Scenario } from './search.ts';
import type { Cast, Fact, Situation } from './situation.ts';
import { now } from './time.ts';

/** Of what a device does by itself after the last move: enough to see that it goes round. */
const mostAfter = 200;
const second = 1000;

/** Lines of JSON. `broken` names the moves; `cast` has to be that in which they were found. */
export function recordingOf(scenario: Scenario, cast: Cast, broken: Broken): string {
  const tape = new Tape(`${scenario.name}: ${broken.sentence}`);
  tape.begin(begin(scenario, cast));
  const { situation } = retrace(scenario, cast, broken.moves, (move, { facts }, renaming) => {
    tape.rename(renaming);
    tape.take(move.name, facts, move.fault);
  });
  tape.compare(situation);
  if (broken.after > 0) {
    const run = new GoodRun(scenario, situation);
    for (let moves = 0; moves < Math.min(broken.after, mostAfter); moves++) {
      tape.rename(normalise(run.situation));
      const before = run.situation.facts.length;
      const name = run.move();
      if (name === null) break;
      tape.take(name, run.situation.facts.slice(before), false);
    }
  }
  return tape.end(broken.sentence);
}

class Tape {
  readonly #recorder: Recorder;
  readonly #lines: string[] = [];
  readonly #actors = new Map<Chart, Actor<AnyStateMachine>>();
  /** What the charts here call what the exploration calls by a name that may soon be another's. */
  #names = new Map<string, string>();
  #given = 0;
  #time = now;

  constructor(about: string) {
    this.#recorder = new Recorder({
      by: 'eve-attest exploration',
      device: 'e'.repeat(64),
      now: () => this.#time,
      mono: () => this.#time - now,
      hash: (text) => createHash('sha256').update(text).digest('hex'),
      // Names stand for secrets here.
      label: (secret) => secret,
    });
    this.#recorder.attach({ line: (line) => void this.#lines.push(line) }, about);
  }

  begin({ cast, standings, record }: Situation): void {
    for (const [index, chart] of cast.charts.entries())
      this.#start(chart, { from: standings[index] as Standing });
    this.#start(cast.record, { from: record });
  }

  /** A name here is for good: in the exploration it is one of the few that are in use. */
  rename(renaming: Renaming | null): void {
    if (!renaming) return;
    const names = new Map<string, string>();
    for (const [before, after] of renaming.map) names.set(after, this.#lasting(before));
    this.#names = names;
  }

  /** Throws Error where the charts here do not stand as those of the exploration do. */
  compare({ cast, standings, record }: Situation): void {
    for (const [index, chart] of [...cast.charts, cast.record].entries()) {
      const wanted = JSON.stringify((standings[index] ?? record).value);
      const got = JSON.stringify(this.#actors.get(chart)?.getSnapshot().value);
      if (got !== wanted)
        throw new Error(`${chart.name} stands in ${got}, and in ${wanted} in the exploration`);
    }
  }

  #lasting(name: string): string {
    let lasting = this.#names.get(name);
    if (lasting === undefined) {
      lasting = `${name.slice(0, 2)}${(this.#given++).toString(16).padStart(4, '0')}`;
      this.#names.set(name, lasting);
    }
    return lasting;
  }

  #named<Value>(value: Value): Value {
    return JSON.parse(JSON.stringify(value).replace(namePattern, (name) => this.#lasting(name))) as Value;
  }

  take(name: string, facts: readonly Fact[], fault: boolean): void {
    this.#time += second;
    if (fault) this.#recorder.add('exploration', { kind: 'fault', code: 'exploration', text: name });
    for (const fact of facts) {
      switch (fact.kind) {
        case 'off':
          this.#recorder.add('board', { kind: 'power', on: false, reason: fact.reason });
          break;
        case 'begin':
          this.#actors.get(fact.chart)?.stop();
          this.#start(fact.chart, { input: fact.input });
          break;
        case 'event':
          this.#send(fact.chart, fact.event);
      }
    }
  }

  end(sentence: string): string {
    this.#recorder.add('exploration', { kind: 'fault', code: 'exploration', text: `not so: ${sentence}` });
    for (const actor of this.#actors.values()) actor.stop();
    return `${this.#lines.join('\n')}\n`;
  }

  #start(chart: Chart, how: { from: Standing } | { input: object }): void {
    const machine = withoutPorts(chart.machine);
    const tap = this.#recorder.chart(chart.name, machine);
    const actor = createActor(machine, {
      ...('from' in how
        ? {
            snapshot: machine.resolveState({
              value: how.from.value as never,
              context: this.#named(how.from.context) as never,
            }),
          }
        : { input: { ...how.input, ...stamp } as never }),
      inspect: (event) => tap.inspect(event),
    });
    actor.subscribe({ error: () => undefined });
    if ('from' in how) tap.restored();
    actor.start();
    this.#actors.set(chart, actor);
  }

  #send(chart: Chart, event: ChartEvent): void {
    this.#actors.get(chart)?.send({ ...stamp, ...this.#named(event) });
  }
}

/** What a port answers is an event of the path. */
function withoutPorts(machine: AnyStateMachine): AnyStateMachine {
  const silent = {
    getInitialSnapshot: () => ({ status: 'active', output: undefined, error: undefined }),
    transition: (snapshot: unknown) => snapshot,
    getPersistedSnapshot: (snapshot: unknown) => snapshot,
  };
  const names = Object.keys(machine.implementations.actors);
  return machine.provide({ actors: Object.fromEntries(names.map((name) => [name, silent])) } as never);
}
