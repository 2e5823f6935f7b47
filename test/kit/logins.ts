// Devices as a broker sees them: a key, a certificate that it signed itself, and the logins it makes.
import { createHash, generateKeyPairSync, type KeyObject, randomBytes, randomUUID, sign } from 'node:crypto';
import { type Duplex, duplexPair } from 'node:stream';
import mqtt from 'mqtt';
import type { Broker } from '../../broker/broker.ts';
import {
  base64url,
  type LoginClaims,
  loginAudience,
  loginInput,
  loginLife,
  loginToken,
} from '../../formats/wire/login.ts';
import { buildCertificate, keyUsageBits } from '../../formats/x509/certificate.ts';

export interface SoftDevice {
  /** Device id: SHA-256 of the certificate, hex. */
  id: string;
  key: KeyObject;
  /** DER. */
  certificate: Uint8Array;
}

const name = { commonName: 'EVE', organization: 'test' };
const year = 365 * 24 * 3600 * 1000;

/** A certificate that its own key signed. `curve` other than P-256 makes one that nobody should take. */
export async function softDevice(curve = 'P-256'): Promise<SoftDevice> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: curve });
  const certificate = await buildCertificate(
    {
      serial: Uint8Array.of(1, ...randomBytes(8)),
      issuer: name,
      subject: name,
      notBefore: new Date(Date.now() - year),
      notAfter: new Date(Date.now() + year),
      publicKey: publicKey.export({ type: 'spki', format: 'der' }),
      keyUsage: [keyUsageBits.digitalSignature],
    },
    (tbs) => signRaw(privateKey, tbs),
  );
  return { id: createHash('sha256').update(certificate).digest('hex'), key: privateKey, certificate };
}

export function signRaw(key: KeyObject, bytes: Uint8Array): Uint8Array {
  return sign('sha256', bytes, { key, dsaEncoding: 'ieee-p1363' });
}

/** The claims of an honest login; `now` in ms. */
export function honestClaims(
  { id }: SoftDevice,
  now: number,
  channel: Uint8Array | null = null,
): LoginClaims {
  const iat = Math.floor(now / 1000);
  const claims = { sub: id, aud: loginAudience, iat, exp: iat + loginLife, jti: randomUUID() };
  return channel ? { ...claims, cb: base64url(channel) } : claims;
}

export function tokenOf(device: SoftDevice, claims: LoginClaims, key = device.key): string {
  const input = loginInput(claims, device.certificate);
  return loginToken(input, signRaw(key, Buffer.from(input)));
}

/** A stream to a broker in this process. */
export function pairTo(broker: Pick<Broker, 'accept'>): Duplex {
  const [near, far] = duplexPair();
  near.on('close', () => far.destroy());
  far.on('close', () => near.destroy());
  broker.accept(far);
  return near;
}

/** An MQTT client that does not come back by itself. */
export function clientOn(stream: Duplex, options: mqtt.IClientOptions): mqtt.MqttClient {
  const client = new mqtt.MqttClient(() => stream, {
    protocolVersion: 4,
    clean: true,
    reconnectPeriod: 0,
    keepalive: 0,
    timerVariant: 'native',
    ...options,
  });
  client.on('error', () => undefined);
  return client;
}

/** What became of a connection: ready, or refused with this CONNACK code, or closed without a word. */
export function outcome(client: mqtt.MqttClient): Promise<'connected' | 'closed' | number> {
  return new Promise((resolve) => {
    client.once('connect', () => resolve('connected'));
    client.once('error', ({ code }: Error & { code?: unknown }) =>
      resolve(typeof code === 'number' ? code : 'closed'),
    );
    client.once('close', () => resolve('closed'));
  });
}
