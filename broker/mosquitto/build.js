// `npm run build:mosquitto`: compiles the login of Mosquitto into build/ beside this file, or into the file that is named.
import { spawnSync } from 'node:child_process';
import { mkdirSync, renameSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.argv[2] ?? join(here, 'build/evc-login.so'));
const fresh = `${out}.${process.pid}`;
mkdirSync(dirname(out), { recursive: true });
const compiled = spawnSync(
  process.env.CC ?? 'cc',
  [
    ...['-std=gnu11', '-O2', '-Wall', '-Wextra', '-fPIC', '-shared', '-s', '-fstack-protector-strong'],
    ...[join(here, 'login.c'), '-o', fresh, '-lcurl'],
  ],
  { stdio: ['ignore', 'inherit', 'inherit'] },
);
if (compiled.status !== 0) {
  process.stderr.write(
    'build:mosquitto: the plug-in was not built\nhint: Debian: apt-get install gcc libc6-dev mosquitto-dev libmosquitto-dev libcurl4-openssl-dev\n',
  );
  process.exit(1);
}
// Whoever loads it at this moment has the old one or the new one, whole.
renameSync(fresh, out);
process.stdout.write(`${out}\n`);
