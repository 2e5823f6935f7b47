// What a build is made of, as CycloneDX 1.5 [ECMA-424]: every package that is installed with this one, from package-lock.json, what is
// bundled into the page, and what is compiled into wasm/tpm.wasm. Equal inputs make equal bytes, so there is no time and no serial
// number in it; and nothing is asked of anybody.
// (`npm sbom --omit dev` leaves out packages that something of development needs as well.)
//
//     node sbom.js             writes dist/sbom.json
//     node sbom.js --notice    writes the list of packages in NOTICE.md anew
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(fileURLToPath(import.meta.url));
/** Of development, and part of what is shipped. */
const bundled = new Set(['elkjs']);
const heading = '**Packages** that are installed with this one';

const read = (name) => readFileSync(join(root, name), 'utf8');
const purl = (name, version) => `pkg:npm/${name.replace('@', '%40')}@${version}`;

/** Packages of the lock file by their place in node_modules. */
function packages() {
  const { packages: all } = JSON.parse(read('package-lock.json'));
  return Object.entries(all).flatMap(([place, found]) => {
    const here = place.split('node_modules/').at(-1);
    // Under an alias it is installed as something else.
    const name = found.name ?? here;
    if (place === '' || found.link || (found.dev && !bundled.has(name))) return [];
    return [{ place, name, ...found }];
  });
}

/** Where a package finds another, as Node looks for it. */
function placeOf(name, from, known) {
  for (
    let at = from;
    ;
    at = at.includes('/node_modules/') ? at.slice(0, at.lastIndexOf('/node_modules/')) : ''
  ) {
    const place = at === '' ? `node_modules/${name}` : `${at}/node_modules/${name}`;
    if (known.has(place)) return place;
    if (at === '') return undefined;
  }
}

/** Sources of the TPM that is compiled into this project. */
function wasmParts() {
  return read('wasm/NOTICE.md')
    .split('\n')
    .filter((line) => /^\| .* \|$/.test(line) && !/^\| (Part|-+) /.test(line))
    .map((line) => {
      const [, part, from, licence] = line.split('|').map((cell) => cell.trim());
      const [, name] = /`([^`]+)`/.exec(from);
      const version = /` ([^\s,]+)/.exec(from)?.[1];
      return {
        ...{ type: 'library', 'bom-ref': `wasm:${name}`, name, version, description: part },
        ...{ scope: 'required', licenses: [{ license: { name: licence } }] },
      };
    });
}

const licenceOf = (text) =>
  /[ (]/.test(text) ? { expression: text.replace(/^\(|\)$/g, '') } : { license: { id: text } };

export function sbom() {
  const { name, version, description, license } = JSON.parse(read('package.json'));
  const all = packages();
  const known = new Set(all.map(({ place }) => place));
  const refs = new Map(all.map((one) => [one.place, purl(one.name, one.version)]));
  const self = { type: 'application', 'bom-ref': purl(name, version), name, version, description };
  const lock = JSON.parse(read('package-lock.json')).packages[''];
  const dependsOn = (from, wanted) =>
    [...new Set(Object.keys(wanted).map((one) => refs.get(placeOf(one, from, known))))]
      .filter((ref) => ref !== undefined)
      .sort();
  const components = new Map();
  const dependencies = new Map();
  for (const one of all) {
    const ref = refs.get(one.place);
    const { dependencies: needs = {}, optionalDependencies: may = {}, peerDependencies: peers = {} } = one;
    dependencies.set(ref, [
      ...new Set([...(dependencies.get(ref) ?? []), ...dependsOn(one.place, { ...needs, ...may, ...peers })]),
    ]);
    components.set(ref, {
      ...{ type: 'library', 'bom-ref': ref, name: one.name, version: one.version, purl: ref },
      scope: one.optional || one.devOptional ? 'optional' : 'required',
      licenses: [licenceOf(one.license)],
      hashes: [
        { alg: 'SHA-512', content: Buffer.from(one.integrity.split('-')[1], 'base64').toString('hex') },
      ],
    });
  }
  const parts = wasmParts();
  const own = [...dependsOn('', { ...lock.dependencies, ...lock.optionalDependencies })];
  const page = all.filter((one) => bundled.has(one.name)).map(({ place }) => refs.get(place));
  const byRef = (a, b) => (a['bom-ref'] < b['bom-ref'] ? -1 : 1);
  return {
    $schema: 'http://cyclonedx.org/schema/bom-1.5.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.5',
    version: 1,
    metadata: { component: { ...self, purl: self['bom-ref'], licenses: [licenceOf(license)] } },
    components: [...[...components.values()].sort(byRef), ...parts],
    dependencies: [
      { ref: self['bom-ref'], dependsOn: [...own, ...page, ...parts.map((one) => one['bom-ref'])].sort() },
      ...[...dependencies]
        .map(([ref, needs]) => ({ ref, dependsOn: needs.sort() }))
        .sort((a, b) => (a.ref < b.ref ? -1 : 1)),
    ],
  };
}

/** The list of NOTICE.md: name and version, by licence. */
export function notice() {
  const by = new Map();
  for (const { name, version, license } of packages())
    by.set(license, [...(by.get(license) ?? []), `${name} ${version}`]);
  const lines = [...by]
    .sort(([a, x], [b, y]) => y.length - x.length || (a < b ? -1 : 1))
    .map(([licence, names]) => `* ${licence}: ${[...new Set(names)].sort().join(', ')}`);
  return lines.map(wrapped).join('\n');
}

/** At 120 columns, as the rest of the file. */
function wrapped(line) {
  const rows = [];
  for (const word of line.split(' ')) {
    const last = rows.at(-1);
    if (last !== undefined && last.length + word.length < 119) rows[rows.length - 1] = `${last} ${word}`;
    else rows.push(rows.length === 0 ? word : `  ${word}`);
  }
  return rows.join('\n');
}

export function withNotice(text) {
  const at = text.indexOf(heading);
  const begin = text.indexOf('\n* ', at) + 1;
  const end = text.indexOf('\n\n', begin);
  return `${text.slice(0, begin)}${notice()}${text.slice(end)}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv.includes('--notice'))
    writeFileSync(join(root, 'NOTICE.md'), withNotice(read('NOTICE.md')));
  else if (existsSync(join(root, 'package-lock.json'))) {
    mkdirSync(join(root, 'dist'), { recursive: true });
    writeFileSync(join(root, 'dist/sbom.json'), `${JSON.stringify(sbom(), null, 1)}\n`);
  }
}
