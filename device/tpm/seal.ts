// Sealing a secret to PCR values, and opening it. Both go through a salted session with parameter encryption, so the
// secret is never on the bus in the clear and nobody on it can change what comes back.
import { timingSafeEqual } from 'node:crypto';
import { Create, Load, Unseal } from '../../formats/tpm2/commands.ts';
import { digestSize, type HashName } from '../../formats/tpm2/hash.ts';
import { objectName } from '../../formats/tpm2/names.ts';
import { type PcrValues, pcrDigest, pcrSelection } from '../../formats/tpm2/pcrs.ts';
import { type PolicyAssertion, policyDigest } from '../../formats/tpm2/policy.ts';
import { TPM_RC } from '../../formats/tpm2/response-codes.ts';
import { sealedObject } from '../../formats/tpm2/templates.ts';
import { TpmError } from './execute.ts';
import { hash } from './hash.ts';
import { runPolicy } from './policy.ts';
import type { SealedBlob } from './sealed-blob.ts';
import { type SaltKey, withSession } from './session.ts';
import type { Tpm } from './tpm.ts';

export { decodeSealedBlob, encodeSealedBlob, type SealedBlob } from './sealed-blob.ts';

export interface SealOptions {
  /** Default: sha256. */
  bank?: HashName;
  pcrs: readonly number[];
  /** Values to seal to instead of the current ones, for a boot that is still to come. */
  values?: PcrValues;
}

/**
 * Sealing would protect nothing: the firmware never extended PCR 0 or 4, so whoever boots anything can extend them to
 * the values of a good boot.
 */
export class SealRefused extends Error {
  readonly code = 'pcr-not-extended';
  readonly pcrs: readonly number[];

  constructor(pcrs: readonly number[]) {
    super(
      `pcr-not-extended: PCR ${pcrs.join(' and ')} was never extended, so sealing to it protects nothing`,
    );
    this.name = 'SealRefused';
    this.pcrs = pcrs;
  }
}

export interface PcrDifference {
  pcr: number;
  sealed: Uint8Array;
  current: Uint8Array;
}

/** The secret does not open with the PCR values of now. */
export class PolicyMismatch extends Error {
  readonly bank: HashName;
  /** Empty if every recorded value still holds: then the record is not that of the sealed object. */
  readonly differences: readonly PcrDifference[];

  constructor(bank: HashName, differences: readonly PcrDifference[]) {
    const pcrs = differences.map(({ pcr }) => pcr).join(', ');
    super(
      pcrs
        ? `sealed to other values of PCR ${pcrs}`
        : 'the sealed object does not open, though all recorded PCR values are the current ones',
    );
    this.name = 'PolicyMismatch';
    this.bank = bank;
    this.differences = differences;
  }

  /** The PCRs that differ, ascending. */
  get pcrs(): number[] {
    return this.differences.map(({ pcr }) => pcr);
  }
}

const policyHash = 'sha256';
const critical = [0, 4];
const largestSecret = 128;
const attempts = 3;

/** Still as after reset: all zeros, in PCR 0 also with the startup locality in the last byte [TCG PFP 1.06, 10.1.2]. */
function unextended(pcr: number, value: Uint8Array): boolean {
  const last = value.at(-1) ?? 0;
  const lastFits = last === 0 || (pcr === 0 && (last === 3 || last === 4));
  return lastFits && value.subarray(0, -1).every((byte) => byte === 0);
}

function policyFor(bank: HashName, values: PcrValues): PolicyAssertion {
  const pcrs = [pcrSelection(bank, values.keys())];
  return { policy: 'PolicyPCR', pcrs, pcrDigest: pcrDigest(hash, policyHash, pcrs, { [bank]: values }) };
}

/**
 * Seals a secret of 1 to 128 bytes to PCR values. `srk` is parent and salt key; its name is the one to trust.
 * @throws SealRefused if PCR 0 or 4 was never extended, whether or not it is among `pcrs`.
 * @throws PolicyMismatch if the PCRs have other values than the TPM was heard to say, unless `values` are given.
 */
export async function seal(
  tpm: Tpm,
  srk: SaltKey,
  secret: Uint8Array,
  options: SealOptions,
): Promise<SealedBlob> {
  const { bank = 'sha256', pcrs, values: future } = options;
  if (secret.length < 1 || secret.length > largestSecret)
    throw new TypeError(`a secret of 1 to ${largestSecret} bytes can be sealed`);
  if (pcrs.length === 0) throw new TypeError('sealing needs at least one PCR');
  const blob = await tpm.exclusive(async () => {
    const current = await tpm.pcrRead(bank, [...critical, ...pcrs]);
    const sealedValue = (pcr: number) => {
      const value = future && (pcrs.includes(pcr) || future.has(pcr)) ? future.get(pcr) : current.get(pcr);
      if (value?.length !== digestSize(bank)) throw new TypeError(`no ${bank} value given for PCR ${pcr}`);
      return value;
    };
    const zero = critical.filter((pcr) => unextended(pcr, sealedValue(pcr)));
    if (zero.length > 0) throw new SealRefused(zero);
    const values = new Map([...new Set(pcrs)].sort((a, b) => a - b).map((pcr) => [pcr, sealedValue(pcr)]));
    const authPolicy = policyDigest(hash, policyHash, [policyFor(bank, values)]);
    const created = await withSession(tpm, { type: 'hmac', salt: srk }, (session) =>
      tpm.execute(
        Create,
        {
          parentHandle: srk,
          inSensitive: { userAuth: new Uint8Array(), data: secret },
          inPublic: sealedObject(authPolicy),
          outsideInfo: new Uint8Array(),
          creationPCR: [],
        },
        [{ session, decrypt: true, encrypt: true }],
      ),
    );
    return {
      version: 1 as const,
      public: created.outPublic,
      privateBytes: created.outPrivate,
      bank,
      pcrs: values,
    };
  });
  // The values were read without a session: whoever sits on the wires could have them sealed to a boot of his own. What they are
  // in truth only the TPM says, and in a session nobody else can say it.
  if (!future && !timingSafeEqual(await unseal(tpm, srk, blob), secret))
    throw new Error('the TPM gives back another secret than it sealed');
  return blob;
}

/**
 * Opens a sealed secret.
 * @throws PolicyMismatch with the PCRs that differ if they are not what it was sealed to.
 * @throws TpmError TPM_RC_INTEGRITY if it was sealed by another TPM, or changed since.
 */
export async function unseal(tpm: Tpm, srk: SaltKey, blob: SealedBlob): Promise<Uint8Array> {
  const name = objectName(hash, blob.public);
  const policy = [policyFor(blob.bank, blob.pcrs)];
  return tpm.exclusive(async () => {
    const { objectHandle } = await withSession(tpm, { type: 'hmac', salt: srk }, (session) =>
      tpm.execute(Load, { parentHandle: srk, inPrivate: blob.privateBytes, inPublic: blob.public }, [
        { session },
      ]),
    );
    return tpm.flushing(objectHandle, async (itemHandle) => {
      for (let attempt = 1; ; attempt++) {
        try {
          return await withSession(tpm, { type: 'policy', salt: srk }, async (session) => {
            await runPolicy(tpm, session, policy);
            const item = { handle: itemHandle, name };
            const { outData } = await tpm.execute(Unseal, { itemHandle: item }, [{ session, encrypt: true }]);
            return outData;
          });
        } catch (error) {
          if (!(error instanceof TpmError)) throw error;
          if (error.base === TPM_RC.PCR_CHANGED && attempt < attempts) continue;
          if (error.base !== TPM_RC.POLICY_FAIL) throw error;
          throw new PolicyMismatch(blob.bank, await differences(tpm, blob));
        }
      }
    });
  });
}

async function differences(tpm: Tpm, { bank, pcrs }: SealedBlob): Promise<PcrDifference[]> {
  const now = await tpm.pcrRead(bank, pcrs.keys());
  return [...now].flatMap(([pcr, current]) => {
    const sealed = pcrs.get(pcr) as Uint8Array;
    return Buffer.compare(sealed, current) === 0 ? [] : [{ pcr, sealed, current }];
  });
}
