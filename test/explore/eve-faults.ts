// EVE's own faults, put back into the charts: what the exploration has to find. Each is a change of the definition of a chart,
// so that it is today's chart in everything else. F1 to F8 are those that the attest task of EVE had, in the order in which
// machines/attest-task.ts names them; the last is that of its update window.
import { type AnyStateMachine, createMachine } from 'xstate';
import { attestTask } from '../../machines/attest-task.ts';
import { baseOs } from '../../machines/base-os.ts';
import { getsThere } from './promises.ts';
import type { Instead } from './scenarios.ts';

// biome-ignore lint/suspicious/noExplicitAny: a definition is changed here as the plain object that it is
type Definition = Record<string, any>;

export interface EveFault {
  name: string;
  /** What EVE does. */
  text: string;
  /** Where it shows, by the name of a scenario; and the promise that it breaks. */
  scenario: string;
  breaks: string;
  charts: Instead;
}

function altered(chart: AnyStateMachine, change: (definition: Definition) => void): Instead {
  const definition = copied(chart.config) as Definition;
  change(definition);
  return { [chart.id]: createMachine(definition as never, chart.implementations as never) };
}

/** What is a function stays the same one. */
function copied(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copied);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, copied(inner)]));
}

export const eveFaults: readonly EveFault[] = [
  {
    name: 'F1',
    text: 'a restart is noted, and begun nowhere but after the key was stored',
    scenario: 'network',
    breaks: 'a restart that waits is begun as soon as nothing is in flight',
    charts: altered(attestTask, ({ states }) => {
      for (const state of [states.attestWait.states.backingOff, states.internalEscrowWait, states.complete])
        delete state.always;
      for (const state of [states.attestWait.states.backingOff, states.internalEscrowWait])
        state.on.restart = { actions: 'pendRestart' };
    }),
  },
  {
    name: 'F2',
    text: 'the wait for the quote and the wait for the key have no end',
    scenario: 'network',
    breaks: 'a device never waits for ever',
    charts: altered(attestTask, ({ states }) => {
      delete states.internalQuoteWait.states.quoting.invoke;
      delete states.internalEscrowWait.invoke;
    }),
  },
  {
    name: 'F3',
    text: 'a quote that EVC calls invalid is sent again, and again',
    scenario: 'unknown software',
    breaks: getsThere,
    charts: altered(attestTask, ({ states }) => {
      const [, , refused] = states.attestWait.states.sending.invoke.onDone;
      refused.target = 'backingOff';
      refused.actions = ['backOff'];
    }),
  },
  {
    name: 'F4',
    text: 'an event that is not expected ends the agent',
    scenario: 'power',
    breaks: 'no event breaks a chart',
    charts: altered(attestTask, ({ on, states }) => {
      on['*'] = { target: '.crashed' };
      states.crashed = { description: 'log.Fatalf', type: 'final' };
    }),
  },
  {
    name: 'F5',
    text: 'a restart that comes while something is in flight is dropped',
    scenario: 'network',
    breaks: 'a restart that is asked for counts, whenever it comes',
    charts: altered(attestTask, ({ on }) => {
      on.restart = { actions: 'ignored' };
    }),
  },
  {
    name: 'F6',
    text: 'a key that changes after everything is done is not stored with the controller',
    scenario: 'rotation',
    breaks: 'a device that is complete has its key with EVC',
    charts: altered(attestTask, ({ states }) => {
      states.complete.on['key.published'] = { actions: 'takeKey' };
    }),
  },
  {
    name: 'F7',
    text: 'nothing is attested again until the next boot',
    scenario: 'network',
    breaks: 'a device that is complete attests again by itself, before trust ends',
    charts: altered(attestTask, ({ states }) => {
      delete states.complete.invoke;
      states.complete.entry = ['proceed'];
    }),
  },
  {
    name: 'F8',
    text: 'the quote that came last is believed, whatever nonce it bears',
    scenario: 'network',
    breaks: 'a quote is believed for the nonce that it bears, and for no other',
    charts: altered(attestTask, ({ states }) => {
      delete states.internalQuoteWait.states.quoting.on['quote.made'][1].guard;
    }),
  },
  {
    name: 'the update window',
    text: 'a controller that answers 403 counts as reached, so the test window begins again and the trial has no end',
    scenario: 'unknown image',
    breaks: getsThere,
    charts: altered(baseOs, ({ states }) => {
      const { unapproved } = states.testing.states;
      unapproved.invoke = { ...unapproved.invoke };
      for (const end of ['onDone', 'onError'])
        unapproved.invoke[end] = { target: 'unapproved', reenter: true };
    }),
  },
];
