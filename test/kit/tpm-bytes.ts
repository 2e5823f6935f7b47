// TPM commands as bytes, made without the project's own codec, so that a test of what lies below the codec, or sends
// what the codec refuses, does not lean on it.
import { createHash } from 'node:crypto';

export const RH = { owner: 0x40000001, null: 0x40000007, endorsement: 0x4000000b, platform: 0x4000000c };
export const CC = {
  EvictControl: 0x120,
  NV_DefineSpace: 0x12a,
  CreatePrimary: 0x131,
  NV_Increment: 0x134,
  NV_Write: 0x137,
  DictionaryAttackLockReset: 0x139,
  PCR_Reset: 0x13d,
  SelfTest: 0x143,
  Startup: 0x144,
  Shutdown: 0x145,
  NV_Read: 0x14e,
  Create: 0x153,
  Load: 0x157,
  Quote: 0x158,
  Sign: 0x15d,
  Unseal: 0x15e,
  FlushContext: 0x165,
  ReadPublic: 0x173,
  StartAuthSession: 0x176,
  GetCapability: 0x17a,
  GetRandom: 0x17b,
  GetTestResult: 0x17c,
  PCR_Read: 0x17e,
  PolicyPCR: 0x17f,
  ReadClock: 0x181,
  PCR_Extend: 0x182,
  PolicyGetDigest: 0x189,
};
const TPM_RS_PW = 0x40000009;

export const u8 = (value: number): Buffer => Buffer.of(value);
export const u16 = (value: number): Buffer => Buffer.of(value >> 8, value & 0xff);
export const u32 = (value: number): Buffer => Buffer.from((value >>> 0).toString(16).padStart(8, '0'), 'hex');
/** A TPM2B: its size, its bytes. */
export const sized = (bytes: Uint8Array = new Uint8Array()): Buffer =>
  Buffer.concat([u16(bytes.length), bytes]);
export const cat = (...parts: Uint8Array[]): Buffer => Buffer.concat(parts);

export interface Session {
  handle: number;
  nonce?: Uint8Array;
  attributes?: number;
  hmac?: Uint8Array;
}

export const password: Session = { handle: TPM_RS_PW };

/** A whole command. */
export function command(
  code: number,
  handles: number[],
  parameters: Uint8Array,
  ...sessions: Session[]
): Buffer {
  const auth = cat(
    ...sessions.map((s) => cat(u32(s.handle), sized(s.nonce), u8(s.attributes ?? 1), sized(s.hmac))),
  );
  const body = cat(...handles.map(u32), ...(sessions.length > 0 ? [u32(auth.length), auth] : []), parameters);
  return cat(u16(sessions.length > 0 ? 0x8002 : 0x8001), u32(10 + body.length), u32(code), body);
}

/** TPM_RC of a response. */
export function rc(response: Uint8Array): number {
  return Buffer.from(response).readUInt32BE(6);
}

/** What follows the header, the `handles` and (with sessions) the size of the parameters. */
export function body(response: Uint8Array, handles = 0): Buffer {
  const bytes = Buffer.from(response);
  const start = 10 + 4 * handles;
  return bytes.subarray(bytes.readUInt16BE(0) === 0x8002 ? start + 4 : start);
}

/** The TPM2Bs at the start of a body. */
export function sizeds(bytes: Buffer, count: number): Buffer[] {
  const found: Buffer[] = [];
  for (let offset = 0; found.length < count; ) {
    const size = bytes.readUInt16BE(offset);
    found.push(bytes.subarray(offset + 2, offset + 2 + size));
    offset += 2 + size;
  }
  return found;
}

const alg = {
  rsa: 1,
  hmac: 5,
  aes: 6,
  keyedhash: 8,
  sha256: 0xb,
  null: 0x10,
  ecdsa: 0x18,
  ecc: 0x23,
  cfb: 0x43,
};
const aes128cfb = cat(u16(alg.aes), u16(128), u16(alg.cfb));
const p256 = 3;
const none = u16(alg.null);

/** Public areas (TPMT_PUBLIC). */
export const template = {
  srk: () =>
    cat(
      u16(alg.ecc),
      u16(alg.sha256),
      u32(0x30472),
      sized(),
      aes128cfb,
      none,
      u16(p256),
      none,
      sized(),
      sized(),
    ),
  /** A restricted signing key: ECDSA P-256 with SHA-256. */
  ak: () =>
    cat(
      ...[u16(alg.ecc), u16(alg.sha256), u32(0x50072), sized(), none],
      ...[u16(alg.ecdsa), u16(alg.sha256), u16(p256), none, sized(), sized()],
    ),
  rsaStorage: () =>
    cat(u16(alg.rsa), u16(alg.sha256), u32(0x30472), sized(), aes128cfb, none, u16(2048), u32(0), sized()),
  sealed: (policy: Uint8Array) =>
    cat(
      u16(alg.keyedhash),
      u16(alg.sha256),
      u32(policy.length > 0 ? 0x12 : 0x52),
      sized(policy),
      none,
      sized(),
    ),
  /** A signing HMAC key that names no scheme, so that each use may. */
  hmac: () => cat(u16(alg.keyedhash), u16(alg.sha256), u32(0x60072), sized(), none, sized()),
};

export const startup = (type: 'clear' | 'state' = 'clear'): Buffer =>
  command(CC.Startup, [], u16(type === 'clear' ? 0 : 1));
export const shutdown = (type: 'clear' | 'state' = 'clear'): Buffer =>
  command(CC.Shutdown, [], u16(type === 'clear' ? 0 : 1));
export const getRandom = (size: number): Buffer => command(CC.GetRandom, [], u16(size));
export const flush = (handle: number): Buffer => command(CC.FlushContext, [], u32(handle));

const creation = (publicArea: Uint8Array, data: Uint8Array, auth: Uint8Array): Buffer =>
  cat(sized(cat(sized(auth), sized(data))), sized(publicArea), sized(), u32(0));

export const createPrimary = (hierarchy: number, publicArea: Uint8Array): Buffer =>
  command(CC.CreatePrimary, [hierarchy], creation(publicArea, Buffer.alloc(0), Buffer.alloc(0)), password);
export const create = (
  parent: number,
  publicArea: Uint8Array,
  data: Uint8Array = Buffer.alloc(0),
  auth: Uint8Array = Buffer.alloc(0),
): Buffer => command(CC.Create, [parent], creation(publicArea, data, auth), password);
/** `created` is the response to TPM2_Create. */
export const load = (parent: number, created: Uint8Array): Buffer =>
  command(CC.Load, [parent], cat(...sizeds(body(created), 2).map(sized)), password);
/** The first handle of a response. */
export const handleOf = (response: Uint8Array): number => Buffer.from(response).readUInt32BE(10);

const sha256Selection = (pcrs: number[]): Buffer => {
  const bits = Buffer.alloc(3);
  for (const pcr of pcrs) bits[pcr >> 3] = (bits[pcr >> 3] ?? 0) | (1 << (pcr & 7));
  return cat(u32(1), u16(alg.sha256), u8(3), bits);
};
export const pcrRead = (...pcrs: number[]): Buffer => command(CC.PCR_Read, [], sha256Selection(pcrs));
/** The SHA-256 values in the response to `pcrRead`. */
export const pcrValues = (response: Uint8Array): Buffer[] => {
  const bytes = body(response);
  const digests = bytes.subarray(4 + 4 + 2 + 1 + 3);
  return sizeds(digests.subarray(4), digests.readUInt32BE(0));
};
export const pcrExtend = (pcr: number, digest: Uint8Array): Buffer =>
  command(CC.PCR_Extend, [pcr], cat(u32(1), u16(alg.sha256), digest), password);
export const quote = (key: number, nonce: Uint8Array, ...pcrs: number[]): Buffer =>
  command(CC.Quote, [key], cat(sized(nonce), none, sha256Selection(pcrs)), password);

/** An unsalted policy session, or a trial one. */
export const startPolicy = (type: 'policy' | 'trial' = 'policy'): Buffer =>
  command(
    CC.StartAuthSession,
    [RH.null, RH.null],
    cat(sized(Buffer.alloc(16, 1)), sized(), u8(type === 'policy' ? 1 : 3), none, u16(alg.sha256)),
  );
export const policyPcr = (session: number, ...pcrs: number[]): Buffer =>
  command(CC.PolicyPCR, [session], cat(sized(), sha256Selection(pcrs)));
export const policyDigest = (session: number): Buffer =>
  command(CC.PolicyGetDigest, [session], Buffer.alloc(0));
export const unseal = (item: number, session: Session): Buffer =>
  command(CC.Unseal, [item], Buffer.alloc(0), session);

/** An ordinary NV index of `size` bytes that its owner and its own (empty) authorization may use. */
export const nvDefine = (index: number, size: number, attributes = 0x60006): Buffer =>
  command(
    CC.NV_DefineSpace,
    [RH.owner],
    cat(sized(), sized(cat(u32(index), u16(alg.sha256), u32(attributes), sized(), u16(size)))),
    password,
  );
export const nvWrite = (index: number, data: Uint8Array): Buffer =>
  command(CC.NV_Write, [RH.owner, index], cat(sized(data), u16(0)), password);
export const nvRead = (index: number, size: number): Buffer =>
  command(CC.NV_Read, [RH.owner, index], cat(u16(size), u16(0)), password);

/** One TPM_PT. */
export const property = (tag: number): Buffer => command(CC.GetCapability, [], cat(u32(6), u32(tag), u32(1)));
export const propertyValue = (response: Uint8Array): number => body(response).readUInt32BE(1 + 4 + 4 + 4);

export const sha256 = (...parts: Uint8Array[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};
