// What an exploration has to say for itself.
import type { Explored } from './search.ts';

/** One line for a person. */
export function lineOf({
  scenario,
  states,
  transitions,
  seconds,
  depth,
  exhausted,
  memory,
}: Explored): string {
  const bound = exhausted
    ? `all of it, ${depth} moves deep`
    : `every order of ${Math.max(0, depth - 1)} moves`;
  const rate = Math.round(states / seconds);
  return `${scenario.padEnd(16)} ${states} states (${rate}/s), ${transitions} transitions, ${bound}, table of ${(memory / 2 ** 20).toFixed(0)} MiB`;
}
