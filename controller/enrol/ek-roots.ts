// Roots of TPM vendors: a folder that operators fill, with files of PEM or DER, roots and intermediates mixed. A certificate
// that signed itself is a root, and trusted because somebody put it there; any other is only a link to one.
import { createHash, X509Certificate } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FormatError } from '../../formats/format-error.ts';
import { pem } from '../../formats/x509/certificate.ts';
import { type Certificate, certificatesIn, parseCertificate } from '../../formats/x509/parse.ts';
import { EnrolmentRefused } from './onboarding.ts';

/** A certificate of a vendor, as it stands in the folder. */
export interface VendorCertificate {
  /** SHA-256 of its DER, hex. */
  id: string;
  file: string;
  /** It signed itself. */
  root: boolean;
  certificate: Certificate;
  /** Checks signatures. */
  x509: X509Certificate;
}

/** A file that is of no use, and why. */
export interface UnusableFile {
  file: string;
  why: string;
}

export interface VendorCertificates {
  certificates: readonly VendorCertificate[];
  unusable: readonly UnusableFile[];
  /** Changes with the folder. */
  fingerprint: string;
}

/** All vendors together have about a thousand. */
const mostCertificates = 4000;
const mostFiles = 4000;
const largestFile = 4 * 1024 * 1024;

export class EkRoots {
  readonly #folder: string;
  #read: VendorCertificates | null = null;

  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  }

  /** The folder as it stands now. Never throws for what is in its files. */
  read(): VendorCertificates {
    const files = this.#files();
    const hash = createHash('sha256');
    for (const { file, size, changed } of files) hash.update(`${file}\0${size}\0${changed}\0`);
    const fingerprint = hash.digest('hex');
    if (this.#read?.fingerprint === fingerprint) return this.#read;

    const certificates = new Map<string, VendorCertificate>();
    const unusable: UnusableFile[] = [];
    for (const { file, size } of files) {
      try {
        if (size > largestFile) throw new FormatError(file, 0, `has ${size} bytes`);
        for (const found of vendorCertificates(readFileSync(join(this.#folder, file)), file)) {
          if (certificates.size >= mostCertificates)
            throw new FormatError(file, 0, `is beyond ${mostCertificates} certificates`);
          certificates.set(found.id, found);
        }
      } catch (error) {
        unusable.push({ file, why: error instanceof Error ? error.message : 'unreadable' });
      }
    }
    if (files.length === mostFiles)
      unusable.push({ file: this.#folder, why: `files beyond ${mostFiles} are not looked at` });
    this.#read = { certificates: [...certificates.values()], unusable, fingerprint };
    return this.#read;
  }

  /**
   * Puts certificates into the folder; those that are there already stay as they are. All or none.
   * Throws EnrolmentRefused roots.unusable, roots.too-many.
   */
  add(bytes: Uint8Array): VendorCertificate[] {
    let added: VendorCertificate[];
    try {
      added = vendorCertificates(bytes, '');
    } catch (error) {
      const why = error instanceof Error ? error.message : 'unreadable';
      throw new EnrolmentRefused('roots.unusable', 422, `this is no certificate of a vendor: ${why}`);
    }
    const known = new Map(this.read().certificates.map((one) => [one.id, one]));
    const missing = added.filter(({ id }) => !known.has(id));
    if (known.size + missing.length > mostCertificates || this.#files().length + missing.length > mostFiles) {
      throw new EnrolmentRefused(
        'roots.too-many',
        409,
        `EVC takes ${mostCertificates} certificates of vendors at most`,
      );
    }
    for (const { id, certificate } of missing) this.#write(`${id.slice(0, 16)}.pem`, [certificate.bytes]);
    return added.map((one) => known.get(one.id) ?? { ...one, file: `${one.id.slice(0, 16)}.pem` });
  }

  /** Takes one certificate out, by its id or the start of it. Throws EnrolmentRefused roots.unknown. */
  remove(words: string): VendorCertificate {
    const { certificates } = this.read();
    const found = certificates.filter(({ id }) => id.startsWith(words.toLowerCase()));
    const [one] = found;
    if (!one || words === '')
      throw new EnrolmentRefused('roots.unknown', 404, `no vendor's certificate is called ${words}`);
    if (found.length > 1)
      throw new EnrolmentRefused(
        'roots.unknown',
        409,
        `${found.length} certificates are called ${words}; say more of it`,
      );
    // A copy in another file would keep it trusted.
    for (const { file } of this.#files()) {
      const inFile = this.#certificatesOf(file);
      const left = inFile.filter(({ id }) => id !== one.id);
      if (left.length === inFile.length) continue;
      if (left.length === 0) rmSync(join(this.#folder, file));
      else
        this.#write(
          file,
          left.map(({ certificate }) => certificate.bytes),
        );
    }
    return one;
  }

  #certificatesOf(file: string): VendorCertificate[] {
    try {
      return vendorCertificates(readFileSync(join(this.#folder, file)), file);
    } catch {
      return [];
    }
  }

  #files(): { file: string; size: number; changed: number }[] {
    return readdirSync(this.#folder)
      .filter((file) => !file.startsWith('.') && !file.endsWith('.new'))
      .sort()
      .slice(0, mostFiles)
      .flatMap((file) => {
        const { size, mtimeMs, ino } = statSync(join(this.#folder, file), { throwIfNoEntry: false }) ?? {};
        return size === undefined ? [] : [{ file, size, changed: (mtimeMs ?? 0) + (ino ?? 0) }];
      });
  }

  #write(file: string, ders: readonly Uint8Array[]): void {
    const path = join(this.#folder, file);
    writeFileSync(`${path}.new`, ders.map((der) => pem('CERTIFICATE', der)).join(''), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }
}

function vendorCertificates(bytes: Uint8Array, file: string): VendorCertificate[] {
  return certificatesIn(bytes, mostCertificates).map((der) => vendorCertificate(der, file));
}

/** @throws FormatError, or the error of OpenSSL. */
function vendorCertificate(der: Uint8Array, file: string): VendorCertificate {
  const certificate = parseCertificate(der);
  const x509 = new X509Certificate(certificate.bytes);
  if (certificate.constraints?.authority === false)
    throw new FormatError(certificate.subject.text, 0, 'is of somebody who may sign no certificates');
  const root = certificate.subject.key === certificate.issuer.key;
  if (root && !signedBy(x509, x509))
    throw new FormatError(certificate.subject.text, 0, 'is not signed by the key that it names');
  return { id: createHash('sha256').update(certificate.bytes).digest('hex'), file, root, certificate, x509 };
}

/** Whether the key of `issuer` made the signature of `certificate`. */
export function signedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  try {
    return certificate.verify(issuer.publicKey);
  } catch {
    // A key that OpenSSL cannot verify with has signed nothing.
    return false;
  }
}
