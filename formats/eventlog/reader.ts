// Reads the little-endian structures of event logs and UEFI; the TPM's own are big-endian (formats/tpm2).
import { FormatError } from '../format-error.ts';

/** Reads forward through `bytes` and never past their end: each method throws FormatError with path and offset. */
export class Reader {
  readonly bytes: Uint8Array;
  at = 0;
  readonly #view: DataView;
  readonly #path: string;

  constructor(bytes: Uint8Array, path: string) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#path = path;
  }

  get left(): number {
    return this.bytes.length - this.at;
  }

  u8(field: string): number {
    return this.#view.getUint8(this.#take(1, field));
  }

  u16(field: string): number {
    return this.#view.getUint16(this.#take(2, field), true);
  }

  u32(field: string): number {
    return this.#view.getUint32(this.#take(4, field), true);
  }

  u64(field: string): bigint {
    return this.#view.getBigUint64(this.#take(8, field), true);
  }

  /** A length of 64 bits that must fit into what is left, so a number holds it. */
  length64(field: string, unit = 1): number {
    const at = this.at;
    const count = this.u64(field);
    if (count * BigInt(unit) > BigInt(this.left))
      this.fail(`${count} do not fit into ${this.left} bytes`, field, at);
    return Number(count);
  }

  take(length: number, field: string): Uint8Array {
    const at = this.#take(length, field);
    return this.bytes.subarray(at, at + length);
  }

  /** EFI_GUID in its text form: three little-endian fields, then eight bytes [UEFI 2.10 appendix A]. */
  guid(field: string): string {
    const at = this.#take(16, field);
    const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
    const tail = Array.from(this.bytes.subarray(at + 8, at + 16), (byte) => hex(byte, 2)).join('');
    const head = [
      hex(this.#view.getUint32(at, true), 8),
      hex(this.#view.getUint16(at + 4, true), 4),
      hex(this.#view.getUint16(at + 6, true), 4),
    ];
    return [...head, tail.slice(0, 4), tail.slice(4)].join('-');
  }

  /** CHAR16 text up to and without its NUL. */
  text16(field: string): string {
    const start = this.at;
    for (let at = start; at + 2 <= this.bytes.length; at += 2)
      if (this.#view.getUint16(at, true) === 0) {
        this.at = at + 2;
        return utf16(this.bytes.subarray(start, at));
      }
    return this.fail('no NUL ends the text', field);
  }

  fail(problem: string, field: string, at = this.at): never {
    throw new FormatError(`${this.#path}.${field}`, at, problem);
  }

  #take(length: number, field: string): number {
    const at = this.at;
    if (length > this.left) this.fail(`need ${length} bytes, have ${this.left}`, field);
    this.at = at + length;
    return at;
  }
}

const decoder16 = new TextDecoder('utf-16le');
const decoder8 = new TextDecoder('utf-8');
const strictDecoder8 = new TextDecoder('utf-8', { fatal: true });

/** Control characters but tab and line feed, and those that turn the direction of writing: a log may not draw on a terminal. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const unprintable = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

/** CHAR16 text without the NULs at its end; what cannot be shown becomes U+FFFD. */
export function utf16(bytes: Uint8Array): string {
  let end = bytes.length - (bytes.length % 2);
  while (end > 0 && bytes[end - 1] === 0 && bytes[end - 2] === 0) end -= 2;
  return decoder16.decode(bytes.subarray(0, end)).replace(unprintable, '\ufffd');
}

/** UTF-8 text; what is no text or cannot be shown becomes U+FFFD. */
export function utf8(bytes: Uint8Array): string {
  return decoder8.decode(bytes).replace(unprintable, '\ufffd');
}

/** UTF-8 text, undefined if any of it is no text or cannot be shown. */
export function printable(bytes: Uint8Array): string | undefined {
  try {
    const text = strictDecoder8.decode(bytes);
    return text.search(unprintable) >= 0 ? undefined : text;
  } catch {
    return undefined;
  }
}

export function hex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0');
  return text;
}

export function equal(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
