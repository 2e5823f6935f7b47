// Keys that may sign what is imported: each was added by a person, for images or for the firmware of one vendor.
import { createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';
import type { Store } from '../store/store.ts';
import { keyIdOf } from './envelope.ts';
import { CatalogueError } from './error.ts';
import type { ManifestKind } from './manifest.ts';

export interface Signer {
  /** SHA-256 of its SubjectPublicKeyInfo, hex. */
  id: string;
  name: string;
  signs: ManifestKind;
  /** Whose firmware it may speak of; empty for every vendor's. */
  vendor: string;
  /** PEM. */
  publicKey: string;
  reason: string;
  by: string;
  at: number;
  /** Kept for the record, and good for nothing any more. */
  removed: { by: string; at: number; reason: string } | null;
}

/** A public key or a certificate, PEM. Throws CatalogueError signer.key unless it is ECDSA P-256. */
export function readSignerKey(pem: string): { id: string; publicKey: string } {
  let key: KeyObject;
  try {
    key = pem.includes('CERTIFICATE') ? new X509Certificate(pem).publicKey : createPublicKey(pem);
  } catch (cause) {
    throw new CatalogueError('signer.key', 'this is no public key or certificate in PEM', { cause });
  }
  if (/PRIVATE KEY/.test(pem))
    throw new CatalogueError('signer.key', 'this is a private key: keep it, and give its public half');
  if (key.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
    throw new CatalogueError('signer.key', 'manifests are signed with ECDSA P-256, and this is another key');
  return { id: keyIdOf(key), publicKey: key.export({ type: 'spki', format: 'pem' }).toString() };
}

export async function allSigners(store: Store): Promise<Signer[]> {
  return (await store.all<Signer>('signer')).map(({ body }) => body);
}

/** Those whose signature counts for such a manifest. */
export async function signersOf(store: Store, kind: ManifestKind): Promise<(Signer & { key: KeyObject })[]> {
  return (await allSigners(store))
    .filter(({ signs, removed }) => signs === kind && removed === null)
    .map((signer) => ({ ...signer, key: createPublicKey(signer.publicKey) }));
}
