// How a world stands, for a test that waited in vain.
import type { World } from './world.ts';

export function describeWorld(world: World): string {
  const lines = world.devices.flatMap((device, index) => {
    const names = [
      'device-steps',
      'client',
      'vault-manager',
      'tpm-manager',
      'attest-task',
      'info-task',
      'config-task',
      'base-os',
    ] as const;
    return names.map((name) => {
      const component = device.node.component(name);
      const context = component?.context() as { error?: unknown; waiting?: unknown } | undefined;
      return `device ${index + 1} ${name}: ${JSON.stringify(component?.value())} ${JSON.stringify(context?.error)} ${JSON.stringify(context?.waiting)}`;
    });
  });
  const last = world.steps
    .slice(-12)
    .map((step) => `record ${step.event.type} → ${JSON.stringify(step.after)}`);
  const upgraded = world.steps.at(-1)?.snapshot.context.upgraded;
  const why = upgraded?.why ? [`rolled back: ${JSON.stringify(upgraded.why)}`] : [];
  return [...lines, ...last, ...why, `refused: ${world.refused.slice(-10).join(' · ')}`].join('\n');
}
