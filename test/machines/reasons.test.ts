import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { attestTask } from '../../machines/attest-task.ts';
import { baseOs } from '../../machines/base-os.ts';
import { client } from '../../machines/client.ts';
import { configTask } from '../../machines/config-task.ts';
import { deviceRecord } from '../../machines/device-record.ts';
import { deviceSteps } from '../../machines/device-steps.ts';
import { infoTask } from '../../machines/info-task.ts';
import { changeReasons } from '../../machines/reasons/change.ts';
import { evidenceReasons } from '../../machines/reasons/evidence.ts';
import { policyReasons } from '../../machines/reasons/policy.ts';
import { explain, reasons } from '../../machines/reasons.ts';
import { tpmManager } from '../../machines/tpm-manager.ts';
import { vaultManager } from '../../machines/vault-manager.ts';

const root = join(import.meta.dirname, '../..');
const charts = [
  attestTask,
  baseOs,
  client,
  configTask,
  deviceRecord,
  deviceSteps,
  infoTask,
  tpmManager,
  vaultManager,
];
/** Named like reasons, and none: events of charts, and of the pages' stream that carries them. */
const eventTypes = new Set<string>(charts.flatMap((chart) => chart.events as string[]));

/** Families of names, or other names, that share a first word with reasons and are none. */
const notReasons: Record<string, string> = {
  'account.added': 'in the audit log',
  'device.labelled': 'in the audit log',
  'device.lock': 'in the audit log',
  'device.moved': 'in the audit log',
  'enrolment.approved': 'in the audit log',
  'enrolment.refused': 'in the audit log',
  'escrow.restored': 'in the audit log',
  'key.added': 'in the audit log',
  'key.revoked': 'in the audit log',
  'rollout.cancelled': 'in the audit log',
  'rollout.halted': 'in the audit log',
  'webhook.added': 'in the audit log',
  'webhook.removed': 'in the audit log',
  'rollout.resumed': 'in the audit log',
  'rollout.started': 'in the audit log',
  'rollout.stopped': 'in the audit log',
  'token.added': 'in the audit log',
  'token.revoked': 'in the audit log',
  'config.applied': 'a file',
  'config.staged': 'a file',
  'device.cert.pem': 'a file',
  'device.key.pem': 'a file',
  'firmware.bin': 'a file',
  'image.json': 'a file',
  'backup.json': 'a file',
  'evc.db': 'a file',
  'tpm.key': 'a file',
  'tpm.nv': 'a file',
  'tpm.sock': 'a file',
  'token.hash': 'a file',
  'session.began': 'in the audit log',
  'session.ended': 'in the audit log',
  'oidc.changed': 'in the audit log',
  'oidc.removed': 'in the audit log',
};

/** Codes that are put together: the beginning, and where the rest is declared. */
const composed: Record<string, { file: string; error: string }[]> = {
  'store.': [{ file: 'controller/store/store.ts', error: 'StoreError' }],
  'tpm.state-': [
    { file: 'wasm/state-file.ts', error: 'TpmStateError' },
    { file: 'wasm/nv-image.ts', error: 'NvImageError' },
  ],
};

interface Source {
  path: string;
  text: string;
}

function sources(): Source[] {
  return ['machines', 'formats', 'broker', 'device', 'controller', 'wasm'].flatMap((folder) =>
    (readdirSync(join(root, folder), { recursive: true }) as string[])
      .filter((name) => name.endsWith('.ts') && !name.endsWith('_pb.ts'))
      .map((name) => `${folder}/${name}`)
      .filter((path) => !path.startsWith('machines/reasons'))
      .map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') })),
  );
}

const name = String.raw`[a-z]+(?:\.[a-z][a-z0-9-]*)+`;
const quoted = new RegExp(String.raw`(['"\`])(${name})\1`, 'g');
/** Where a literal can only be a code, whatever family it names. */
const asCode = new RegExp(
  String.raw`(?:\bcode(?:\s*:|\s*=)\s*|new \w*(?:Refusal|Refused|Error)\(\s*(?:\d+,\s*)?)'(${name})'`,
  'g',
);
/** The beginning of codes. */
const beginning = /\.startsWith\(\s*'([a-z]+\.[a-z-]*)'\s*\)/g;
const template = /`([a-z]+\.[a-z-]*)\$\{[^}]*\}`/g;

/** Every code in the source, with the file that names it first. */
function codesIn(files: Source[]): Map<string, string> {
  const families = new Set(Object.keys(reasons).map((code) => code.split('.')[0]));
  const found = new Map<string, string>();
  const take = (code: string, path: string) => {
    if (!eventTypes.has(code) && !(code in notReasons) && !found.has(code)) found.set(code, path);
  };
  for (const { path, text: whole } of files) {
    const text = whole.replace(beginning, '');
    for (const [, , code = ''] of text.matchAll(quoted))
      if (families.has(code.split('.')[0])) take(code, path);
    for (const [, code = ''] of text.matchAll(asCode)) take(code, path);
    for (const [, prefix = ''] of text.matchAll(template)) {
      if (!families.has(prefix.split('.')[0])) continue;
      for (const code of composedCodes(prefix)) take(code, path);
    }
  }
  return found;
}

function composedCodes(prefix: string): string[] {
  const places = composed[prefix];
  if (!places) return [`${prefix}…`];
  return places.flatMap(({ file, error }) => {
    const text = readFileSync(join(root, file), 'utf8');
    const body = text.slice(text.indexOf(`class ${error}`));
    const [, union = ''] = /readonly code: ([^;]+);/.exec(body) ?? [];
    return [...union.matchAll(/'([a-z-]+)'/g)].map(([, word]) => `${prefix}${word}`);
  });
}

test('every code that the source uses is explained, and every explanation is used', () => {
  const used = codesIn(sources());
  const missing = [...used]
    .filter(([code]) => !(code in reasons))
    .map(([code, path]) => `${code} in ${path}`);
  assert.equal(missing, []);
  assert.equal(
    Object.keys(reasons).filter((code) => !used.has(code)),
    [],
  );
});

test('codes that are told by their beginning exist', () => {
  const begun = sources().flatMap(({ path, text }) =>
    [...text.matchAll(beginning)].map(([, start = '']) => ({ path, start })),
  );
  assert.ok(begun.length > 0);
  const codes = Object.keys(reasons);
  const none = begun.filter(({ start }) => !codes.some((code) => code.startsWith(start)));
  assert.equal(none, []);
});

test('what shares its first word with a reason and is none is still there', () => {
  const all = sources();
  const gone = Object.keys(notReasons).filter((word) => !all.some(({ text }) => text.includes(`'${word}'`)));
  assert.equal(gone, []);
});

test('the search finds a code that nobody explained', () => {
  const text =
    "throw new Refusal('tea.cold', 'x'); const why = { code: 'link.frayed' }; refuse('vault.open');";
  const found = codesIn([{ path: 'a.ts', text: `${text} \`store.\${x}\` \`token.\${x}\`` }]);
  const stores = Object.keys(reasons).filter((code) => code.startsWith('store.'));
  assert.equal(
    [...found.keys()].sort(),
    ['link.frayed', ...stores, 'tea.cold', 'token.…', 'vault.open'].sort(),
  );
});

test('no code is explained twice, and none is the name of an event', () => {
  const files = readdirSync(join(root, 'machines/reasons')).map((file) =>
    readFileSync(join(root, 'machines/reasons', file), 'utf8'),
  );
  const listed = files.flatMap((text) => [...text.matchAll(/^ {2}'([^']+)': \{$/gm)].map(([, code]) => code));
  assert.is(listed.length, Object.keys(reasons).length);
  assert.is(new Set(listed).size, listed.length);
  assert.equal(
    listed.filter((code) => eventTypes.has(code as string)),
    [],
  );
});

test('a reason says what it is, what it means and what to do', () => {
  for (const [code, { title, text, remedy }] of Object.entries(reasons)) {
    assert.ok(title.length > 0 && title.length <= 40, `${code}: a title is short`);
    assert.match(title, /^\p{Lu}[^.]*$/u, code);
    assert.match(text, /^\p{Lu}.*\.$/u, code);
    assert.ok(remedy.length > 0, code);
  }
});

test('genuine and wanted never mix', () => {
  for (const [code, { kind }] of Object.entries(evidenceReasons)) {
    assert.ok(code.startsWith('evidence.'), code);
    assert.is(kind, 'genuine', code);
  }
  for (const [code, { kind }] of Object.entries(policyReasons)) {
    assert.ok(code.startsWith('policy.'), code);
    assert.is(kind, 'policy', code);
  }
  for (const [code, { kind }] of Object.entries(changeReasons)) {
    assert.ok(code.startsWith('log.'), code);
    assert.is(kind, 'change', code);
  }
});

test('explain knows every code, and has an answer for any other', () => {
  for (const code of Object.keys(reasons)) assert.is(explain(code), reasons[code]);
  for (const code of ['', 'evidence.from-the-future', 'toString', '__proto__', 'x'.repeat(10_000)]) {
    const { kind, text } = explain(code);
    assert.is(kind, 'unknown');
    assert.ok(text.length < 200);
  }
});

test.run();
