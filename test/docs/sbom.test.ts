// The list of what a build is made of is complete, and says nothing of where it was built.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { projectRoot } from '../kit/root.ts';

interface Component {
  name: string;
  version: string;
  'bom-ref': string;
  licenses: { license?: { id?: string; name?: string }; expression?: string }[];
  hashes?: { alg: string; content: string }[];
}
interface Sbom {
  bomFormat: string;
  specVersion: string;
  metadata: { component: Component };
  components: Component[];
  dependencies: { ref: string; dependsOn: string[] }[];
}
interface Locked {
  name?: string;
  version: string;
  dev?: boolean;
  integrity: string;
}

const root = fileURLToPath(projectRoot);
const read = (name: string) => readFileSync(join(root, name), 'utf8');
// From files alone: whoever is asked is not there.
const offline = { ...process.env, npm_config_registry: 'http://127.0.0.1:1', NO_PROXY: '' };
execFileSync(process.execPath, ['sbom.js'], { cwd: root, env: offline });
const text = read('dist/sbom.json');
const sbom = JSON.parse(text) as Sbom;
const { packages } = JSON.parse(read('package-lock.json')) as { packages: Record<string, Locked> };

test('every package that is installed with this one is in it, with its licence and its hash', () => {
  assert.equal([sbom.bomFormat, sbom.specVersion], ['CycloneDX', '1.5']);
  assert.equal([sbom.metadata.component.name], ['eve-attest']);
  const wanted = Object.entries(packages).filter(([place, { dev }]) => place !== '' && !dev);
  assert.ok(wanted.length > 100);
  for (const [place, { name = place.split('node_modules/').at(-1), version, integrity }] of wanted) {
    const found = sbom.components.find((one) => one.name === name && one.version === version);
    assert.ok(found, `${name} ${version}`);
    assert.is(Buffer.from(found?.hashes?.[0]?.content ?? '', 'hex').toString('base64'), integrity.slice(7));
  }
  for (const name of ['elkjs', 'openssl', 'wasi-libc'])
    assert.ok(
      sbom.components.some((one) => one.name === name),
      `${name}, which is in what is shipped`,
    );
});

test('every licence is one that this project can be given away with', () => {
  const fine =
    /^(MIT|ISC|0BSD|Apache-2\.0|BSD-[23]-Clause|BlueOak-1\.0\.0|Apache-2\.0 AND BSD-3-Clause|BSD-3-Clause OR GPL-2\.0|EPL-2\.0 OR GPL-3\.0-or-later)$/;
  for (const { name, licenses } of sbom.components) {
    const [{ license, expression } = {}] = licenses;
    const said = license?.id ?? expression;
    // Of the parts of the TPM the words are in wasm/NOTICE.md.
    assert.ok(said === undefined ? (license?.name ?? '') !== '' : fine.test(said), `${name}: ${said}`);
  }
});

test('who depends on whom leads from this package to each part, and to nothing that is not listed', () => {
  const needs = new Map(sbom.dependencies.map(({ ref, dependsOn }) => [ref, dependsOn]));
  const reached = new Set<string>();
  const walk = (ref: string) => {
    if (reached.has(ref)) return;
    reached.add(ref);
    for (const next of needs.get(ref) ?? []) walk(next);
  };
  walk(sbom.metadata.component['bom-ref']);
  const listed = new Set(sbom.components.map((one) => one['bom-ref']));
  reached.delete(sbom.metadata.component['bom-ref']);
  assert.equal(
    [...reached].filter((ref) => !listed.has(ref)),
    [],
  );
  // A compiler of another version is nobody's dependency, and optional.
  const alone = [...listed].filter((ref) => !reached.has(ref) && !/typescript|types/.test(ref));
  assert.equal(alone, []);
});

test('no host, no time and no folder of where it was built; the same twice', () => {
  const links = [...text.matchAll(/https?:\/\/[^"]+/g)].map(([link]) => link);
  assert.equal(links, ['http://cyclonedx.org/schema/bom-1.5.schema.json']);
  assert.not.match(text, root);
  assert.not.match(text, /timestamp|serialNumber/);
  execFileSync(process.execPath, ['sbom.js'], { cwd: root, env: offline });
  assert.is(read('dist/sbom.json'), text);
});

test('NOTICE.md lists what the lock file has (npm run licences)', async () => {
  const { withNotice } = (await import('../../sbom.js' as string)) as { withNotice(text: string): string };
  assert.is(withNotice(read('NOTICE.md')), read('NOTICE.md'));
});

test.run();
