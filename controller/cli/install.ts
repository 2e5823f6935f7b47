// What a device is installed with: its /config, with a new onboarding key, EVC's root and EVC's address.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ApiClient } from './client.ts';

export interface InstallOptions {
  /** File of EVC's root certificate. */
  root: string;
  name: string;
  account: string;
  limit: number;
  days: number;
  serial?: string;
  /** A person lets each device in. */
  approval?: boolean;
}

/** Writes the folder. Resolves with the id of the key. */
export async function install(api: ApiClient, out: string, options: InstallOptions): Promise<string> {
  const { root, serial, ...wanted } = options;
  const made = await api.send<{ id: string; key: string; certificate: string }>(
    'POST',
    '/api/v1/keys',
    wanted,
  );
  const { mqttPort, hosts } = await api.get<{ mqttPort: number; hosts: string[] }>('/api/v1/status');
  mkdirSync(out, { recursive: true, mode: 0o700 });
  writeFileSync(join(out, 'onboard.key.pem'), made.key, { mode: 0o600 });
  writeFileSync(join(out, 'onboard.cert.pem'), made.certificate);
  writeFileSync(join(out, 'root-certificate.pem'), readFileSync(root));
  writeFileSync(join(out, 'server'), `mqtts://${hosts[0]}:${mqttPort}\n`);
  if (serial !== undefined) writeFileSync(join(out, 'soft_serial'), `${serial}\n`);
  return made.id;
}
