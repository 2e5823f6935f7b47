// The operator API, route by route: what comes in is checked by a schema, and what it does stands in operator.ts.
import { createHash, randomUUID } from 'node:crypto';
import { createWriteStream, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { FastifyInstance } from 'fastify';
import type { Account } from '../../machines/device-record.ts';
import type { Operator } from '../operator.ts';
import { RequestError } from './problem.ts';

export interface ServiceView {
  mqttPort: number;
  httpsPort: number;
  hosts: readonly string[];
  /** ms since the epoch. */
  since: number;
}

/** Who decides, as the journal has it: there is one token, so there is one administrator. */
const by = 'admin';
const minute = 60_000;
const day = 24 * 60 * minute;
const largestUpload = 4 * 1024 ** 3;

const text = (most: number) => ({ type: 'string', minLength: 1, maxLength: most }) as const;
const base64 = (most: number) =>
  ({ type: 'string', maxLength: most, pattern: '^[A-Za-z0-9+/]+={0,2}$' }) as const;
const accountFields = {
  kind: { enum: ['manufacturing', 'production'] },
  locationLock: { type: 'boolean' },
  radius: { type: 'number', minimum: 1, maximum: 1_000_000 },
  moved: { enum: ['report', 'block'] },
  requireEkCertificate: { type: 'boolean' },
} as const;
const duration = { type: 'integer', minimum: 1, maximum: 365 * day } as const;

const body = (properties: object, required: readonly string[] = []) => ({
  schema: { body: { type: 'object', additionalProperties: false, properties, required } },
});
const reasoned = body({ reason: text(500) }, ['reason']);

type Words = { Params: { words: string } };

export function serveApi(
  app: FastifyInstance,
  operator: Operator,
  options: { uploads: string; service(): ServiceView },
): void {
  const { uploads } = options;
  const device = (params: { words: string }) => operator.find(params.words);

  app.get('/api/v1/status', () => options.service());

  app.get<{ Querystring: { after?: string; limit?: string } }>('/api/v1/devices', async ({ query }) => ({
    devices: await operator.list(query.after ?? '', countOf(query.limit, 100, 1000)),
  }));
  app.get<Words>('/api/v1/devices/:words', async ({ params }) => operator.show(await device(params)));
  app.get<Words & { Querystring: { limit?: string } }>(
    '/api/v1/devices/:words/journal',
    async ({ params, query }) => ({
      journal: await operator.journal(await device(params), countOf(query.limit, 50, 1000)),
    }),
  );

  app.post<Words & { Body: { reason: string } }>('/api/v1/devices/:words/accept', reasoned, async (request) =>
    operator.acceptState(await device(request.params), by, request.body.reason),
  );
  app.post<Words & { Body: { reason: string } }>(
    '/api/v1/devices/:words/accept-place',
    reasoned,
    async (request) => operator.acceptPlace(await device(request.params), by, request.body.reason),
  );
  app.post<Words & { Body: { reason: string } }>('/api/v1/devices/:words/retire', reasoned, async (request) =>
    operator.retire(await device(request.params), by, request.body.reason),
  );
  app.post<Words & { Body: { reason: string } }>(
    '/api/v1/devices/:words/reenrol',
    reasoned,
    async (request) => operator.allowReenrolment(await device(request.params), by, request.body.reason),
  );
  app.post<Words & { Body: { version: string; window?: number; testWindow?: number } }>(
    '/api/v1/devices/:words/upgrade',
    body({ version: text(64), window: duration, testWindow: duration }, ['version']),
    async ({ params, body: { version, window = 60 * minute, testWindow = 10 * minute } }) =>
      operator.assignUpgrade(await device(params), { version, window, testWindow }),
  );
  app.post<Words & { Body: { account: string } }>(
    '/api/v1/devices/:words/move',
    body({ account: text(64) }, ['account']),
    async (request) => operator.moveDevice(await device(request.params), request.body.account),
  );
  app.post<Words>('/api/v1/devices/:words/rotate', async ({ params }) =>
    operator.rotateKey(await device(params)),
  );
  app.put<Words & { Body: { settings: Record<string, string> } }>(
    '/api/v1/devices/:words/settings',
    body(
      {
        settings: {
          type: 'object',
          maxProperties: 200,
          additionalProperties: { type: 'string', maxLength: 4096 },
        },
      },
      ['settings'],
    ),
    async (request) => operator.changeSettings(await device(request.params), request.body.settings),
  );

  app.get('/api/v1/accounts', async () => ({ accounts: await operator.accounts() }));
  app.post<{ Body: Partial<Account> & { id: string } }>(
    '/api/v1/accounts',
    body({ id: text(64), ...accountFields }, ['id']),
    async (request, reply) =>
      reply.code(201).send(await operator.addAccount({ ...newAccount, ...request.body })),
  );
  app.patch<{ Params: { id: string }; Body: Partial<Omit<Account, 'id'>> }>(
    '/api/v1/accounts/:id',
    body(accountFields),
    (request) => operator.changeAccount(request.params.id, request.body),
  );

  app.post<{ Body: { name: string; account?: string; limit?: number; days?: number } }>(
    '/api/v1/keys',
    body(
      {
        name: text(64),
        account: text(64),
        limit: { type: 'integer', minimum: 1, maximum: 1_000_000 },
        days: { type: 'integer', minimum: 1, maximum: 3650 },
      },
      ['name'],
    ),
    async ({ body: { name, account = 'default', limit = 1, days = 30 } }, reply) =>
      reply.code(201).send(await operator.addKey({ name, account, limit, expires: Date.now() + days * day })),
  );

  app.get('/api/v1/ek-roots', async () => operator.ekRoots());
  app.post<{ Body: { certificates: string } }>(
    '/api/v1/ek-roots',
    body({ certificates: base64(6_000_000) }, ['certificates']),
    async (request, reply) =>
      reply.code(201).send(await operator.addEkRoots(Buffer.from(request.body.certificates, 'base64'), by)),
  );
  app.delete<{ Params: { id: string } }>('/api/v1/ek-roots/:id', ({ params }) =>
    operator.removeEkRoot(params.id, by),
  );

  app.addContentTypeParser('application/octet-stream', (_request, payload, done) => done(null, payload));
  app.post<{ Body: Readable }>('/api/v1/uploads', async (request, reply) => {
    if (!(request.headers['content-type'] ?? '').startsWith('application/octet-stream'))
      throw new RequestError('request.content-type', 415, 'send the file as application/octet-stream');
    mkdirSync(uploads, { recursive: true, mode: 0o700 });
    const upload = randomUUID();
    const path = join(uploads, upload);
    const digest = createHash('sha256');
    let size = 0;
    try {
      await pipeline(
        request.body,
        async function* (source: AsyncIterable<Buffer>) {
          for await (const chunk of source) {
            size += chunk.length;
            if (size > largestUpload)
              throw new RequestError('request.too-large', 413, 'an image has 4 GiB at most');
            digest.update(chunk);
            yield chunk;
          }
        },
        createWriteStream(path, { mode: 0o600 }),
      );
    } catch (error) {
      rmSync(path, { force: true });
      throw error;
    }
    return reply.code(201).send({ upload, size, sha256: digest.digest('hex') });
  });
}

const newAccount: Omit<Account, 'id'> = {
  kind: 'production',
  locationLock: false,
  radius: 100,
  moved: 'report',
  requireEkCertificate: false,
};

function countOf(given: string | undefined, usual: number, most: number): number {
  if (given === undefined) return usual;
  const count = /^\d{1,6}$/.test(given) ? Number(given) : 0;
  if (count < 1 || count > most)
    throw new RequestError('request.invalid', 422, `limit is a number from 1 to ${most}`);
  return count;
}
