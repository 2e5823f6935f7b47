// Spans of an attempt, on both sides of the link. Nothing is sent along for them: whoever knows the nonce knows the trace.

/** Which trace, and the span that all others of it stand below. */
export interface TraceIds {
  /** 16 bytes, hex [W3C Trace Context, 3.2.2.3]. */
  trace: string;
  /** 8 bytes, hex: the attempt, whole, which the device tells. */
  root: string;
}

export interface Span {
  ids: TraceIds;
  /** 8 bytes, hex. */
  id: string;
  /** 8 bytes, hex; null for the root. */
  parent: string | null;
  name: string;
  /** `server`: answers what another process asked; `client`: asks one. */
  kind: 'internal' | 'server' | 'client';
  /** ms since the epoch, with fractions. */
  start: number;
  end: number;
  /** Ids, names and codes alone: never a nonce, a token, a key or evidence. */
  attributes: Readonly<Record<string, string | number | boolean>>;
  /** Code of a reason; null where it went well. */
  failed: string | null;
}

export interface Spans {
  tell(span: Span): void;
  /** Sends what waits; resolves when it is sent or given up. */
  close(): Promise<void>;
}

/**
 * The trace of the attempt with this nonce: a piece of a hash of it, so that both sides have it without a word on the wire, and
 * nobody has the nonce from it.
 *
 * @param nonceHash SHA-256 of the nonce, hex
 */
export function traceOf(nonceHash: string): TraceIds {
  return { trace: nonceHash.slice(0, 32), root: nonceHash.slice(32, 48) };
}

/** ms since the epoch, as finely as this machine tells. */
export function preciseNow(): number {
  return performance.timeOrigin + performance.now();
}

/** An id of a span. */
export function spanId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
