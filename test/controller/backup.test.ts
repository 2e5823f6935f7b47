// deadline: 120 s
// A backup while EVC works, and what comes out of it; what was changed in it is not put in place.
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { create, extract } from 'tar';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BackupError, backUp, restore } from '../../controller/backup.ts';
import { DataFolder } from '../../controller/options.ts';
import { LibsqlStore } from '../../controller/store/libsql.ts';
import { inFolder } from '../kit/folders.ts';
import { runToEnd } from '../kit/process.ts';
import { rejects } from '../kit/rejects.ts';
import { stepOf } from '../kit/stores.ts';

async function withData(work: (data: DataFolder, folder: string) => Promise<void>): Promise<void> {
  await inFolder(async (folder) => {
    const data = new DataFolder(join(folder, 'evc'));
    await data.init(['localhost'], Date.now());
    mkdirSync(data.file('images'));
    mkdirSync(data.file('ek-roots'));
    writeFileSync(data.file('images/ab'), 'an image');
    writeFileSync(data.file('ek-roots/vendor.pem'), 'a certificate');
    await work(data, folder);
  });
}

const coded = (code: BackupError['code']) => (error: BackupError) => error.code === code;

test('what comes back is what stood there at one moment, while EVC goes on', () =>
  withData(async (data, folder) => {
    const store = LibsqlStore.open(data.file('evc.db'));
    const box = Uint8Array.of(1, 2, 3);
    const escrow = { device: 'd', version: 1, keyId: 'k', box, at: 1 };
    await store.commit(stepOf('d', 0, { escrow }));
    let steps = 1;
    let over = false;
    const working = (async () => {
      while (!over) await store.commit(stepOf('d', steps++));
    })();
    const out = join(folder, 'b.tar.gz');
    const done = await backUp(data.path, out, 42);
    over = true;
    await working;
    await store.commit(stepOf('late', 0));
    await store.close();
    assert.equal([done.devices, done.made], [1, 42]);
    assert.is(statSync(out).mode & 0o777, 0o600);
    assert.equal(
      readdirSync(folder).filter((name) => name.startsWith('.evc')),
      [],
      'nothing is left beside it',
    );

    const back = new DataFolder(join(folder, 'back'));
    await restore(out, back.path);
    assert.ok(back.complete);
    assert.is(back.tokenHash(), data.tokenHash());
    assert.equal(back.pki().root.raw, data.pki().root.raw);
    assert.is(readFileSync(back.file('images/ab'), 'utf8'), 'an image');
    assert.is(back.token(), null, 'the token itself is in no backup');
    assert.is(statSync(back.file('pki/root.key.pem')).mode & 0o777, 0o600);
    const restored = LibsqlStore.open(back.file('evc.db'));
    const row = await restored.load('d');
    assert.equal(row?.snapshot, { step: row?.version }, 'a whole step');
    assert.equal((await restored.escrowed('d', 1))?.box, box);
    assert.is(await restored.load('late'), null);
    await restored.commit(stepOf('d', row?.version ?? 0));
    await restored.close();
  }));

test('images can be left out', () =>
  withData(async (data, folder) => {
    await backUp(data.path, join(folder, 'b'), 1, false);
    await restore(join(folder, 'b'), join(folder, 'back'));
    assert.not(existsSync(join(folder, 'back/images/ab')));
    assert.ok(existsSync(join(folder, 'back/ek-roots/vendor.pem')));
  }));

test('nothing is put over a folder that has something in it', () =>
  withData(async (data, folder) => {
    await backUp(data.path, join(folder, 'b'), 1);
    await rejects(restore(join(folder, 'b'), data.path), BackupError, coded('backup.occupied'));
    mkdirSync(join(folder, 'empty'));
    await restore(join(folder, 'b'), join(folder, 'empty'));
    assert.ok(new DataFolder(join(folder, 'empty')).complete);
  }));

const changes: [what: string, change: (work: string) => string[] | undefined, code: BackupError['code']][] = [
  ['a file that is other', (work) => void appendFileSync(join(work, 'hosts.json'), ' '), 'backup.damaged'],
  ['a file that is missing', () => ['backup.json', 'evc.db'], 'backup.damaged'],
  ['no list', () => ['evc.db', 'hosts.json'], 'backup.unreadable'],
  [
    'a list of another kind',
    (work) => void writeFileSync(join(work, 'backup.json'), '{"backup":2}'),
    'backup.unreadable',
  ],
  [
    'a file that is no part of an EVC',
    (work) => {
      writeFileSync(join(work, 'evil.sh'), '');
      return ['backup.json', 'evil.sh'];
    },
    'backup.damaged',
  ],
];

for (const [what, change, code] of changes)
  test(`a backup with ${what} is refused, and leaves nothing`, () =>
    withData(async (data, folder) => {
      await backUp(data.path, join(folder, 'b'), 1);
      const work = join(folder, 'work');
      mkdirSync(work);
      await extract({ file: join(folder, 'b'), cwd: work });
      const files = change(work) ?? readdirSync(work, { recursive: true }).map(String);
      const plain = files.filter((file) => statSync(join(work, file)).isFile());
      await create({ file: join(folder, 'c'), cwd: work, gzip: true }, plain);
      await rejects(restore(join(folder, 'c'), join(folder, 'back')), BackupError, coded(code));
      assert.equal(
        readdirSync(folder).filter((name) => name.startsWith('back')),
        [],
      );
    }));

test('a damaged store, and what is no backup at all', () =>
  withData(async (data, folder) => {
    writeFileSync(join(folder, 'none'), 'no archive');
    await rejects(
      restore(join(folder, 'none'), join(folder, 'back')),
      BackupError,
      coded('backup.unreadable'),
    );
    await rejects(
      restore(join(folder, 'gone'), join(folder, 'back')),
      BackupError,
      coded('backup.unreadable'),
    );
    writeFileSync(data.file('evc.db'), 'no store, and long enough to be looked at '.repeat(100));
    await rejects(backUp(data.path, join(folder, 'b'), 1), BackupError, (error) =>
      ['backup.store', 'backup.damaged'].includes(error.code),
    );
    assert.not(existsSync(join(folder, 'b')));
  }));

test('the commands say what they wrote, and what to do next', () =>
  withData(async (data, folder) => {
    const out = join(folder, 'b.tar.gz');
    const written = await runToEnd('evc', ['backup', '--data', data.path, '--out', out]);
    assert.match(written.stdout, /b\.tar\.gz: 0 devices, \d+ files, \d+\.\d MB/, written.stderr);
    const back = join(folder, 'back');
    const restored = await runToEnd('evc', ['restore', out, '--data', back]);
    assert.match(restored.stdout, /back: 0 devices, .* ago\nnext: evc serve/, restored.stderr);
    const again = await runToEnd('evc', ['restore', out, '--data', back]);
    assert.is(again.code, 1);
    assert.match(again.stderr, '[backup.occupied]\nhint: say where');
    assert.is((await runToEnd('evc', ['backup', '--data', data.path])).code, 2);
  }));

test.run();
