// The login of a device at the broker: user name is the device id, password an ES256 JWT [RFC 7519] signed by the device
// key, with the certificate in its header [RFC 7515 4.1.6], since the device id is nothing but that certificate's hash.

export interface LoginClaims {
  /** Device id. */
  sub: string;
  aud: string;
  /** Seconds since the epoch. */
  iat: number;
  exp: number;
  /** Of one use. */
  jti: string;
  /** Keying material of the TLS channel, base64url; absent where there is no TLS. */
  cb?: string;
}

export const loginAudience = 'evc';
/** How long a login may be under way, seconds. */
export const loginLife = 60;
/** Label and length of the keying material that binds a login to its channel [RFC 9266]. */
export const channelBinding = { label: 'EXPORTER-Channel-Binding', length: 32 } as const;

export interface Login {
  claims: LoginClaims;
  /** DER. */
  certificate: Uint8Array;
  /** What the signature covers. */
  signed: Uint8Array;
  /** Raw r ‖ s. */
  signature: Uint8Array;
}

const largest = 4096;

/** The signing input; the token is this, a dot, and the signature in base64url. */
export function loginInput(claims: LoginClaims, certificate: Uint8Array): string {
  const header = { alg: 'ES256', typ: 'JWT', x5c: [base64(certificate)] };
  return `${base64url(utf8(JSON.stringify(header)))}.${base64url(utf8(JSON.stringify(claims)))}`;
}

export function loginToken(input: string, signature: Uint8Array): string {
  return `${input}.${base64url(signature)}`;
}

/** Reads a token that nobody has checked; null for what is none. */
export function readLogin(token: string): Login | null {
  if (token.length > largest) return null;
  const [header = '', claims = '', signature = '', ...rest] = token.split('.');
  if (rest.length > 0) return null;
  try {
    const { alg, x5c } = JSON.parse(text(header)) as { alg?: unknown; x5c?: unknown };
    const body = JSON.parse(text(claims)) as Partial<Record<keyof LoginClaims, unknown>>;
    const certificate = Array.isArray(x5c) && typeof x5c[0] === 'string' ? bytes(x5c[0]) : null;
    const raw = bytes(signature);
    const { sub, aud, iat, exp, jti, cb } = body;
    if (alg !== 'ES256' || !certificate || raw.length !== 64) return null;
    if (typeof sub !== 'string' || typeof aud !== 'string' || typeof jti !== 'string') return null;
    if (typeof iat !== 'number' || typeof exp !== 'number') return null;
    if (cb !== undefined && typeof cb !== 'string') return null;
    return {
      claims: { sub, aud, iat, exp, jti, ...(cb === undefined ? {} : { cb }) },
      certificate,
      signed: utf8(`${header}.${claims}`),
      signature: raw,
    };
  } catch {
    return null;
  }
}

export function base64url(value: Uint8Array): string {
  return base64(value).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}

function base64(value: Uint8Array): string {
  let characters = '';
  for (const byte of value) characters += String.fromCharCode(byte);
  return btoa(characters);
}

function bytes(value: string): Uint8Array {
  const characters = atob(value.replaceAll('-', '+').replaceAll('_', '/'));
  return Uint8Array.from(characters, (character) => character.charCodeAt(0));
}

function text(value: string): string {
  return new TextDecoder('utf-8', { fatal: true }).decode(bytes(value));
}

function utf8(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}
