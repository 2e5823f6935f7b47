import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const scripts = fileURLToPath(new URL('../../wasm/build/', import.meta.url));
const tpmPackage = 'golang-github-google-go-tpm-tools-dev_0.4.8-5_all.deb';

interface Folder {
  folder: string;
}

function run(script: string, args: string[], path = process.env.PATH): { code: number | null; said: string } {
  const env = { ...process.env, PATH: path };
  const { status, stdout, stderr } = spawnSync('bash', [join(scripts, script), ...args], {
    env,
    encoding: 'utf8',
  });
  return { code: status, said: stdout + stderr };
}

// What the scripts refuse; that they build the right bytes is for `npm run wasm:verify`, which needs the toolchain.
const build = suite<Folder>('building the TPM');

build.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'eve-attest-build-'));
});
build.after.each(({ folder }) => rmSync(folder, { recursive: true }));

build('an input that is missing is named', ({ folder }) => {
  const missing = run('build.sh', ['--sources', folder, '--out', folder]);
  assert.is(missing.code, 1);
  assert.match(missing.said, `has no ${tpmPackage}`);
  assert.match(run('build.sh', ['--sources', join(folder, 'none')]).said, 'no folder');
});

build('an input with another hash is not used', ({ folder }) => {
  writeFileSync(join(folder, tpmPackage), 'something else');
  const changed = run('build.sh', ['--sources', folder, '--out', folder]);
  assert.is(changed.code, 1);
  assert.match(
    changed.said,
    /is not the file it should be: SHA-256 [0-9a-f]{64}, sources\.lock says c7300b3c/,
  );
});

build('without the toolchain it says what to install, and installs nothing', ({ folder }) => {
  // A dpkg-query that knows no package.
  writeFileSync(join(folder, 'dpkg-query'), '#!/bin/sh\nexit 1\n');
  writeFileSync(join(folder, 'apt-get'), `#!/bin/sh\ntouch ${join(folder, 'installed')}\n`);
  for (const name of ['dpkg-query', 'apt-get']) chmodSync(join(folder, name), 0o755);
  const verify = run('verify.sh', [], `${folder}:${process.env.PATH}`);
  assert.is(verify.code, 2);
  assert.match(
    verify.said,
    'apt-get install --no-install-recommends clang-19 lld-19 llvm-19 libclang-rt-19-dev-wasm32 wasi-libc',
  );
  assert.throws(() => chmodSync(join(folder, 'installed'), 0o644), /ENOENT/);
});

build('an unknown option is refused', () => {
  assert.match(run('build.sh', ['--fast']).said, 'usage: build.sh');
  assert.is(run('verify.sh', ['--fast']).code, 2);
  assert.is(run('build.sh', ['--sources']).code, 1);
});

build.run();
