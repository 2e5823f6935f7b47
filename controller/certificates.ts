// Renewal of EVC's certificates below its root, while devices are connected. The root stays, so whoever was installed with it
// believes the new ones: broker and API show theirs at the next handshake, and a device that meets a signature of a certificate
// that it does not have fetches that, checks it against the root, and goes on.
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import {
  formerSigningFile,
  issue,
  type KeyPair,
  loadPair,
  loadPki,
  mostFormer,
  type Pki,
  type Renewable,
  renewable,
} from './pki.ts';

/** Why nothing was renewed; the message says what to do. */
export class CertificateError extends Error {
  readonly code:
    | 'certificates.no-root-key'
    | 'certificates.root-ends'
    | 'certificates.clock'
    | 'certificates.busy';
  constructor(code: CertificateError['code'], message: string) {
    super(message);
    this.name = 'CertificateError';
    this.code = code;
  }
}

export interface CertificateView {
  name: 'root' | Renewable;
  /** ms since the epoch. */
  from: number;
  until: number;
  /** SHA-256 of the certificate, hex. */
  fingerprint: string;
}

const day = 86_400_000;
/** EVC renews by itself what ends sooner, ms; what `warned` finds was not renewed, and a person has to look. */
export const renewedBefore = 60 * day;
export const warnedBefore = 30 * day;
/** Nothing is worth making that would end with the root so soon, ms. */
const atRootEnd = 2 * day;
/** A renewal takes a moment: a lock that is older is of one that died, ms. */
const staleLock = 60_000;

export function certificateViews(pki: Pki): CertificateView[] {
  const view = (name: CertificateView['name'], { validFrom, validTo, fingerprint256 }: Pki['root']) => ({
    name,
    from: Date.parse(validFrom),
    until: Date.parse(validTo),
    fingerprint: fingerprint256.replaceAll(':', '').toLowerCase(),
  });
  return [view('root', pki.root), ...renewable.map((name) => view(name, pki[name].certificate))];
}

/** Those that end within `ms`, or are not valid yet; without those that end with the root, which no renewal makes last longer. */
export function endingWithin(pki: Pki, ms: number, now: number): Renewable[] {
  const last = Date.parse(pki.root.validTo) - atRootEnd;
  return renewable.filter((name) => {
    const { validFrom, validTo } = pki[name].certificate;
    const end = Date.parse(validTo);
    return (end - now < ms && end < last) || Date.parse(validFrom) > now;
  });
}

/**
 * Makes new keys and certificates for these. The old exchange key is kept, since devices go on sealing for it until they hear of the
 * new one. Rejects with CertificateError.
 */
export async function renew(
  folder: string,
  names: readonly Renewable[],
  hosts: readonly string[],
  now: number,
): Promise<CertificateView[]> {
  if (!existsSync(join(folder, 'root.key.pem')))
    throw new CertificateError(
      'certificates.no-root-key',
      `the root’s key is not in ${folder}; put root.key.pem back there for as long as this takes`,
    );
  return locked(folder, async () => {
    const root = loadPair(folder, 'root');
    // What is made now would have run out when the clock is set, and each renewal drops an exchange key that is still in use.
    if (Date.parse(root.certificate.validFrom) > now)
      throw new CertificateError(
        'certificates.clock',
        `the root is valid from ${root.certificate.validFrom}, and the clock of this machine says ${new Date(now).toISOString()}: set it`,
      );
    if (Date.parse(root.certificate.validTo) - now < atRootEnd)
      throw new CertificateError(
        'certificates.root-ends',
        'the root itself ends: make a new EVC with evc init, and install the devices with its root',
      );
    for (const name of names) {
      // A death in the middle of the one before: what counts is in its place first.
      settle(folder, name);
      if (name === 'exchange') keepFormer(folder, now);
      if (name === 'signing') keepFormerSigning(folder);
      replace(folder, name, await issue(name, root, hosts, now));
    }
    return certificateViews(loadPki(folder));
  });
}

/** Takes over what stands in the folder now, in the very object that everybody holds. Whether anything changed. */
export function reload(pki: Pki, folder: string): boolean {
  const loaded = loadPki(folder);
  const changed = renewable.some(
    (name) => loaded[name].certificate.fingerprint256 !== pki[name].certificate.fingerprint256,
  );
  if (changed) Object.assign(pki, loaded);
  return changed;
}

/** Changes when a certificate in the folder does. */
export function stampOf(folder: string): string {
  return renewable
    .map((name) => {
      const { mtimeMs, ino } = statSync(join(folder, `${name}.cert.pem`));
      return `${mtimeMs}-${ino}`;
    })
    .join(' ');
}

function settle(folder: string, name: string): void {
  const pair = loadPair(folder, name);
  write(join(folder, `${name}.cert.pem.new`), pair.certificate.toString());
  renameSync(join(folder, `${name}.cert.pem.new`), join(folder, `${name}.cert.pem`));
}

/** Both are whole on the disk before either takes its place; between the two, `loadPair` finds the certificate beside it. */
function replace(folder: string, name: string, { key, certificate }: KeyPair): void {
  const path = (kind: 'key' | 'cert') => join(folder, `${name}.${kind}.pem`);
  write(`${path('cert')}.new`, certificate.toString());
  write(`${path('key')}.new`, key.export({ type: 'pkcs8', format: 'pem' }).toString());
  renameSync(`${path('key')}.new`, path('key'));
  renameSync(`${path('cert')}.new`, path('cert'));
}

function keepFormer(folder: string, now: number): void {
  const { exchange, formerExchange } = loadPki(folder);
  const same = (one: KeyPair) => one.certificate.fingerprint256 === exchange.certificate.fingerprint256;
  const kept = [exchange, ...formerExchange.filter((one) => !same(one))]
    .filter(({ certificate }) => Date.parse(certificate.validTo) > now)
    .slice(0, mostFormer);
  // From the oldest on: a death on the way leaves one twice, and none missing.
  for (let i = kept.length; i > 0; i--) replace(folder, `exchange.${i}`, kept[i - 1] as KeyPair);
}

/** Its certificate alone: nothing is signed with the key any more. */
function keepFormerSigning(folder: string): void {
  const { signing, formerSigning } = loadPki(folder);
  const others = formerSigning.filter((one) => one.fingerprint256 !== signing.certificate.fingerprint256);
  const kept = [signing.certificate, ...others].slice(0, mostFormer);
  const path = join(folder, formerSigningFile);
  write(`${path}.new`, kept.join(''));
  renameSync(`${path}.new`, path);
}

function write(path: string, text: string): void {
  const file = openSync(path, 'w', 0o600);
  try {
    writeSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

async function locked<Value>(folder: string, work: () => Promise<Value>): Promise<Value> {
  const lock = join(folder, 'renewing');
  if (existsSync(lock) && Date.now() - statSync(lock).mtimeMs > staleLock) rmSync(lock, { force: true });
  try {
    writeFileSync(lock, String(process.pid), { flag: 'wx', mode: 0o600 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const pid = readFileSync(lock, 'utf8').slice(0, 20);
    throw new CertificateError(
      'certificates.busy',
      `process ${pid} renews them already; try again in a minute`,
    );
  }
  try {
    return await work();
  } finally {
    rmSync(lock, { force: true });
  }
}
