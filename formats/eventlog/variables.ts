// UEFI_VARIABLE_DATA and the variables that decide how a machine boots [PFP 10.2, UEFI 2.10 sections 3 and 32].
import { devicePathLength, devicePathText } from './device-path.ts';
import { Reader, utf8, utf16 } from './reader.ts';

export interface Variable {
  /** VendorGuid in text form. */
  guid: string;
  name: string;
  data: Uint8Array;
  value: VariableValue;
}

export type VariableValue =
  | { kind: 'boot-order'; order: number[] }
  | { kind: 'boot-option'; number: number; description: string; path: string; active: boolean | undefined }
  /** SecureBoot, AuditMode, DeployedMode, SetupMode, MokSBState. */
  | { kind: 'switch'; on: boolean }
  /** PK, KEK, db, dbx, dbt, dbr. */
  | { kind: 'signatures'; signatures: Signature[] }
  /** SbatLevel: which generations of boot programs shim still starts. */
  | { kind: 'text'; text: string }
  | { kind: 'bytes' };

/** One EFI_SIGNATURE_DATA. */
export interface Signature {
  /** `x509`, `sha256`, or the GUID of the list's type. */
  type: string;
  owner: string;
  data: Uint8Array;
}

export const EFI_GLOBAL_VARIABLE = '8be4df61-93ca-11d2-aa0d-00e098032b8c';
export const EFI_IMAGE_SECURITY_DATABASE = 'd719b2cb-3d3a-4596-a3bc-dad00e67656f';

/** LOAD_OPTION_ACTIVE, FORCE_RECONNECT, HIDDEN, CATEGORY. */
const LOAD_OPTION_ATTRIBUTES = 0x1f0b;

const signatureTypes: Record<string, string> = {
  'a5c059a1-94e4-4aa7-87b5-ab155c2bf072': 'x509',
  'c1c41626-504c-4092-aca9-41f936934328': 'sha256',
};
/** Of the firmware, and shim's own. */
export const keyVariables: ReadonlySet<string> = new Set([
  ...['PK', 'KEK', 'db', 'dbx', 'dbt', 'dbr'],
  ...['MokList', 'MokListX', 'MokListRT', 'MokListXRT', 'MokListTrusted', 'vendor_db', 'vendor_dbx'],
]);
const switches = new Set(['SecureBoot', 'AuditMode', 'DeployedMode', 'SetupMode', 'MokSBState']);

/**
 * Throws FormatError where the structure itself is broken; a value that does not decode is left as `bytes`.
 *
 * @param options.authority the one EFI_SIGNATURE_DATA that vouched for a program, and not the variable that holds it
 */
export function readVariable(event: Uint8Array, options: { authority?: boolean } = {}): Variable {
  const reader = new Reader(event, 'UEFI_VARIABLE_DATA');
  const guid = reader.guid('VariableName');
  const nameLength = reader.length64('UnicodeNameLength', 2);
  const dataLength = reader.length64('VariableDataLength');
  const name = utf16(reader.take(2 * nameLength, 'UnicodeName'));
  const data = reader.take(dataLength, 'VariableData');
  return { guid, name, data, value: readValue(name, data, options.authority ?? false) };
}

function readValue(name: string, data: Uint8Array, authority: boolean): VariableValue {
  try {
    if (authority && isCertificate(data.subarray(16)))
      return { kind: 'signatures', signatures: [signatureOf(new Reader(data, name), 'x509', data.length)] };
    const option = /^Boot([0-9A-F]{4})$/i.exec(name)?.[1];
    if (option) return readBootOption(Number.parseInt(option, 16), data);
    if (name === 'BootOrder') return { kind: 'boot-order', order: readBootOrder(data) };
    if (keyVariables.has(name)) return { kind: 'signatures', signatures: readSignatures(data) };
    if (name === 'SbatLevel') return { kind: 'text', text: utf8(data).replace(/\s+/g, ' ').trim() };
    if (switches.has(name) && data.length <= 1) return { kind: 'switch', on: data[0] === 1 };
  } catch {
    // Firmware is free to put anything there; the bytes and their digest say all that matters.
  }
  return { kind: 'bytes' };
}

function readBootOrder(data: Uint8Array): number[] {
  const reader = new Reader(data, 'BootOrder');
  return Array.from({ length: data.length / 2 }, (_, i) => reader.u16(`[${i}]`));
}

/**
 * EFI_LOAD_OPTION: attributes, length of the path, description, path [UEFI 2.10 section 3.1.3]. Some firmware logs it
 * without the first two; attributes that do not exist or a path of another length tell.
 */
function readBootOption(number: number, data: Uint8Array): VariableValue {
  const reader = new Reader(data, `Boot${number.toString(16).padStart(4, '0')}`);
  const attributes = data.length >= 6 ? reader.u32('Attributes') : 0;
  const pathLength = data.length >= 6 ? reader.u16('FilePathListLength') : 0;
  const description = tryText16(reader);
  const path = description === undefined ? undefined : data.subarray(reader.at, reader.at + pathLength);
  const known = (attributes & ~LOAD_OPTION_ATTRIBUTES) === 0;
  if (
    known &&
    description !== undefined &&
    path?.length === pathLength &&
    devicePathLength(path) !== undefined
  )
    return {
      kind: 'boot-option',
      number,
      description,
      path: devicePathText(path, 'FilePathList'),
      active: (attributes & 1) === 1,
    };
  reader.at = 0;
  const bare = reader.text16('Description');
  const barePath = devicePathText(reader.take(reader.left, 'FilePathList'), 'FilePathList');
  return { kind: 'boot-option', number, description: bare, path: barePath, active: undefined };
}

function tryText16(reader: Reader): string | undefined {
  try {
    return reader.text16('Description');
  } catch {
    return undefined;
  }
}

/** EFI_SIGNATURE_LISTs. The vendor header of a list is skipped: its bytes are no signatures (GHSA-9r4w-jg96-92mv). */
export function readSignatures(data: Uint8Array): Signature[] {
  const reader = new Reader(data, 'EFI_SIGNATURE_LIST');
  const signatures: Signature[] = [];
  while (reader.left > 0) {
    const start = reader.at;
    const guid = reader.guid('SignatureType');
    const listSize = reader.u32('SignatureListSize');
    const headerSize = reader.u32('SignatureHeaderSize');
    const size = reader.u32('SignatureSize');
    const body = listSize - 28 - headerSize;
    if (body < 0 || start + listSize > data.length)
      reader.fail(`${listSize} bytes do not fit`, 'SignatureListSize', start + 16);
    // 16 bytes are the owner; a list of nothing has nothing to divide.
    if (body > 0 && (size <= 16 || body % size !== 0))
      reader.fail(`${size} does not divide ${body}`, 'SignatureSize', start + 24);
    reader.take(headerSize, 'SignatureHeader');
    for (let left = body; left > 0; left -= size)
      signatures.push(signatureOf(reader, signatureTypes[guid] ?? guid, size));
  }
  return signatures;
}

function signatureOf(reader: Reader, type: string, size: number): Signature {
  return { type, owner: reader.guid('SignatureOwner'), data: reader.take(size - 16, 'SignatureData') };
}

/** A SEQUENCE of two length bytes, to the end. */
function isCertificate(data: Uint8Array): boolean {
  return (
    data[0] === 0x30 &&
    data[1] === 0x82 &&
    (((data[2] as number) << 8) | (data[3] as number)) === data.length - 4
  );
}
