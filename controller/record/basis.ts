// What a verdict rests on, as JSON in a recording and back: so that the same evidence can be judged again, by another policy.
// Whatever it comes to hold, two things are not JSON: numbers of 64 bits, and logs, which are lines of their own.
import type { LogBytes } from '../verify/known-boots.ts';
import type { Basis } from '../verify/verify.ts';

const deepest = 20;
const hash = /^[0-9a-f]{64}$/;
const whole = /^\d{1,20}$/;

/** Logs are named by their SHA-256. */
export function basisJson(basis: Basis): Record<string, unknown> {
  return encode(basis) as Record<string, unknown>;
}

/** The logs that a basis holds. */
export function logsOf(basis: Basis): LogBytes[] {
  const logs: LogBytes[] = [];
  encode(basis, (log) => logs.push(log));
  return logs;
}

/** The names of the logs in a basis as JSON. */
export function logNames(json: unknown): string[] {
  const names: string[] = [];
  decode(json, (sha256) => {
    names.push(sha256);
    return undefined;
  });
  return names;
}

/**
 * Nothing of it is checked: a verdict on what is no basis is a refusal, as every error is there. A log that `blob` does not
 * know is left out. Throws RangeError for what is nested deeper than any basis.
 */
export function basisOfJson(json: unknown, blob: (sha256: string) => Uint8Array | undefined): Basis {
  return decode(json, blob) as Basis;
}

function encode(value: unknown, onLog?: (log: LogBytes) => void): unknown {
  if (typeof value === 'bigint') return { bigint: String(value) };
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => encode(item, onLog));
  const { sha256, bytes } = value as Partial<LogBytes>;
  if (typeof sha256 === 'string' && bytes instanceof Uint8Array) {
    onLog?.({ sha256, bytes });
    return { log: sha256 };
  }
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, encode(inner, onLog)]));
}

function decode(value: unknown, blob: (sha256: string) => Uint8Array | undefined, depth = 0): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (depth > deepest) throw new RangeError(`a basis is nested ${deepest} deep at the most`);
  if (Array.isArray(value)) {
    const items = value.map((item) => decode(item, blob, depth + 1));
    return items.filter((item) => item !== unknownLog);
  }
  const { log, bigint } = value as { log?: unknown; bigint?: unknown };
  if (typeof bigint === 'string' && whole.test(bigint)) return BigInt(bigint);
  if (typeof log === 'string' && hash.test(log)) {
    const bytes = blob(log);
    return bytes ? { sha256: log, bytes } : unknownLog;
  }
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key, decode(inner, blob, depth + 1)]),
  );
}

const unknownLog = Symbol('a log that is not here');
