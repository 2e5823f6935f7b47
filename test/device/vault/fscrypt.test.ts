// deadline: 120 s
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { nativeAddon } from '../../../device/native/addon.ts';
import { StateFolder } from '../../../device/state.ts';
import { type VaultChoice, vaultBackend } from '../../../device/vault/backend.ts';
import { FileVault } from '../../../device/vault/file.ts';
import { FscryptVault, probeFscrypt } from '../../../device/vault/fscrypt.ts';
import { masterKey } from '../../../device/vault/master-key.ts';
import { addonFile, needAddon } from '../../kit/addon.ts';
import { inFolder } from '../../kit/folders.ts';
import { needLoop, withFileSystem } from '../../kit/loop.ts';
import { refusal } from '../../kit/rejects.ts';

const one = masterKey(randomBytes(32));
const two = masterKey(randomBytes(32));

interface Bench {
  vault: FscryptVault;
  state: StateFolder;
  folder: string;
  image: string;
  /** Where the kernel encrypts. */
  data: string;
  /** The vault as another process finds it. */
  again(): FscryptVault;
}

const encrypted = (work: (place: { folder: string; image: string }) => void) =>
  withFileSystem(['encrypt'], work);

const withVault = (work: (bench: Bench) => void) => () =>
  encrypted(({ folder, image }) => {
    const state = new StateFolder(folder);
    const vault = new FscryptVault(state);
    vault.create(one);
    vault.finish();
    const again = () => new FscryptVault(new StateFolder(folder));
    work({ vault, state, folder, image, data: join(folder, 'vault/data'), again });
    again().lock();
  });

function codeOf(work: () => unknown): string | undefined {
  try {
    work();
  } catch (error) {
    const { code, errno } = error as NodeJS.ErrnoException;
    // Node has no name for this one.
    return errno === -126 ? 'ENOKEY' : code;
  }
  return undefined;
}

/** Everything on the disk, as somebody finds it who takes it out. */
function disk(image: string): Buffer {
  spawnSync('sync');
  return readFileSync(image);
}

const ioctl = suite('fscrypt by ioctl');

ioctl('keys and policies: what the kernel says of each', () =>
  encrypted(({ folder }) => {
    const addon = nativeAddon();
    const place = join(folder, 'place');
    mkdirSync(place);
    assert.is(addon.getPolicy(place), null);
    const key = randomBytes(64);
    const identifier = addon.addKey(folder, key);
    assert.is(identifier.length, 16);
    assert.equal(addon.addKey(folder, key), identifier, 'twice is once');
    assert.is(addon.keyStatus(folder, identifier), 2);
    addon.setPolicy(place, identifier);
    addon.setPolicy(place, identifier);
    assert.equal(addon.getPolicy(place), identifier);
    const other = addon.addKey(folder, randomBytes(64));
    assert.is(
      codeOf(() => addon.setPolicy(place, other)),
      'EEXIST',
    );
    const full = join(folder, 'full');
    mkdirSync(join(full, 'something'), { recursive: true });
    assert.is(
      codeOf(() => addon.setPolicy(full, identifier)),
      'ENOTEMPTY',
    );
    writeFileSync(join(place, 'a'), 'secret');
    assert.is(addon.removeKey(folder, identifier), 0);
    assert.is(addon.keyStatus(folder, identifier), 1);
    assert.is(
      codeOf(() => addon.removeKey(folder, identifier)),
      'ENOKEY',
    );
    assert.is(
      codeOf(() => writeFileSync(join(place, 'b'), '')),
      'ENOKEY',
    );
    assert.is(
      codeOf(() => addon.setPolicy(full, new Uint8Array(16))),
      'ENOTEMPTY',
    );
    assert.equal(addon.addKey(folder, key), identifier);
    assert.is(readFileSync(join(place, 'a'), 'utf8'), 'secret');
    addon.removeKey(folder, identifier);
    addon.removeKey(folder, other);
  }),
);

ioctl('needs no root: a plain user has keys and folders of his own', () =>
  encrypted(({ folder }) => {
    chmodSync(dirname(folder), 0o755);
    chmodSync(folder, 0o777);
    copyFileSync(addonFile, join(folder, 'addon.node'));
    const program = `
      process.setgid(65534);
      process.setuid(65534);
      const fs = require('node:fs');
      const addon = require('${folder}/addon.node');
      fs.mkdirSync('${folder}/own');
      const identifier = addon.addKey('${folder}', new Uint8Array(64).fill(7));
      addon.setPolicy('${folder}/own', identifier);
      fs.writeFileSync('${folder}/own/file', 'secret');
      const flags = addon.removeKey('${folder}', identifier);
      console.log(flags, addon.keyStatus('${folder}', identifier), fs.existsSync('${folder}/own/file'));`;
    const { stdout, stderr } = spawnSync(process.execPath, ['-e', program], { cwd: '/', encoding: 'utf8' });
    assert.is(stdout, '0 1 false\n', stderr);
  }),
);

ioctl('a misuse is an exception with a name', () => {
  const addon = nativeAddon();
  assert.is(
    codeOf(() => addon.addKey('/nowhere', randomBytes(64))),
    'ENOENT',
  );
  assert.is(
    codeOf(() => addon.getPolicy('/etc/passwd')),
    'ENOTDIR',
  );
  for (const wrong of [0, 31, 65])
    assert.is(
      codeOf(() => addon.addKey('/tmp', new Uint8Array(wrong))),
      'ERR_OUT_OF_RANGE',
    );
  for (const wrong of [0, 15, 17])
    assert.is(
      codeOf(() => addon.keyStatus('/tmp', new Uint8Array(wrong))),
      'ERR_OUT_OF_RANGE',
    );
  assert.is(
    codeOf(() => addon.getPolicy('/tmp\0/x')),
    'ERR_OUT_OF_RANGE',
  );
  assert.is(
    codeOf(() => addon.getPolicy('x'.repeat(5000))),
    'ERR_OUT_OF_RANGE',
  );
  assert.is(
    codeOf(() => addon.getPolicy(undefined as never)),
    'ERR_OUT_OF_RANGE',
  );
  // The text names call and folder, and nothing of a key.
  assert.throws(
    () => addon.addKey('/proc', Buffer.alloc(64, 0x41)),
    (error: Error) => {
      assert.match(error.message, /^ENOTTY: .*FS_IOC_ADD_ENCRYPTION_KEY '\/proc'$/);
      return !error.message.includes('AAAA');
    },
  );
});

const test = suite('fscrypt vault');

test(
  'neither content nor names nor keys are on the disk; unlocked, files are what they are called',
  withVault(({ vault, data, image }) => {
    const secret = 'the secret content of a configuration ';
    vault.put('itoken', Buffer.from(secret.repeat(200)));
    // Whatever anybody else writes there, too.
    mkdirSync(join(data, 'a-telling-folder'));
    writeFileSync(join(data, 'a-telling-folder/a-telling-name'), secret.repeat(200));
    assert.equal(readFileSync(join(data, 'itoken')), vault.get('itoken'));
    const found = disk(image);
    for (const text of ['secret content', 'telling', 'itoken']) assert.is(found.indexOf(text), -1, text);
    assert.is(found.indexOf(one.bytes), -1);
  }),
);

test(
  'locked, nothing is readable, whoever asks; unlocked in another life, everything is',
  withVault(({ vault, data, again }) => {
    const bytes = randomBytes(100_000);
    vault.put('config', bytes);
    vault.put('empty', new Uint8Array());
    assert.is(vault.status(), 'unlocked');
    vault.lock();
    assert.is(vault.status(), 'locked');
    assert.not(existsSync(join(data, 'config')));
    const names = readdirSync(data);
    assert.is(names.length, 2);
    for (const name of names) {
      assert.not(['config', 'empty'].includes(name));
      assert.is(
        codeOf(() => readFileSync(join(data, name))),
        'ENOKEY',
      );
    }
    assert.is(
      codeOf(() => writeFileSync(join(data, 'new'), 'plain')),
      'ENOKEY',
    );
    for (const work of [() => vault.get('config'), () => vault.put('x', bytes), () => vault.admit(two)])
      assert.is(refusal(work), 'vault.locked');
    const other = again();
    assert.is(
      refusal(() => other.get('config')),
      'vault.locked',
    );
    other.unlock(one);
    assert.equal(
      [other.get('config'), other.get('empty'), other.get('absent')],
      [bytes, Buffer.alloc(0), null],
    );
  }),
);

test(
  'files that are open when it is locked: told, and gone when they are closed',
  withVault(({ vault, data }) => {
    vault.put('config', Buffer.from('secret'));
    const file = openSync(join(data, 'config'), 'r');
    vault.lock();
    assert.is(vault.status(), 'busy');
    const read = Buffer.alloc(6);
    readSync(file, read);
    assert.is(read.toString(), 'secret');
    assert.is(
      codeOf(() => writeFileSync(join(data, 'new'), 'plain')),
      'ENOKEY',
    );
    assert.is(
      refusal(() => vault.get('config')),
      'vault.locked',
    );
    closeSync(file);
    vault.lock();
    assert.is(vault.status(), 'locked');
    vault.unlock(one);
    assert.is(Buffer.from(vault.get('config') ?? []).toString(), 'secret');
  }),
);

test(
  'what a dead process left open is locked by the next one',
  withVault(({ vault, data, again }) => {
    vault.put('config', Buffer.from('secret'));
    assert.is(again().status(), 'unlocked');
    again().lock();
    assert.not(existsSync(join(data, 'config')));
    // The one that still thinks it is open writes nothing in the clear.
    assert.is(
      refusal(() => vault.put('config', Buffer.from('plain'))),
      'vault.locked',
    );
  }),
);

test(
  'another key, and a key that only has the right name',
  withVault(({ vault, again }) => {
    vault.lock();
    assert.is(
      refusal(() => again().unlock(two)),
      'vault.wrong-key',
    );
    assert.is(
      refusal(() => again().unlock({ id: one.id, bytes: two.bytes })),
      'vault.broken',
    );
    assert.is(again().status(), 'locked');
  }),
);

test(
  'a new master key re-wraps and rewrites nothing; the old one is shut out for good',
  withVault(({ vault, data, folder, image, again }) => {
    const bytes = randomBytes(200_000);
    vault.put('config', bytes);
    const before = statSync(join(data, 'config'), { bigint: true });
    vault.admit(two);
    vault.admit(two);
    assert.equal(vault.keys(), [one.id, two.id]);
    vault.lock();
    for (const key of [one, two]) {
      const other = again();
      other.unlock(key);
      assert.equal(other.get('config'), bytes);
      other.lock();
    }
    vault.unlock(two);
    assert.is(
      refusal(() => vault.keepOnly('unknown')),
      'vault.wrong-key',
    );
    vault.keepOnly(two.id);
    const after = statSync(join(data, 'config'), { bigint: true });
    assert.equal([after.ino, after.mtimeNs, after.ctimeNs], [before.ino, before.mtimeNs, before.ctimeNs]);
    vault.lock();
    assert.is(
      refusal(() => again().unlock(one)),
      'vault.wrong-key',
    );
    for (const name of readdirSync(join(folder, 'vault')).filter((file) => file !== 'data'))
      assert.not(readFileSync(join(folder, 'vault', name), 'latin1').includes(one.id), name);
    assert.is(disk(image).indexOf(two.bytes), -1);
    vault.unlock(two);
    assert.equal(vault.get('config'), bytes);
  }),
);

test(
  'a folder that is not encrypted, or with another key, is not written to',
  withVault(({ vault, data, folder, image, again }) => {
    vault.lock();
    renameSync(data, join(folder, 'vault/away'));
    mkdirSync(data);
    assert.is(
      refusal(() => again().unlock(one)),
      'vault.broken',
    );
    assert.is(again().status(), 'locked', 'and the key does not stay in the kernel');
    rmSync(data, { recursive: true });
    assert.is(
      refusal(() => again().unlock(one)),
      'vault.broken',
    );
    renameSync(join(folder, 'vault/away'), data);
    vault.unlock(one);
    renameSync(data, join(folder, 'vault/away'));
    mkdirSync(data);
    for (const work of [() => vault.put('config', Buffer.from('in the clear')), () => vault.get('config')])
      assert.is(refusal(work), 'vault.broken');
    assert.equal(readdirSync(data), []);
    assert.is(disk(image).indexOf('in the clear'), -1);
  }),
);

test(
  'a header that names another key opens nothing, and leaves no key in the kernel',
  withVault(({ vault, state, folder, again }) => {
    vault.lock();
    const header = state.restore<{ public: { identifier: string } }>('vault/vault.json');
    const identifier = Buffer.from(header?.public.identifier ?? '', 'hex');
    for (const changed of [{ identifier: 'ab'.repeat(16) }, { identifier: '' }, {}]) {
      state.checkpoint('vault/vault.json', { ...header, public: changed });
      assert.is(
        refusal(() => again().unlock(one)),
        'vault.broken',
      );
      assert.is(nativeAddon().keyStatus(folder, identifier), 1);
    }
    state.checkpoint('vault/vault.json', header);
    vault.unlock(one);
  }),
);

test('one that was begun and never finished is begun again, and nothing of it stays', () =>
  encrypted(({ folder }) => {
    const begun = new FscryptVault(new StateFolder(folder));
    assert.is(begun.status(), 'locked');
    begun.create(one);
    begun.put('left', Buffer.from('over'));
    const first = nativeAddon().getPolicy(join(folder, 'vault/data')) as Uint8Array;
    const vault = new FscryptVault(new StateFolder(folder));
    assert.is(vault.probe(), 'incomplete');
    vault.create(two);
    vault.finish();
    assert.is(nativeAddon().keyStatus(folder, first), 1);
    assert.equal(readdirSync(join(folder, 'vault/data')), []);
    assert.equal([vault.probe(), vault.keys()], ['present', [two.id]]);
    assert.is(
      refusal(() => vault.create(one)),
      'vault.exists',
    );
    vault.lock();
  }));

test(
  'names that are none of a file',
  withVault(({ vault, data }) => {
    const names = ['../../escape', 'a/b', '.', '..', 'ü', 'x'.repeat(200), '.new', 'a.new', '\u0000'];
    for (const name of names) vault.put(name, Buffer.from(name));
    for (const name of names) assert.is(Buffer.from(vault.get(name) ?? []).toString(), name);
    assert.is(readdirSync(data).length, names.length);
    for (const name of ['', 'x'.repeat(201)])
      assert.throws(() => vault.put(name, new Uint8Array()), /200 characters/);
  }),
);

const choice = suite('which backend');

choice('where the kernel encrypts: fscrypt, unless files are asked for', () =>
  encrypted(({ folder }) => {
    assert.equal(probeFscrypt(folder), { possible: true });
    assert.equal(readdirSync(folder), ['lost+found'], 'the trial leaves nothing');
    const names = (['auto', 'fscrypt', 'file'] as const).map(
      (wanted) => vaultBackend(new StateFolder(folder), wanted).name,
    );
    assert.equal(names, ['fscrypt', 'fscrypt', 'file']);
  }),
);

choice(
  'where it does not: the verdict says why and what to do, and nothing is written in the place of it',
  () =>
    withFileSystem(['^encrypt'], ({ folder }) => {
      const verdict = probeFscrypt(folder);
      assert.ok(!verdict.possible);
      assert.match(verdict.why, /^EOPNOTSUPP: .*FS_IOC_GET_ENCRYPTION_POLICY_EX/);
      assert.match(verdict.next, /tune2fs -O encrypt DEVICE/);
      assert.is(vaultBackend(new StateFolder(folder), 'auto').name, 'file');
      assert.is(
        refusal(() => vaultBackend(new StateFolder(folder), 'fscrypt')),
        'vault.no-fscrypt',
      );
      const shared = probeFscrypt('/dev/shm');
      assert.ok(!shared.possible && /^ENOTTY/.test(shared.why) && /ext4/.test(shared.next));
      const nowhere = probeFscrypt(join(folder, 'nowhere'));
      assert.ok(!nowhere.possible && /^ENOENT/.test(nowhere.why));
      assert.equal(readdirSync(folder), ['lost+found']);
    }),
);

choice('a vault that is there keeps its backend, and is never made anew as another one', () =>
  encrypted(({ folder }) => {
    const state = new StateFolder(folder);
    const open = (wanted: VaultChoice) => vaultBackend(new StateFolder(folder), wanted);
    const vault = new FileVault(state);
    vault.create(one);
    assert.is(open('auto').name, 'fscrypt', 'one that is not finished holds nothing');
    vault.finish();
    assert.equal([open('auto').name, open('file').name], ['file', 'file']);
    assert.is(
      refusal(() => open('fscrypt')),
      'vault.other-backend',
    );
    rmSync(join(folder, 'vault'), { recursive: true });
    const kernel = new FscryptVault(state);
    kernel.create(one);
    kernel.finish();
    assert.is(open('auto').name, 'fscrypt');
    assert.is(
      refusal(() => open('file')),
      'vault.other-backend',
    );
    kernel.lock();
  }),
);

choice('a vault of the kernel on a disk that lost the feature is refused, and its data stay', () =>
  inFolder((elsewhere) =>
    encrypted(({ folder }) => {
      const kernel = new FscryptVault(new StateFolder(folder));
      kernel.create(one);
      kernel.finish();
      kernel.lock();
      // Its header alone, as after a copy to another file system.
      mkdirSync(join(elsewhere, 'vault'));
      for (const name of readdirSync(join(folder, 'vault')).filter((file) => file.startsWith('vault.json')))
        writeFileSync(join(elsewhere, 'vault', name), readFileSync(join(folder, 'vault', name)));
      const copied = vaultBackend(new StateFolder(elsewhere), 'auto');
      assert.is(copied.probe(), 'present');
      assert.is(
        refusal(() => copied.unlock(one)),
        'vault.no-fscrypt',
      );
      assert.is(
        refusal(() => copied.create(two)),
        'vault.exists',
      );
    }),
  ),
);

if ((await needAddon()) && (await needLoop())) for (const part of [ioctl, test, choice]) part.run();
else {
  test('NOT RUN', () => undefined);
  test.run();
}
