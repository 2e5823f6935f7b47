// The two slots of the base OS as the base OS manager works with them: where images go, and what boots next.
import type { Slots } from '../../machines/base-os.ts';
import type { BaseOsConfig } from '../../machines/flow.ts';
import type { Why } from '../../machines/waiting.ts';

type Answer<Value> = Value | Promise<Value>;

/** Each call throws Refusal. */
export interface OsSlots {
  read(): Slots;
  /** Writes a checked image file into the slot that does not run. */
  write(file: string, wanted: BaseOsConfig): Answer<void>;
  /** The other slot is tried at the next boot, once. */
  stage(wanted: BaseOsConfig): Answer<Slots>;
  /** The image's own idea of whether it works. */
  selfTest(): Answer<void>;
  commit(): Answer<Slots>;
  abandon(why: Why): Answer<Slots>;
}
