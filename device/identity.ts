// Who a device is: the certificate of its device key, and the serial number that it was installed with.
import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { buildCertificate, keyUsageBits, pem } from '../formats/x509/certificate.ts';
import { type Clock, earliest } from '../machines/clock.ts';
import type { StateFolder } from './state.ts';
import type { DeviceTpm } from './tpm/device-tpm.ts';

export interface DeviceIdentity {
  /** SHA-256 of the certificate in DER, hex. */
  device: string;
  serial: string;
  /** DER. */
  certificate: Uint8Array;
  /** PEM. */
  certificatePem: string;
}

// Not in /config, which is measured: a file that the first boot makes would be a change at the second.
const certificateFile = 'certs/device.cert.pem';
const serialFile = 'soft_serial';
const madeSerialFile = 'status/soft_serial';
const day = 24 * 3600 * 1000;
const name = { commonName: 'EVE', organization: 'eve-attest' };

/** The certificate of the device key; made once, as EVE does: self-signed, twenty years, backdated one day. */
export async function deviceIdentity(
  config: StateFolder,
  persist: StateFolder,
  tpm: DeviceTpm,
  clock: Clock,
): Promise<DeviceIdentity> {
  let text = persist.read(certificateFile);
  if (!text) {
    const key = await tpm.devicePublicKey();
    const der = await keyCertificate(tpm, name, key.export({ type: 'spki', format: 'der' }), clock.now());
    // Its processes start together, and have to be one device.
    text = persist.make(certificateFile, Buffer.from(pem('CERTIFICATE', der)));
  }
  let serial = config.read(serialFile) ?? persist.read(madeSerialFile);
  if (!serial) {
    serial = persist.make(madeSerialFile, Buffer.from(`soft-${randomBytes(8).toString('hex')}`));
  }
  const certificate = new X509Certificate(text).raw;
  return {
    device: createHash('sha256').update(certificate).digest('hex'),
    serial: Buffer.from(serial).toString('utf8').trim().slice(0, 100),
    certificate,
    certificatePem: Buffer.from(text).toString('utf8'),
  };
}

/**
 * A certificate for a key of this TPM, signed by the device key. `publicKey` is SPKI in DER; returns DER. It is made once, so where
 * the clock was not set yet it begins when this program was made: from 1970 on it would be over before the device first ran.
 */
export function keyCertificate(
  tpm: DeviceTpm,
  subject: { commonName: string; organization: string },
  publicKey: Uint8Array,
  now: number,
): Promise<Uint8Array> {
  const from = Math.max(now, earliest);
  return buildCertificate(
    {
      serial: Uint8Array.of(1, ...randomBytes(15)),
      issuer: name,
      subject,
      notBefore: new Date(from - day),
      notAfter: new Date(from + 20 * 365 * day),
      publicKey,
      keyUsage: [keyUsageBits.digitalSignature],
    },
    (tbs) => tpm.sign(tbs),
  );
}
