// The page as files over HTTP, for whoever serves it: EVC, and a device on its own machine. Nothing but these files, and with
// headers that let the page run its own script and talk to the server that it came from, and to nobody else.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import { join } from 'node:path';

export interface PageFile {
  type: string;
  bytes: Buffer;
  /** The same as gzip; null where it was not packed. */
  packed: Buffer | null;
  /** Of these bytes, as an entity tag; weak, since it is the same for both. */
  tag: string;
}

export interface PageAnswer {
  status: 200 | 304;
  headers: OutgoingHttpHeaders;
  body: Buffer;
}

const types: Readonly<Record<string, string>> = {
  'index.html': 'text/html; charset=utf-8',
  'first.js': 'text/javascript; charset=utf-8',
  'app.js': 'text/javascript; charset=utf-8',
  'layout-worker.js': 'text/javascript; charset=utf-8',
  'style.css': 'text/css; charset=utf-8',
  'icon.svg': 'image/svg+xml',
};

export const pageHeaders: Readonly<Record<string, string>> = {
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "worker-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    // A page of this machine may hold it in a frame, as Stately's clients do. In a frame it decides nothing (acceptance.ts), so there
    // is nothing to click away.
    "frame-ancestors 'self' http://localhost:* http://127.0.0.1:*",
  ].join('; '),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=(), usb=()',
  'cache-control': 'no-cache',
};

/** The files of the page by path, `/` and all; empty where it was never built. */
export function pageFiles(): ReadonlyMap<string, PageFile> {
  // Beside this file where everything is built; in dist/ where it runs from its sources.
  const folder = [join(import.meta.dirname, '..'), join(import.meta.dirname, '../../dist/inspector')].find(
    (place) => existsSync(join(place, 'app.js')),
  );
  const files = new Map<string, PageFile>();
  if (folder === undefined) return files;
  for (const [name, type] of Object.entries(types)) {
    const path = join(folder, name);
    if (!existsSync(path)) continue;
    const bytes = readFileSync(path);
    const packed = existsSync(`${path}.gz`) ? readFileSync(`${path}.gz`) : null;
    const tag = `W/"${createHash('sha256').update(bytes).digest('base64url').slice(0, 22)}"`;
    const file = { type, bytes, packed, tag };
    files.set(`/${name}`, file);
    if (name === 'index.html') files.set('/', file);
  }
  return files;
}

/** A file for a browser: not again where it has it, and packed where it can unpack it [RFC 9110, 13.1.2 and 12.5.3]. */
export function pageAnswer({ type, bytes, packed, tag }: PageFile, asked: IncomingHttpHeaders): PageAnswer {
  const headers: OutgoingHttpHeaders = { ...pageHeaders, etag: tag, vary: 'accept-encoding' };
  const known = (asked['if-none-match'] ?? '').split(',').map((one) => one.trim());
  if (known.includes(tag)) return { status: 304, headers, body: Buffer.alloc(0) };
  headers['content-type'] = type;
  if (!packed || !/\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))/.test(String(asked['accept-encoding'] ?? '')))
    return { status: 200, headers, body: bytes };
  headers['content-encoding'] = 'gzip';
  return { status: 200, headers, body: packed };
}

/** What is asked for; null where it is no address: anybody may write anything there. */
export function targetOf({ url = '/' }: IncomingMessage): URL | null {
  const base = 'http://localhost';
  return URL.canParse(url, base) ? new URL(url, base) : null;
}

/** Where a message of a chart client may come from: this machine, or the page itself. */
export function isLocal(origin: string | undefined, host: string | undefined): boolean {
  if (origin === undefined) return true;
  try {
    const { hostname, host: named } = new URL(origin);
    return named === host || ['localhost', '127.0.0.1', '[::1]'].includes(hostname);
  } catch {
    return false;
  }
}
