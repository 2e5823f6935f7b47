// A refusal must be the right one: its class, and whatever the test asks of it.
import * as assert from 'uvu/assert';
import { reasonOf } from '../../device/refusal.ts';

export async function rejects<E extends Error>(
  promise: Promise<unknown>,
  kind: new (...args: never[]) => E,
  check: (error: E) => unknown = () => true,
): Promise<void> {
  try {
    await promise;
  } catch (error) {
    assert.instance(error, kind, `refused, but with ${error}`);
    assert.ok(check(error as E), `refused with another ${kind.name}: ${error}`);
    return;
  }
  assert.unreachable(`should have been refused with ${kind.name}`);
}

/** The code of the reason for which a device refuses it; `none` when it does not. */
export function refusal(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return reasonOf(error).code;
  }
  return 'none';
}
