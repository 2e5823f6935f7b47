// What a session does for one command: it proves that command and response are whole and come from where they should,
// and it encrypts one parameter of each [TPM2 Part 1, 19.6 and 21].
import { createCipheriv, createDecipheriv, randomBytes, timingSafeEqual } from 'node:crypto';
import { encode, u32 } from '../../formats/tpm2/codec.ts';
import { concat, digestSize, type HashName } from '../../formats/tpm2/hash.ts';
import { kdfA } from '../../formats/tpm2/kdf.ts';
import {
  TPMA_SESSION,
  type TPMS_AUTH_COMMAND,
  type TPMS_AUTH_RESPONSE,
} from '../../formats/tpm2/structures.ts';
import { hash, hmac } from './hash.ts';

/**
 * The other end of a session is not the one it was started with, or somebody in between changed something.
 * - `hmac-mismatch`: the response was made or changed by someone who does not have the session key.
 * - `salt-key-name`: the key to salt the session with is not the one pinned at enrolment.
 * - `broken`: a response was lost, so the session cannot go on.
 */
export class SessionError extends Error {
  readonly code: 'hmac-mismatch' | 'salt-key-name' | 'broken';
  constructor(code: SessionError['code'], message: string) {
    super(message);
    this.name = 'SessionError';
    this.code = code;
  }
}

/** How one command uses a session. */
export interface SessionUse {
  session: Session;
  /** Encrypt the first parameter of the command. TPMA_SESSION.decrypt: seen from the TPM. */
  decrypt?: boolean;
  /** Encrypt the first parameter of the response. */
  encrypt?: boolean;
}

const nonceSize = 16;

export class Session {
  readonly handle: number;
  readonly type: 'hmac' | 'policy' | 'trial';
  readonly authHash: HashName;
  /** A policy with PolicyAuthValue: the authValue of the object becomes part of the key. */
  includesAuthValue = false;
  /** A response was lost: neither side knows the other's nonce. */
  broken = false;
  readonly #sessionKey: Uint8Array;
  #nonceCaller: Uint8Array;
  #nonceTPM: Uint8Array;

  /** @param sessionKey empty for a session that is neither salted nor bound; such a session protects nothing. */
  constructor(
    handle: number,
    type: Session['type'],
    authHash: HashName,
    sessionKey: Uint8Array,
    nonceCaller: Uint8Array,
    nonceTPM: Uint8Array,
  ) {
    this.handle = handle;
    this.type = type;
    this.authHash = authHash;
    this.#sessionKey = sessionKey;
    this.#nonceCaller = nonceCaller;
    this.#nonceTPM = nonceTPM;
  }

  static newNonce(): Uint8Array {
    return randomBytes(nonceSize);
  }

  get nonceTPM(): Uint8Array {
    return this.#nonceTPM;
  }

  get salted(): boolean {
    return this.#sessionKey.length > 0;
  }

  rollNonce(): void {
    if (this.broken) throw new SessionError('broken', 'the session lost a response and cannot go on');
    this.#nonceCaller = Session.newNonce();
  }

  #key(authValue: Uint8Array): Uint8Array {
    const counts = this.type === 'hmac' || this.includesAuthValue;
    return concat(this.#sessionKey, counts ? authValue : new Uint8Array());
  }

  /** A policy session without any key is authorized by its policy alone [TPM2 Part 1, 19.6.5]. */
  #unsigned(authValue: Uint8Array): boolean {
    return this.type !== 'hmac' && this.#key(authValue).length === 0;
  }

  /**
   * The authorization of a command.
   * @param parameters as sent, encrypted where they are.
   * @param otherNonces nonceTPM of the decrypting and of the encrypting session, for the first session of a command if
   * those are others: so that nobody can exchange them.
   */
  authorize(
    use: SessionUse,
    authValue: Uint8Array,
    code: number,
    names: readonly Uint8Array[],
    parameters: Uint8Array,
    otherNonces: readonly Uint8Array[],
  ): TPMS_AUTH_COMMAND {
    const sessionAttributes = attributesOf(use);
    const cpHash = hash(this.authHash, concat(encode(u32, code), ...names, parameters));
    const signed = concat(
      cpHash,
      this.#nonceCaller,
      this.#nonceTPM,
      ...otherNonces,
      encode(TPMA_SESSION, sessionAttributes),
    );
    return {
      sessionHandle: this.handle,
      nonce: this.#nonceCaller,
      sessionAttributes,
      hmac: this.#unsigned(authValue) ? new Uint8Array() : hmac(this.authHash, this.#key(authValue), signed),
    };
  }

  /**
   * Checks the answer to a command and moves on to its nonce.
   * @param parameters as received, before anything is decrypted.
   * @throws SessionError `hmac-mismatch`.
   */
  check(
    use: SessionUse,
    authValue: Uint8Array,
    code: number,
    parameters: Uint8Array,
    answer: TPMS_AUTH_RESPONSE,
  ): void {
    const rpHash = hash(this.authHash, concat(encode(u32, 0), encode(u32, code), parameters));
    const signed = concat(
      rpHash,
      answer.nonce,
      this.#nonceCaller,
      encode(TPMA_SESSION, answer.sessionAttributes),
    );
    const expected = this.#unsigned(authValue)
      ? new Uint8Array()
      : hmac(this.authHash, this.#key(authValue), signed);
    const sent = attributesOf(use);
    const same = answer.hmac.length === expected.length && timingSafeEqual(answer.hmac, expected);
    if (!same || answer.sessionAttributes.encrypt !== sent.encrypt) {
      this.broken = true;
      throw new SessionError(
        'hmac-mismatch',
        'response HMAC mismatch: somebody between here and the TPM changed the response',
      );
    }
    this.#nonceTPM = answer.nonce;
  }

  /** AES-128 key and IV for one direction; for a response `newer` is the TPM's nonce [TPM2 Part 1, 21.3]. */
  #cipherKey(authValue: Uint8Array, newer: Uint8Array, older: Uint8Array): [key: Uint8Array, iv: Uint8Array] {
    // The authValue counts here for policy sessions, too.
    const bytes = kdfA(hmac, this.authHash, concat(this.#sessionKey, authValue), 'CFB', newer, older, 256);
    return [bytes.subarray(0, 16), bytes.subarray(16)];
  }

  encryptCommand(authValue: Uint8Array, data: Uint8Array): Uint8Array {
    const [key, iv] = this.#cipherKey(authValue, this.#nonceCaller, this.#nonceTPM);
    const cipher = createCipheriv('aes-128-cfb', key, iv);
    return concat(cipher.update(data), cipher.final());
  }

  decryptResponse(authValue: Uint8Array, data: Uint8Array): Uint8Array {
    const [key, iv] = this.#cipherKey(authValue, this.#nonceTPM, this.#nonceCaller);
    const cipher = createDecipheriv('aes-128-cfb', key, iv);
    return concat(cipher.update(data), cipher.final());
  }
}

function attributesOf(use: SessionUse): TPMA_SESSION {
  return {
    ...TPMA_SESSION.of('continueSession'),
    decrypt: use.decrypt === true,
    encrypt: use.encrypt === true,
  };
}

/** Bytes of the TPM2B at the start, without its size: only these are encrypted. */
function firstTpm2b(parameters: Uint8Array): Uint8Array {
  const size = ((parameters[0] ?? 0) << 8) | (parameters[1] ?? 0);
  return parameters.subarray(2, 2 + size);
}

/** The parameters of a command with the first one encrypted, in an array of its own. */
export function encryptFirst(session: Session, authValue: Uint8Array, parameters: Uint8Array): Uint8Array {
  const encrypted = parameters.slice();
  encrypted.set(session.encryptCommand(authValue, firstTpm2b(parameters)), 2);
  return encrypted;
}

/** Decrypts the first parameter of a response in place. */
export function decryptFirst(session: Session, authValue: Uint8Array, parameters: Uint8Array): void {
  const clear = session.decryptResponse(authValue, firstTpm2b(parameters));
  parameters.set(clear, 2);
  clear.fill(0);
}

/** The session key of a salted session [TPM2 Part 1, 19.6.8]. */
export function sessionKeyOf(
  authHash: HashName,
  salt: Uint8Array,
  nonceTPM: Uint8Array,
  nonceCaller: Uint8Array,
): Uint8Array {
  return kdfA(hmac, authHash, salt, 'ATH', nonceTPM, nonceCaller, 8 * digestSize(authHash));
}
