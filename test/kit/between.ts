// What a test can put between the parts of a world: what each takes for the time, what carries its messages, what holds its disk.
import type { Clock } from '../../machines/clock.ts';
import { SimulatedClock } from './clock.ts';

export class Between {
  /** Of the world itself. */
  readonly clock: SimulatedClock = new SimulatedClock();

  /** What devices take for the time. */
  get deviceClock(): Clock {
    return this.clock;
  }

  /** What EVC takes for the time. */
  get evcClock(): Clock {
    return this.clock;
  }

  /** A message that the broker has of a device; `deliver` hands it to EVC. */
  up(_topic: string, payload: Uint8Array, deliver: (payload: Uint8Array) => void): void {
    deliver(payload);
  }

  /** A message of EVC; `deliver` hands it to the broker. */
  down(_topic: string, payload: Uint8Array, deliver: (payload: Uint8Array) => Promise<void>): Promise<void> {
    return deliver(payload);
  }
}
