import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { StateFolder } from '../../../device/state.ts';
import { FileVault } from '../../../device/vault/file.ts';
import { masterKey } from '../../../device/vault/master-key.ts';
import { inFolder } from '../../kit/folders.ts';
import { refusal } from '../../kit/rejects.ts';

const one = masterKey(randomBytes(32));
const two = masterKey(randomBytes(32));

interface Bench {
  vault: FileVault;
  state: StateFolder;
  path: string;
  /** The vault as another process finds it. */
  again(): FileVault;
}

const withVault = (work: (bench: Bench) => void) =>
  inFolder((path) => {
    const state = new StateFolder(path);
    const vault = new FileVault(state);
    vault.create(one);
    vault.finish();
    work({ vault, state, path, again: () => new FileVault(new StateFolder(path)) });
  });

const filesOf = (path: string) =>
  readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));

test('a vault begins absent, is incomplete until it is finished, and is not overwritten', () =>
  inFolder((path) => {
    const vault = new FileVault(new StateFolder(path));
    assert.is(vault.probe(), 'absent');
    assert.is(
      refusal(() => vault.unlock(one)),
      'vault.absent',
    );
    vault.create(one);
    assert.is(vault.probe(), 'incomplete');
    // Begun again after a crash: nobody had been told of the first one.
    vault.create(two);
    vault.finish();
    assert.equal([vault.probe(), vault.keys()], ['present', [two.id]]);
    assert.is(
      refusal(() => vault.create(one)),
      'vault.exists',
    );
    assert.equal(vault.keys(), [two.id]);
  }));

test('what is put in comes out, in another life as well, and locked it does not', () =>
  withVault(({ vault, again }) => {
    const bytes = randomBytes(100_000);
    vault.put('config', bytes);
    vault.put('empty', new Uint8Array());
    vault.put('config', bytes);
    const other = again();
    for (const work of [() => other.get('config'), () => other.put('x', bytes), () => other.admit(two)])
      assert.is(refusal(work), 'vault.locked');
    other.unlock(one);
    assert.equal(
      [other.get('config'), other.get('empty'), other.get('absent')],
      [bytes, Buffer.alloc(0), null],
    );
    other.lock();
    assert.is(
      refusal(() => other.get('config')),
      'vault.locked',
    );
  }));

test('another key, and a key that only has the right name', () =>
  withVault(({ again }) => {
    assert.is(
      refusal(() => again().unlock(two)),
      'vault.wrong-key',
    );
    assert.is(
      refusal(() => again().unlock({ id: one.id, bytes: two.bytes })),
      'vault.broken',
    );
    assert.is(
      refusal(() => masterKey(randomBytes(31))),
      'vault.wrong-key',
    );
  }));

test('neither content nor names nor keys are on the disk', () =>
  withVault(({ vault, path }) => {
    const secret = 'the secret content of a configuration';
    vault.put('a-telling-name', Buffer.from(secret.repeat(20)));
    const files = filesOf(path);
    assert.ok(files.length >= 2);
    for (const file of files) {
      assert.not(file.includes('telling'));
      const bytes = readFileSync(file);
      const text = bytes.toString('latin1');
      assert.not(text.includes('telling') || text.includes('secret content'), file);
      for (const encoding of ['latin1', 'hex', 'base64'] as const) {
        assert.not(text.includes(Buffer.from(one.bytes).toString(encoding).slice(0, 32)), file);
        assert.not(text.includes(Buffer.from(secret).toString(encoding).slice(4, 40)), file);
      }
    }
  }));

test('the same content is never encrypted to the same bytes', () =>
  withVault(({ vault, path }) => {
    const object = () =>
      filesOf(join(path, 'vault/objects')).map((file) => readFileSync(file).toString('hex'));
    vault.put('a', Buffer.from('same'));
    const [first] = object();
    vault.put('a', Buffer.from('same'));
    assert.not.equal(object(), [first]);
    vault.put('b', Buffer.from('same'));
    assert.is(new Set(object()).size, 2);
  }));

test('an object that was changed, cut, or put in the place of another', () =>
  withVault(({ vault, path }) => {
    vault.put('a', Buffer.from('content of a'));
    const [file] = filesOf(join(path, 'vault/objects')) as [string];
    const whole = readFileSync(file);
    for (let at = 0; at < whole.length; at++) {
      writeFileSync(
        file,
        whole.map((byte, index) => (index === at ? byte ^ 1 : byte)),
      );
      assert.is(
        refusal(() => vault.get('a')),
        'vault.broken',
        `byte ${at}`,
      );
      writeFileSync(file, whole.subarray(0, at));
      assert.is(
        refusal(() => vault.get('a')),
        'vault.broken',
        `${at} bytes`,
      );
    }
    writeFileSync(file, whole);
    vault.put('b', Buffer.from('content of b'));
    const other = filesOf(join(path, 'vault/objects')).find((name) => name !== file) as string;
    writeFileSync(other, whole);
    assert.is(
      refusal(() => vault.get('b')),
      'vault.broken',
    );
    assert.is(vault.get('a')?.toString(), 'content of a');
  }));

test('a header that somebody changed opens nothing', () =>
  withVault(({ state, again }) => {
    const header = state.restore<{ wraps: { keyId: string; iv: string; data: string }[] }>(
      'vault/vault.json',
    );
    const [wrapped] = header?.wraps ?? [];
    const flip = (text = '') => {
      const bytes = Buffer.from(text, 'base64');
      bytes[3] = (bytes[3] ?? 0) ^ 1;
      return bytes.toString('base64');
    };
    // Rewritten with its hash, as somebody does who knows how.
    for (const change of [{ data: flip(wrapped?.data) }, { iv: flip(wrapped?.iv) }, { data: '' }]) {
      state.checkpoint('vault/vault.json', { ...header, wraps: [{ ...wrapped, ...change }] });
      assert.is(
        refusal(() => again().unlock(one)),
        'vault.broken',
      );
    }
    state.checkpoint('vault/vault.json', { ...header, wraps: [{ ...wrapped, keyId: two.id }] });
    assert.is(
      refusal(() => again().unlock(one)),
      'vault.wrong-key',
    );
    assert.is(
      refusal(() => again().unlock({ id: two.id, bytes: one.bytes })),
      'vault.broken',
    );
    state.checkpoint('vault/vault.json', { ...header, version: 2 });
    assert.is(
      refusal(() => again().probe()),
      'vault.version',
    );
  }));

test('a second key opens the same data, and the first is shut out for good', () =>
  withVault(({ vault, path, again }) => {
    vault.put('a', Buffer.from('x'));
    vault.admit(two);
    vault.admit(two);
    assert.equal(vault.keys(), [one.id, two.id]);
    for (const key of [one, two]) {
      const other = again();
      other.unlock(key);
      assert.is(other.get('a')?.toString(), 'x');
    }
    assert.is(
      refusal(() => vault.keepOnly('unknown')),
      'vault.wrong-key',
    );
    vault.keepOnly(two.id);
    assert.equal(vault.keys(), [two.id]);
    assert.is(
      refusal(() => again().unlock(one)),
      'vault.wrong-key',
    );
    // No copy on the disk names the key that was shut out.
    for (const file of filesOf(path)) assert.not(readFileSync(file, 'latin1').includes(one.id), file);
    const other = again();
    other.unlock(two);
    assert.is(other.get('a')?.toString(), 'x');
  }));

test('a name that is none is a mistake of the caller', () =>
  withVault(({ vault }) => {
    for (const name of ['', 'x'.repeat(201)])
      assert.throws(
        () => vault.put(name, new Uint8Array()),
        (error: Error) => error instanceof TypeError,
      );
    vault.put('../../escape', Buffer.from('x'));
    assert.is(vault.get('../../escape')?.toString(), 'x');
  }));

test.run();
