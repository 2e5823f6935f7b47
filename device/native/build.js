// `npm run build:native`: compiles the addon into build/ beside this file, or into the file that is named. It wants a C compiler, the
// headers of the kernel and of the C library, and the headers that Node ships; nothing is fetched.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.argv[2] ?? join(here, 'build/addon.node'));

function end(problem, hint) {
  process.stderr.write(`build:native: ${problem}\nhint: ${hint}\n`);
  process.exit(1);
}

if (process.platform !== 'linux')
  end(
    `the addon reaches TPMs and file systems of Linux, and this is ${process.platform}`,
    'run without it: --tpm wasm:FILE and the file vault work everywhere',
  );

const places = [
  process.env.npm_config_nodedir && join(process.env.npm_config_nodedir, 'include/node'),
  join(dirname(dirname(process.execPath)), 'include/node'),
].filter(Boolean);
const headers = places.find((place) => existsSync(join(place, 'node_api.h')));
if (!headers)
  end(
    `there is no node_api.h in ${places.join(' or ')}`,
    'Alpine: apk add nodejs-dev. Elsewhere Node’s own archive has include/: npm_config_nodedir=FOLDER npm run build:native',
  );

const compiler = process.env.CC ?? 'cc';
const fresh = `${out}.${process.pid}`;
mkdirSync(dirname(out), { recursive: true });
const compiled = spawnSync(
  compiler,
  [
    ...['-std=c11', '-O2', '-Wall', '-Wextra', '-fPIC', '-shared', '-fvisibility=hidden', '-s'],
    ...['-fstack-protector-strong', '-U_FORTIFY_SOURCE', '-D_FORTIFY_SOURCE=2', '-Wl,-z,relro,-z,now'],
    ...[`-I${headers}`, ...(process.env.CFLAGS ?? '').split(' ').filter(Boolean)],
    ...['addon.c', 'tcti.c', 'fscrypt.c'].map((name) => join(here, name)),
    ...['-o', fresh, '-ldl', '-lpthread'],
  ],
  { stdio: ['ignore', 'inherit', 'inherit'] },
);
if (compiled.error)
  end(
    `${compiler} does not run: ${compiled.error.code}`,
    'Debian: apt-get install gcc libc6-dev. Alpine: apk add gcc musl-dev linux-headers',
  );
if (compiled.status !== 0)
  end(
    `${compiler} ended with ${compiled.status ?? compiled.signal}`,
    'Alpine: apk add musl-dev linux-headers. Debian: apt-get install libc6-dev',
  );
// Whoever loads it at this moment has the old one or the new one, whole.
renameSync(fresh, out);
process.stdout.write(`${out}\n`);
