// Would the keys in escrow come back? Each device's newest key is looked for, and read as far as EVC can: only the device's TPM can
// open it.
import { createPublicKey } from 'node:crypto';
import { decodeBox } from '../formats/wire/box.ts';
import type { RecordRunner } from './record/runner.ts';
import type { DeviceRow, Store } from './store/store.ts';

export interface EscrowCheck {
  device: string;
  serial: string;
  /** 0: none. */
  version: number;
  /** When it was stored, ms since the epoch; 0: never. */
  at: number;
  /** Versions that are kept besides. */
  former: number;
  /**
   * `none`, the device never gave a key; `missing`, its record lists one that the store has not; `unreadable`, what the store has
   * is no sealed box.
   */
  state: 'good' | 'none' | 'missing' | 'unreadable';
}

export async function checkEscrow(
  store: Store,
  runner: RecordRunner,
  rows: readonly Pick<DeviceRow, 'device' | 'serial'>[],
): Promise<EscrowCheck[]> {
  const checks: EscrowCheck[] = [];
  for (const { device, serial } of rows) {
    const [newest, ...former] = (await runner.read(device))?.context.escrow ?? [];
    const { version = 0, at = 0 } = newest ?? {};
    const row = version === 0 ? null : await store.escrowed(device, version);
    const state = version === 0 ? 'none' : row === null ? 'missing' : isBox(row.box) ? 'good' : 'unreadable';
    checks.push({ device, serial, version, at, former: former.length, state });
  }
  return checks;
}

export function isBox(bytes: Uint8Array): boolean {
  try {
    const { ephemeral } = decodeBox(bytes);
    const coordinate = (from: number) =>
      Buffer.from(ephemeral.subarray(from, from + 32)).toString('base64url');
    // Throws for what is no point of the curve.
    createPublicKey({
      key: { kty: 'EC', crv: 'P-256', x: coordinate(1), y: coordinate(33) },
      format: 'jwk',
    });
    return true;
  } catch {
    return false;
  }
}
