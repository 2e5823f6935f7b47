// Liveness: from every state that is reached, the device is left alone. No fault any more; whatever can happen happens at once,
// and time passes when nothing else does, to the wait that ends first. It has to get where it should.
import { movesFrom } from './moves.ts';
import { normalise, type Rests } from './rests.ts';
import type { Scenario } from './search.ts';
import type { Situation } from './situation.ts';
import { now } from './time.ts';

/** Pauses stay as short as the first, since what counts tries is no part of a state: there are many within one trial. */
const mostMoves = 12_000;
/** In this order: an answer that is on its way is not waited for in vain. */
const byItself = ['work', 'net', 'evc', 'late', 'drop'] as const;

const noBudget = {};

/** Gives 0 where a state ends well, and the number of moves that were tried where it does not. */
export function goodEnd(scenario: Scenario, rests: Rests): (situation: Situation) => number {
  const good = new Set<string>();
  return (situation) => {
    const path: string[] = [];
    const run = new GoodRun(scenario, situation);
    for (let moves = 0; moves < mostMoves; moves++) {
      normalise(run.situation);
      const key = keyOf(run.situation, rests);
      if (good.has(key) || scenario.goal(run.situation)) {
        for (const passed of path) good.add(passed);
        good.add(key);
        return 0;
      }
      path.push(key);
      if (!run.move()) return moves + 1;
    }
    return mostMoves;
  };
}

/** A device without faults, and a person who helps. */
export class GoodRun {
  situation: Situation;
  readonly #scenario: Scenario;
  /** ms since it was left alone. */
  #time = 0;
  /** When each wait and each timer ends, on that clock. */
  readonly #ends = new Map<number | string, number>();

  constructor(scenario: Scenario, situation: Situation) {
    this.#scenario = scenario;
    this.situation = situation;
    situation.rest.left = noBudget;
    for (const [index, standing] of situation.standings.entries()) if (standing.sleeps) this.#begin(index);
    for (const [timer, at] of Object.entries(situation.rest.evc.timers)) this.#ends.set(timer, at - now);
  }

  /** Makes the next move; null when there is none. */
  move(): string | null {
    const { situation } = this;
    const moves = movesFrom(situation).filter(({ fault }) => !fault);
    for (const kind of byItself) {
      const next = moves.find((move) => move.kind === kind);
      if (next) return this.#make(next.name, () => next.make(this.situation));
    }
    if (this.#scenario.help?.(situation)) {
      return this.#make('a person helps', () => undefined);
    }
    const waiting = moves.filter(({ kind }) => kind === 'wait' || kind === 'timer');
    const window = this.#ends.get('upgrade');
    const ends = (whose: number | string | undefined) => this.#ends.get(whose ?? '') ?? Infinity;
    const [next] = waiting.sort((a, b) => ends(a.whose) - ends(b.whose));
    if (
      window !== undefined &&
      situation.rest.evc.timers.upgrade !== undefined &&
      window <= ends(next?.whose)
    ) {
      this.#time = Math.max(this.#time, window);
      return this.#make('the window of the upgrade closes', () => this.situation.timerFires('upgrade'));
    }
    if (!next) return null;
    this.#time = Math.max(this.#time, ends(next.whose));
    return this.#make(next.name, () => next.make(this.situation));
  }

  #make(name: string, make: () => void): string {
    const before = this.situation.facts.length;
    make();
    for (const fact of this.situation.facts.slice(before)) {
      if (fact.kind === 'begin' || (fact.kind === 'event' && fact.step.begun.includes('wait'))) {
        this.#begin(this.situation.indexOf(fact.chart.name));
      }
      if (fact.kind !== 'event') continue;
      for (const { type, params } of fact.step.actions)
        if (type === 'setTimer') this.#ends.set(String(params.timer), this.#time + Number(params.at) - now);
    }
    return name;
  }

  /** A wait begins now, and takes as long as its chart says. */
  #begin(index: number): void {
    const waiting = this.situation.standings[index]?.context.waiting as {
      since: number;
      until: number;
    } | null;
    if (waiting) this.#ends.set(index, this.#time + Math.max(0, waiting.until - waiting.since));
  }
}

function keyOf({ standings, record, rest }: Situation, rests: Rests): string {
  return `${standings.map(({ number }) => number).join(' ')} ${record.number} ${rests.row({ ...rest, left: noBudget }).join(' ')}`;
}
