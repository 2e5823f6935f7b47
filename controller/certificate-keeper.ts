// Keeps the certificates of a running EVC good: renews in time what ends, and takes over what `evc certificates renew` made.
import { CertificateError, endingWithin, reload, renew, renewedBefore, stampOf } from './certificates.ts';
import { type Pki, type Renewable, renewable } from './pki.ts';

export interface KeeperOptions {
  folder: string;
  /** What serve opened, and what EVC did: both are brought up to date. */
  pki: Pki;
  live: Pki;
  hosts: readonly string[];
  now(): number;
  onRenewed(names: readonly Renewable[]): void;
  /** They cannot be taken over, or end soon and cannot be renewed. */
  onFailed(code: string, text: string): void;
  /** Between two looks at the folder, and between two at what ends, ms. */
  lookEvery?: number;
  renewEvery?: number;
}

const usualLook = 2000;
const usualRenewal = 3_600_000;

export class CertificateKeeper {
  readonly #options: KeeperOptions;
  readonly #timers: NodeJS.Timeout[];
  #stamp: string;
  /** What was wrong at the last look. */
  #told = '';

  constructor(options: KeeperOptions) {
    this.#options = options;
    const { folder, lookEvery = usualLook, renewEvery = usualRenewal } = options;
    this.#stamp = stampOf(folder);
    this.#timers = [
      setInterval(() => this.look(), lookEvery).unref(),
      setInterval(() => void this.renewEnding(), renewEvery).unref(),
    ];
    void this.renewEnding();
  }

  close(): void {
    for (const timer of this.#timers) clearInterval(timer);
  }

  /** Takes over what is new in the folder. */
  look(): void {
    const { folder, pki, live, onRenewed, onFailed } = this.#options;
    try {
      const stamp = stampOf(folder);
      if (stamp === this.#stamp) return;
      const before = renewable.map((name) => live[name].certificate.fingerprint256);
      reload(pki, folder);
      reload(live, folder);
      this.#stamp = stamp;
      this.#told = '';
      const names = renewable.filter((name, i) => live[name].certificate.fingerprint256 !== before[i]);
      if (names.length > 0) onRenewed(names);
    } catch (error) {
      // A renewal that is half done, or a folder that is not there: looked at again, and told once.
      const { message } = error as Error;
      if (message !== this.#told) onFailed('certificates.unreadable', message);
      this.#told = message;
    }
  }

  /** Renews what ends soon. Never rejects. */
  async renewEnding(): Promise<void> {
    const { folder, live, hosts, now, onFailed } = this.#options;
    const ending = endingWithin(live, renewedBefore, now());
    if (ending.length === 0) return;
    try {
      await renew(folder, ending, hosts, now());
      this.look();
    } catch (error) {
      onFailed(error instanceof CertificateError ? error.code : 'failed', (error as Error).message);
    }
  }
}
