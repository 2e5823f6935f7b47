import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { reasonOf } from '../../../device/refusal.ts';
import { StateFolder } from '../../../device/state.ts';
import { DeviceTpm } from '../../../device/tpm/device-tpm.ts';
import { DeviceVault } from '../../../device/vault/device-vault.ts';
import { FileVault } from '../../../device/vault/file.ts';
import { MasterKeyStore } from '../../../device/vault/master-key.ts';
import { LabBoard } from '../../kit/evidence.ts';
import { inFolder } from '../../kit/folders.ts';

interface Bench {
  board: LabBoard;
  tpm: DeviceTpm;
  state: StateFolder;
  /** The vault as it is after a reboot, or for another device id. */
  vault(device?: string): DeviceVault;
}

async function onBoard(work: (bench: Bench) => Promise<void>): Promise<void> {
  const board = await LabBoard.open();
  try {
    await board.boot();
    await inFolder(async (folder) => {
      const state = new StateFolder(folder);
      const tpm = new DeviceTpm(board.tpm, state);
      const vault = (device = 'me') =>
        new DeviceVault({ backend: () => new FileVault(state), tpm, state, device: async () => device });
      await work({ board, tpm, state, vault });
    });
  } finally {
    await board.close();
  }
}

async function refusal(work: () => Promise<unknown> | unknown) {
  try {
    await work();
  } catch (error) {
    return reasonOf(error);
  }
  return { code: 'none', text: '' } as ReturnType<typeof reasonOf>;
}

async function made(vault: DeviceVault): Promise<string> {
  await vault.create();
  await vault.seal();
  vault.backend.put('data', Buffer.from('content'));
  return (await vault.export()).keyId;
}

async function opensBySeal(vault: DeviceVault): Promise<string> {
  await vault.unseal();
  vault.unlock();
  assert.is(Buffer.from(vault.backend.get('data') ?? []).toString(), 'content');
  return (await vault.export()).keyId;
}

test('a vault is made, sealed, and opens after a restart', () =>
  onBoard(async ({ board, vault }) => {
    const first = vault();
    assert.not(first.unlocked);
    const keyId = await made(first);
    assert.ok(first.unlocked);
    first.lock();
    assert.not(first.unlocked);
    for (const work of [
      () => first.unlock(),
      () => first.seal(),
      () => first.export(),
      () => first.finishRotation(),
    ]) {
      assert.is((await refusal(work)).code, 'vault.locked');
    }
    await board.boot();
    assert.is(await opensBySeal(vault()), keyId);
  }));

test('other software does not open the seal, and is told which PCRs differ', () =>
  onBoard(async ({ board, vault }) => {
    await made(vault());
    await board.boot({ version: '2.0.0' });
    const { code, details } = await refusal(() => vault().unseal());
    assert.equal([code, details], ['vault.pcr-mismatch', { pcrs: [8, 9, 13] }]);
    // Something that was measured after the boot, too.
    await board.boot();
    await board.tpm.pcrExtend(12, { sha256: randomBytes(32) });
    assert.equal((await refusal(() => vault().unseal())).details, { pcrs: [12] });
    await board.boot();
    await opensBySeal(vault());
  }));

test('nothing is sealed to a boot that measured nothing', () =>
  onBoard(async ({ board, vault }) => {
    await board.chip.powerCycle();
    const fresh = vault();
    await fresh.create();
    assert.is((await refusal(() => fresh.seal())).code, 'vault.pcr-not-extended');
    assert.not(fresh.unlocked);
    assert.is(fresh.backend.probe(), 'incomplete');
  }));

test('the escrowed key opens the vault for new software, and the old software falls back without EVC', () =>
  onBoard(async ({ board, vault }) => {
    const old = vault();
    await made(old);
    const { keyId, encryptedKey } = await old.export();
    await board.boot({ version: '2.0.0' }, 'IMGB');
    const fresh = vault();
    assert.is((await refusal(() => fresh.unseal())).code, 'vault.pcr-mismatch');
    await fresh.open(keyId, encryptedKey);
    fresh.unlock();
    await fresh.seal();
    // Once more in the same boot, as after a crash of the component: the seal of the old software stays.
    await fresh.seal();
    await board.boot({ version: '2.0.0' }, 'IMGB');
    await opensBySeal(vault());

    await board.boot();
    const fallen = vault();
    assert.is(await opensBySeal(fallen), keyId);
    // The seal that works is the current one again.
    await opensBySeal(vault());
    await board.boot({ version: '2.0.0' }, 'IMGB');
    assert.is((await refusal(() => vault().unseal())).code, 'vault.pcr-mismatch');
  }));

test('once an upgrade is committed, the old software opens nothing', () =>
  onBoard(async ({ board, vault }) => {
    const old = vault();
    await made(old);
    const { keyId, encryptedKey } = await old.export();
    await board.boot({ version: '2.0.0' });
    const fresh = vault();
    await fresh.open(keyId, encryptedKey);
    fresh.unlock();
    await fresh.seal();
    fresh.dropOldSeals();
    await board.boot();
    assert.is((await refusal(() => vault().unseal())).code, 'vault.pcr-mismatch');
    await board.boot({ version: '2.0.0' });
    await opensBySeal(vault());
  }));

test('a cut of power between the two writes of a seal loses nothing', () =>
  onBoard(async ({ board, tpm, state, vault }) => {
    await made(vault());
    const store = new MasterKeyStore(state, tpm);
    const key = await store.unseal();
    const { write } = state;
    state.write = (name, bytes) => {
      if (name === 'sealed/current') throw new Error('power');
      write.call(state, name, bytes);
    };
    await refusal(() => store.seal(key));
    state.write = write;
    await board.boot();
    await opensBySeal(vault());
    // And done again after it.
    const again = new MasterKeyStore(state, tpm);
    await again.seal(await again.unseal());
    await opensBySeal(vault());
  }));

test('seals that are damaged, of another TPM, or gone', () =>
  onBoard(async ({ state, vault }) => {
    assert.is((await refusal(() => vault().unseal())).code, 'vault.seal-unusable');
    await made(vault());
    const blob = Buffer.from(state.read('sealed/current') ?? []);
    for (let at = 0; at < blob.length; at += 11) {
      state.write(
        'sealed/current',
        blob.map((byte, index) => (index === at ? byte ^ 1 : byte)),
      );
      const { code } = await refusal(() => opensBySeal(vault()));
      // The PCR values beside the seal explain a refusal and nothing else, so they may be changed and it opens.
      const possible = ['none', 'vault.seal-unusable', 'vault.pcr-mismatch'];
      assert.ok(possible.includes(code), `byte ${at}: ${code}`);
    }
    for (const length of [0, 1, 40, blob.length - 1]) {
      state.write('sealed/current', blob.subarray(0, length));
      assert.is((await refusal(() => vault().unseal())).code, 'vault.seal-unusable', `${length} bytes`);
    }
    state.write('sealed/current', blob);
    await opensBySeal(vault());
    const other = await LabBoard.open();
    try {
      await other.boot();
      await inFolder(async (folder) => {
        const theirs = new DeviceTpm(other.tpm, new StateFolder(folder));
        const { code } = await refusal(() => new MasterKeyStore(state, theirs).unseal());
        assert.is(code, 'vault.seal-unusable');
      });
    } finally {
      await other.close();
    }
  }));

test('an escrowed key opens on its own device, under its own name, unchanged', () =>
  onBoard(async ({ vault }) => {
    const first = vault();
    await made(first);
    const { keyId, encryptedKey } = await first.export();
    const fresh = vault();
    assert.is((await refusal(() => fresh.open('0'.repeat(16), encryptedKey))).code, 'box.unreadable');
    assert.is((await refusal(() => vault('another').open(keyId, encryptedKey))).code, 'box.unreadable');
    const box = Buffer.from(encryptedKey, 'base64');
    const changed = Buffer.concat([box.subarray(0, -1), Buffer.of((box.at(-1) ?? 0) ^ 1)]).toString('base64');
    assert.is((await refusal(() => fresh.open(keyId, changed))).code, 'box.unreadable');
    assert.is((await refusal(() => fresh.open(keyId, 'AAAA'))).code, 'wire.malformed');
    assert.is((await refusal(() => fresh.open(keyId, ''))).code, 'wire.malformed');
    assert.is((await refusal(() => fresh.unlock())).code, 'vault.locked');
    await fresh.open(keyId, encryptedKey);
    fresh.unlock();
    assert.ok(fresh.unlocked);
  }));

test('a key that was escrowed under the empty id opens, and is escrowed anew under that of the device', () =>
  onBoard(async ({ vault }) => {
    const old = vault('');
    await made(old);
    const { keyId, encryptedKey } = await old.export();
    const next = vault();
    await next.open(keyId, encryptedKey);
    next.unlock();
    const again = await next.export();
    assert.is((await refusal(() => vault('').open(keyId, again.encryptedKey))).code, 'box.unreadable');
    await vault().open(keyId, again.encryptedKey);
  }));

test('a new master key takes the place of the old one without touching the data', () =>
  onBoard(async ({ board, vault }) => {
    const first = vault();
    const old = await made(first);
    const escrowed = await first.export();
    const rotated = await first.rotate();
    assert.ok(rotated.rotating && rotated.keyId !== old);
    // Until EVC has the new one both open it.
    const other = vault();
    await other.open(old, escrowed.encryptedKey);
    other.unlock();
    assert.is(await opensBySeal(vault()), rotated.keyId);
    first.finishRotation();
    assert.not((await first.export()).rotating);
    const late = vault();
    await late.open(old, escrowed.encryptedKey);
    assert.is((await refusal(() => late.unlock())).code, 'vault.wrong-key');
    await board.boot();
    assert.is(await opensBySeal(vault()), rotated.keyId);
  }));

test('a rotation that was cut short at its very end is known to be one, and finished the next time', () =>
  onBoard(async ({ state, vault }) => {
    const first = vault();
    await made(first);
    const rotated = await first.rotate();
    const remove = state.remove.bind(state);
    state.remove = () => {
      throw new Error('the power is cut');
    };
    assert.throws(() => first.finishRotation(), /cut/);
    state.remove = remove;
    const next = vault();
    assert.is(await opensBySeal(next), rotated.keyId);
    assert.ok((await next.export()).rotating);
    next.finishRotation();
    assert.is.not((await next.rotate()).keyId, rotated.keyId, 'and there is nothing in the way of another');
  }));

test('no rotation while another image could be fallen back to', () =>
  onBoard(async ({ vault }) => {
    const first = vault();
    await made(first);
    await first.seal();
    assert.is((await refusal(() => first.rotate())).code, 'vault.rotation-deferred');
    first.dropOldSeals();
    await first.rotate();
  }));

test.run();
