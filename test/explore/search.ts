// Breadth first over all moves from a beginning: every state once, so that the first way into a broken promise is a shortest.
import { goodEnd } from './good-end.ts';
import { type Move, movesFrom } from './moves.ts';
import type { Renaming } from './names.ts';
import { getsThere, type Promised } from './promises.ts';
import { normalise, Rests } from './rests.ts';
import { type Cast, Situation } from './situation.ts';
import { Table } from './table.ts';

export interface Scenario {
  name: string;
  /** What may go wrong, and how often. */
  budget: Readonly<Record<string, number>>;
  /** Where it begins, without a budget. */
  begin(cast: Cast): Situation;
  /** Whether a device has got where it should; checked once nothing goes wrong any more. */
  goal(situation: Situation): boolean;
  /** What a person does when everything waits for one; true where there was something to do. */
  help?(situation: Situation): boolean;
}

export interface Broken {
  sentence: string;
  /** Names of the moves that lead to it, from the beginning. */
  path: string[];
  /** Moves by their places among those of each state, and what a device does by itself after them. */
  moves: number[];
  /** How many moves of its own a device makes after the last, without getting anywhere. */
  after: number;
}

export interface Explored {
  scenario: string;
  states: number;
  transitions: number;
  seconds: number;
  /** Moves from the beginning to the deepest state. */
  depth: number;
  /** Whether no state is left that was not looked at. */
  exhausted: boolean;
  /** Bytes of the table of states. */
  memory: number;
  /** Steps of charts that were made; every other one was remembered. */
  steps: number;
  broken: Broken[];
}

export interface Limits {
  states?: number;
  seconds?: number;
  /** Broken promises after which it ends. */
  broken?: number;
  /** Whether each state is left alone, to see where it gets. Default true. */
  alone?: boolean;
}

const mostMoves = 255;

export function search(
  scenario: Scenario,
  cast: Cast,
  promises: readonly Promised[],
  limits: Limits = {},
): Explored {
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  const { states: mostStates = Infinity, seconds = Infinity, broken: mostBroken = 1, alone = true } = limits;
  const rests = new Rests();
  const table = new Table(cast.charts.length + 1 + Rests.width);
  const parents: number[] = [];
  const chosen: number[] = [];
  const depths: number[] = [];
  const broken: Broken[] = [];
  const ends = goodEnd(scenario, rests);
  let transitions = 0;
  let lost = false;

  const rowOf = (situation: Situation) => [
    ...situation.standings.map(({ number }) => number),
    situation.record.number,
    ...rests.row(situation.rest),
  ];
  const situationOf = (number: number) => {
    const row = table.row(number);
    const standings = cast.charts.map((chart, index) => chart.standing(row[index] as number));
    const record = cast.record.standing(row[cast.charts.length] as number);
    return new Situation(cast, standings, record, rests.rest(row.subarray(cast.charts.length + 1)));
  };
  const note = (sentence: string, from: number, move: number, after: number) => {
    const moves: number[] = move < 0 ? [] : [move];
    for (let at = from; at > 0; at = parents[at] as number) moves.unshift(chosen[at] as number);
    const { path } = retrace(scenario, cast, moves);
    if (broken.every((known) => known.sentence !== sentence)) broken.push({ sentence, path, moves, after });
  };
  const look = (situation: Situation, from: number, move: number) => {
    const { facts } = situation;
    for (const { sentence, kept } of promises) if (!kept(situation, facts)) note(sentence, from, move, 0);
  };

  const first = begin(scenario, cast);
  look(first, 0, -1);
  normalise(first);
  table.add(rowOf(first));
  parents.push(0);
  chosen.push(0);
  depths.push(0);
  let next = 0;
  for (; next < table.size && table.size < mostStates && elapsed() < seconds; next++) {
    if (broken.length >= mostBroken) break;
    const here = situationOf(next);
    // Once it is broken, every state near it breaks it as well.
    const after = lost || !alone ? 0 : ends(situationOf(next));
    if (after > 0) {
      lost = true;
      note(getsThere, next, -1, after);
    }
    const moves = movesFrom(here);
    if (moves.length > mostMoves) throw new RangeError(`${moves.length} moves from one state`);
    for (const [place, move] of moves.entries()) {
      const there = situationOf(next);
      move.make(there);
      transitions++;
      // What was on the way counts, even to a state that is known.
      look(there, next, place);
      normalise(there);
      const known = table.add(rowOf(there));
      if (known >= 0) continue;
      parents.push(next);
      chosen.push(place);
      depths.push((depths[next] as number) + 1);
    }
  }
  const steps = [...cast.charts, cast.record].reduce((sum, { made }) => sum + made, 0);
  return {
    scenario: scenario.name,
    states: table.size,
    transitions,
    seconds: elapsed(),
    depth: depths.at(-1) ?? 0,
    exhausted: next >= table.size,
    memory: table.memory,
    steps,
    broken,
  };
}

/** The first state, with what may go wrong from there. */
export function begin(scenario: Scenario, cast: Cast): Situation {
  const situation = scenario.begin(cast);
  situation.rest.left = { ...scenario.budget };
  return situation;
}

/** Makes the moves of a path again. `onMove` sees each with the situation after it, and how names changed before it. */
export function retrace(
  scenario: Scenario,
  cast: Cast,
  places: readonly number[],
  onMove?: (move: Move, situation: Situation, renaming: Renaming | null) => void,
): { path: string[]; situation: Situation } {
  let situation = begin(scenario, cast);
  const rests = new Rests();
  const path: string[] = [];
  for (const place of places) {
    // As the search has it: each state begins with what is remembered of it.
    const renaming = normalise(situation);
    const { standings, record, rest } = situation;
    situation = new Situation(cast, standings, record, rests.rest(rests.row(rest)));
    const move = movesFrom(situation)[place];
    if (!move) throw new RangeError(`there is no move ${place} from here`);
    move.make(situation);
    path.push(move.name);
    onMove?.(move, situation, renaming);
  }
  return { path, situation };
}
