// What happened in a world, in words that are the same for the same seed: no keys, no ids, and times since the beginning.
import type { World } from '../kit/world.ts';

export function traceOf(world: World): string[] {
  const lines: { at: number; text: string }[] = [];
  for (const device of world.devices) {
    for (const event of device.events) {
      const { at } = event;
      if (event.kind === 'state')
        lines.push({ at, text: `${event.component} ${JSON.stringify(event.state)}` });
      if (event.kind === 'port')
        lines.push({ at, text: `${event.component} ${event.port} ${event.phase} ${event.code ?? ''}` });
      if (event.kind === 'power') lines.push({ at, text: `power ${event.on} ${event.reason}` });
    }
  }
  for (const { at, event, after, ignored } of world.steps)
    lines.push({ at, text: `record ${event.type} ${ignored} ${JSON.stringify(after)}` });
  const began = world.devices[0]?.events[0]?.at ?? 0;
  return lines.map(({ at, text }) => `${at - began} ${text}`);
}
