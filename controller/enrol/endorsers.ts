// Whom EVC believes what a TPM is: people add and remove roots of vendors, and devices are judged again.
import type { Clock } from '../../machines/clock.ts';
import type { RecordRunner } from '../record/runner.ts';
import type { Store } from '../store/store.ts';
import type { EkRoots, UnusableFile, VendorCertificate } from './ek-roots.ts';
import { judgedAgain } from './identity.ts';

/** A certificate of a TPM vendor, for people. */
export interface EkRootView {
  id: string;
  file: string;
  kind: 'root' | 'intermediate';
  subject: string;
  issuer: string;
  notBefore: number;
  notAfter: number;
}

export interface EndorsersOptions {
  store: Store;
  clock: Clock;
  runner: RecordRunner;
  ekRoots: EkRoots;
}

const page = 1000;

export class Endorsers {
  readonly #options: EndorsersOptions;

  constructor(options: EndorsersOptions) {
    this.#options = options;
  }

  list(): { roots: EkRootView[]; unusable: readonly UnusableFile[] } {
    const { certificates, unusable } = this.#options.ekRoots.read();
    return { roots: certificates.map(rootView), unusable };
  }

  /** Believes a vendor from now on; devices that are enrolled already are judged again. */
  async add(bytes: Uint8Array, by: string): Promise<{ roots: EkRootView[]; devices: number }> {
    const added = this.#options.ekRoots.add(bytes);
    for (const root of added) await this.#audit(by, 'ek-root.added', root);
    return { roots: added.map(rootView), devices: await this.judge() };
  }

  /** Believes a vendor no more: what its certificates vouched for is vouched for no more. */
  async remove(words: string, by: string): Promise<{ roots: EkRootView[]; devices: number }> {
    const removed = this.#options.ekRoots.remove(words);
    await this.#audit(by, 'ek-root.removed', removed);
    return { roots: [rootView(removed)], devices: await this.judge() };
  }

  /**
   * Judges the certificates of all devices again, if the folder of roots is another one than the last time. Returns how
   * many devices that changed something for.
   */
  async judge(): Promise<number> {
    const { store, runner, ekRoots } = this.#options;
    const known = ekRoots.read();
    const { fingerprint = '' } = (await store.get<{ fingerprint: string }>('setting', 'ek-roots')) ?? {};
    if (fingerprint === known.fingerprint) return 0;
    let changed = 0;
    for (let after = ''; ; ) {
      const rows = await store.list(after, page);
      for (const { device } of rows) {
        const identity = (await runner.read(device))?.context.identity;
        const judged = identity && judgedAgain(identity, known);
        if (!judged) continue;
        await runner.send(device, { type: 'endorsement.judged', ekName: identity.ekName, ...judged });
        changed++;
      }
      if (rows.length < page) break;
      after = rows.at(-1)?.device ?? '';
    }
    await store.put('setting', 'ek-roots', { fingerprint: known.fingerprint });
    return changed;
  }

  async #audit(by: string, what: string, { id, certificate }: VendorCertificate): Promise<void> {
    const { store, clock } = this.#options;
    const nothing = { account: '', reason: '', before: null };
    const after = { subject: certificate.subject.text };
    await store.audit({ at: clock.now(), by, what, subject: id, after, ...nothing });
  }
}

function rootView({ id, file, root, certificate }: VendorCertificate): EkRootView {
  const { subject, issuer, notBefore, notAfter } = certificate;
  return {
    id,
    file,
    kind: root ? 'root' : 'intermediate',
    subject: subject.text,
    issuer: issuer.text,
    notBefore,
    notAfter,
  };
}
