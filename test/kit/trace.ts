// What a run did, in an order that a test can assert.
import type { World, WorldDevice } from './world.ts';

/** Ports of a device in the order in which they began: `client fetchCertificates`. */
export function portsOf(device: WorldDevice, from = 0): string[] {
  return device.events
    .slice(from)
    .flatMap((event) =>
      event.kind === 'port' && event.phase === 'begins' ? [`${event.component} ${event.port}`] : [],
    );
}

/** Events that the record of a device took, in order. */
export function recordEvents(world: World, device: WorldDevice, from = 0): string[] {
  return world.steps.slice(from).flatMap((step) => (step.device === device.id ? [step.event.type] : []));
}

/** Whether the wanted entries appear in this order, others between them or not. Returns the first that does not. */
export function missingInOrder(found: readonly string[], wanted: readonly string[]): string | null {
  let at = 0;
  for (const entry of wanted) {
    const next = found.indexOf(entry, at);
    if (next < 0)
      return `${entry} (after: ${found.slice(Math.max(0, at - 3), at).join(', ') || 'the start'})`;
    at = next + 1;
  }
  return null;
}
