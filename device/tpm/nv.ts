// NV indices: certificates from the manufacturer, counters against roll-back, small things of our own.
import * as commands from '../../formats/tpm2/commands.ts';
import { TPM_ALG, TPM_NT, TPM_RH } from '../../formats/tpm2/constants.ts';
import { concat } from '../../formats/tpm2/hash.ts';
import { nvName } from '../../formats/tpm2/names.ts';
import { TPMA_NV, type TPMS_NV_PUBLIC } from '../../formats/tpm2/structures.ts';
import type { Entity } from './execute.ts';
import { hash } from './hash.ts';
import { type SaltKey, type SessionUse, withSession } from './session.ts';
import type { Tpm } from './tpm.ts';

const none = new Uint8Array();
const counterSize = 8;
const ours = ['OWNERWRITE', 'OWNERREAD', 'AUTHREAD', 'NO_DA'] as const;

async function define(tpm: Tpm, nvIndex: number, attributes: TPMA_NV, dataSize: number): Promise<void> {
  await tpm.execute(commands.NV_DefineSpace, {
    authHandle: TPM_RH.OWNER,
    auth: none,
    publicInfo: { nvIndex, nameAlg: TPM_ALG.SHA256, attributes, authPolicy: none, dataSize },
  });
}

/** Defines an index that the owner may write and read. @throws TpmError TPM_RC_NV_DEFINED if it exists. */
export function defineNv(tpm: Tpm, nvIndex: number, dataSize: number): Promise<void> {
  return define(tpm, nvIndex, TPMA_NV.of(...ours), dataSize);
}

/** Defines a counter. Its first value is one more than that of any counter this TPM ever had. */
export function defineNvCounter(tpm: Tpm, nvIndex: number): Promise<void> {
  return define(tpm, nvIndex, { ...TPMA_NV.of(...ours), TPM_NT: TPM_NT.COUNTER }, counterSize);
}

/** Public area and name of an index. @throws TpmError TPM_RC_HANDLE if it does not exist. */
export async function readNvPublic(
  tpm: Tpm,
  nvIndex: number,
): Promise<TPMS_NV_PUBLIC & { name: Uint8Array }> {
  const { nvPublic } = await tpm.execute(commands.NV_ReadPublic, { nvIndex });
  return { ...nvPublic, name: nvName(hash, nvPublic) };
}

/** Who may do it: the owner where the index allows it, else the index itself with its (empty) authValue. */
function authority(index: Entity, ownerMay: boolean): Entity {
  return ownerMay ? { handle: TPM_RH.OWNER } : index;
}

function chunks(size: number, largest: number): { offset: number; size: number }[] {
  const count = Math.ceil(size / largest);
  return Array.from({ length: count }, (_, i) => ({
    offset: i * largest,
    size: Math.min(largest, size - i * largest),
  }));
}

/** In a salted session if there is a key to salt it with: then nobody on the bus can change what is read or written. */
function signed<T>(
  tpm: Tpm,
  salt: SaltKey | undefined,
  work: (sessions: SessionUse[]) => Promise<T>,
): Promise<T> {
  if (!salt) return tpm.exclusive(() => work([]));
  return withSession(tpm, { type: 'hmac', salt }, (session) => work([{ session }]));
}

/**
 * Writes a whole index, in as many parts as the TPM asks for.
 * @throws TypeError if the data is not exactly as long as the index.
 */
export function writeNv(tpm: Tpm, nvIndex: number, data: Uint8Array, salt?: SaltKey): Promise<void> {
  return signed(tpm, salt, async (sessions) => {
    const { dataSize, attributes } = await readNvPublic(tpm, nvIndex);
    if (data.length !== dataSize)
      throw new TypeError(`${data.length} bytes for an NV index of ${dataSize} bytes`);
    for (const { offset, size } of chunks(dataSize, await tpm.nvBufferMax())) {
      // The first write sets WRITTEN, and so changes the name that the session signs.
      const index = { handle: nvIndex, name: (await readNvPublic(tpm, nvIndex)).name };
      await tpm.execute(
        commands.NV_Write,
        {
          authHandle: authority(index, attributes.OWNERWRITE),
          nvIndex: index,
          data: data.subarray(offset, offset + size),
          offset,
        },
        sessions,
      );
    }
  });
}

/**
 * Reads a whole index.
 * @throws TpmError TPM_RC_NV_UNINITIALIZED if it was never written.
 * @throws RangeError if it has more than `most` bytes; nothing of it is read then.
 */
export function readNv(
  tpm: Tpm,
  nvIndex: number,
  salt?: SaltKey,
  most = Number.POSITIVE_INFINITY,
): Promise<Uint8Array> {
  return signed(tpm, salt, async (sessions) => {
    const { dataSize, attributes, name } = await readNvPublic(tpm, nvIndex);
    if (dataSize > most) throw new RangeError(`NV index 0x${nvIndex.toString(16)} has ${dataSize} bytes`);
    const index = { handle: nvIndex, name };
    const parts: Uint8Array[] = [];
    for (const { offset, size } of chunks(dataSize, await tpm.nvBufferMax())) {
      const { data } = await tpm.execute(
        commands.NV_Read,
        { authHandle: authority(index, attributes.OWNERREAD), nvIndex: index, size, offset },
        sessions,
      );
      if (data.length !== size) throw new RangeError(`TPM2_NV_Read gave ${data.length} of ${size} bytes`);
      parts.push(data);
    }
    return concat(...parts);
  });
}

/** The value of a counter. @throws TpmError TPM_RC_NV_UNINITIALIZED before its first increment. */
export async function readNvCounter(tpm: Tpm, nvIndex: number, salt?: SaltKey): Promise<bigint> {
  const value = await readNv(tpm, nvIndex, salt);
  if (value.length !== counterSize) throw new RangeError(`0x${nvIndex.toString(16)} is no counter`);
  return new DataView(value.buffer, value.byteOffset).getBigUint64(0);
}

/** Adds one to a counter and returns its new value. */
export function incrementNv(tpm: Tpm, nvIndex: number, salt?: SaltKey): Promise<bigint> {
  return tpm.exclusive(async () => {
    await signed(tpm, salt, async (sessions) => {
      const { attributes, name } = await readNvPublic(tpm, nvIndex);
      const index = { handle: nvIndex, name };
      const authHandle = authority(index, attributes.OWNERWRITE);
      await tpm.execute(commands.NV_Increment, { authHandle, nvIndex: index }, sessions);
    });
    return readNvCounter(tpm, nvIndex, salt);
  });
}

/** Removes an index that the owner defined. */
export async function undefineNv(tpm: Tpm, nvIndex: number): Promise<void> {
  await tpm.execute(commands.NV_UndefineSpace, { authHandle: TPM_RH.OWNER, nvIndex });
}
