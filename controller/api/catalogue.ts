// The catalogue through the API: images, firmware, the keys that may sign them, and allow rules.
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { CatalogueFirmware, CatalogueImage } from '../images/catalogue.ts';
import type { Curator, RuleWish } from '../images/curator.ts';
import type { Signer } from '../images/signers.ts';
import { type Operations, reach } from './operation.ts';
import { RequestError } from './problem.ts';
import { base64, body, fields, flag, idParams, list, names, reason, reasoned, ref, text } from './schemas.ts';

const largestLog = 6_000_000;
const packed = base64(largestLog);
const logs = { type: 'array', minItems: 1, maxItems: 20, items: packed } as const;
const tag = 'catalogue';
const read = { tag, role: 'viewer', reach: 'shared', method: 'GET' } as const;
const change = { tag, role: 'operator', reach: 'fleet', method: 'POST' } as const;
/** Who may say what is good is for administrators to say. */
const govern = { ...change, role: 'admin' } as const;

interface ManifestBody {
  manifest: object;
  replace?: boolean;
}

const manifestBody = body({ manifest: { type: 'object' }, replace: flag }, ['manifest']);

interface ImageBody {
  version: string;
  logs?: string[];
  measured?: string;
  upload?: string;
  more?: boolean;
}

export function serveCatalogue(api: Operations, curator: Curator, uploads: string): void {
  serveImageEntries(api, curator, uploads);
  serveFirmware(api, curator);
  serveSigners(api, curator);
  serveRules(api, curator);
}

function serveImageEntries(api: Operations, curator: Curator, uploads: string): void {
  const path = '/api/v1/images';
  api.add({
    ...read,
    id: 'listImages',
    path,
    summary: 'The images, without their measurements',
    answer: list('images', ref('Image')),
    run: async () => ({ images: (await curator.images()).map(imageView) }),
  });
  api.add<{ version: string }, unknown, unknown>({
    ...read,
    id: 'showImage',
    path: `${path}/:version`,
    summary: 'An image, and what it measures',
    params: idParams('version'),
    answer: ref('ImageEntries'),
    run: ({ params }) => curator.image(params.version),
  });
  api.add<unknown, unknown, ImageBody>({
    ...change,
    id: 'addImage',
    path,
    summary: 'Adds an image: its file, and what it measures',
    body: body(
      {
        version: text(64),
        logs,
        measured: packed,
        upload: { type: 'string', pattern: '^[0-9a-f-]{36}$' },
        more: flag,
      },
      ['version'],
    ),
    answer: ref('Image'),
    status: 201,
    run: async ({ body: { version, logs: given = [], measured, upload, more = false } }) => {
      const file = upload === undefined ? undefined : join(uploads, upload);
      if (file !== undefined && !existsSync(file))
        throw new RequestError('upload.unknown', 404, 'there is no such upload; send the file again');
      const image = await curator.addImage({
        version,
        logs: given.map(unpack),
        more,
        ...(measured === undefined ? {} : { measured: unpack(measured) }),
        ...(file === undefined ? {} : { file: { path: file } }),
      });
      if (file !== undefined) rmSync(file, { force: true });
      return imageView(image);
    },
  });
  api.add<unknown, unknown, { versions?: string[] }>({
    ...change,
    role: 'viewer',
    reach: 'shared',
    id: 'exportImages',
    path: `${path}/export`,
    summary: 'A signed manifest of images, all without names',
    body: body({ versions: names(64) }),
    answer: ref('Envelope'),
    run: ({ body: { versions = [] } }) => curator.exportImages(versions),
  });
  api.add<unknown, unknown, ManifestBody>({
    ...change,
    id: 'importImages',
    path: `${path}/import`,
    summary: 'Takes images of a manifest whose signer is known',
    body: manifestBody,
    answer: list('images', ref('Image')),
    run: async ({ body: { manifest, replace } }) => ({
      images: (await curator.importImages(manifest, replace)).map(imageView),
    }),
  });
}

function serveFirmware(api: Operations, curator: Curator): void {
  const path = '/api/v1/firmware';
  api.add({
    ...read,
    id: 'listFirmware',
    path,
    summary: 'The firmware, without its measurements',
    answer: list('firmware', ref('Firmware')),
    run: async () => ({ firmware: (await curator.firmwares()).map(firmwareView) }),
  });
  api.add<{ firmware: string }, unknown, unknown>({
    ...read,
    id: 'showFirmware',
    path: `${path}/:firmware`,
    summary: 'A firmware, and what it measures',
    params: idParams('firmware'),
    answer: ref('FirmwareEntries'),
    run: ({ params }) => curator.firmware(params.firmware),
  });
  api.add<unknown, unknown, { firmware: string; vendor?: string; logs: string[]; more?: boolean }>({
    ...change,
    id: 'addFirmware',
    path,
    summary: 'Adds a firmware by logs of reference boots',
    body: body({ firmware: text(200), vendor: text(100, 0), logs, more: flag }, ['firmware', 'logs']),
    answer: ref('Firmware'),
    status: 201,
    run: async ({ body: { firmware, vendor = '', logs: given, more = false } }) =>
      firmwareView(await curator.addFirmware({ firmware, vendor, logs: given.map(unpack), more })),
  });
  api.add<unknown, unknown, { firmware?: string[] }>({
    ...change,
    role: 'viewer',
    reach: 'shared',
    id: 'exportFirmware',
    path: `${path}/export`,
    summary: 'A signed manifest of firmware, all without names',
    body: body({ firmware: names(200) }),
    answer: ref('Envelope'),
    run: ({ body: { firmware = [] } }) => curator.exportFirmware(firmware),
  });
  api.add<unknown, unknown, ManifestBody>({
    ...change,
    id: 'importFirmware',
    path: `${path}/import`,
    summary: 'Takes firmware of a manifest whose signer is known',
    body: manifestBody,
    answer: list('firmware', ref('Firmware')),
    run: async ({ body: { manifest, replace } }) => ({
      firmware: (await curator.importFirmware(manifest, replace)).map(firmwareView),
    }),
  });
}

function serveSigners(api: Operations, curator: Curator): void {
  const path = '/api/v1/signers';
  api.add({
    ...read,
    id: 'listSigners',
    path,
    summary: 'Keys that may sign what is imported, and EVC’s own',
    answer: fields({
      own: fields({ id: { type: 'string' }, publicKey: { type: 'string' } }),
      signers: { type: 'array', items: ref('Signer') },
    }),
    run: async () => ({ own: curator.ownSigner(), signers: await curator.signers() }),
  });
  api.add<unknown, unknown, Pick<Signer, 'name' | 'signs' | 'reason'> & { key: string; vendor?: string }>({
    ...govern,
    id: 'addSigner',
    path,
    summary: 'Lets a key sign what is imported',
    body: body(
      {
        name: text(64),
        signs: { enum: ['images', 'firmware'] },
        vendor: text(100, 0),
        key: text(20_000),
        reason,
      },
      ['name', 'signs', 'key', 'reason'],
    ),
    answer: ref('Signer'),
    status: 201,
    run: ({ body: wish, decision }) => curator.addSigner({ vendor: '', ...wish }, decision.by),
  });
  api.add<{ signer: string }, unknown, { reason: string }>({
    ...govern,
    id: 'removeSigner',
    path: `${path}/:signer/remove`,
    summary: 'Lets a key sign no more',
    params: idParams('signer'),
    body: reasoned,
    answer: ref('Signer'),
    run: ({ params, body: wish, decision }) => curator.removeSigner(params.signer, decision.by, wish.reason),
  });
}

function serveRules(api: Operations, curator: Curator): void {
  const path = '/api/v1/allow-rules';
  api.add<unknown, { account?: string }, unknown>({
    ...read,
    reach: 'own',
    id: 'listAllowRules',
    path,
    summary: 'Rules for events that vary without meaning',
    query: body({ account: text(64) }),
    answer: list('rules', ref('AllowRule')),
    run: async ({ query, caller }) => {
      if (query.account !== undefined) reach(caller, query.account);
      const rules = await curator.rules(query.account);
      const { accounts } = caller;
      return {
        rules: rules.filter(
          ({ account }) => account === null || accounts === null || accounts.includes(account),
        ),
      };
    },
  });
  api.add<unknown, unknown, Pick<RuleWish, 'pcr' | 'match' | 'reason'> & Partial<RuleWish>>({
    ...govern,
    id: 'addAllowRule',
    path,
    summary: 'Declares a difference harmless, in an account or in all',
    body: body(
      {
        account: text(64),
        pcr: { type: 'integer', minimum: 0, maximum: 23 },
        match: {
          type: 'object',
          required: ['kind'],
          oneOf: [
            fields({ kind: { const: 'event' }, type: text(64), subject: text(512) }),
            fields({ kind: { const: 'slot-attributes' } }),
            fields({ kind: { const: 'digests' }, sha256: { type: 'array', maxItems: 64, items: text(64) } }),
          ],
        },
        removal: flag,
        reason,
      },
      ['pcr', 'match', 'reason'],
    ),
    answer: ref('AllowRule'),
    status: 201,
    run: ({ body: wish, decision }) =>
      curator.addRule({ account: null, removal: false, ...wish }, decision.by),
  });
  api.add<{ rule: string }, unknown, { reason: string }>({
    ...govern,
    id: 'removeAllowRule',
    path: `${path}/:rule/remove`,
    summary: 'Allows a difference no more',
    params: idParams('rule'),
    body: reasoned,
    answer: ref('AllowRule'),
    run: ({ params, body: wish, decision }) => curator.removeRule(params.rule, decision.by, wish.reason),
  });
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
