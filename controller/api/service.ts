// EVC itself through the API: where it is, how it is asked, and files on their way in.
import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { writeHashed } from '../images/file.ts';
import type { Metrics } from '../metrics.ts';
import { openApi } from './openapi.ts';
import type { Operations } from './operation.ts';
import { RequestError } from './problem.ts';
import { ref } from './schemas.ts';

export interface ServiceView {
  mqttPort: number;
  httpsPort: number;
  hosts: readonly string[];
  /** ms since the epoch. */
  since: number;
}

export interface ServiceRoutes {
  /** Where uploads wait until they become images. */
  uploads: string;
  service(): ServiceView;
  metrics(): Metrics;
}

const largestUpload = 4 * 1024 ** 3;
/** Of files; they come as they are. */
export const binary = 'application/octet-stream';

export function serveService(api: Operations, options: ServiceRoutes): void {
  const base = { tag: 'service', role: 'viewer', reach: 'shared' } as const;
  api.add({
    ...base,
    id: 'showService',
    method: 'GET',
    path: '/api/v1/status',
    summary: 'Where this EVC is, and since when',
    answer: ref('Service'),
    run: () => options.service(),
  });
  api.add({
    ...base,
    id: 'readMetrics',
    method: 'GET',
    path: '/metrics',
    summary: 'Numbers for Prometheus',
    reach: 'fleet',
    produces: 'text/plain',
    answer: { type: 'string' },
    run: async ({ reply }) => {
      const { type, text } = await options.metrics().text();
      reply.type(type);
      return text;
    },
  });
  let document: Record<string, unknown> | null = null;
  api.add({
    ...base,
    id: 'describe',
    method: 'GET',
    path: '/api/v1/openapi.json',
    summary: 'This document',
    answer: { type: 'object', additionalProperties: true },
    run: () => {
      document ??= openApi(api.all);
      return document;
    },
  });

  api.add<unknown, unknown, Readable>({
    ...base,
    id: 'upload',
    method: 'POST',
    path: '/api/v1/uploads',
    summary: 'Takes the file of an image, for addImage to name; 4 GiB at most',
    tag: 'catalogue',
    role: 'operator',
    reach: 'fleet',
    consumes: binary,
    answer: ref('Upload'),
    status: 201,
    run: async ({ request }) => {
      if (!(request.headers['content-type'] ?? '').startsWith(binary))
        throw new RequestError('request.content-type', 415, `send the file as ${binary}`);
      return take(request.body as Readable, options.uploads);
    },
  });
}

async function take(
  body: Readable,
  folder: string,
): Promise<{ upload: string; size: number; sha256: string }> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const upload = randomUUID();
  const limited = async function* () {
    let size = 0;
    for await (const chunk of body as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > largestUpload)
        throw new RequestError('request.too-large', 413, 'an image has 4 GiB at most');
      yield chunk;
    }
  };
  return { upload, ...(await writeHashed(join(folder, upload), 0o600, limited())) };
}
