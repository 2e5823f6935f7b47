// Describe a structure once as a value; its TypeScript type, encoder and decoder follow from it.
// Decoding is strict, so encode(decode(bytes)) gives the same bytes: names, digests and signatures can be computed
// over either.
import { Reader, Writer } from './bytes.ts';

/** How values of one structure become bytes and back. */
export interface Codec<T> {
  /** As in TPM 2.0 Part 2. */
  readonly name: string;
  /** A TPM2B: the only kind of parameter that a session can encrypt [TPM2 Part 1, 21]. */
  readonly sized?: boolean;
  read(from: Reader): T;
  write(to: Writer, value: T): void;
}

/** The TypeScript type that a codec describes. */
export type Decoded<C> = C extends Codec<infer T> ? T : never;

type Simplify<T> = { [K in keyof T]: T[K] } & {};

export type Fields = Record<string, Codec<unknown>>;
export type Values<F extends Fields> = Simplify<{ [K in keyof F]: Decoded<F[K]> }>;

/**
 * Decodes one whole structure.
 * @throws FormatError if the bytes are short, too long, or do not follow the structure.
 */
export function decode<T>(codec: Codec<T>, bytes: Uint8Array): T {
  const reader = new Reader(bytes, codec.name);
  const value = codec.read(reader);
  reader.finish();
  return value;
}

/**
 * Encodes one structure.
 * @throws TypeError if the value does not fit it.
 */
export function encode<T>(codec: Codec<T>, value: T): Uint8Array {
  const writer = new Writer(codec.name);
  codec.write(writer, value);
  return writer.finish();
}

export interface IntegerCodec extends Codec<number> {
  readonly length: 1 | 2 | 4;
}

function integer(name: string, length: 1 | 2 | 4): IntegerCodec {
  return {
    name,
    length,
    read(from) {
      const start = from.offset;
      const value = from.integer(length);
      from.leaf(start, () => String(value));
      return value;
    },
    write: (to, value) => to.integer(length, value),
  };
}

export const u8 = integer('UINT8', 1);
export const u16 = integer('UINT16', 2);
export const u32 = integer('UINT32', 4);

/** Only the expiration of a policy is signed. */
export const i32: Codec<number> = {
  name: 'INT32',
  read(from) {
    const start = from.offset;
    const value = from.integer(4) | 0;
    from.leaf(start, () => String(value));
    return value;
  },
  write(to, value) {
    if (value !== (value | 0)) to.fail('needs a signed integer of 32 bits');
    to.integer(4, value >>> 0);
  },
};

export const u64: Codec<bigint> = {
  name: 'UINT64',
  read(from) {
    const start = from.offset;
    const value = from.bigint();
    from.leaf(start, () => String(value));
    return value;
  },
  write: (to, value) => to.bigint(value),
};

/** TPMI_YES_NO: one byte, 0 or 1 and nothing else [TPM2 Part 2, 9.2]. */
export const yesNo: Codec<boolean> = {
  name: 'TPMI_YES_NO',
  read(from) {
    const start = from.offset;
    const value = from.integer(1);
    if (value > 1) from.fail(`must be 0 or 1, is ${value}`, start);
    from.leaf(start, () => (value === 1 ? 'YES' : 'NO'));
    return value === 1;
  },
  write(to, value) {
    if (typeof value !== 'boolean') to.fail('needs a boolean');
    to.integer(1, value ? 1 : 0);
  },
};

/** An integer whose values have names. Values without one pass: a newer TPM may know more algorithms than we do. */
export function named(
  name: string,
  { length }: IntegerCodec,
  names: Readonly<Record<string, number>>,
): IntegerCodec {
  const nameOf = new Map(Object.entries(names).map(([key, value]) => [value, key]));
  return {
    name,
    length,
    read(from) {
      const start = from.offset;
      const value = from.integer(length);
      from.leaf(start, () => {
        const hex = `0x${value.toString(16).padStart(2 * length, '0')}`;
        const known = nameOf.get(value);
        return known ? `${hex} ${known}` : hex;
      });
      return value;
    },
    write: (to, value) => to.integer(length, value),
  };
}

function readBytes(from: Reader, length: number): Uint8Array {
  const start = from.offset;
  const value = from.bytes(length);
  from.leaf(start, () => `${length} bytes`);
  return value;
}

/** Exactly `length` bytes without a size in front. */
export function fixed(length: number): Codec<Uint8Array> {
  return {
    name: `BYTE[${length}]`,
    read: (from) => readBytes(from, length),
    write(to, value) {
      if (value.length !== length) to.fail(`needs ${length} bytes, has ${value.length}`);
      to.bytes(value);
    },
  };
}

function readSize(from: Reader, max: number): number {
  const start = from.offset;
  const size = from.integer(2);
  if (size > max) from.fail(`size is ${size}, at most ${max}`, start);
  from.leaf(start, () => `size ${size}`);
  return size;
}

/** A TPM2B around plain bytes, at most `max` of them. */
export function buffer(name: string, max: number): Codec<Uint8Array> {
  return {
    name,
    sized: true,
    read: (from) => readBytes(from, readSize(from, max)),
    write(to, value) {
      if (value.length > max) to.fail(`has ${value.length} bytes, at most ${max}`);
      to.integer(2, value.length);
      to.bytes(value);
    },
  };
}

/** A TPM2B around a structure, which must fill it exactly. */
export function sized<T>(name: string, inner: Codec<T>): Codec<T> {
  return {
    name,
    sized: true,
    read(from) {
      const start = from.offset;
      const size = readSize(from, 0xffff);
      if (size > from.end - from.offset) from.fail(`need ${size} bytes, have ${from.end - from.offset}`);
      const end = from.end;
      from.end = from.offset + size;
      const value = inner.read(from);
      if (from.offset !== from.end)
        from.fail(`size is ${size}, but ${inner.name} ends after ${from.offset - start - 2} bytes`);
      from.end = end;
      return value;
    },
    write: (to, value) => to.sized(() => inner.write(to, value)),
  };
}

/** A TPM2B that may be empty instead of holding its structure. */
export function sizedOrEmpty<T>(name: string, inner: Codec<T>): Codec<T | undefined> {
  const full = sized(name, inner);
  return {
    name,
    sized: true,
    read(from) {
      const start = from.offset;
      if (from.integer(2) === 0) {
        from.leaf(start, () => 'size 0');
        return undefined;
      }
      from.offset = start;
      return full.read(from);
    },
    write: (to, value) => (value === undefined ? to.integer(2, 0) : full.write(to, value)),
  };
}

/** Bytes behind a one-byte size, `min` to `max` of them, as in TPMS_PCR_SELECT. */
export function shortBytes(name: string, min: number, max: number): Codec<Uint8Array> {
  return {
    name,
    read(from) {
      const start = from.offset;
      const size = from.integer(1);
      if (size < min || size > max) from.fail(`size is ${size}, must be ${min} to ${max}`, start);
      from.leaf(start, () => `size ${size}`);
      return readBytes(from, size);
    },
    write(to, value) {
      if (value.length < min || value.length > max)
        to.fail(`has ${value.length} bytes, must be ${min} to ${max}`);
      to.integer(1, value.length);
      to.bytes(value);
    },
  };
}

/** A TPML: a count in 32 bits and that many items. The bound is checked before anything is allocated. */
export function list<T>(name: string, item: Codec<T>, max: number): Codec<T[]> {
  return {
    name,
    read(from) {
      const start = from.offset;
      const count = from.integer(4);
      if (count > max) from.fail(`count is ${count}, at most ${max}`, start);
      from.leaf(start, () => `count ${count}`);
      const items: T[] = [];
      for (let i = 0; i < count; i++) {
        from.path.enter(i);
        items.push(item.read(from));
        from.path.leave();
      }
      return items;
    },
    write(to, items) {
      if (items.length > max) to.fail(`has ${items.length} items, at most ${max}`);
      to.integer(4, items.length);
      for (const [i, value] of items.entries()) {
        to.path.enter(i);
        item.write(to, value);
        to.path.leave();
      }
    },
  };
}

function readFields(from: Reader, fields: [string, Codec<unknown>][], into: Record<string, unknown>): void {
  for (const [key, codec] of fields) {
    from.path.enter(key);
    into[key] = codec.read(from);
    from.path.leave();
  }
}

function writeFields(to: Writer, fields: [string, Codec<unknown>][], values: Record<string, unknown>): void {
  for (const [key, codec] of fields) {
    to.path.enter(key);
    if (!(key in values)) to.fail('is missing');
    codec.write(to, values[key]);
    to.path.leave();
  }
}

/** A TPMS: fields one after the other. */
export function struct<F extends Fields>(name: string, fields: F): Codec<Values<F>> {
  const entries = Object.entries(fields);
  return {
    name,
    read(from) {
      const value: Record<string, unknown> = {};
      readFields(from, entries, value);
      return value as Values<F>;
    },
    write: (to, value) => writeFields(to, entries, value),
  };
}

type Variants = Record<number, Fields>;
type Tagged<H extends Fields, T extends keyof H, V extends Variants> = {
  [K in keyof V & number]: Simplify<Omit<Values<H>, T> & Record<T, K> & Values<V[K]>>;
}[keyof V & number];

/**
 * A TPMT, or a TPMS that ends in a union: `head`, then the fields that the value of its `tag` selects. In TypeScript the
 * tag discriminates, so `publicArea.type === TPM_ALG.ECC` makes `publicArea.unique` a point.
 */
export function tagged<H extends Fields, T extends keyof H & string, V extends Variants>(
  name: string,
  head: H,
  tag: T,
  variants: V,
): Codec<Tagged<H, T, V>> {
  const headEntries = Object.entries(head);
  const variantEntries = new Map(
    Object.entries(variants).map(([k, fields]) => [Number(k), Object.entries(fields)]),
  );
  return {
    name,
    read(from) {
      const value: Record<string, unknown> = {};
      let selected: [string, Codec<unknown>][] | undefined;
      for (const [key, codec] of headEntries) {
        from.path.enter(key);
        const start = from.offset;
        const field = codec.read(from);
        value[key] = field;
        if (key === tag) {
          selected = variantEntries.get(field as number);
          if (!selected) from.fail(`0x${(field as number).toString(16)} selects nothing in ${name}`, start);
        }
        from.path.leave();
      }
      readFields(from, selected ?? [], value);
      return value as Tagged<H, T, V>;
    },
    write(to, value) {
      const values = value as Record<string, unknown>;
      const selected = variantEntries.get(values[tag] as number);
      if (!selected) {
        to.path.enter(tag);
        return to.fail(`selects nothing in ${name}`);
      }
      writeFields(to, headEntries, values);
      writeFields(to, selected, values);
    },
  };
}

type Bits = Record<string, number | readonly [low: number, high: number]>;
type Flags<B extends Bits> = { [K in keyof B]: B[K] extends number ? boolean : number };

/** A TPMA: one bit each, or a range of bits for a small number. Bits without a name are reserved and must be zero. */
export interface FlagsCodec<B extends Bits> extends Codec<Flags<B>> {
  /** All flags clear but these. */
  of(...set: (keyof B & string)[]): Flags<B>;
}

export function flags<const B extends Bits>(name: string, base: IntegerCodec, bits: B): FlagsCodec<B> {
  const { length } = base;
  const fields = Object.entries(bits).map(([key, at]) => {
    const [low, high] = typeof at === 'number' ? [at, at] : at;
    const mask = 2 ** (high - low + 1) - 1;
    return { key, low, mask, single: typeof at === 'number' };
  });
  const known = fields.reduce((sum, f) => sum | (f.mask << f.low), 0) >>> 0;
  return {
    name,
    read(from) {
      const start = from.offset;
      const value = from.integer(length);
      const reserved = (value & ~known) >>> 0;
      if (reserved) from.fail(`reserved bits 0x${reserved.toString(16)} are set`, start);
      const result: Record<string, boolean | number> = {};
      for (const { key, low, mask, single } of fields) {
        const part = (value >>> low) & mask;
        result[key] = single ? part === 1 : part;
      }
      from.leaf(start, () => {
        const set = fields.filter((f) => result[f.key]);
        return set.map((f) => (f.single ? f.key : `${f.key}=${result[f.key]}`)).join(' ') || 'none';
      });
      return result as Flags<B>;
    },
    write(to, flagValues) {
      const values = flagValues as Record<string, boolean | number>;
      let value = 0;
      for (const { key, low, mask, single } of fields) {
        const part = values[key];
        if (typeof part !== (single ? 'boolean' : 'number')) to.fail(`${key} is missing`);
        const number = Number(part);
        if (!Number.isInteger(number) || number < 0 || number > mask) to.fail(`${key} is out of range`);
        value |= number << low;
      }
      to.integer(length, value >>> 0);
    },
    of(...set) {
      const result: Record<string, boolean | number> = {};
      for (const { key, single } of fields) result[key] = single ? set.includes(key) : 0;
      return result as Flags<B>;
    },
  };
}
