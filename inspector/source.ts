// Where the page has its data from: EVC's API, a device that shows itself, or nobody, when it was opened as a file.
import { takeAhead } from './ahead.ts';
import type { AttemptRow } from './answers.ts';
import type { Source } from './model.ts';

/** What serves the page: `evc` wants a token, `eve` shows one device to this machine. */
export type Server = { by: 'evc' | 'eve'; name: string; logins: boolean } | { by: 'nobody' };

/** An answer that is none: with what, where and what to do, for a person. */
export class SourceError extends Error {
  readonly status: number;
  /** One of the reasons of machines/reasons.ts; empty where nobody gave one. */
  readonly code: string;
  constructor(status: number, message: string, code = '') {
    super(message);
    this.name = 'SourceError';
    this.status = status;
    this.code = code;
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

/** Where the server of the page says who it is. */
export const whoPath = 'inspector.json';

/** Asks who serves this page. */
export async function whoServes(): Promise<Server> {
  if (!location.protocol.startsWith('http')) return { by: 'nobody' };
  try {
    const answer = await (takeAhead(whoPath) ?? fetch(whoPath));
    const { by, name, logins } = (await answer.json()) as { by?: unknown; name?: unknown; logins?: unknown };
    return by === 'evc' || by === 'eve'
      ? { by, name: String(name ?? ''), logins: logins === true }
      : { by: 'nobody' };
  } catch {
    return { by: 'nobody' };
  }
}

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

/**
 * Names of the devices whose records move, as they do; `dropped` is what a slow page missed. Ends with the connection. From
 * `ready` on nothing is missed.
 *
 * @param id of this device alone
 */
export async function* steps(
  signal: AbortSignal,
  id?: string,
): AsyncGenerator<{ device: string } | { dropped: number } | 'ready'> {
  let rest = '';
  const query = id === undefined ? '' : `?device=${encodeURIComponent(id)}`;
  for await (const piece of piecesOf((await get(`api/v1/events${query}`, signal)).body)) {
    const blocks = (rest + piece).split('\n\n');
    rest = blocks.pop() ?? '';
    for (const block of blocks) {
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (data === undefined) continue;
      if (block.startsWith('event: ready')) yield 'ready';
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

export async function getJson<Value>(path: string, signal?: AbortSignal): Promise<Value> {
  return (await (await get(path, signal)).json()) as Value;
}

/** With the tag that If-Match takes, in its quotes. Rejects with SourceError. */
export async function getTagged<Value>(path: string): Promise<{ value: Value; tag: string }> {
  const answer = await get(path);
  return { value: (await answer.json()) as Value, tag: answer.headers.get('etag') ?? '' };
}

/** Puts something in the place of what was looked at. Rejects with SourceError. @param tag of that, in its quotes */
export async function change<Value>(
  method: 'PUT' | 'PATCH',
  path: string,
  body: object,
  tag: string,
): Promise<Value> {
  const headers = { 'content-type': 'application/json', 'if-match': tag };
  return (await (await ask(path, { method, body: JSON.stringify(body), headers })).json()) as Value;
}

/**
 * Asks EVC to do something. Rejects with SourceError: what was refused, with its code.
 *
 * @param headers If-Match and Idempotency-Key, so that it is what was looked at, and done once
 */
export async function post<Value>(
  path: string,
  body: object,
  headers: Readonly<Record<string, string>>,
  signal?: AbortSignal,
): Promise<Value> {
  const answer = await ask(path, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { 'content-type': 'application/json', ...headers },
    ...(signal ? { signal } : {}),
  });
  return (await answer.json()) as Value;
}

interface Asked {
  method?: string;
  body?: string;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** Asks EVC, with what lets somebody in, and takes any answer. */
export function fetched(path: string, init: Asked, key = token.get()): Promise<Response> {
  return fetch(path, {
    cache: 'no-store',
    ...init,
    headers: {
      ...init.headers,
      // Without a token it is the session of a login that counts, which no script can read; another site cannot say this.
      ...(key === '' ? { 'x-evc-page': '1' } : { authorization: `Bearer ${key}` }),
    },
  });
}

function get(path: string, signal?: AbortSignal): Promise<Response> {
  return ask(path, signal ? { signal } : {});
}

async function ask(path: string, init: Asked): Promise<Response> {
  let answer: Response;
  try {
    answer = await ((init.method === undefined ? takeAhead(path) : undefined) ?? fetched(path, init));
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new SourceError(0, 'nobody answers; is it still running?');
  }
  if (answer.ok) return answer;
  if (answer.status === 401) denied.ask();
  const { detail, title, code } = (await answer.json().catch(() => ({}))) as Partial<Record<string, string>>;
  throw new SourceError(answer.status, detail ?? title ?? `answered with ${answer.status}`, code ?? '');
}
