// `evc attempt`: the recordings of the last attempts that EVC keeps of each device.
import type { AttemptRow } from '../store/store.ts';
import type { ApiClient } from './client.ts';
import { openOutput } from './output-file.ts';
import { ageOf, table } from './print.ts';

const path = (words: string, attempt = '') =>
  `/api/v1/devices/${encodeURIComponent(words)}/attempts${attempt === '' ? '' : `/${encodeURIComponent(attempt)}`}`;

export function listAttempts(api: ApiClient, words: string): Promise<{ attempts: AttemptRow[] }> {
  return api.get(path(words));
}

/** Writes one as a recording. `attempt` is its number, the beginning of the id of its evidence, or `last`. */
export async function fetchAttempt(
  api: ApiClient,
  words: string,
  attempt: string,
  output?: string,
): Promise<void> {
  const stream = await api.stream(path(words, attempt));
  const out = await openOutput(output);
  try {
    for await (const piece of stream as AsyncIterable<string>) await out.write(piece);
  } finally {
    await out.close();
  }
}

export function attemptsText(attempts: readonly AttemptRow[], now: number): string {
  if (attempts.length === 0) return 'no attempt of this device is kept yet';
  const rows = attempts.map(({ attempt, begun, ended, steps, dropped, evidence, outcome }) => [
    `${attempt}`,
    `${ageOf(now - begun)} ago`,
    ageOf(ended - begun),
    `${steps}`,
    evidence === '' ? '' : evidence.slice(0, 8),
    `${outcome === '' ? 'no verdict' : outcome}${dropped > 0 ? `; ${dropped} lines left out` : ''}`,
  ]);
  return table(['ATTEMPT', 'BEGUN', 'LASTED', 'STEPS', 'EVIDENCE', 'OUTCOME'], rows);
}
