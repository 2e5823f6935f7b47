// What goes wrong in a run, when, and for how long: all of it follows from a number.
import { Dice } from './dice.ts';

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;
const day = 24 * hour;

export const sequenceNames = [
  'S1 onboarding',
  'S2 restart',
  'S2.7 rotation',
  'S2b offline',
  'S3 unknown software',
  'S4 upgrade',
  'S5 moved',
] as const;

/** What can go wrong, as it is said of `share` (of messages, commands) and `ms` (a latency, a jump). */
const kinds = {
  drop: ({ share }) => `${percent(share)} of the messages are lost`,
  delay: ({ ms, share }) => `${percent(share)} of the messages come ${span(ms)} late`,
  repeat: ({ ms, share }) => `${percent(share)} of the messages come again after ${span(ms)}`,
  reorder: ({ ms, share }) =>
    `${percent(share)} of the messages are overtaken by those of the next ${span(ms)}`,
  corrupt: ({ share }) => `${percent(share)} of the messages have a changed byte`,
  'slow link': ({ ms }) => `each message takes ${span(ms)}`,
  cut: () => 'the link is cut',
  'device clock': ({ ms }) =>
    `the clock of the device is ${span(Math.abs(ms))} ${ms < 0 ? 'behind' : 'ahead'}`,
  'EVC clock': ({ ms }) => `the clock of EVC is ${span(Math.abs(ms))} ${ms < 0 ? 'behind' : 'ahead'}`,
  'device disk full': () => 'the disk of the device is full',
  'device disk slow': ({ ms }) => `the disk of the device takes ${span(ms)} to synchronise`,
  'device killed': () => 'the power of the device is cut',
  'TPM reset': () => 'the TPM of the device loses its power in the middle of a command',
  'TPM silent': ({ share }) => `${percent(share)} of the commands of the TPM get no response`,
  'store full': () => 'EVC’s store is full',
  'store slow': ({ ms }) => `EVC’s store takes ${span(ms)}`,
  'store gone': () => 'EVC’s store is out of reach',
  'EVC killed': () => 'EVC is killed',
  'broker restarted': () => 'the broker is gone',
  'certificate expired': () => 'EVC’s certificates have expired, by the clock of the device',
} satisfies Record<string, (fault: Fault) => string>;

export type FaultKind = keyof typeof kinds;
export const faultKinds = Object.keys(kinds) as FaultKind[];

export interface Fault {
  kind: FaultKind;
  /** Begins with this message between device and EVC, counted from 1, or so many ms after the sequence began. */
  begins: { message: number } | { ms: number };
  /** ms */
  lasts: number;
  share: number;
  ms: number;
}

export interface Plan {
  seed: number;
  sequence: (typeof sequenceNames)[number];
  faults: Fault[];
}

/** Past the end of EVC's certificates. */
const longAhead = 6 * 365 * day;
const mostFaults = 4;

export function drawPlan(seed: number): Plan {
  const dice = new Dice(seed);
  const sequence = dice.of(sequenceNames);
  const count = dice.between(1, mostFaults);
  return { seed, sequence, faults: Array.from({ length: count }, () => drawFault(dice)) };
}

function drawFault(dice: Dice): Fault {
  const kind = dice.of(faultKinds);
  const begins =
    dice.throw() < 0.7 ? { message: dice.between(1, 40) } : { ms: dice.scaled(second, 20 * minute) };
  const lasts = dice.scaled(second, 15 * minute);
  const share = dice.between(1, 10) / 10;
  return { kind, begins, lasts, share, ms: amount(kind, dice) };
}

function amount(kind: FaultKind, dice: Dice): number {
  switch (kind) {
    case 'device clock':
    case 'EVC clock':
      return dice.of([-1, 1]) * dice.scaled(10 * second, 400 * day);
    case 'certificate expired':
      return longAhead;
    case 'slow link':
      return dice.scaled(100, 15 * second);
    case 'store slow':
      return dice.scaled(10, 5 * second);
    case 'device disk slow':
      return dice.scaled(10, 2 * second);
    default:
      return dice.scaled(100, minute);
  }
}

/** A fault in words. */
export function inWords(fault: Fault): string {
  const { begins } = fault;
  const when = 'message' in begins ? `from message ${begins.message}` : `after ${span(begins.ms)}`;
  return `${when}, for ${span(fault.lasts)}: ${kinds[fault.kind](fault)}`;
}

export function planInWords({ seed, sequence, faults }: Plan): string[] {
  return [`seed ${seed}: ${sequence}`, ...faults.map((fault) => `  ${inWords(fault)}`)];
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

/** A time with the unit that fits. */
function span(ms: number): string {
  const units: [number, string][] = [
    [day, 'days'],
    [hour, 'hours'],
    [minute, 'min'],
    [second, 's'],
  ];
  const [unit, name] = units.find(([unit]) => ms >= 2 * unit) ?? [1, 'ms'];
  return `${Number((ms / unit).toFixed(1))} ${name}`;
}
