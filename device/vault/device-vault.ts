// The vault of a device with its master key: what the ports of the vault manager work on. An open vault holds its key
// here, and it leaves only sealed in the TPM or encrypted for it.
import type { BoxPurpose } from '../../formats/wire/box.ts';
import { openBox, sealBox } from '../box.ts';
import { Refusal } from '../refusal.ts';
import type { StateFolder } from '../state.ts';
import type { DeviceTpm } from '../tpm/device-tpm.ts';
import { MasterKeyStore, masterKey } from './master-key.ts';
import type { MasterKey, VaultBackend, VaultPresence } from './vault.ts';

const purpose: BoxPurpose = 'vault key for the TPM';

export class DeviceVault {
  readonly #choose: () => VaultBackend;
  #backend: VaultBackend | null = null;
  readonly #tpm: DeviceTpm;
  readonly #store: MasterKeyStore;
  readonly #device: () => Promise<string>;
  #key: MasterKey | null = null;
  #unlocked = false;

  /** `backend` is asked for when it is first needed: of all components, the vault manager alone needs it. */
  constructor(options: {
    backend: () => VaultBackend;
    tpm: DeviceTpm;
    state: StateFolder;
    device: () => Promise<string>;
  }) {
    this.#choose = options.backend;
    this.#tpm = options.tpm;
    this.#store = new MasterKeyStore(options.state, options.tpm);
    this.#device = options.device;
  }

  /** Throws Refusal vault.no-fscrypt, vault.other-backend. */
  get backend(): VaultBackend {
    this.#backend ??= this.#choose();
    return this.#backend;
  }

  /** Looks for a vault. One that a vault manager before this one left open is locked first. */
  probe(): { vault: VaultPresence; backend: string } {
    const { backend } = this;
    this.lock();
    return { vault: backend.probe(), backend: backend.name };
  }

  get unlocked(): boolean {
    return this.#unlocked;
  }

  async create(): Promise<void> {
    const key = await this.#store.make();
    this.backend.create(key);
    this.#key = key;
  }

  /** Seals the open vault's key to the boot of now. A vault that is being created is complete after this. */
  async seal(): Promise<void> {
    await this.#store.seal(this.#required());
    if (this.backend.probe() === 'incomplete') this.backend.finish();
    this.#unlocked = true;
  }

  async unseal(): Promise<void> {
    this.#key = await this.#store.unseal();
  }

  unlock(): void {
    this.backend.unlock(this.#required());
    this.#unlocked = true;
  }

  lock(): void {
    this.#backend?.lock();
    this.#key?.bytes.fill(0);
    this.#key = null;
    this.#unlocked = false;
  }

  /** The master key for EVC to keep: nobody but this TPM opens it. */
  async export(): Promise<{ keyId: string; encryptedKey: string; rotating: boolean }> {
    const { id, bytes } = this.#required();
    const context = `${await this.#device()} ${id}`;
    const box = sealBox(await this.#tpm.boxPoint(), bytes, purpose, context);
    return {
      keyId: id,
      encryptedKey: Buffer.from(box).toString('base64'),
      rotating: this.backend.keys().length > 1,
    };
  }

  /** Takes the escrowed key. Throws Refusal box.unreadable, vault.wrong-key. */
  async open(keyId: string, encryptedKey: string): Promise<void> {
    const box = Buffer.from(encryptedKey, 'base64');
    const device = await this.#device();
    const bytes = await this.#openBox(box, `${device} ${keyId}`).catch((error) => {
      if (!(error instanceof Refusal) || error.code !== 'box.unreadable') throw error;
      // EVC may hold one of a vault manager that ran by itself, and did not know its device.
      return this.#openBox(box, ` ${keyId}`);
    });
    const key = masterKey(bytes);
    if (key.id !== keyId)
      throw new Refusal('vault.wrong-key', 'the escrowed key is not the one it is called');
    this.#key = key;
  }

  /** A new master key, sealed, that opens the vault beside the old one. Throws Refusal vault.rotation-deferred. */
  async rotate(): Promise<{ keyId: string; encryptedKey: string; rotating: boolean }> {
    if (this.#store.hasPrevious) {
      throw new Refusal(
        'vault.rotation-deferred',
        'an upgrade is not committed yet, and the image to fall back to could not open the vault with a new key',
      );
    }
    const key = await this.#store.make();
    this.backend.admit(key);
    await this.#store.seal(key);
    this.#key = key;
    return this.export();
  }

  /** In this order: as long as two keys open the vault, a rotation that was cut short here is known to be one. */
  finishRotation(): void {
    const { id } = this.#required();
    this.#store.dropPrevious();
    this.backend.keepOnly(id);
  }

  dropOldSeals(): void {
    this.#store.dropPrevious();
  }

  async #openBox(box: Uint8Array, context: string): Promise<Uint8Array> {
    return openBox(await this.#tpm.boxPoint(), (point) => this.#tpm.agree(point), box, purpose, context);
  }

  #required(): MasterKey {
    if (!this.#key) throw new Refusal('vault.locked', 'the master key is not here; the vault is locked');
    return this.#key;
  }
}
