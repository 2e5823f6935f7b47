// The login of a device: a JWT that its device key signed, for this channel and this moment.
import { createHash, type KeyObject, timingSafeEqual, verify, X509Certificate } from 'node:crypto';
import { base64url, loginAudience, loginLife, readLogin } from '../formats/wire/login.ts';
import { isDeviceId } from '../formats/wire/topics.ts';

export type LoginReason =
  | 'login.missing'
  | 'login.malformed'
  | 'login.certificate'
  | 'login.signature'
  | 'login.audience'
  | 'login.time'
  | 'login.channel'
  | 'login.replayed'
  | 'login.retired';

export type LoginResult = { ok: true; device: string } | { ok: false; reason: LoginReason };

export interface LoginOptions {
  now(): number;
  /** Devices that may not connect any more. */
  retired?(device: string): Promise<boolean>;
}

/** How far a device's clock may be off where no channel proves freshness, seconds. */
const skew = 300;
const remembered = 100_000;

/** Checks logins. Keeps the ids of those that no channel makes fresh, so that none is used twice. */
export class LoginCheck {
  readonly #options: LoginOptions;
  readonly #used = new Map<string, number>();

  constructor(options: LoginOptions) {
    this.#options = options;
  }

  /** `channel`: keying material of the TLS channel, null where there is none. Rejects only where `retired` does. */
  async check(
    user: string | undefined,
    password: Uint8Array | undefined,
    channel: Uint8Array | null,
  ): Promise<LoginResult> {
    if (!user || !password) return refuse('login.missing');
    const login = readLogin(Buffer.from(password).toString('latin1'));
    if (!login || !isDeviceId(user)) return refuse('login.malformed');
    const { claims, certificate, signed, signature } = login;
    // The device id is the hash of the certificate, so whoever has its key is the device.
    const id = createHash('sha256').update(certificate).digest('hex');
    const key = publicKeyOf(certificate);
    if (id !== user || claims.sub !== user || !key) return refuse('login.certificate');
    if (!verify('sha256', signed, { key, dsaEncoding: 'ieee-p1363' }, signature))
      return refuse('login.signature');
    if (claims.aud !== loginAudience) return refuse('login.audience');
    if (channel) {
      // A login bound to this very channel is fresh by construction; the clock of a device that just booted may be wrong.
      if (claims.cb === undefined || !same(claims.cb, base64url(channel))) return refuse('login.channel');
    } else {
      const now = Math.floor(this.#options.now() / 1000);
      const inTime =
        claims.iat <= now + skew && claims.exp >= now - skew && claims.exp - claims.iat <= loginLife;
      if (!inTime) return refuse('login.time');
      if (!this.#firstUse(`${user} ${claims.jti}`, now)) return refuse('login.replayed');
    }
    if (await this.#options.retired?.(user)) return refuse('login.retired');
    return { ok: true, device: user };
  }

  #firstUse(use: string, now: number): boolean {
    // Of one length, whatever the peer wrote.
    const id = createHash('sha256').update(use).digest('base64');
    if (this.#used.has(id)) return false;
    for (const [old, until] of this.#used) {
      if (until > now && this.#used.size < remembered) break;
      this.#used.delete(old);
    }
    this.#used.set(id, now + loginLife + 2 * skew);
    return true;
  }
}

function publicKeyOf(certificate: Uint8Array): KeyObject | null {
  try {
    const { publicKey } = new X509Certificate(certificate);
    return publicKey.asymmetricKeyType === 'ec' ? publicKey : null;
  } catch {
    // No certificate: the caller refuses.
    return null;
  }
}

function same(one: string, other: string): boolean {
  const a = Buffer.from(one);
  const b = Buffer.from(other);
  return a.length === b.length && timingSafeEqual(a, b);
}

function refuse(reason: LoginReason): LoginResult {
  return { ok: false, reason };
}
