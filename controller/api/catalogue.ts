// The catalogue through the API: images, firmware, the keys that may sign them, and allow rules.
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import type { CatalogueFirmware, CatalogueImage } from '../images/catalogue.ts';
import type { Curator, RuleWish } from '../images/curator.ts';
import type { Signer } from '../images/signers.ts';
import { RequestError } from './problem.ts';

/** Who decides: there is one token, so there is one administrator. */
const by = 'admin';

const text = (most: number, least = 1) => ({ type: 'string', minLength: least, maxLength: most }) as const;
const flag = { type: 'boolean' } as const;
const reason = text(500);
const largestLog = 6_000_000;
const packed = { type: 'string', maxLength: largestLog, pattern: '^[A-Za-z0-9+/]+={0,2}$' } as const;
const logs = { type: 'array', minItems: 1, maxItems: 20, items: packed } as const;
const names = (most: number) => ({ type: 'array', maxItems: 1000, items: text(most) }) as const;
const body = (properties: object, required: readonly string[] = []) => ({
  schema: { body: { type: 'object', additionalProperties: false, properties, required } },
});

interface ImageBody {
  version: string;
  logs?: string[];
  measured?: string;
  upload?: string;
  more?: boolean;
}

export function serveCatalogue(app: FastifyInstance, curator: Curator, uploads: string): void {
  app.get('/api/v1/images', async () => ({ images: (await curator.images()).map(imageView) }));
  app.get<{ Params: { version: string } }>('/api/v1/images/:version', ({ params }) =>
    curator.image(params.version),
  );
  app.post<{ Body: ImageBody }>(
    '/api/v1/images',
    body(
      {
        version: text(64),
        logs,
        measured: packed,
        upload: { type: 'string', pattern: '^[0-9a-f-]{36}$' },
        more: flag,
      },
      ['version'],
    ),
    async ({ body: { version, logs: given = [], measured, upload, more = false } }, reply) => {
      const path = upload === undefined ? undefined : join(uploads, upload);
      if (path !== undefined && !existsSync(path))
        throw new RequestError('upload.unknown', 404, 'there is no such upload; send the file again');
      const image = await curator.addImage({
        version,
        logs: given.map(unpack),
        more,
        ...(measured === undefined ? {} : { measured: unpack(measured) }),
        ...(path === undefined ? {} : { file: { path } }),
      });
      if (path !== undefined) rmSync(path, { force: true });
      return reply.code(201).send(imageView(image));
    },
  );
  app.post<{ Body: { versions?: string[] } }>(
    '/api/v1/images/export',
    body({ versions: names(64) }),
    (request) => curator.exportImages(request.body.versions ?? []),
  );
  app.post<{ Body: { manifest: object; replace?: boolean } }>(
    '/api/v1/images/import',
    body({ manifest: { type: 'object' }, replace: flag }, ['manifest']),
    async ({ body: { manifest, replace } }) => ({
      images: (await curator.importImages(manifest, replace)).map(imageView),
    }),
  );

  app.get('/api/v1/firmware', async () => ({ firmware: (await curator.firmwares()).map(firmwareView) }));
  app.get<{ Params: { firmware: string } }>('/api/v1/firmware/:firmware', ({ params }) =>
    curator.firmware(params.firmware),
  );
  app.post<{ Body: { firmware: string; vendor?: string; logs: string[]; more?: boolean } }>(
    '/api/v1/firmware',
    body({ firmware: text(200), vendor: text(100, 0), logs, more: flag }, ['firmware', 'logs']),
    async ({ body: { firmware, vendor = '', logs: given, more = false } }, reply) =>
      reply
        .code(201)
        .send(firmwareView(await curator.addFirmware({ firmware, vendor, logs: given.map(unpack), more }))),
  );
  app.post<{ Body: { firmware?: string[] } }>(
    '/api/v1/firmware/export',
    body({ firmware: names(200) }),
    (request) => curator.exportFirmware(request.body.firmware ?? []),
  );
  app.post<{ Body: { manifest: object; replace?: boolean } }>(
    '/api/v1/firmware/import',
    body({ manifest: { type: 'object' }, replace: flag }, ['manifest']),
    async ({ body: { manifest, replace } }) => ({
      firmware: (await curator.importFirmware(manifest, replace)).map(firmwareView),
    }),
  );

  app.get('/api/v1/signers', async () => ({ own: curator.ownSigner(), signers: await curator.signers() }));
  app.post<{ Body: Pick<Signer, 'name' | 'signs' | 'reason'> & { key: string; vendor?: string } }>(
    '/api/v1/signers',
    body(
      {
        name: text(64),
        signs: { enum: ['images', 'firmware'] },
        vendor: text(100, 0),
        key: text(20_000),
        reason,
      },
      ['name', 'signs', 'key', 'reason'],
    ),
    async (request, reply) =>
      reply.code(201).send(await curator.addSigner({ vendor: '', ...request.body }, by)),
  );
  app.post<{ Params: { name: string }; Body: { reason: string } }>(
    '/api/v1/signers/:name/remove',
    body({ reason }, ['reason']),
    (request) => curator.removeSigner(request.params.name, by, request.body.reason),
  );

  app.get<{ Querystring: { account?: string } }>('/api/v1/allow-rules', async ({ query }) => ({
    rules: await curator.rules(query.account),
  }));
  app.post<{ Body: Pick<RuleWish, 'pcr' | 'match' | 'reason'> & Partial<RuleWish> }>(
    '/api/v1/allow-rules',
    body(
      {
        account: text(64),
        pcr: { type: 'integer', minimum: 0, maximum: 23 },
        match: {
          type: 'object',
          required: ['kind'],
          oneOf: [
            only({ kind: { const: 'event' }, type: text(64), subject: text(512) }),
            only({ kind: { const: 'slot-attributes' } }),
            only({ kind: { const: 'digests' }, sha256: { type: 'array', maxItems: 64, items: text(64) } }),
          ],
        },
        removal: flag,
        reason,
      },
      ['pcr', 'match', 'reason'],
    ),
    async (request, reply) =>
      reply.code(201).send(await curator.addRule({ account: null, removal: false, ...request.body }, by)),
  );
  app.post<{ Params: { id: string }; Body: { reason: string } }>(
    '/api/v1/allow-rules/:id/remove',
    body({ reason }, ['reason']),
    (request) => curator.removeRule(request.params.id, by, request.body.reason),
  );
}

function only(properties: object) {
  return { type: 'object', additionalProperties: false, properties, required: Object.keys(properties) };
}

function unpack(base64: string): Uint8Array {
  return Buffer.from(base64, 'base64');
}

/** Without its measurements, which are many. */
function imageView({ version, sha256, size, added, source, entries }: CatalogueImage) {
  return { version, sha256, size, added, source, measurements: entries.length };
}

function firmwareView({ firmware, vendor, added, source, entries }: CatalogueFirmware) {
  return { firmware, vendor, added, source, measurements: entries.length };
}
