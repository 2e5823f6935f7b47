// Reaching the broker over TLS, and proving who we are on that channel. Node cannot put a key of the TPM behind TLS client
// authentication, so the TPM signs a login that is bound to the channel: it is worth nothing on another one.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import tls from 'node:tls';
import {
  base64url,
  channelBinding,
  loginAudience,
  loginInput,
  loginLife,
  loginToken,
} from '../../formats/wire/login.ts';
import type { Clock } from '../../machines/clock.ts';
import type { DeviceIdentity } from '../identity.ts';
import { Refusal } from '../refusal.ts';
import type { Dialled } from './uplink.ts';

const connectTimeout = 10_000;

/** Where EVC's broker is: `mqtts://host:port`, as /config/server has it. Throws Refusal config.no-server. */
export function readServer(path: string): { host: string; port: number } {
  let text: string;
  try {
    text = readFileSync(path, 'utf8').trim();
  } catch (cause) {
    throw new Refusal('config.no-server', `there is no ${path}; write the address of EVC’s broker into it`, {
      cause,
    });
  }
  const url = /^mqtts:\/\/([A-Za-z0-9.-]+)(?::(\d{1,5}))?$/.exec(text);
  const port = Number(url?.[2] ?? 8883);
  if (!url?.[1] || port > 65535) {
    throw new Refusal(
      'config.no-server',
      `${path} should hold an address such as mqtts://evc.example.com:8883`,
    );
  }
  return { host: url[1], port };
}

export function dialTls(server: { host: string; port: number }, root: string): Promise<Dialled> {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ ...server, servername: server.host, ca: root, minVersion: 'TLSv1.3' });
    // Requests and replies are small and wait for each other: Nagle would add 40 ms to each.
    socket.setNoDelay(true);
    const timer = setTimeout(
      () => socket.destroy(new Refusal('link.timeout', 'EVC does not answer')),
      connectTimeout,
    );
    socket.once('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      const untimely = error.code === 'CERT_NOT_YET_VALID' || error.code === 'CERT_HAS_EXPIRED';
      reject(
        error instanceof Refusal
          ? error
          : untimely
            ? new Refusal('certs.expired', timeFailure(error, server), { cause: error })
            : new Refusal('link.down', dialFailure(error, server), { cause: error }),
      );
    });
    socket.once('secureConnect', () => {
      clearTimeout(timer);
      const { label, length } = channelBinding;
      resolve({ stream: socket, channel: socket.exportKeyingMaterial(length, label, Buffer.alloc(0)) });
    });
  });
}

/** A login for one channel; with `sign` over the signing input. */
export async function login(
  identity: DeviceIdentity,
  channel: Uint8Array | null,
  sign: (payload: Uint8Array) => Promise<Uint8Array>,
  clock: Clock,
): Promise<string> {
  const now = Math.floor(clock.now() / 1000);
  const input = loginInput(
    {
      sub: identity.device,
      aud: loginAudience,
      iat: now,
      exp: now + loginLife,
      jti: randomUUID(),
      ...(channel ? { cb: base64url(channel) } : {}),
    },
    identity.certificate,
  );
  return loginToken(input, await sign(Buffer.from(input)));
}

function timeFailure(
  { code }: NodeJS.ErrnoException,
  { host, port }: { host: string; port: number },
): string {
  const what = code === 'CERT_HAS_EXPIRED' ? 'has run out' : 'is not valid yet';
  return `the certificate of the broker at ${host}:${port} ${what}, and the clock of this device says ${new Date().toISOString()}: set it, or renew the certificate`;
}

function dialFailure(error: NodeJS.ErrnoException, { host, port }: { host: string; port: number }): string {
  const where = `${host}:${port}`;
  if (error.code === 'ECONNREFUSED') return `nobody listens at ${where}`;
  if (error.code === 'ENOTFOUND') return `the name ${host} is unknown`;
  if (
    error.code?.startsWith('ERR_TLS') ||
    error.code?.includes('CERT') ||
    error.code?.includes('SIGNATURE')
  ) {
    return `the broker at ${where} shows a certificate that this device’s root does not vouch for (${error.code})`;
  }
  return `${where} cannot be reached (${error.code ?? 'no code'})`;
}
