// The keys of a device, at EVE's persistent handles: made once, checked each time, never overwritten.
import { encode } from '../../formats/tpm2/codec.ts';
import { CreatePrimary, EvictControl, ReadPublic } from '../../formats/tpm2/commands.ts';
import { TPM_ALG, TPM_HT, TPM_RH } from '../../formats/tpm2/constants.ts';
import { handleName, objectName, qualifiedName } from '../../formats/tpm2/names.ts';
import { type TPMA_OBJECT, TPMT_PUBLIC } from '../../formats/tpm2/structures.ts';
import {
  attestationKey,
  deviceKey,
  ecdhKey,
  endorsementIndices,
  endorsementKey,
  endorsementPolicyOf,
  storageRootKey,
} from '../../formats/tpm2/templates.ts';
import { type CertifiedTemplate, certifiedTemplates, certifies } from './endorsement.ts';
import { TpmError } from './execute.ts';
import { hash } from './hash.ts';
import type { Tpm } from './tpm.ts';

/** A persistent key. Where commands ask for an entity or a salt key, this is one. */
export interface Key {
  handle: number;
  public: TPMT_PUBLIC;
  /** The encoded TPMT_PUBLIC: what a TPM2B_PUBLIC holds. */
  publicBytes: Uint8Array;
  name: Uint8Array;
}

interface Place {
  handle: number;
  hierarchy: number;
  template: TPMT_PUBLIC;
}

/**
 * Where each key lives. EK and AK are under the endorsement hierarchy: a TPM obfuscates reset and restart counts and
 * firmware version in quotes of keys elsewhere [TPM2 Part 1, 36.7]. Owner authorization may persist both.
 */
const places = {
  // Unless the manufacturer certified another one: see provisionEk.
  ek: { handle: 0x81000001, hierarchy: TPM_RH.ENDORSEMENT, template: endorsementKey['L-2'] },
  srk: { handle: 0x81000002, hierarchy: TPM_RH.OWNER, template: storageRootKey },
  ak: { handle: 0x81000004, hierarchy: TPM_RH.ENDORSEMENT, template: attestationKey },
  ecdh: { handle: 0x81000005, hierarchy: TPM_RH.OWNER, template: ecdhKey },
  device: { handle: 0x817fffff, hierarchy: TPM_RH.OWNER, template: deviceKey },
  // The handle that the TCG reserves for it [TCG Registry of Reserved TPM 2.0 Handles, 2.3.1].
  rsaEk: { handle: 0x81010001, hierarchy: TPM_RH.ENDORSEMENT, template: endorsementKey['L-1'] },
} satisfies Record<string, Place>;

export type KeyRole = keyof typeof places;

/** The keys that every device has. The RSA endorsement key is made when somebody asks for it. */
export type Keys = Record<Exclude<KeyRole, 'rsaEk'>, Key>;

const roles = ['ek', 'srk', 'ak', 'ecdh', 'device'] as const;

/** Handles at which the endorsement key may be: EVE's, and those that the TCG reserves for certified ones. */
const ekHandles = [places.ek.handle, ...Object.values(endorsementIndices).map(({ handle }) => handle)];

/** How many of our keys are still to be made in a TPM with these persistent objects. */
export function keysToMake(persistent: readonly number[]): number {
  const others = roles.filter((role) => role !== 'ek' && !persistent.includes(places[role].handle));
  return others.length + (ekHandles.some((handle) => persistent.includes(handle)) ? 0 : 1);
}

/** Names known from enrolment. */
export type PinnedNames = Partial<Record<KeyRole, Uint8Array>>;

/**
 * - `missing`: there is no key at the handle.
 * - `wrong-template`: there is another key; `differs` says in what. It may be in use, so it stays.
 * - `wrong-hierarchy`: the right kind of key in the wrong hierarchy.
 * - `wrong-name`: not the key that was enrolled, or the TPM states a name that its public area does not have.
 */
export class KeyError extends Error {
  readonly code: 'missing' | 'wrong-template' | 'wrong-hierarchy' | 'wrong-name';
  readonly role: KeyRole;
  readonly handle: number;
  readonly differs: readonly string[];

  constructor(
    code: KeyError['code'],
    role: KeyRole,
    differs: readonly string[] = [],
    handle: number = places[role].handle,
  ) {
    const what = {
      missing: 'there is no key',
      'wrong-template': `another key is there; it differs in ${differs.join(', ')}`,
      'wrong-hierarchy': 'the key there is under another hierarchy',
      'wrong-name': 'the key there has another name than it should',
    }[code];
    super(`${role} at 0x${handle.toString(16)}: ${what}`);
    this.name = 'KeyError';
    this.code = code;
    this.role = role;
    this.handle = handle;
    this.differs = differs;
  }
}

/** Makes the keys that are missing and checks the others; running it twice changes nothing. Throws KeyError. */
export function provisionKeys(tpm: Tpm, pinned: PinnedNames = {}): Promise<Keys> {
  return tpm.exclusive(() =>
    keysOf((role) => {
      const name = pinned[role];
      return role === 'ek' ? provisionEk(tpm, name) : provision(tpm, role, name);
    }),
  );
}

/** Loads and checks the keys; makes none. Throws KeyError. */
export function loadKeys(tpm: Tpm, pinned: PinnedNames = {}): Promise<Keys> {
  return tpm.exclusive(() =>
    keysOf(async (role) => {
      const name = pinned[role];
      return (role === 'ek' && name && (await findEk(tpm, name))) || loadKey(tpm, role, name);
    }),
  );
}

/** The RSA 2048 endorsement key, made if it is not there: seconds on many TPMs. Throws KeyError. */
export function provisionRsaEk(tpm: Tpm, pinnedName?: Uint8Array): Promise<Key> {
  return tpm.exclusive(() => provision(tpm, 'rsaEk', pinnedName));
}

/** One key, checked. Throws KeyError. */
export function loadKey(tpm: Tpm, role: KeyRole, pinnedName?: Uint8Array): Promise<Key> {
  return tpm.exclusive(async () => {
    if (!(await exists(tpm, role))) throw new KeyError('missing', role);
    return read(tpm, role, pinnedName);
  });
}

async function keysOf(get: (role: keyof Keys) => Promise<Key>): Promise<Keys> {
  const keys: Partial<Keys> = {};
  for (const role of roles) keys[role] = await get(role);
  return keys as Keys;
}

async function exists(tpm: Tpm, role: KeyRole): Promise<boolean> {
  return (await tpm.handles(TPM_HT.PERSISTENT)).includes(places[role].handle);
}

async function provision(tpm: Tpm, role: KeyRole, pinnedName: Uint8Array | undefined): Promise<Key> {
  const { handle, hierarchy, template } = places[role];
  if (!(await exists(tpm, role))) {
    const { objectHandle } = await createPrimary(tpm, hierarchy, template);
    await tpm.flushing(objectHandle, () => persist(tpm, objectHandle, handle));
  }
  return read(tpm, role, pinnedName);
}

/**
 * The endorsement key: the one that was enrolled; else the first that its manufacturer certified; else EVE's own. A
 * certificate for another key than the one that its template makes is passed over.
 */
async function provisionEk(tpm: Tpm, pinnedName: Uint8Array | undefined): Promise<Key> {
  const enrolled = pinnedName && (await findEk(tpm, pinnedName));
  if (enrolled) return enrolled;
  for (const certified of await certifiedTemplates(tpm)) {
    const key = await makeCertified(tpm, certified);
    if (key && (!pinnedName || same(key.name, pinnedName))) return key;
  }
  return provision(tpm, 'ek', pinnedName);
}

/** The persistent endorsement key of this name. */
async function findEk(tpm: Tpm, name: Uint8Array): Promise<Key | undefined> {
  for (const handle of await persistentEks(tpm)) {
    const key = await readEk(tpm, handle);
    if (key && same(key.name, name)) return key;
  }
  return undefined;
}

/** The certified key where it is, or made and kept; undefined if it is not to be had here. */
async function makeCertified(
  tpm: Tpm,
  { certificate, inPublic, handle }: CertifiedTemplate,
): Promise<Key | undefined> {
  const taken = await persistentEks(tpm);
  for (const at of taken) {
    // Some vendors persist their key, and made it from another template than the one of the profile.
    const key = await readEk(tpm, at);
    if (key && certifies(certificate, key.public)) return key;
  }
  const free = [handle, places.ek.handle].find((at) => !taken.includes(at));
  const made = free === undefined ? undefined : await createIfPossible(tpm, inPublic);
  if (free === undefined || !made) return undefined;
  const { objectHandle, outPublic } = made;
  return tpm.flushing(objectHandle, async () => {
    if (!certifies(certificate, outPublic)) return undefined;
    await persist(tpm, objectHandle, free);
    return readEk(tpm, free);
  });
}

/** Undefined if this TPM does not make such keys, whatever certificate it has. */
async function createIfPossible(tpm: Tpm, inPublic: TPMT_PUBLIC) {
  try {
    return await createPrimary(tpm, TPM_RH.ENDORSEMENT, inPublic);
  } catch (error) {
    // About the template, which is the one parameter that is not always the same.
    if (error instanceof TpmError && error.kind === 'parameter') return undefined;
    throw error;
  }
}

async function persistentEks(tpm: Tpm): Promise<number[]> {
  const persistent = new Set(await tpm.handles(TPM_HT.PERSISTENT));
  return ekHandles.filter((handle) => persistent.has(handle));
}

/** An endorsement key of whatever template; undefined if something else is there. */
async function readEk(tpm: Tpm, handle: number): Promise<Key | undefined> {
  const stated = await tpm.execute(ReadPublic, { objectHandle: handle });
  if (!endorsementPolicyOf(stated.outPublic)) return undefined;
  const name = objectName(hash, stated.outPublic);
  if (!same(name, stated.name)) throw new KeyError('wrong-name', 'ek', [], handle);
  if (!same(stated.qualifiedName, qualifiedName(hash, handleName(TPM_RH.ENDORSEMENT), name)))
    return undefined;
  return { handle, public: stated.outPublic, publicBytes: encode(TPMT_PUBLIC, stated.outPublic), name };
}

function createPrimary(tpm: Tpm, primaryHandle: number, inPublic: TPMT_PUBLIC) {
  return tpm.execute(CreatePrimary, {
    primaryHandle,
    inSensitive: { userAuth: new Uint8Array(), data: new Uint8Array() },
    inPublic,
    outsideInfo: new Uint8Array(),
    creationPCR: [],
  });
}

async function persist(tpm: Tpm, objectHandle: number, persistentHandle: number): Promise<void> {
  await tpm.execute(EvictControl, { auth: TPM_RH.OWNER, objectHandle, persistentHandle });
}

async function read(tpm: Tpm, role: KeyRole, pinnedName: Uint8Array | undefined): Promise<Key> {
  const { handle, hierarchy, template } = places[role];
  const stated = await tpm.execute(ReadPublic, { objectHandle: handle });
  const differs = differences(template, stated.outPublic);
  if (differs.length > 0) throw new KeyError('wrong-template', role, differs);
  const name = objectName(hash, stated.outPublic);
  if (!same(name, stated.name) || (pinnedName && !same(name, pinnedName)))
    throw new KeyError('wrong-name', role);
  if (!same(stated.qualifiedName, qualifiedName(hash, handleName(hierarchy), name)))
    throw new KeyError('wrong-hierarchy', role);
  return { handle, public: stated.outPublic, publicBytes: encode(TPMT_PUBLIC, stated.outPublic), name };
}

/** The parts of a public area that are not what the template says; the key itself is its own. */
function differences(template: TPMT_PUBLIC, actual: TPMT_PUBLIC): string[] {
  const found: string[] = [];
  if (template.type !== actual.type) found.push('type');
  if (template.nameAlg !== actual.nameAlg) found.push('nameAlg');
  for (const [attribute, value] of Object.entries(template.objectAttributes))
    if (actual.objectAttributes[attribute as keyof TPMA_OBJECT] !== value)
      found.push(`objectAttributes.${attribute}`);
  if (!same(template.authPolicy, actual.authPolicy)) found.push('authPolicy');
  if (template.type === actual.type && !same(withoutKey(template), withoutKey(actual)) && found.length === 0)
    found.push('parameters');
  return found;
}

function withoutKey(area: TPMT_PUBLIC): Uint8Array {
  const none = new Uint8Array();
  if (area.type === TPM_ALG.ECC) return encode(TPMT_PUBLIC, { ...area, unique: { x: none, y: none } });
  return encode(TPMT_PUBLIC, { ...area, unique: none });
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
