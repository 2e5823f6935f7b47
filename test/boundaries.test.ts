// Who may import whom. The table is the architecture: what it forbids, no review has to notice.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, posix } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Import, importsOf } from './kit/imports.ts';

const root = dirname(import.meta.dirname);

interface Rule {
  /** Folders that it may import besides itself; `types:` means that nothing of it is there at run time. */
  folders: string[];
  packages: string[];
  node: boolean;
}

const table: Record<string, Rule> = {
  machines: { folders: ['types:formats'], packages: ['xstate'], node: false },
  formats: { folders: [], packages: ['@bufbuild/protobuf', 'xstate'], node: false },
  telemetry: {
    folders: [],
    packages: [
      '@opentelemetry/api',
      '@opentelemetry/exporter-trace-otlp-http',
      '@opentelemetry/resources',
      '@opentelemetry/sdk-trace-base',
    ],
    node: false,
  },
  broker: { folders: ['formats', 'types:machines'], packages: ['aedes', 'mqtt'], node: true },
  device: {
    folders: ['machines', 'formats', 'telemetry'],
    packages: ['@bufbuild/protobuf', 'commander', 'mqtt', 'tar', 'valibot', 'xstate'],
    node: true,
  },
  controller: {
    folders: ['machines', 'formats', 'telemetry'],
    packages: [
      '@bufbuild/protobuf',
      'ajv',
      'commander',
      'fastify',
      'libsql',
      'lru-cache',
      'mqtt',
      'openid-client',
      'pg',
      'prom-client',
      'tar',
      'valibot',
      'xstate',
    ],
    node: true,
  },
  inspector: { folders: ['machines', 'formats'], packages: ['elkjs', 'xstate'], node: false },
  wasm: { folders: [], packages: [], node: true },
};

/** What single files may import beyond their folder's rule, and why. */
const allowances: { file: RegExp; to: RegExp; why: string }[] = [
  { file: /^formats\/x509\//, to: /^node-forge$/, why: 'ASN.1 is built and parsed there alone' },
  { file: /^device\//, to: /^broker\/bus\.ts$/, why: 'the components of a device talk over its own bus' },
  {
    file: /^device\/cli\/(run|run-processes|fleet)\.ts$/,
    to: /^broker\/service-manager\.ts$/,
    why: 'what systemd is told is the same for EVC and a device',
  },
  {
    file: /^device\/tpm\/transports\//,
    to: /^wasm\//,
    why: 'the emulator is one of the transports, and nobody else knows of it',
  },
  { file: /^inspector\/server\//, to: /^(node:|ws$)/, why: 'the page is served to browsers by it, in Node' },
  {
    file: /^(controller\/api\/(page|recordings|stream)|device\/inspect)\.ts$/,
    to: /^inspector\/server\//,
    why: 'EVC and a device serve the same page',
  },
  {
    file: /^controller\/api\/server\.ts$/,
    to: /^broker\/places\.ts$/,
    why: 'what one source may hold is counted alike at both doors',
  },
  { file: /^controller\/(cli\/)?serve\.ts$/, to: /^broker\//, why: 'the embedded broker is started there' },
];

interface Edge extends Import {
  file: string;
  /** A file of ours, or the name of a package. */
  to: string;
}

function filesOf(folder: string): string[] {
  if (!existsSync(join(root, folder))) return [];
  return (readdirSync(join(root, folder), { recursive: true }) as string[])
    .filter((name) => /\.(ts|js|mjs)$/.test(name))
    .map((name) => posix.join(folder, name.replaceAll('\\', '/')));
}

function edgesOf(file: string, source: string): Edge[] {
  return importsOf(source).map((found) => {
    const to = found.from.startsWith('.')
      ? posix.join(posix.dirname(file), found.from)
      : packageOf(found.from);
    return { ...found, file, to };
  });
}

function packageOf(name: string): string {
  if (name.startsWith('node:')) return name;
  return name
    .split('/')
    .slice(0, name.startsWith('@') ? 2 : 1)
    .join('/');
}

/** Why an import is forbidden; null when it is not. */
function fault({ file, from, to, typeOnly }: Edge): string | null {
  const [folder = ''] = file.split('/');
  const rule = table[folder];
  if (!rule) return `${file}: no rule says what ${folder}/ may import`;
  if (allowances.some((allowance) => allowance.file.test(file) && allowance.to.test(to))) return null;
  const forbidden = `${file} may not import ${to}`;
  if (to.startsWith('node:')) return rule.node ? null : forbidden;
  if (!from.startsWith('.')) {
    if (builtinModules.includes(from)) return `${file}: write node:${from}`;
    return rule.packages.includes(to) ? null : forbidden;
  }
  if (!/\.(ts|js)$/.test(from)) return `${file}: ${from} lacks its extension`;
  const [other = ''] = to.split('/');
  if (other === folder || rule.folders.includes(other)) return null;
  return typeOnly && rule.folders.includes(`types:${other}`) ? null : forbidden;
}

const edges = Object.keys(table)
  .flatMap(filesOf)
  .filter((file) => !file.startsWith('wasm/build/'))
  .flatMap((file) => edgesOf(file, readFileSync(join(root, file), 'utf8')));

test('every import is one that the architecture has', () => {
  assert.ok(edges.length > 500, 'the files were found');
  assert.equal(
    edges.map(fault).filter((text) => text !== null),
    [],
  );
});

test('every file that is imported is there', () => {
  const gone = edges.filter(({ from, to }) => from.startsWith('.') && !existsSync(join(root, to)));
  assert.equal(
    gone.map(({ file, to }) => `${file} imports ${to}`),
    [],
  );
});

test('every folder with source has a rule', () => {
  const other = new Set([...Object.keys(table), 'bin', 'dist', 'node_modules', 'test', 'tools', 'docs']);
  const folders = readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.') && !other.has(entry.name))
    .map(({ name }) => name);
  assert.equal(
    folders.filter((folder) => filesOf(folder).length > 0),
    [],
  );
});

test('no allowance is left over', () => {
  const unused = allowances.filter(
    ({ file, to }) => !edges.some((edge) => file.test(edge.file) && to.test(edge.to)),
  );
  assert.equal(
    unused.map(({ why }) => why),
    [],
  );
});

test('no circle of imports at run time', () => {
  const next = new Map<string, string[]>();
  for (const { file, from, to, typeOnly } of edges) {
    if (!typeOnly && from.startsWith('.')) next.set(file, [...(next.get(file) ?? []), to]);
  }
  const done = new Set<string>();
  const circles: string[] = [];
  const walk = (file: string, path: string[]) => {
    if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(' → '));
    if (done.has(file) || path.includes(file)) return;
    for (const to of next.get(file) ?? []) walk(to, [...path, file]);
    done.add(file);
  };
  for (const file of next.keys()) walk(file, []);
  assert.equal(circles, []);
});

test('each kind of import is seen, and only imports are', () => {
  const source = [
    "import { a } from './a.ts';",
    "import type { B } from './b.ts';",
    "import './c.ts';",
    "export * from './d.ts';",
    "export type { E } from './e.ts';",
    "export { f,\n  g } from './f.ts';",
    "import h, * as i from 'pkg/deep';",
    "const j = await import('./j.ts');",
    "type K = import('./k.ts').K;",
    "import l, { type M } from '@scope/pkg/x';",
    "// import n from './n.ts';",
    "/* import o from './o.ts'; */",
    "const p = 'x'; export { p };",
    "const q = `import r from './r.ts'`;",
    'const s = "from \'./s.ts\'";',
    'import.meta.url;',
  ].join('\n');
  assert.equal(
    importsOf(source).map(({ from, typeOnly }) => `${from}${typeOnly ? ' (type)' : ''}`),
    [
      './a.ts',
      './b.ts (type)',
      './c.ts',
      './d.ts',
      './e.ts (type)',
      './f.ts',
      'pkg/deep',
      '@scope/pkg/x',
      './j.ts',
      './k.ts',
    ],
  );
  assert.throws(() => importsOf('await import(name)'), /nobody can tell/);
});

test('what the architecture forbids is found', () => {
  const forbidden = (file: string, source: string) => edgesOf(file, source).map(fault);
  const cases: [file: string, source: string, allowed: boolean][] = [
    ['device/a.ts', "import x from '../controller/evc.ts';", false],
    ['controller/a.ts', "import type { X } from '../device/node.ts';", false],
    ['controller/verify/a.ts', "import x from '../../broker/broker.ts';", false],
    ['controller/cli/serve.ts', "import x from '../../broker/broker.ts';", true],
    ['device/a.ts', "import x from '../broker/broker.ts';", false],
    ['device/a.ts', "import x from '../broker/bus.ts';", true],
    ['device/a.ts', "import x from '../wasm/tpm.ts';", false],
    ['machines/a.ts', "import x from '../formats/tpm2/codec.ts';", false],
    ['machines/a.ts', "import type { X } from '../formats/tpm2/codec.ts';", true],
    ['machines/a.ts', "import x from 'node:fs';", false],
    ['formats/a.ts', "import { Buffer } from 'node:buffer';", false],
    ['formats/wire/a.ts', "import forge from 'node-forge';", false],
    ['formats/a.ts', "import x from '../machines/flow.ts';", false],
    ['device/a.ts', "const x = await import('../test/kit/world.ts');", false],
    ['device/a.ts', "import x from 'left-pad';", false],
    ['device/a.ts', "import fs from 'fs';", false],
    ['device/a.ts', "import x from './b';", false],
    ['wasm/a.ts', "import x from '../formats/tpm2/codec.ts';", false],
  ];
  for (const [file, source, allowed] of cases) {
    assert.is(
      forbidden(file, source).every((text) => text === null),
      allowed,
      `${file}: ${source}`,
    );
  }
});

test.run();
