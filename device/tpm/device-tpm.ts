// The TPM as the components use it: EVE's keys, what is done with them, and nothing else.
import { createHash, type KeyObject } from 'node:crypto';
import { FormatError } from '../../formats/format-error.ts';
import { eveQuotePcrs, eveSealPcrs } from '../../machines/pcrs.ts';
import { Refusal } from '../refusal.ts';
import type { StateFolder } from '../state.ts';
import { activateCredential } from './activate.ts';
import { ecdhZ } from './ecdh.ts';
import { TpmError } from './execute.ts';
import { KeyError, type KeyRole, type Keys, type PinnedNames, provisionKeys } from './keys.ts';
import { publicKeyOf } from './public-key.ts';
import { type QuoteResult, quote } from './quote.ts';
import {
  decodeSealedBlob,
  encodeSealedBlob,
  PolicyMismatch,
  type SealedBlob,
  SealRefused,
  seal,
  unseal,
} from './seal.ts';
import { withSession } from './session.ts';
import { signDigest } from './sign.ts';
import type { Tpm } from './tpm.ts';

const namesFile = 'status/tpm-names';

export class DeviceTpm {
  readonly tpm: Tpm;
  readonly #state: StateFolder;
  #keys: Promise<Keys> | null = null;

  constructor(tpm: Tpm, state: StateFolder) {
    this.tpm = tpm;
    this.#state = state;
  }

  /**
   * The keys: made at the first call of a device's life, and checked at the first of each start. Their names are pinned:
   * another TPM in this board is refused here, before anything is entrusted to it.
   */
  keys(): Promise<Keys> {
    this.#keys ??= this.#provision().catch((error) => {
      this.#keys = null;
      throw error;
    });
    return this.#keys;
  }

  /** Random bytes that nobody on the bus sees: master keys are made of them. */
  async random(size: number): Promise<Uint8Array> {
    const { srk } = await this.keys();
    return withSession(this.tpm, { type: 'hmac', salt: srk }, (session) => this.tpm.random(size, session));
  }

  async devicePublicKey(): Promise<KeyObject> {
    return publicKeyOf((await this.keys()).device.public);
  }

  /** ECDSA P-256 over SHA-256(payload) with the device key; raw r ‖ s. */
  async sign(payload: Uint8Array): Promise<Uint8Array> {
    const digest = createHash('sha256').update(payload).digest();
    return signDigest(this.tpm, (await this.keys()).device, digest);
  }

  async quote(qualifyingData: Uint8Array): Promise<QuoteResult> {
    const { ak } = await this.keys();
    return quote(this.tpm, ak, { qualifyingData, bank: 'sha256', pcrs: eveQuotePcrs });
  }

  async activate(credentialBlob: Uint8Array, encryptedSecret: Uint8Array): Promise<Uint8Array> {
    const { ak, ek, srk } = await this.keys();
    return activateCredential(this.tpm, { ak, ek, salt: srk }, { credentialBlob, encryptedSecret });
  }

  /** The point that sealed boxes for this TPM are made for: uncompressed P-256, 65 bytes. */
  async boxPoint(): Promise<Uint8Array> {
    const { x = '', y = '' } = publicKeyOf((await this.keys()).ecdh.public).export({ format: 'jwk' });
    return Buffer.concat([Uint8Array.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
  }

  /** The shared x coordinate with an uncompressed point, 32 bytes. */
  async agree(point: Uint8Array): Promise<Uint8Array> {
    const { ecdh, srk } = await this.keys();
    const peer = { x: point.subarray(1, 33), y: point.subarray(33, 65) };
    return (await ecdhZ(this.tpm, ecdh, peer, srk)).x;
  }

  /** Throws Refusal vault.pcr-not-extended. */
  async seal(secret: Uint8Array): Promise<Uint8Array> {
    const { srk } = await this.keys();
    try {
      return encodeSealedBlob(await seal(this.tpm, srk, secret, { bank: 'sha256', pcrs: eveSealPcrs }));
    } catch (error) {
      if (error instanceof SealRefused) {
        const details = { pcrs: [...error.pcrs] };
        throw new Refusal('vault.pcr-not-extended', error.message, { details, cause: error });
      }
      throw error;
    }
  }

  /** Throws Refusal vault.pcr-mismatch with the PCRs that differ, vault.seal-unusable. */
  async unseal(blob: Uint8Array): Promise<Uint8Array> {
    const { srk } = await this.keys();
    const sealed = readBlob(blob);
    try {
      return await unseal(this.tpm, srk, sealed);
    } catch (error) {
      if (error instanceof PolicyMismatch) {
        throw new Refusal('vault.pcr-mismatch', `the master key is ${error.message}`, {
          details: { pcrs: error.pcrs },
          cause: error,
        });
      }
      throw isRefusedLoad(error) ? unusable(error) : error;
    }
  }

  async #provision(): Promise<Keys> {
    const stored = this.#state.restore<Partial<Record<KeyRole, string>>>(namesFile) ?? {};
    const pinned: PinnedNames = {};
    for (const [role, name] of Object.entries(stored)) pinned[role as KeyRole] = Buffer.from(name, 'hex');
    try {
      const keys = await provisionKeys(this.tpm, pinned);
      if (Object.keys(stored).length === 0) {
        const names = Object.entries(keys).map(([role, key]) => [
          role,
          Buffer.from(key.name).toString('hex'),
        ]);
        this.#state.checkpoint(namesFile, Object.fromEntries(names));
      }
      return keys;
    } catch (error) {
      if (!(error instanceof KeyError)) throw error;
      throw new Refusal(
        error.code === 'wrong-name' ? 'tpm.other' : 'tpm.key-taken',
        `${error.message}; nothing was overwritten`,
        { cause: error },
      );
    }
  }
}

/** A response of the TPM that cannot be read is no fault of the blob, so the blob is read apart. */
function readBlob(bytes: Uint8Array): SealedBlob {
  try {
    return decodeSealedBlob(bytes);
  } catch (error) {
    throw error instanceof FormatError ? unusable(error) : error;
  }
}

function unusable(cause: unknown): Refusal {
  return new Refusal(
    'vault.seal-unusable',
    'the sealed master key is damaged, or was sealed by another TPM',
    { cause },
  );
}

/** The TPM was given the blob and does not take it; a parameter of TPM2_Load is nothing but bytes of the blob. */
function isRefusedLoad(error: unknown): boolean {
  return error instanceof TpmError && error.command === 'TPM2_Load' && error.kind === 'parameter';
}
