// Bytes in words: every field with its path, place, bytes and meaning. For people who read captures, and for the inspector.
import { FormatError } from '../format-error.ts';
import { type Leaf, Reader } from './bytes.ts';
import type { Codec } from './codec.ts';
import { commandOf } from './commands.ts';
import { TPM_CC } from './constants.ts';
import { decodeCommand, decodeResponse } from './message.ts';
import { responseCode } from './response-codes.ts';

export interface Explanation {
  /** In the order of the bytes. */
  fields: Leaf[];
  /** Why the explanation ends early, if it does. */
  problem?: FormatError;
}

function collect(read: (onLeaf: (leaf: Leaf) => void) => void): Explanation {
  const fields: Leaf[] = [];
  try {
    read((leaf) => fields.push(leaf));
    return { fields };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return { fields, problem: error };
  }
}

function shifted(leaf: Leaf, by: number): Leaf {
  return { ...leaf, offset: leaf.offset + by };
}

/** Explains one structure. Bytes that do not follow it are explained up to where they stop to. */
export function explain(codec: Codec<unknown>, bytes: Uint8Array): Explanation {
  return collect((onLeaf) => {
    const from = new Reader(bytes, codec.name, onLeaf);
    codec.read(from);
    from.finish();
  });
}

/** Explains a command. Its first parameter stays dark if a session encrypts it. */
export function explainCommand(bytes: Uint8Array): Explanation {
  return collect((onLeaf) => {
    const message = decodeCommand(bytes, onLeaf);
    const start = bytes.length - message.parameters.length;
    if (message.sessions.some((session) => session.sessionAttributes.decrypt))
      return onLeaf(encrypted('parameters', start, message.parameters));
    const inner = explain(message.command.parameters, message.parameters);
    for (const leaf of inner.fields) onLeaf(shifted(leaf, start));
    if (inner.problem) throw inner.problem;
  });
}

/** Explains the response to a command with this command code and number of sessions. */
export function explainResponse(bytes: Uint8Array, commandCode: number, sessions: number): Explanation {
  const command = commandOf(commandCode);
  return collect((onLeaf) => {
    const handles = command?.responseHandles ?? [];
    let start = 10 + 4 * handles.length + (sessions > 0 ? 4 : 0);
    const message = decodeResponse(bytes, handles, sessions, (leaf) => {
      if (leaf.path !== 'response.responseCode') return onLeaf(leaf);
      const rc = responseCode(Number(leaf.text));
      onLeaf({ ...leaf, text: rc.number ? `${rc.name}, ${rc.kind} ${rc.number}` : rc.name });
    });
    if (message.responseCode !== 0 || !command) return;
    start = Math.min(start, bytes.length);
    if (message.sessions.some((session) => session.sessionAttributes.encrypt))
      return onLeaf(encrypted('response.parameters', start, message.parameters));
    const inner = explain(command.response, message.parameters);
    for (const leaf of inner.fields) onLeaf(shifted(leaf, start));
    if (inner.problem) throw inner.problem;
  });
}

function encrypted(path: string, offset: number, bytes: Uint8Array): Leaf {
  return { path, offset, length: bytes.length, text: 'the first of these parameters is encrypted' };
}

/** The name of a command code, or the code in hex. */
export function commandName(code: number): string {
  const known = Object.entries(TPM_CC).find(([, value]) => value === code);
  return known ? `TPM2_${known[0]}` : `0x${code.toString(16).padStart(8, '0')}`;
}

/** An explanation as text: offset, bytes in hex (shortened after `width` bytes), path, meaning. */
export function format({ fields, problem }: Explanation, bytes: Uint8Array, width = 8): string {
  const longest = fields.reduce((most, { path }) => Math.max(most, path.length), 0);
  const lines = [...fields]
    .sort((a, b) => a.offset - b.offset)
    .map(({ path, offset, length, text }) => {
      const shown = bytes.subarray(offset, offset + Math.min(length, width));
      const hex = Array.from(shown, (byte) => byte.toString(16).padStart(2, '0')).join('');
      const column = `${hex}${length > width ? '…' : ''}`.padEnd(2 * width + 1);
      return `${String(offset).padStart(5)}  ${column}  ${path.padEnd(longest)}  ${text}`;
    });
  return [...lines, ...(problem ? [`       ${problem.message}`] : [])].join('\n');
}
