// The components of a device, each with its chart, its ports and what it shows: made in one place, run in one process or in
// seven.
import { attestTask, attestTaskPublications } from '../machines/attest-task.ts';
import { baseOs, baseOsPublications } from '../machines/base-os.ts';
import { client, clientPublications } from '../machines/client.ts';
import { configTask, configTaskPublications } from '../machines/config-task.ts';
import { type Component, deviceSteps, deviceStepsPublications } from '../machines/device-steps.ts';
import { infoTask, infoTaskPublications } from '../machines/info-task.ts';
import { tpmManager, tpmManagerPublications } from '../machines/tpm-manager.ts';
import { vaultManager, vaultManagerPublications } from '../machines/vault-manager.ts';
import { type ComponentEvent, type PortsOf, type RunningComponent, startComponent } from './component.ts';
import type { Node } from './node.ts';
import { attestTaskPorts, certifiedName } from './ports/attest-task.ts';
import { baseOsPorts } from './ports/base-os.ts';
import { clientPorts } from './ports/client.ts';
import { configTaskPorts } from './ports/config-task.ts';
import { infoTaskPorts } from './ports/info-task.ts';
import { tpmManagerPorts } from './ports/tpm-manager.ts';
import { vaultManagerPorts } from './ports/vault-manager.ts';
import type { DeviceRecorder } from './recorder.ts';
import { eventOf } from './wiring.ts';

export type ComponentName = Component | 'device-steps';

type Watch = (event: ComponentEvent) => void;

/** Starts device-steps; its ports start the others and reboot the machine. */
export function startDeviceSteps(
  node: Node,
  ports: PortsOf<typeof deviceSteps>,
  watch?: Watch,
  recorder?: DeviceRecorder,
): RunningComponent {
  return startComponent({
    ...sharedOf(node, watch, recorder),
    name: 'device-steps',
    chart: deviceSteps,
    ports,
    publications: deviceStepsPublications,
  });
}

/** Starts any other component of the device. */
export function startDeviceComponent(
  name: Component,
  node: Node,
  watch?: Watch,
  recorder?: DeviceRecorder,
): RunningComponent {
  const shared = { ...sharedOf(node, watch, recorder), name };
  switch (name) {
    case 'client':
      return startComponent({
        ...shared,
        chart: client,
        ports: clientPorts(node),
        publications: clientPublications,
      });
    case 'vault-manager':
      return startComponent({
        ...shared,
        chart: vaultManager,
        ports: vaultManagerPorts(node),
        publications: vaultManagerPublications,
      });
    case 'tpm-manager':
      return startComponent({
        ...shared,
        chart: tpmManager,
        ports: tpmManagerPorts(node),
        publications: tpmManagerPublications,
      });
    case 'attest-task':
      return startComponent({
        ...shared,
        chart: attestTask,
        ports: attestTaskPorts(node),
        input: { certified: certifiedName(node) },
        publications: attestTaskPublications,
      });
    case 'info-task':
      return startComponent({
        ...shared,
        chart: infoTask,
        ports: infoTaskPorts(node),
        publications: infoTaskPublications,
      });
    case 'config-task':
      return startComponent({
        ...shared,
        chart: configTask,
        ports: configTaskPorts(node),
        publications: configTaskPublications,
      });
    case 'base-os':
      return startComponent({
        ...shared,
        chart: baseOs,
        ports: baseOsPorts(node),
        publications: baseOsPublications,
      });
  }
}

/** Hands a publication to a component, where it is an event for it. */
export function deliver(component: RunningComponent, topic: string, body: unknown): void {
  const event = eventOf(component.name as ComponentName, topic, body);
  if (event) component.send(event);
}

/** What was published before this component was there is part of what it knows. */
export function catchUp(component: RunningComponent, { bus }: Pick<Node, 'bus'>): void {
  for (const topic of bus.topics()) deliver(component, topic, bus.latest(topic));
}

function sharedOf({ bus, clock }: Node, watch: Watch | undefined, recorder: DeviceRecorder | undefined) {
  return { bus, clock, recorder, ...(watch ? { watch } : {}) };
}
