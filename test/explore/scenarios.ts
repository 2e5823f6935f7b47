// What is explored: who takes part, where it begins, and what may go wrong.
import type { AnyStateMachine } from 'xstate';
import { attestTask, attestTaskPublications } from '../../machines/attest-task.ts';
import { baseOs, baseOsPublications } from '../../machines/base-os.ts';
import { client, clientPublications } from '../../machines/client.ts';
import { configTask, configTaskPublications } from '../../machines/config-task.ts';
import { deviceRecord } from '../../machines/device-record.ts';
import { infoTask, infoTaskPublications } from '../../machines/info-task.ts';
import { tpmManager, tpmManagerPublications } from '../../machines/tpm-manager.ts';
import { vaultManager, vaultManagerPublications } from '../../machines/vault-manager.ts';
import { Chart } from './chart.ts';
import { firstImage, newDevice } from './device.ts';
import { essences } from './essence.ts';
import { GoodRun } from './good-end.ts';
import { accept, any } from './moves.ts';
import { stands } from './promises.ts';
import type { Scenario } from './search.ts';
import { type Cast, Situation } from './situation.ts';

/** Charts that take the place of those of today, by id. */
export type Instead = Readonly<Record<string, AnyStateMachine>>;

/** The charts, fresh: what one exploration remembers of them is no use to another. */
export function newCast(instead: Instead = {}): Cast {
  const of = (machine: AnyStateMachine) => instead[machine.id] ?? machine;
  const chart = (
    name: keyof typeof essences,
    machine: AnyStateMachine,
    publications?: (snapshot: never) => object,
  ) =>
    new Chart(name, of(machine), {
      essence: essences[name],
      ...(publications ? { publications: publications as never } : {}),
    });
  return {
    charts: [
      chart('client', client, clientPublications),
      chart('vault-manager', vaultManager, vaultManagerPublications),
      chart('tpm-manager', tpmManager, tpmManagerPublications),
      chart('attest-task', attestTask, attestTaskPublications),
      chart('info-task', infoTask, infoTaskPublications),
      chart('config-task', configTask, configTaskPublications),
      chart('base-os', baseOs, baseOsPublications),
    ],
    record: chart('device-record', deviceRecord as AnyStateMachine),
  };
}

/** A device out of the box, before its first power on, and an EVC that never heard of it. */
function fromTheFactory(cast: Cast): Situation {
  const rest = { device: newDevice(), evc: { judging: [], timers: {} }, net: [], left: {}, broken: null };
  const situation = new Situation(
    cast,
    cast.charts.map((chart) => chart.begin()),
    cast.record.begin(),
    rest,
  );
  situation.powerOn('first');
  return situation;
}

/** The same device after its first boot went well. */
function inTheField(cast: Cast): Situation {
  const scenario = { name: 'onboarding', budget: {}, begin: fromTheFactory, goal: attested };
  const run = new GoodRun(scenario, fromTheFactory(cast));
  for (let moves = 0; !attested(run.situation); moves++) {
    if (moves > 1000 || run.move() === null)
      throw new Error('a device in the exploration cannot be onboarded');
  }
  const { standings, record, rest } = run.situation;
  return new Situation(cast, standings, record, rest);
}

/** Trusted, with its configuration, an open vault, its key with EVC, and no upgrade half done. */
function attested(situation: Situation): boolean {
  const { escrow } = situation.recordContext;
  return (
    stands(situation.of('client'), 'provisioned') &&
    stands(situation.of('attest-task'), 'complete') &&
    stands(situation.of('config-task'), 'idle') &&
    situation.rest.device.applied === 'full' &&
    stands(situation.of('info-task'), 'idle') &&
    stands(situation.of('vault-manager'), 'unlocked.idle') &&
    stands(situation.of('base-os'), 'idle') &&
    stands(situation.record, 'integrity.trusted') &&
    !stands(situation.record, 'software.upgrading', 'software.testing') &&
    escrow[0]?.keyId === situation.rest.device.vault.open
  );
}

/** Somebody accepts what EVC does not know: nothing else gets a device out of that. */
function acceptRefused(situation: Situation): boolean {
  const { verdict, acceptance } = situation.recordContext;
  if (
    !stands(situation.record, 'integrity.uud') ||
    !verdict?.genuine ||
    acceptance?.pcrs['0'] === verdict.pcrs['0']
  )
    return false;
  accept(situation);
  return true;
}

const ends = { goal: attested, help: acceptRefused };

/** Nobody helps: the device has to come back by itself. */
function fellBack(situation: Situation): boolean {
  return attested(situation) && situation.rest.device.software === firstImage;
}

const network = ['loss', 'repeat', 'late', 'cut'];

/** Kinds of faults, and how many there are in all; what persons do. */
function budget(faults: number, kinds: readonly string[], persons: Record<string, number> = {}) {
  return { faults, ...Object.fromEntries(kinds.map((kind) => [kind, any])), ...persons };
}

export const scenarios: readonly Scenario[] = [
  {
    name: 'first boot',
    begin: fromTheFactory,
    ...ends,
    budget: budget(1, [...network, 'power', 'device', 'restart']),
  },
  { name: 'network', begin: inTheField, ...ends, budget: budget(2, network, { ask: 1 }) },
  { name: 'power', begin: inTheField, ...ends, budget: budget(2, ['power', 'restart', 'device']) },
  {
    name: 'unknown software',
    begin: inTheField,
    ...ends,
    budget: budget(1, [...network, 'power'], { tamper: 1, accept: 1 }),
  },
  {
    name: 'upgrade',
    begin: inTheField,
    ...ends,
    budget: budget(1, [...network, 'power', 'device'], { upgrade: 1 }),
  },
  {
    name: 'unknown image',
    begin: inTheField,
    goal: fellBack,
    budget: budget(1, ['loss', 'power'], { 'bad upgrade': 1 }),
  },
  { name: 'rotation', begin: inTheField, ...ends, budget: budget(2, [...network, 'power'], { rotate: 1 }) },
  {
    name: 'EVC',
    begin: inTheField,
    ...ends,
    budget: budget(1, ['evc', 'race', ...network], { settings: 1, rotate: 1 }),
  },
];
