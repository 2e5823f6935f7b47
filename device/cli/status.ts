// `eve status`: what the components of a running device show each other.
import { Bus } from '../../broker/bus.ts';
import type { Finding } from '../../machines/flow.ts';
import type { Why } from '../../machines/waiting.ts';
import { type FolderOptions, foldersOf, socketsOf } from '../options.ts';
import { Failure } from './failure.ts';
import { hasBus } from './run.ts';

const lines: [topic: string, title: string, text: (body: Record<string, unknown>) => string][] = [
  ['device-steps/DeviceStatus', 'device', ({ state }) => `${state}`],
  [
    'board/BootStatus',
    'board',
    ({ board, image, slot, firmware }) =>
      `${board}, ${image || 'no version'} in ${slot}, firmware ${firmware || 'unnamed'}`,
  ],
  ['client/OnboardingStatus', 'client', ({ state, uuid }) => `${state}${uuid ? `, UUID ${uuid}` : ''}`],
  [
    'vault-manager/VaultStatus',
    'vault',
    ({ status, unlockedBy, backend, mismatchingPcrs }) =>
      status === 'unlocked'
        ? `unlocked by ${unlockedBy}, kept by ${backend}`
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
      const { waiting, error, logs } = body as {
        waiting?: { for: string } | null;
        error?: Why | null;
        logs?: { why?: Why }[];
      };
      const more = [
        ...(Array.isArray(logs) ? logs.flatMap(({ why }) => (why ? [plain(why.text)] : [])) : []),
        ...(waiting ? [`waits for ${waiting.for}`] : []),
        ...(error ? [error.text, ...findingLines(error)] : []),
      ];
      return [
        `${title.padEnd(12)} ${plain(text(body))}`,
        ...more.map((line) => `${' '.repeat(13)}${line}`),
      ].join('\n');
    })
    .join('\n');
}

const mostFindings = 8;

/** What EVC found, where it found anything: in which PCR, at which event, and what to do about the first of it. */
function findingLines({ details, code, text }: Why): string[] {
  const found = (details?.findings ?? []) as Finding[];
  // A quote that never came to be judged has one finding, which is the reason itself.
  const changes = found.filter((finding) => finding.code !== code || finding.text !== text);
  const lines = changes.slice(0, mostFindings).map(({ pcr, event, text }) => {
    const place = [pcr === undefined ? '' : `PCR ${pcr}`, event === undefined ? '' : `event ${event}`];
    return `  ${[...place.filter(Boolean), ''].join(', ').replace(/, $/, ': ')}${plain(text)}`;
  });
  const left = changes.length - lines.length;
  const { remedy } = found[0] ?? {};
  return [
    ...lines,
    ...(left > 0 ? [`  … and ${left} more (--json shows all)`] : []),
    ...(remedy ? [`remedy: ${plain(remedy)}`] : []),
  ];
}

/** A log of this device has its say in these words, and may not draw on a terminal. */
function plain(text: string): string {
  const line = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ');
  return line.length > longest ? `${line.slice(0, longest - 1)}…` : line;
}

const longest = 120;
