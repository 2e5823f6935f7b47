// `eve status`: what the components of a running device show each other.
import { Bus } from '../../broker/bus.ts';
import { type FolderOptions, foldersOf, socketsOf } from '../options.ts';
import { Failure } from './failure.ts';
import { hasBus } from './run.ts';

const lines: [topic: string, title: string, text: (body: Record<string, unknown>) => string][] = [
  ['device-steps/DeviceStatus', 'device', ({ state }) => `${state}`],
  ['client/OnboardingStatus', 'client', ({ state, uuid }) => `${state}${uuid ? `, UUID ${uuid}` : ''}`],
  [
    'vault-manager/VaultStatus',
    'vault',
    ({ status, unlockedBy, mismatchingPcrs }) =>
      status === 'unlocked'
        ? `unlocked by ${unlockedBy}`
        : `${status}${Array.isArray(mismatchingPcrs) && mismatchingPcrs.length > 0 ? `, PCRs that differ: ${mismatchingPcrs.join(', ')}` : ''}`,
  ],
  ['tpm-manager/TpmStatus', 'TPM', ({ state }) => `${state}`],
  ['attest-task/AttestStatus', 'attestation', ({ state }) => `${state}`],
  [
    'config-task/ConfigStatus',
    'config',
    ({ state, version, source }) => `${state}, version ${version} from ${source}`,
  ],
  [
    'base-os/BaseOsStatus',
    'base OS',
    ({ state, slots }) => {
      const { current } = (slots ?? {}) as { current?: { label: string; version: string } };
      return `${state}${current ? `, ${current.version} in ${current.label}` : ''}`;
    },
  ],
];

/** Everything that is published, by topic. Throws Failure when no device runs there. */
export async function readStatus(options: FolderOptions): Promise<Record<string, unknown>> {
  const folders = foldersOf(options);
  const { bus: path } = socketsOf(folders);
  const none = `no device runs in ${folders.run}`;
  const hint = 'start one with: eve run (with the same folders)';
  if (!hasBus(folders)) throw new Failure(none, hint);
  const bus = await Bus.openSocket(path).catch((cause) => {
    throw new Failure(none, hint, 1, { cause });
  });
  try {
    // Retained messages come right after the subscription: the last component's state is the last of them.
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer);
        stop();
        resolve();
      };
      const timer = setTimeout(done, 500);
      const stop = bus.listen(() => timer.refresh());
    });
    return Object.fromEntries(bus.topics().map((topic) => [topic, bus.latest(topic)]));
  } finally {
    await bus.close();
  }
}

export function statusText(status: Record<string, unknown>): string {
  return lines
    .map(([topic, title, text]) => {
      const body = status[topic] as Record<string, unknown> | undefined;
      if (!body) return `${title.padEnd(12)} not started`;
      const { waiting, error } = body as {
        waiting?: { for: string } | null;
        error?: { text: string } | null;
      };
      const more = waiting ? `\n${' '.repeat(13)}waits for ${waiting.for}` : '';
      const why = error ? `\n${' '.repeat(13)}${error.text}` : '';
      return `${title.padEnd(12)} ${text(body)}${more}${why}`;
    })
    .join('\n');
}
