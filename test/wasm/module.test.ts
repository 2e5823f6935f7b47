import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { instantiate, tpmModule } from '../../wasm/load.ts';
import { maxCommandSize, nvSize, WasmTpm } from '../../wasm/tpm.ts';

const folder = new URL('../../wasm/', import.meta.url);
const lines = readFileSync(new URL('sources.lock', folder), 'utf8')
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#'))
  .map((line) => line.split(' '));

test('the built module is the one that sources.lock names', () => {
  const locked = lines.filter(([kind]) => kind === 'output');
  assert.is(locked.length, 1);
  const hash = createHash('sha256')
    .update(readFileSync(new URL('tpm.wasm', folder)))
    .digest('hex');
  assert.equal(locked[0], ['output', 'tpm.wasm', hash]);
});

test('the lock names every input and every tool', () => {
  const of = (kind: string) => lines.filter(([first]) => first === kind);
  for (const [, file, hash] of of('input')) assert.match(`${file} ${hash}`, /^[\w.+-]+ [0-9a-f]{64}$/);
  assert.is(of('input').length, 3);
  for (const [, name, version] of of('toolchain'))
    assert.match(`${name} ${version}`, /^[\w.+-]+ [\w.+~:-]+$/);
  assert.is(of('toolchain').length, 5);
});

test('the module asks its host for nothing but entropy, time and an end', () => {
  const sections = WebAssembly.Module.imports(tpmModule());
  assert.equal(sections.map(({ module, name }) => `${module}.${name}`).sort(), [
    'host.blinding',
    'host.entropy',
    'host.fail',
    'host.now',
  ]);
});

test('the sizes here are the sizes there', () => {
  const tpm = instantiate({
    entropy() {},
    blinding() {},
    now: () => 0,
    fail: () => {
      throw new Error('failed');
    },
  });
  assert.is(tpm.tpm_layout(0), nvSize);
  assert.ok(
    tpm.tpm_response() >= tpm.tpm_command() + maxCommandSize || tpm.tpm_response() < tpm.tpm_command(),
  );
});

test('the NV memory of earlier releases can be read', () => {
  // Another value means that every state file out there is refused, so a change of it needs a way for them to move.
  assert.is(
    Buffer.from(new WasmTpm().layout).toString('hex'),
    'bf5e8ffa51a9e748985800c1d3d7f1a2a6ae7435136593ca8d9637e3f87c699c',
  );
});

test('compiling happens once', () => {
  assert.is(tpmModule(), tpmModule());
});

test('no source of others is here', () => {
  for (const name of readdirSync(new URL('build/', folder), { recursive: true }) as string[]) {
    if (!/\.(c|h|patch|diff)$/.test(name)) continue;
    const text = readFileSync(new URL(`build/${name}`, folder), 'utf8');
    assert.not.match(text, /Microsoft Corporation|OpenSSL Project Authors/, name);
    assert.not.match(name, /\.(patch|diff)$/);
  }
});

test.run();
