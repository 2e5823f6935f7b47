// Where the page has its data from: EVC's API, a device that shows itself, or nobody, when it was opened as a file.
// Everything is read; nothing here changes anything anywhere.
import type { Finding } from '../machines/flow.ts';
import type { Source } from './model.ts';

/** What serves the page: `evc` wants the administrator's token, `eve` shows one device to this machine. */
export type Server = { by: 'evc' | 'eve'; name: string } | { by: 'nobody' };

export interface DeviceRow {
  device: string;
  serial: string;
  uuid: string;
  account: string;
  trust: string;
  /** ms since the epoch. */
  seen: number;
}

export interface DeviceDetails extends DeviceRow {
  online: boolean;
  verdict: { accepted: boolean; grounds: string | null; findings: Finding[] } | null;
  baseline: { versions: { image: string; firmware: string } } | null;
  upgrade: { from: string; to: string } | null;
  states: Record<string, string>;
}

export interface AttemptRow {
  attempt: number;
  begun: number;
  ended: number;
  steps: number;
  dropped: number;
  /** Id of the evidence that was judged; empty before. */
  evidence: string;
  outcome: string;
}

/** An answer that is none: with what, where and what to do, for a person. */
export class SourceError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.name = 'SourceError';
    this.status = status;
  }
}

const tokenKey = 'evc-token';
/** In place of a device: the charts that clients of Stately's inspector show here. */
export const guestsId = 'guests';

/** The token, in this tab alone. */
export const token = {
  get: () => sessionStorage.getItem(tokenKey) ?? '',
  set: (value: string) => sessionStorage.setItem(tokenKey, value),
  forget: () => sessionStorage.removeItem(tokenKey),
};

/** Called when EVC does not take the token. */
export const denied = { ask: () => {} };

/** Asks who serves this page. */
export async function whoServes(): Promise<Server> {
  if (!location.protocol.startsWith('http')) return { by: 'nobody' };
  try {
    const answer = await fetch('inspector.json');
    const { by, name } = (await answer.json()) as { by?: unknown; name?: unknown };
    return by === 'evc' || by === 'eve' ? { by, name: String(name ?? '') } : { by: 'nobody' };
  } catch {
    return { by: 'nobody' };
  }
}

export async function devices(): Promise<DeviceRow[]> {
  const all: DeviceRow[] = [];
  for (let after = ''; ; ) {
    const query = `limit=1000&after=${encodeURIComponent(after)}`;
    const { devices: rows } = await getJson<{ devices: DeviceRow[] }>(`api/v1/devices?${query}`);
    all.push(...rows);
    if (rows.length < 1000) return all;
    after = rows.at(-1)?.device ?? '';
  }
}

export const device = (id: string) => getJson<DeviceDetails>(`api/v1/devices/${encodeURIComponent(id)}`);

export async function attempts(id: string): Promise<AttemptRow[]> {
  return (await getJson<{ attempts: AttemptRow[] }>(`api/v1/devices/${encodeURIComponent(id)}/attempts`))
    .attempts;
}

export async function attempt(id: string, number: number): Promise<Source> {
  const answer = await get(`api/v1/devices/${encodeURIComponent(id)}/attempts/${number}`);
  const size = Number(answer.headers.get('content-length') ?? 0);
  return { name: `${id.slice(0, 12)}-attempt-${number}.jsonl`, size, pieces: piecesOf(answer.body) };
}

/**
 * What happens to a device, as it does: at EVC its record, and on a device (with an empty id) everything. Ends with the
 * connection.
 */
export async function live(
  by: 'evc' | 'eve',
  id: string,
  signal: AbortSignal,
): Promise<AsyncIterable<string>> {
  const ofEvc =
    id === guestsId ? 'api/v1/guests/recording' : `api/v1/devices/${encodeURIComponent(id)}/recording`;
  const ofEve = id === guestsId ? 'guests' : 'recording';
  return piecesOf((await get(by === 'evc' ? ofEvc : ofEve, signal)).body);
}

/** Names of the devices whose records move, as they do; `dropped` is what a slow page missed. Ends with the connection. */
export async function* steps(signal: AbortSignal): AsyncGenerator<{ device: string } | { dropped: number }> {
  let rest = '';
  for await (const piece of piecesOf((await get('api/v1/events', signal)).body)) {
    const blocks = (rest + piece).split('\n\n');
    rest = blocks.pop() ?? '';
    for (const block of blocks) {
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (data === undefined) continue;
      const { device: id, dropped } = JSON.parse(data) as { device?: string; dropped?: number };
      if (typeof id === 'string') yield { device: id };
      else if (typeof dropped === 'number') yield { dropped };
    }
  }
}

/** A file that was dropped; packed ones are unpacked here. */
export function fileSource(file: File): Source {
  const packed = /\.gz$/i.test(file.name);
  const bytes = packed ? file.stream().pipeThrough(new DecompressionStream('gzip')) : file.stream();
  return { name: file.name, size: file.size, pieces: piecesOf(bytes) };
}

async function* piecesOf(bytes: ReadableStream<BufferSource> | null): AsyncGenerator<string> {
  if (!bytes) return;
  const reader = bytes.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

async function getJson<Value>(path: string): Promise<Value> {
  return (await (await get(path)).json()) as Value;
}

async function get(path: string, signal?: AbortSignal): Promise<Response> {
  const key = token.get();
  let answer: Response;
  try {
    answer = await fetch(path, {
      cache: 'no-store',
      headers: key === '' ? {} : { authorization: `Bearer ${key}` },
      ...(signal ? { signal } : {}),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new SourceError(0, 'nobody answers; is it still running?');
  }
  if (answer.ok) return answer;
  if (answer.status === 401) denied.ask();
  const problem = (await answer.json().catch(() => ({}))) as { detail?: string; title?: string };
  throw new SourceError(answer.status, problem.detail ?? problem.title ?? `answered with ${answer.status}`);
}
