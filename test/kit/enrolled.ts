// EVC with devices that are enrolled and have not attested yet: the state before a load.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { Evc } from '../../controller/evc.ts';
import { DataFolder } from '../../controller/options.ts';
import type { Store } from '../../controller/store/store.ts';
import { systemClock } from '../../device/clock.ts';
import type { Account, Identity } from '../../machines/device-record.ts';
import { type FleetFile, fleetFileIn, recordedLog } from './attester.ts';
import { softDevice } from './logins.ts';
import { SoftQuoter, sha256 } from './soft-quote.ts';

export const account: Account = {
  id: 'load',
  kind: 'production',
  locationLock: false,
  radius: 100,
  moved: 'report',
};

/** Sets EVC up in a folder, with `count` devices and a file of their keys beside it; `store` is closed when it is done. */
export async function enrolled(data: string, count: number, store?: Store): Promise<FleetFile> {
  await new DataFolder(data).init(['localhost'], Date.now());
  const evc = await Evc.open({
    data,
    ...(store ? { store } : {}),
    clock: systemClock,
    publish: () => Promise.resolve(),
    imageBase: () => 'https://localhost:1',
  });
  await evc.accounts.add(account);
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const quoter = new SoftQuoter(recordedLog(), { privateKey, publicKey });
  const devices: FleetFile['devices'] = [];
  for (let batch = 0; batch < count; batch += 100) {
    const made = Array.from({ length: Math.min(100, count - batch) }, async (_, i) => {
      const device = await softDevice();
      await enrol(evc, device.id, device.certificate, quoter, batch + i);
      devices.push({
        id: device.id,
        key: device.key.export({ type: 'pkcs8', format: 'der' }).toString('base64'),
        certificate: Buffer.from(device.certificate).toString('base64'),
      });
    });
    await Promise.all(made);
  }
  await evc.settled();
  await evc.close();
  const file: FleetFile = {
    devices,
    attestationKey: privateKey.export({ type: 'pkcs8', format: 'der' }).toString('base64'),
    versions: { image: '1.0.0', firmware: '1.0.0' },
  };
  writeFileSync(fleetFileIn(data), JSON.stringify(file), { mode: 0o600 });
  return file;
}

async function enrol(
  { store, runner }: Evc,
  device: string,
  certificate: Uint8Array,
  quoter: SoftQuoter,
  index: number,
): Promise<void> {
  const uuid = randomUUID();
  const serial = `load-${index}`;
  const registered = {
    certificate: Buffer.from(certificate).toString('base64'),
    serial,
    account: account.id,
    uuid,
  };
  await store.put('device', device, registered);
  const request = { endpoint: 'register', id: 'r' } as const;
  await runner.send(device, { type: 'device.registered', request, uuid, serial, account, settings: {} });
  const ekName = `000b${sha256(Buffer.from(device)).toString('hex')}`;
  const identity: Identity = { ...quoter.identity, ekName, ekTrust: 'first-use', ecdhPublic: '' };
  const proofHash = sha256(Buffer.from(device, 'hex')).toString('hex');
  const challenge = { id: 'c', credentialBlob: '', encryptedSecret: '' };
  const asked = { endpoint: 'attest', id: 'a' } as const;
  await runner.send(device, {
    type: 'certificate.received',
    request: asked,
    identity,
    taken: false,
    challenge,
    proofHash,
  });
  await runner.send(device, { type: 'proof.received', request: asked, challenge: 'c', proofHash });
}
