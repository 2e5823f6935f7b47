// What is below the components of a device: firmware, boot loader, slots, TPM. An emulated one is in `board-emulated.ts`, the
// machine itself in `board-real.ts`; to EVC both are boards.
import type { Bus } from '../broker/bus.ts';
import type { LogPart } from '../machines/flow.ts';
import type { Why } from '../machines/waiting.ts';
import type { OsSlots } from './baseos/os-slots.ts';
import type { Boot } from './node.ts';
import type { PoweredTpm } from './tpm/powered.ts';
import type { Tpm } from './tpm/tpm.ts';

export const boardKinds = ['real', 'emulated'] as const;
export type BoardKind = (typeof boardKinds)[number];

export interface Board {
  readonly kind: BoardKind;
  readonly slots: OsSlots;
  /** The TPM whose power is the board's as well; null where the machine has it. */
  readonly chip: PoweredTpm | null;
  /** Lets the board boot, or finds out how the machine did. */
  boot(): Promise<Boot>;
  /** The TPM that measured this boot; one for each process. */
  openTpm(): Promise<Tpm>;
  /** Ends what `boot` began. An orderly end tells the TPM first. */
  powerOff(orderly: boolean): Promise<void>;
  /**
   * Has the machine reboot. Resolves with whether this process takes the power away and boots anew; a machine does both by
   * itself, and ends this process. Throws Refusal platform.*; board.reboot when the machine is still up minutes later.
   */
  reboot(reason: string, signal?: AbortSignal): Promise<boolean>;
  close(): Promise<void>;
}

/** A log of this boot that should be there and is not, as a reason. */
export interface MissingLog {
  kind: LogPart['kind'];
  why: Why;
}

/** Shows how the machine booted: on the bus, in `eve status`, and to EVC. */
export function publishBoot(bus: Bus, boot: Boot): void {
  const { id, board, versions, slot, logs, missing } = boot;
  bus.publish('board/BootStatus', {
    id,
    board,
    image: versions.image,
    firmware: versions.firmware,
    slot,
    logs: [
      ...logs.map(({ kind, sha256, bytes }) => ({ kind, sha256, size: bytes.length })),
      ...missing.map(({ kind, why }) => ({ kind, why })),
    ],
  });
}
