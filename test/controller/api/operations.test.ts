// deadline: 180 s
// Every operation of the API, by construction: one that is added without a line in `cases` fails here.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Validator } from '@seriousme/openapi-schema-validator';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Operation } from '../../../controller/api/operation.ts';
import { roles } from '../../../controller/tokens.ts';
import { ApiBench } from '../../kit/api.ts';
import { softDevice } from '../../kit/logins.ts';

const bench = await ApiBench.open();
const { evc } = bench.evc;
const { uud, board } = await bench.devices();
await evc.accounts.add({
  id: 'other',
  kind: 'production',
  locationLock: false,
  radius: 100,
  moved: 'report',
});
await evc.accounts.add({
  id: 'careful',
  kind: 'production',
  locationLock: false,
  radius: 9,
  moved: 'report',
});
const day = 86_400_000;
const expires = bench.evc.clock.now() + day;
const careful = await evc.keys.add({
  name: 'careful',
  account: 'factory',
  limit: 5,
  expires,
  approval: true,
});
const waiting = [await softDevice(), await softDevice()];
const { X509Certificate, createPrivateKey } = await import('node:crypto');
const onboarding = {
  id: careful.id,
  key: createPrivateKey(careful.key),
  certificate: new X509Certificate(careful.certificate).raw,
};
for (const [i, device] of waiting.entries()) await bench.evc.register(device, onboarding, `waits-${i}`);
const tokens = {
  viewer: await bench.token('viewer', 'viewer'),
  operator: await bench.token('operator', 'operator'),
  admin: await bench.token('second', 'admin'),
  /** May do everything, and in another account. */
  other: await bench.token('other', 'admin', ['other']),
};
test.after(async () => {
  await bench.close();
  await board.close();
});

interface Case {
  /** What stands in the path, by the name of its parameter. */
  at?: Record<string, string>;
  query?: string;
  body?: object | Buffer | (() => Promise<object>);
  /** What another account's token gets, where it is not what its reach says: a code, or an answer with nothing of ours in it. */
  others?: string;
  /** Where nothing in this test makes it go well: the code that it is refused with. */
  refused?: string;
  /** Has no end. */
  endless?: true;
}

const fixtures = join(import.meta.dirname, '../../fixtures/endorsement');
const at = { device: uud.id };
const reason = 'so that it is seen';
const attempt = async () => (await evc.operator.show(uud.id)).verdict?.attempt ?? '';
const root = readFileSync(join(fixtures, 'swtpm-localca-rootca-cert.pem')).toString('base64');
const { logs } = (await board.present()).boot;
const log = logs.find(({ kind }) => kind === 'bios')?.bytes ?? new Uint8Array();
const packed = Buffer.from(log).toString('base64');
await evc.curator.addImage({ version: '9.0.0', logs: [log] });
await evc.curator.addFirmware({ firmware: 'ACME 1', vendor: '', logs: [log] });

/** In the order in which they are asked, since the later ones undo what the earlier ones need. */
const cases: Record<string, Case> = {
  showService: {},
  describe: {},
  whoAmI: {},
  readMetrics: {},
  listDevices: { query: 'filter=trust:uud,trusted&limit=1', others: 'filtered' },
  showDevice: { at },
  showChanges: { at },
  readJournal: { at, query: 'limit=3' },
  followDevice: { at, endless: true },
  listAttempts: { at },
  showAttempt: { at: { ...at, attempt: 'last' } },
  readEvents: { query: `device=${uud.id}`, others: 'device.unknown', endless: true },
  followGuests: { endless: true },
  upload: { body: Buffer.from('an image') },
  addImage: { body: { version: '9.0.0', logs: [packed] } },
  listImages: {},
  showImage: { at: { version: '9.0.0' } },
  exportImages: { body: { versions: ['9.0.0'] } },
  importImages: { body: { manifest: {} }, refused: 'manifest.malformed' },
  addFirmware: { body: { firmware: 'ACME 1', logs: [packed] } },
  listFirmware: {},
  showFirmware: { at: { firmware: 'ACME 1' } },
  exportFirmware: { body: { firmware: ['ACME 1'] } },
  importFirmware: { body: { manifest: {} }, refused: 'manifest.malformed' },
  addSigner: {
    body: async () => ({ name: 'own', signs: 'images', key: evc.curator.ownSigner().publicKey, reason }),
  },
  listSigners: {},
  removeSigner: { at: { signer: 'own' }, body: { reason } },
  addAllowRule: { body: { pcr: 5, match: { kind: 'digests', sha256: ['ab'.repeat(32)] }, reason } },
  listAllowRules: { query: 'account=factory', others: 'account.unknown' },
  removeAllowRule: {
    at: { rule: '' },
    body: { reason },
  },
  addEkRoots: { body: { certificates: root } },
  listEkRoots: {},
  removeEkRoot: { at: { root: '' } },
  listAccounts: { others: 'filtered' },
  addAccount: { body: { id: 'new' } },
  showAccount: { at: { account: 'factory' }, others: 'account.unknown' },
  changeAccount: { at: { account: 'factory' }, body: { radius: 7 }, others: 'account.unknown' },
  listKeys: { others: 'filtered' },
  addKey: { body: { name: 'k', account: 'factory' }, others: 'account.unknown' },
  revokeKey: { at: { key: careful.id }, body: { reason }, others: 'key.unknown' },
  listWaiting: { others: 'filtered' },
  checkEscrow: { query: 'limit=5', others: 'filtered' },
  exportEscrow: {
    body: async () => ({ key: evc.curator.ownSigner().publicKey, limit: 5 }),
    others: 'filtered',
  },
  restoreEscrow: {
    body: { keys: [{ device: 'ab'.repeat(32), version: 1, keyId: 'k', at: 1, box: 'AAAA' }] },
    others: 'filtered',
  },
  approveDevice: { at: { waiting: waiting[0]?.id ?? '' }, body: { reason }, others: 'enrolment.unknown' },
  refuseDevice: { at: { waiting: 'waits-1' }, body: { reason }, others: 'enrolment.unknown' },
  setOidc: {
    body: {
      issuer: 'http://127.0.0.1:9',
      clientId: 'evc',
      clientSecret: 'a secret',
      roles: [{ value: 'admins', role: 'admin', accounts: null }],
    },
    refused: 'oidc.unreachable',
  },
  showOidc: { refused: 'oidc.unset' },
  removeOidc: { body: { reason }, refused: 'oidc.unset' },
  listSessions: {},
  endSession: { at: { session: 'ab' }, body: { reason }, refused: 'session.unknown' },
  logOut: { refused: 'session.none', others: 'session.none' },
  listTokens: {},
  addToken: { body: { name: 'third', role: 'viewer', accounts: ['other'], days: 3 } },
  revokeToken: { at: { token: 'third' }, body: { reason } },
  addWebhook: { body: { url: 'http://127.0.0.1:9/x', events: ['verdict.given'] } },
  listWebhooks: {},
  retryWebhook: { at: { webhook: '' } },
  removeWebhook: { at: { webhook: '' }, body: { reason } },
  readAudit: { query: 'limit=5', others: 'filtered' },
  labelDevice: { at, body: { labels: ['lab'] } },
  lockDevice: { at, body: { radius: 5 } },
  showSettings: { at },
  changeSettings: { at, body: { settings: { a: 'b' } } },
  upgradeDevice: { at, body: { version: '9.0.0' }, refused: 'image.no-file' },
  tryChange: { body: { images: ['9.0.0'], attempts: 8 }, others: 'filtered' },
  startRollout: {
    body: { version: '9.0.0', devices: [uud.id], stages: [50, 100], reason },
    others: 'device.unknown',
  },
  listRollouts: { others: 'filtered' },
  showRollout: { at: { rollout: '' }, others: 'rollout.unknown' },
  stopRollout: { at: { rollout: '' }, body: { reason }, others: 'rollout.unknown' },
  resumeRollout: { at: { rollout: '' }, body: { reason }, others: 'rollout.unknown' },
  cancelRollout: { at: { rollout: '' }, body: { reason }, others: 'rollout.unknown' },
  acceptDevices: {
    body: async () => ({ reason, devices: [{ device: uud.id, attempt: await attempt() }] }),
    others: 'device.unknown',
  },
  acceptDevice: { at, body: async () => ({ reason, attempt: await attempt() }) },
  acceptPlace: { at, body: { reason }, refused: 'device.not-moved' },
  rotateKey: { at },
  moveDevice: { at, body: { account: 'careful' } },
  allowReenrolment: { at, body: { reason } },
  retireDevice: { at, body: { reason } },
};

const operations = new Map(bench.server.operations.map((operation) => [operation.id, operation]));

function pathOf({ path }: Operation, { at: names = {}, query }: Case): string {
  const filled = path.replace(/:([a-z0-9]+)/g, (_, name: string) => encodeURIComponent(names[name] || 'x'));
  return query === undefined ? filled : `${filled}?${encodeURI(query)}`;
}

test('every operation has a case, and every case an operation', () => {
  assert.equal(
    [...operations.keys()].filter((id) => !(id in cases)),
    [],
    'operations without a case',
  );
  assert.equal(
    Object.keys(cases).filter((id) => !operations.has(id)),
    [],
  );
});

test('what is no operation is known here, and open for a reason', () => {
  const api = new Set([...operations.values()].map(({ method, path }) => `${method} ${path}`));
  const others = bench.server.routes.filter((route) => !api.has(route) && !/^HEAD /.test(route));
  // Images are signed and fetched by devices; the page shows nothing without a token; whoever logs in has none yet; that EVC
  // lives and is ready says nothing else.
  assert.equal(
    others.filter((route) => !/^GET \/([a-z-]+\.(js|css|svg|json|html)(\.map)?)?$/.test(route)).sort(),
    ['GET /healthz', 'GET /images/:sha256', 'GET /oidc/callback', 'GET /oidc/login', 'GET /readyz'],
  );
});

const large = Buffer.from(`{"reason":"${'x'.repeat(10_000_000)}"}`);

for (const [id, one] of Object.entries(cases)) {
  const operation = operations.get(id);
  if (!operation) continue;
  const { method, role, reach, consumes } = operation;
  const path = pathOf(operation, one);
  const body = async () => (typeof one.body === 'function' ? await one.body() : one.body);
  const refused = async (call: Parameters<ApiBench['call']>[2], status: number, code: string) => {
    const answer = await bench.call(method, path, call);
    assert.equal([answer.status, answer.json.code], [status, code], `${id}: ${answer.body.subarray(0, 300)}`);
    assert.is(answer.json.status, status);
    assert.match(`${answer.headers['content-type']}`, /^application\/problem\+json/);
    assert.match(`${answer.json.type}`, `urn:eve-attest:problem:${code}`);
    assert.ok(`${answer.json.detail}`.length > 10);
  };
  const headers = consumes ? { 'content-type': consumes } : {};

  test(`${id}: without a token, with a wrong one, and with one of a lesser role`, async () => {
    const sent = await body();
    await refused({ body: sent, headers, token: null }, 401, 'auth.missing');
    await refused({ body: sent, headers, token: `${tokens.admin}x` }, 401, 'auth.wrong');
    await refused({ body: sent, headers, token: 'x' }, 401, 'auth.wrong');
    for (const lesser of roles.slice(0, roles.indexOf(role)))
      await refused({ body: sent, headers, token: tokens[lesser] }, 403, 'auth.role');
  });

  test(`${id}: with another account's token`, async () => {
    const call = { body: await body(), headers, token: tokens.other };
    if (reach === 'device') return refused(call, 404, 'device.unknown');
    if (reach === 'fleet') return refused(call, 403, 'auth.scope');
    if (one.others !== undefined && one.others !== 'filtered') return refused(call, 404, one.others);
    assert.ok(reach === 'shared' || one.others === 'filtered', `${id}: say what others get`);
    const answer = await bench.call(method, path, { ...call, beginning: one.endless ?? false });
    assert.ok(answer.status < 300, answer.body.toString());
    if (reach === 'own') assert.not.match(answer.body.toString(), new RegExp(`${uud.id}|factory|careful`));
    return undefined;
  });

  test(`${id}: with a body that is broken, too large, or says more than was asked`, async () => {
    const json = { 'content-type': 'application/json' };
    const broken = consumes ? [415, 'request.content-type'] : [400, 'request.malformed'];
    await refused({ body: consumes ? '{}' : '{', headers: json }, broken[0] as number, broken[1] as string);
    await refused({ body: large, headers: json }, 413, 'request.too-large');
    if (operation.body) await refused({ body: { ...(await body()), surplus: 1 } }, 422, 'request.invalid');
    const query = await bench.call(method, `${path}${path.includes('?') ? '&' : '?'}surplus=1`, {
      body: await body(),
      headers,
    });
    assert.equal([query.status, query.json.code], [422, 'request.invalid'], id);
  });
}

test('the document is OpenAPI 3.1, says every operation, and every name in it is there', async () => {
  const document = (await bench.call('GET', '/api/v1/openapi.json')).json;
  const result = await new Validator().validate(structuredClone(document));
  assert.ok(result.valid, JSON.stringify(result.errors));
  const said = Object.values(
    document.paths as Record<string, Record<string, { operationId: string }>>,
  ).flatMap((methods) => Object.values(methods).map(({ operationId }) => operationId));
  assert.equal(said.sort(), [...operations.keys()].sort());
  const { schemas } = document.components as { schemas: Record<string, unknown> };
  const named = [...JSON.stringify(document).matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(
    ([, name]) => name,
  );
  assert.equal([...new Set(named)].sort(), Object.keys(schemas).sort());
});

test('every operation does what it says, and answers as the document says', async () => {
  const document = (await bench.call('GET', '/api/v1/openapi.json')).json;
  const ajv = new Ajv2020({ strict: false });
  ajv.addSchema({ $id: 'evc', components: document.components });
  for (const [id, one] of Object.entries(cases)) {
    const operation = operations.get(id) as Operation;
    const { method, role, consumes, status = 200, produces } = operation;
    if (id === 'removeAllowRule')
      one.at = { rule: (await evc.curator.rules()).find(({ by }) => by !== 'evc')?.id ?? '' };
    if (id === 'removeEkRoot') one.at = { root: evc.endorsers.list().roots[0]?.id ?? '' };
    if (one.at?.webhook !== undefined) one.at = { webhook: (await evc.webhooks.list())[0]?.id ?? '' };
    if (one.at?.rollout !== undefined) one.at = { rollout: (await evc.rollouts.list())[0]?.id ?? '' };
    if (id === 'acceptDevice') await bench.tampered(uud, board, '7.7.7');
    const answer = await bench.call(method, pathOf(operation, one), {
      body: typeof one.body === 'function' ? await one.body() : one.body,
      headers: consumes ? { 'content-type': consumes } : {},
      token: role === 'admin' ? bench.admin : tokens[role],
      beginning: one.endless ?? false,
    });
    if (one.refused !== undefined) {
      assert.is(answer.json.code, one.refused, `${id}: ${answer.body}`);
      continue;
    }
    assert.is(answer.status, status, `${id}: ${answer.body}`);
    assert.match(`${answer.headers['content-type']}`, produces ?? 'application/json', id);
    if (produces) continue;
    const text = JSON.stringify(operation.answer).replaceAll('"#/', '"evc#/');
    const check = ajv.compile(JSON.parse(text));
    assert.ok(check(answer.json), `${id}: ${ajv.errorsText(check.errors)} ${answer.body.subarray(0, 2000)}`);
  }
});

test.run();
