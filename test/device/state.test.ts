import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Refusal, reasonOf } from '../../device/refusal.ts';
import { StateFolder } from '../../device/state.ts';
import { Tokens } from '../../device/tokens.ts';
import { TransportError } from '../../device/tpm/transport.ts';
import { WireError } from '../../formats/wire/wire-error.ts';
import { inFolder } from '../kit/folders.ts';
import { refusal } from '../kit/rejects.ts';

const withState = (work: (state: StateFolder, path: string) => void) =>
  inFolder((folder) => work(new StateFolder(join(folder, 'state')), join(folder, 'state')));

test('what is made once stays as the first made it, whole and for its owner alone', () =>
  withState((state, path) => {
    assert.is(Buffer.from(state.make('a/file', Buffer.from('one'))).toString(), 'one');
    assert.is(Buffer.from(state.make('a/file', Buffer.from('two'))).toString(), 'one');
    assert.is(Buffer.from(state.read('a/file') ?? []).toString(), 'one');
    assert.equal(readdirSync(join(path, 'a')), ['file']);
    assert.is(statSync(join(path, 'a/file')).mode & 0o777, 0o600);
  }));

test('files are written whole, for their owner alone', () =>
  withState((state, path) => {
    assert.is(state.read('a/b/file'), null);
    state.write('a/b/file', Buffer.from('one'));
    state.write('a/b/file', Buffer.from('two'));
    assert.is(Buffer.from(state.read('a/b/file') ?? []).toString(), 'two');
    assert.equal(
      [statSync(path).mode & 0o777, statSync(join(path, 'a/b/file')).mode & 0o777],
      [0o700, 0o600],
    );
    assert.equal(readdirSync(join(path, 'a/b')), ['file']);
    state.remove('a/b/file');
    state.remove('a/b/file');
    assert.not(state.has('a/b/file'));
  }));

test('a write that was cut short left the old file', () =>
  withState((state, path) => {
    state.checkpoint('value', { n: 1 });
    // The power went while the new file was written.
    writeFileSync(join(path, 'value.new'), 'half of');
    assert.equal(state.restore('value'), { n: 1 });
    state.checkpoint('value', { n: 2 });
    assert.equal(state.restore('value'), { n: 2 });
    assert.not(existsSync(join(path, 'value.new')));
  }));

test('a damaged value is taken from its backup, and both damaged say what to do', () =>
  withState((state, path) => {
    assert.is(state.restore('value'), null);
    state.checkpoint('value', { n: 1 });
    state.checkpoint('value', { n: 2 });
    for (const damage of [
      '',
      'x',
      '\n',
      '{}\n{}\n',
      `${'0'.repeat(64)}\n{"n":9}\n`,
      readFileSync(join(path, 'value'), 'utf8').slice(0, -2),
    ]) {
      writeFileSync(join(path, 'value'), damage);
      assert.equal(state.restore('value'), { n: 1 }, JSON.stringify(damage));
    }
    // A damaged copy never becomes the backup.
    state.checkpoint('value', { n: 3 });
    writeFileSync(join(path, 'value'), 'damaged');
    assert.equal(state.restore('value'), { n: 1 });
    writeFileSync(join(path, 'value.bak'), 'damaged');
    assert.is(
      refusal(() => state.restore('value')),
      'state.broken',
    );
    state.checkpoint('value', { n: 4 });
    assert.equal(state.restore('value'), { n: 4 });
  }));

test('no bit of a value can flip unseen', () =>
  withState((state, path) => {
    state.checkpoint('value', { text: 'something', n: 1 });
    const whole = readFileSync(join(path, 'value'));
    for (let bit = 0; bit < whole.length * 8; bit++) {
      const changed = Buffer.from(whole);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      writeFileSync(join(path, 'value'), changed);
      assert.is(
        refusal(() => state.restore('value')),
        'state.broken',
        `bit ${bit}`,
      );
    }
  }));

test('what is forgotten does not come back when the power goes half-way', () =>
  withState((state, path) => {
    state.checkpoint('value', { n: 1 });
    state.checkpoint('value', { n: 2 });
    const { remove } = state;
    let removed = 0;
    state.remove = (name) => {
      if (removed++ > 0) throw new Error('power');
      remove.call(state, name);
    };
    assert.throws(() => state.forget('value'), /power/);
    // The backup went first: either all is as it was, or all is gone.
    assert.equal(new StateFolder(path).restore('value'), { n: 2 });
    new StateFolder(path).forget('value');
    assert.is(new StateFolder(path).restore('value'), null);
  }));

test('a file that is far too large is not read', () =>
  withState((state, path) => {
    state.write('huge', new Uint8Array());
    truncateSync(join(path, 'huge'), 20 * 1024 ** 3);
    assert.is(
      refusal(() => state.read('huge')),
      'state.oversize',
    );
    assert.is(
      refusal(() => state.restore('huge')),
      'state.oversize',
    );
  }));

test('a full disk and a read-only one are named, and the old file is there', () =>
  inFolder((folder) => {
    const path = join(folder, 'small');
    mkdirSync(path);
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', path]).status !== 0) {
      console.log('NOT RUN: a disk of a few KB needs the right to mount a tmpfs');
      return;
    }
    try {
      const state = new StateFolder(path);
      state.checkpoint('value', { n: 1 });
      assert.is(
        refusal(() => state.write('large', new Uint8Array(100_000))),
        'disk.full',
      );
      assert.is(
        refusal(() => state.checkpoint('value', { text: 'x'.repeat(100_000) })),
        'disk.full',
      );
      assert.equal(state.restore('value'), { n: 1 });
      assert.equal(
        readdirSync(path).filter((name) => name.endsWith('.new')),
        [],
      );
      spawnSync('mount', ['-o', 'remount,ro', path]);
      assert.is(
        refusal(() => state.write('value', new Uint8Array(1))),
        'disk.read-only',
      );
      assert.equal(state.restore('value'), { n: 1 });
    } finally {
      spawnSync('umount', ['-l', path]);
    }
  }));

test('whatever is thrown becomes a reason, and no foreign text gets out', () => {
  const secret = 'key=hunter2';
  const coded = (code: string) => Object.assign(new Error(secret), { code, syscall: 'open' });
  const codes: [unknown, string][] = [
    [new Refusal('a.b', 'text'), 'a.b'],
    [new TransportError('timeout', 'no response'), 'tpm.lost'],
    [new WireError('wire.binding', 'text'), 'wire.binding'],
    [coded('ENOSPC'), 'disk.full'],
    [coded('EDQUOT'), 'disk.full'],
    [coded('EROFS'), 'disk.read-only'],
    [coded('EACCES'), 'disk.forbidden'],
    [coded('EIO'), 'disk.failed'],
    [coded('EXDEV'), 'internal.error'],
    [coded('constructor'), 'internal.error'],
    [Object.assign(new Error(secret), { rcName: 'TPM_RC_LOCKOUT' }), 'tpm.lockout'],
    [Object.assign(new Error(secret), { rcName: 'TPM_RC_VALUE' }), 'tpm.error'],
    [new Error(secret), 'internal.error'],
    [{}, 'internal.error'],
    ['text', 'internal.error'],
  ];
  for (const [thrown, code] of codes) {
    const reason = reasonOf(thrown);
    assert.is(reason.code, code);
    assert.not(JSON.stringify(reason).includes(secret));
  }
  assert.equal(reasonOf(new Refusal('a', 't', { retryAfter: 5, details: { x: 1 } })), {
    code: 'a',
    text: 't',
    retryAfter: 5,
    details: { x: 1 },
  });
});

test('a token is known by its hash, and gone with its boot', () =>
  withState((state, path) => {
    const tokens = new Tokens(state);
    const hash = tokens.make();
    assert.match(hash, /^[0-9a-f]{64}$/);
    assert.is(tokens.read(hash).length, 32);
    for (const other of ['', '0'.repeat(64), `../tokens/${hash}`, `${hash}\n`, '../../etc/passwd'])
      assert.is(
        refusal(() => tokens.read(other)),
        'token.gone',
      );
    const before = tokens.read(hash);
    assert.not.equal(tokens.read(tokens.make()), before);
    rmSync(path, { recursive: true });
    assert.is(
      refusal(() => tokens.read(hash)),
      'token.gone',
    );
  }));

/** Names of the tokens that are there. */
const kept = (tokens: Tokens, hashes: string[]) =>
  hashes.filter((hash) => refusal(() => tokens.read(hash)) === 'none');

test('a token stays while it is the last one proposed, or the last one confirmed', () =>
  withState((state, path) => {
    const tokens = new Tokens(state);
    const [first, second] = [tokens.make(), tokens.make()];
    assert.equal(kept(tokens, [first, second]), [second]);
    tokens.confirm(second);
    const refused = Array.from({ length: 150 }, () => tokens.make());
    assert.equal(kept(tokens, [second, ...refused]), [second, refused.at(-1)]);
    // As after the agent started again, and confirmed twice as the port may be called.
    const again = new Tokens(new StateFolder(path));
    const third = again.make();
    again.confirm(third);
    again.confirm(third);
    // Whoever asks EVC at this moment still has the one before.
    assert.equal(kept(again, [second, third]), [second, third]);
    const fourth = again.make();
    assert.equal(kept(again, [second, third, fourth]), [third, fourth]);
    assert.is(readdirSync(join(path, 'tokens'), { recursive: true }).length, 3);
  }));

test('tokens of a program that did not say which is confirmed stay until one is', () =>
  withState((state) => {
    const old = ['0a', '0b', '0c'].map((byte) => byte.repeat(32));
    for (const hash of old) state.write(`tokens/${hash}`, new Uint8Array(32));
    const tokens = new Tokens(state);
    const [first, second] = [tokens.make(), tokens.make()];
    assert.equal(kept(tokens, [...old, first, second]), [...old, second]);
    tokens.confirm(second);
    const third = tokens.make();
    assert.equal(kept(tokens, [...old, second, third]), [second, third]);
    // One that was with EVC when the program was replaced.
    const inFlight = '0d'.repeat(32);
    state.write(`tokens/${inFlight}`, new Uint8Array(32));
    tokens.confirm(inFlight);
    const fourth = tokens.make();
    assert.equal(kept(tokens, [second, third, inFlight, fourth]), [inFlight, fourth]);
  }));

test.run();
