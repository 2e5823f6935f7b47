// The frame of commands and responses: header, handles, sessions, parameters [TPM2 Part 1, 18].

import { type Leaf, Reader, Writer } from './bytes.ts';
import { named, u16, u32 } from './codec.ts';
import { type Command, commandOf } from './commands.ts';
import { TPM_ST } from './constants.ts';
import { CC, TPM_HANDLE, TPMS_AUTH_COMMAND, TPMS_AUTH_RESPONSE } from './structures.ts';

/** TPM2_MAX_COMMAND_SIZE and TPM2_MAX_RESPONSE_SIZE of every TPM in use, in bytes. */
export const maxMessageSize = 4096;

/** A command takes at most three sessions [TPM2 Part 1, 18.6]. */
export const maxSessions = 3;

const TAG = named('TPM_ST', u16, {
  NO_SESSIONS: TPM_ST.NO_SESSIONS,
  SESSIONS: TPM_ST.SESSIONS,
  RSP_COMMAND: TPM_ST.RSP_COMMAND,
});

export interface CommandMessage {
  code: number;
  handles: readonly number[];
  sessions: readonly TPMS_AUTH_COMMAND[];
  /** The parameters as sent, encrypted where a session encrypts them. */
  parameters: Uint8Array;
}

export interface ResponseMessage {
  responseCode: number;
  handles: number[];
  /** The parameters as received. */
  parameters: Uint8Array;
  sessions: TPMS_AUTH_RESPONSE[];
}

/** @throws TypeError if there are too many sessions or the command is larger than any TPM takes. */
export function encodeCommand(message: CommandMessage): Uint8Array {
  const { code, handles, sessions, parameters } = message;
  if (sessions.length > maxSessions) throw new TypeError(`at most ${maxSessions} sessions`);
  const to = new Writer('command');
  u16.write(to, sessions.length > 0 ? TPM_ST.SESSIONS : TPM_ST.NO_SESSIONS);
  u32.write(to, 0);
  u32.write(to, code);
  for (const handle of handles) u32.write(to, handle);
  if (sessions.length > 0) {
    const area = new Writer('authorizationArea');
    for (const session of sessions) TPMS_AUTH_COMMAND.write(area, session);
    const bytes = area.finish();
    u32.write(to, bytes.length);
    to.bytes(bytes);
  }
  to.bytes(parameters);
  const bytes = to.finish();
  if (bytes.length > maxMessageSize) throw new TypeError(`a command of ${bytes.length} bytes`);
  new DataView(bytes.buffer).setUint32(2, bytes.length);
  return bytes;
}

/** Reads fields with their paths, for decoding and for explaining alike. */
class Fields {
  readonly from: Reader;
  constructor(bytes: Uint8Array, root: string, onLeaf?: (leaf: Leaf) => void) {
    this.from = new Reader(bytes, root, onLeaf);
  }
  read<T>(name: string, codec: { read(from: Reader): T }): T {
    this.from.path.enter(name);
    const value = codec.read(this.from);
    this.from.path.leave();
    return value;
  }
  size(): void {
    const at = this.from.offset;
    const size = this.read('size', u32);
    if (size !== this.from.end) this.from.fail(`size is ${size}, but there are ${this.from.end} bytes`, at);
  }
  /** Everything up to `end`, without looking into it. */
  rest(end = this.from.end): Uint8Array {
    return this.from.bytes(end - this.from.offset);
  }
}

/**
 * Takes a response apart. Its parameters are not decoded: they may be encrypted.
 * @param withSessions whether the command had sessions; a successful response then must have as many.
 * @throws FormatError if it does not follow the frame, or is not the response to such a command.
 */
export function decodeResponse(
  bytes: Uint8Array,
  responseHandles: readonly string[],
  withSessions: number,
  onLeaf?: (leaf: Leaf) => void,
): ResponseMessage {
  const fields = new Fields(bytes, 'response', onLeaf);
  const { from } = fields;
  const tag = fields.read('tag', TAG);
  fields.size();
  const responseCode = fields.read('responseCode', u32);
  const message: ResponseMessage = { responseCode, handles: [], parameters: new Uint8Array(), sessions: [] };
  if (responseCode !== 0) {
    // Old drivers pass TPM 1.2's tag on with TPM_RC_BAD_TAG.
    if (tag !== TPM_ST.NO_SESSIONS && tag !== TPM_ST.RSP_COMMAND)
      from.fail('an error response has no sessions', 0);
    from.finish();
    return message;
  }
  const expected = withSessions > 0 ? TPM_ST.SESSIONS : TPM_ST.NO_SESSIONS;
  if (tag !== expected) from.fail(`tag is 0x${tag.toString(16)}, must be 0x${expected.toString(16)}`, 0);
  for (const name of responseHandles) message.handles.push(fields.read(name, TPM_HANDLE));
  if (withSessions === 0) {
    message.parameters = fields.rest();
    return message;
  }
  const at = from.offset;
  const size = fields.read('parameterSize', u32);
  if (size > from.end - from.offset)
    from.fail(`parameterSize is ${size}, have ${from.end - from.offset} bytes`, at);
  message.parameters = fields.rest(from.offset + size);
  for (let i = 0; i < withSessions; i++)
    message.sessions.push(fields.read(`session ${i + 1}`, TPMS_AUTH_RESPONSE));
  from.finish();
  return message;
}

/**
 * Takes a command apart, as a TPM or a person reading a capture does.
 * @throws FormatError if it does not follow the frame or its command code is not in our table.
 */
export function decodeCommand(
  bytes: Uint8Array,
  onLeaf?: (leaf: Leaf) => void,
): CommandMessage & { command: Command } {
  const fields = new Fields(bytes, 'command', onLeaf);
  const { from } = fields;
  const tag = fields.read('tag', TAG);
  if (tag !== TPM_ST.SESSIONS && tag !== TPM_ST.NO_SESSIONS) from.fail('is no command', 0);
  fields.size();
  const at = from.offset;
  const code = fields.read('commandCode', CC);
  const command = commandOf(code);
  if (!command) return from.fail(`command 0x${code.toString(16)} is not in our table`, at);
  const handles = Object.keys(command.handles).map((name) => fields.read(name, TPM_HANDLE));
  const sessions: TPMS_AUTH_COMMAND[] = [];
  if (tag === TPM_ST.SESSIONS) {
    const sizeAt = from.offset;
    const size = fields.read('authorizationSize', u32);
    const end = from.offset + size;
    if (end > from.end)
      from.fail(`authorizationSize is ${size}, have ${from.end - from.offset} bytes`, sizeAt);
    while (from.offset < end && sessions.length < maxSessions)
      sessions.push(fields.read(`session ${sessions.length + 1}`, TPMS_AUTH_COMMAND));
    if (from.offset !== end) from.fail('sessions do not end where authorizationSize says', sizeAt);
  }
  return { code, command, handles, sessions, parameters: fields.rest() };
}
