// Where the device is: a receiver, a place that somebody wrote down, or nobody knows.
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Location } from '../../machines/flow.ts';
import { askGpsd, defaultGpsd } from './gpsd.ts';

/** A fix of now; null where there is none, which is no movement. */
export type Locator = () => Promise<Location | null>;

export class LocatorError extends Error {
  constructor(text: string) {
    super(`${text}: no place`);
    this.name = 'LocatorError';
  }
}

/**
 * - `gpsd`, `gpsd:HOST`, `gpsd:HOST:PORT`: the receivers of a gpsd;
 * - `LATITUDE,LONGITUDE[,ACCURACY]`, degrees and metres: fixed, as old as the moment somebody asks;
 * - `@FILE`: a line of that form, written by whatever knows, and read anew each time;
 * - `none`: nobody knows.
 *
 * Throws LocatorError for anything else.
 */
export function locatorOf(text: string | undefined): Locator | undefined {
  if (text === undefined || text === 'none') return undefined;
  if (text.startsWith('@')) {
    const path = resolve(text.slice(1));
    return () => readFile(path, 'utf8').then(placeOf, () => null);
  }
  const daemon = /^gpsd(?::(\[[^\]]+\]|[^:[\]]+)(?::(\d{1,5}))?)?$/.exec(text);
  if (daemon) {
    const [, host = defaultGpsd.host, port = String(defaultGpsd.port)] = daemon;
    if (Number(port) > 65535) throw new LocatorError(text);
    const gpsd = { host: host.replace(/^\[|\]$/g, ''), port: Number(port) };
    return () => askGpsd(gpsd);
  }
  if (placeOf(text)) return () => Promise.resolve(placeOf(text));
  throw new LocatorError(text);
}

/** null when it is no place. */
function placeOf(text: string): Location | null {
  const [latitude = Number.NaN, longitude = Number.NaN, accuracy = 10, ...more] = text
    .split(',')
    .map((part) => (part.trim() === '' ? Number.NaN : Number(part)));
  const good = Math.abs(latitude) <= 90 && Math.abs(longitude) <= 180 && accuracy > 0 && accuracy < 1e7;
  return good && more.length === 0 ? { latitude, longitude, accuracy, at: Date.now() } : null;
}
