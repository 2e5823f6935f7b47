// One command, end to end: names, sessions, parameters, sending, checking, decoding [TPM2 Part 1, 18 and 19].
import { setTimeout as wait } from 'node:timers/promises';
import { FormatError } from '../../formats/format-error.ts';
import { decode, encode, type Fields, type Values } from '../../formats/tpm2/codec.ts';
import type { Command, Handles } from '../../formats/tpm2/commands.ts';
import { handleType, TPM_HT, TPM_RH } from '../../formats/tpm2/constants.ts';
import { decodeResponse, encodeCommand, type ResponseMessage } from '../../formats/tpm2/message.ts';
import { handleName } from '../../formats/tpm2/names.ts';
import { baseCode, responseCode } from '../../formats/tpm2/response-codes.ts';
import { TPMA_SESSION, type TPMS_AUTH_COMMAND } from '../../formats/tpm2/structures.ts';
import { decryptFirst, encryptFirst, type SessionUse } from './authorization.ts';

/** The TPM refused a command. It did not run, and left nothing behind. */
export class TpmError extends Error {
  /** The response code as received. */
  readonly code: number;
  /** Without the number of a handle, parameter or session: compare with TPM_RC. */
  readonly base: number;
  readonly rcName: string;
  /** As in Part 3, with `TPM2_`. */
  readonly command: string;
  /** What `number` counts, from 1. */
  readonly kind: ReturnType<typeof responseCode>['kind'];
  readonly number: number;
  /** Sending the same again later can succeed. By then it was tried several times. */
  readonly retry: boolean;

  constructor(code: number, command: string) {
    const { name, sentence, kind, number, retry } = responseCode(code);
    const where = number > 0 ? ` (${kind} ${number})` : '';
    super(`TPM2_${command}: ${name}${where}: ${sentence}`);
    this.name = 'TpmError';
    this.code = code;
    this.base = baseCode(code);
    this.rcName = name;
    this.command = `TPM2_${command}`;
    this.kind = kind;
    this.number = number;
    this.retry = retry;
  }
}

/** What came back does not follow the structure of a response. The command may have run. */
export class ResponseError extends FormatError {
  constructor(cause: FormatError) {
    super(cause.path, cause.offset, '', { cause });
    this.name = 'ResponseError';
    this.message = cause.message;
  }
}

/** What a handle refers to. `name` is needed for objects and NV indices as soon as a session signs the command. */
export interface Entity {
  handle: number;
  name?: Uint8Array;
  /** Default: empty, as for all our keys and hierarchies. */
  authValue?: Uint8Array;
}

/** Arguments: each handle as a number or an entity, each parameter under its name in Part 3. */
export type Arguments<H extends Handles, P extends Fields> = { [K in keyof H]: number | Entity } & Values<P>;

/** Results: each handle as a number, each parameter under its name in Part 3. */
export type Result<RH extends string, R extends Fields> = Record<RH, number> & Values<R>;

/** What execution needs from the one who owns the transport. */
export interface Link {
  send(command: Uint8Array): Promise<Uint8Array>;
  /** An object or session may exist whose handle nobody knows. */
  lost(why: string): void;
  /** Flushes what a command made whose response turned out to be unusable. */
  abandon(handles: readonly number[]): Promise<void>;
  sleep?(ms: number): Promise<void>;
}

// A self-test can last seconds; together these waits are about four.
const attempts = 12;
const firstWait = 5;
const longestWait = 1000;

const noAuth = new Uint8Array();

function entityOf(argument: number | Entity): Entity {
  return typeof argument === 'number' ? { handle: argument } : argument;
}

function nameOf(label: string, entity: Entity): Uint8Array {
  if (entity.name) return entity.name;
  const type = handleType(entity.handle);
  if (type === TPM_HT.TRANSIENT || type === TPM_HT.PERSISTENT || type === TPM_HT.NV_INDEX)
    throw new TypeError(`${label} needs a name, because a session signs the command`);
  return handleName(entity.handle);
}

/** Trailing zeros of an authValue do not count [TPM2 Part 1, 19.6.4.3]. */
function significant(authValue: Uint8Array): Uint8Array {
  let end = authValue.length;
  while (end > 0 && authValue[end - 1] === 0) end--;
  return authValue.subarray(0, end);
}

interface Slot {
  use: SessionUse | undefined;
  /** Of the entity that this session authorizes; empty for a session that authorizes nothing. */
  authValue: Uint8Array;
}

/** The sessions in wire order: one for each handle that needs authorization, then those that only encrypt. */
function slotsOf(
  command: Command,
  entities: Entity[],
  sessions: readonly (SessionUse | undefined)[],
): Slot[] {
  const roles = Object.values(command.handles);
  const authorized = entities.filter((_, i) => roles[i] !== 'none');
  const slots: Slot[] = authorized.map((entity, i) => ({
    use: sessions[i],
    authValue: significant(entity.authValue ?? noAuth),
  }));
  for (const use of sessions.slice(authorized.length)) if (use) slots.push({ use, authValue: noAuth });
  return slots;
}

function passwordArea(authValue: Uint8Array): TPMS_AUTH_COMMAND {
  return {
    sessionHandle: TPM_RH.PW,
    nonce: noAuth,
    sessionAttributes: TPMA_SESSION.of('continueSession'),
    hmac: authValue,
  };
}

function only<T>(things: T[], what: string): T | undefined {
  if (things.length > 1) throw new TypeError(`only one session can ${what}`);
  return things[0];
}

/**
 * Executes a command. Handles that need authorization use `sessions` in their order; where there is none (or
 * `undefined`), the password session with the entity's authValue, which is empty for all our keys. Further sessions
 * only encrypt.
 * @throws TpmError if the TPM refuses.
 * @throws SessionError if the response is not from the TPM that the session was started with.
 * @throws ResponseError if the response does not follow its structure.
 * @throws TransportError if it is not known whether the command ran.
 */
export async function execute<H extends Handles, P extends Fields, RH extends string, R extends Fields>(
  link: Link,
  command: Command<H, P, RH, R>,
  args: Arguments<H, P>,
  sessions: readonly (SessionUse | undefined)[] = [],
): Promise<Result<RH, R>> {
  const entities = Object.keys(command.handles).map((label) => entityOf(args[label] as number | Entity));
  const slots = slotsOf(command as unknown as Command, entities, sessions);
  const authorizedCount = Object.values(command.handles).filter((role) => role !== 'none').length;
  const uses = slots.flatMap(({ use }) => (use ? [use] : []));
  const encrypting = only(
    slots.filter(({ use }) => use?.encrypt),
    'encrypt the response',
  );
  const decrypting = only(
    slots.filter(({ use }) => use?.decrypt),
    'encrypt the command',
  );
  if (decrypting && !command.decryptable)
    throw new TypeError(`no parameter of ${command.name} can be encrypted`);
  if (encrypting && !command.encryptable)
    throw new TypeError(`no response parameter of ${command.name} can be encrypted`);

  if (uses.some(({ session, encrypt, decrypt }) => (encrypt || decrypt) && !session.salted))
    throw new TypeError('a session without salt cannot keep a secret');

  for (const { session } of uses) session.rollNonce();
  let parameters = encode(command.parameters, args);
  if (decrypting?.use) {
    const clear = parameters;
    parameters = encryptFirst(decrypting.use.session, decrypting.authValue, clear);
    clear.fill(0);
  }

  const labels = Object.keys(command.handles);
  const names = uses.length > 0 ? entities.map((entity, i) => nameOf(labels[i] as string, entity)) : [];
  const others = [...new Set([decrypting, encrypting])].flatMap((slot) =>
    slot?.use && slot !== slots[0] ? [slot.use.session.nonceTPM] : [],
  );
  const authorizations = slots.map(({ use, authValue }, i) =>
    use
      ? use.session.authorize(use, authValue, command.code, names, parameters, i === 0 ? others : [])
      : passwordArea(authValue),
  );
  const bytes = encodeCommand({
    code: command.code,
    handles: entities.map(({ handle }) => handle),
    sessions: authorizations,
    parameters,
  });

  const response = await submit(link, command, bytes, uses, slots.length);
  try {
    for (const [i, { use, authValue }] of slots.entries()) {
      const answer = response.sessions[i];
      if (use && answer) use.session.check(use, authValue, command.code, response.parameters, answer);
    }
    // A policy is used up by the command that it authorized, the session goes on.
    for (const { use } of slots.slice(0, authorizedCount)) if (use) use.session.includesAuthValue = false;
    if (encrypting?.use) decryptFirst(encrypting.use.session, encrypting.authValue, response.parameters);
    const result = decode(command.response, response.parameters);
    const handles = Object.fromEntries(command.responseHandles.map((name, i) => [name, response.handles[i]]));
    return { ...handles, ...result } as Result<RH, R>;
  } catch (error) {
    // The command ran, so what it made exists, whatever became of the response.
    await link.abandon(response.handles);
    throw unreadable(error);
  } finally {
    if (encrypting) response.parameters.fill(0);
  }
}

function unreadable(error: unknown): unknown {
  return error instanceof FormatError ? new ResponseError(error) : error;
}

/** Sends until the TPM takes the command, and takes the response apart. */
async function submit(
  link: Link,
  command: Pick<Command, 'name' | 'responseHandles'>,
  bytes: Uint8Array,
  uses: readonly SessionUse[],
  sessionCount: number,
): Promise<ResponseMessage> {
  const sleep = link.sleep ?? ((ms: number) => wait(ms));
  for (let attempt = 1, pause = firstWait; ; attempt++, pause = Math.min(2 * pause, longestWait)) {
    let response: ResponseMessage;
    try {
      response = decodeResponse(await link.send(bytes), command.responseHandles, sessionCount);
    } catch (error) {
      // Whether the command ran is not known: not which nonce comes next, nor what it made.
      for (const { session } of uses) session.broken = true;
      if (command.responseHandles.length > 0 || command.name === 'FlushContext')
        link.lost(`TPM2_${command.name} got no usable response`);
      throw unreadable(error);
    }
    if (response.responseCode === 0) return response;
    const error = new TpmError(response.responseCode, command.name);
    if (!error.retry || attempt === attempts) throw error;
    // A refused command leaves the nonces as they are, so the same bytes stay valid.
    await sleep(pause);
  }
}
