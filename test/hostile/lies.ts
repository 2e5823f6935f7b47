// A message with one field of it that lies: every field of its schema, in every way that its type has.
import { clone, type DescField, type DescMessage, type MessageShape } from '@bufbuild/protobuf';

export interface Lie<Desc extends DescMessage> {
  /** Path of the field, and what was done to it. */
  name: string;
  message: MessageShape<Desc>;
}

type Fields = Record<string, unknown>;
type Change = [how: string, value: unknown];

const many = 1000;
const large = 64 * 1024;

/** Fields that are not set lie as well: they get what nobody said. */
export function lies<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): Lie<Desc>[] {
  const found: Lie<Desc>[] = [];
  const visit = (desc: DescMessage, at: (copy: Fields) => Fields, path: string) => {
    for (const field of desc.fields) {
      const name = `${path}${field.localName}`;
      const value = at(message as Fields)[field.localName];
      for (const [how, changed] of changesOf(field, value)) {
        if (changed === value) continue;
        const copy = clone(schema, message);
        at(copy as Fields)[field.localName] = changed;
        found.push({ name: `${name}: ${how}`, message: copy });
      }
      if (field.fieldKind === 'message' && value)
        visit(field.message, (copy) => at(copy)[field.localName] as Fields, `${name}.`);
      if (field.fieldKind === 'list' && field.listKind === 'message' && (value as unknown[]).length > 0)
        visit(field.message, (copy) => (at(copy)[field.localName] as Fields[])[0] as Fields, `${name}.0.`);
    }
  };
  visit(schema, (copy) => copy, '');
  return found;
}

function changesOf(field: DescField, value: unknown): Change[] {
  if (field.fieldKind === 'list') return changesOfList(value as unknown[]);
  if (field.fieldKind === 'enum') return [99, -1].map((other) => [`${other}`, other]);
  if (field.fieldKind === 'message') return value ? [['absent', undefined]] : [];
  if (value instanceof Uint8Array) return changesOfBytes(value);
  if (typeof value === 'string')
    return [
      ['empty', ''],
      ['long', 'x'.repeat(large)],
      ['hostile', `\u0000\u202e<script>${value}`],
    ];
  if (typeof value === 'bigint')
    return [
      ['zero', 0n],
      ['largest', 2n ** 53n],
    ];
  if (typeof value === 'number')
    return [
      ['zero', 0],
      ['largest', 2 ** 31 - 1],
    ];
  return typeof value === 'boolean' ? [['the other', !value]] : [];
}

function changesOfList(values: unknown[]): Change[] {
  const [first] = values;
  if (first === undefined) return [];
  return [
    ['none', []],
    ['the first twice', [first, ...values]],
    ['without the last', values.slice(0, -1)],
    ['reversed', [...values].reverse()],
    [`${many} of them`, Array.from({ length: many }, () => first)],
  ];
}

function changesOfBytes(bytes: Uint8Array): Change[] {
  const flipped = (at: number) => {
    const copy = Uint8Array.from(bytes);
    copy[at] = (copy[at] as number) ^ 1;
    return copy;
  };
  const whole: Change[] =
    bytes.length === 0
      ? []
      : [
          ['empty', new Uint8Array()],
          ['cut by one', bytes.slice(0, -1)],
          ['cut to one', bytes.slice(0, 1)],
          ['its first bit', flipped(0)],
          ['its middle', flipped(bytes.length >> 1)],
          ['its last bit', flipped(bytes.length - 1)],
        ];
  return [...whole, ['one more', Uint8Array.from([...bytes, 0])], ['large', new Uint8Array(large)]];
}
