// The devices of EVC, as many as there are: kept by id, told apart by a filter, in an order that has at the top what somebody has to
// look at. Pure; what it holds comes page by page, and device by device as they move.
import { type Filter, matches } from '../formats/filter/filter.ts';
import type { DeviceRow } from './answers.ts';

/** The first need somebody. */
const urgency = ['uud', 'umd', 'stale', 'unattested', 'challenged', 'verifying', 'trusted', 'retired'];
const names = new Intl.Collator('en', { numeric: true });

export class Fleet {
  readonly #rows = new Map<string, DeviceRow>();
  /** By name; made anew when a device comes or is called otherwise, since that is what takes long. */
  #byName: string[] | null = null;
  /** Moves with every change. */
  version = 0;

  get size(): number {
    return this.#rows.size;
  }

  get(device: string): DeviceRow | undefined {
    return this.#rows.get(device);
  }

  /** Takes rows in; what is known of a later revision stays. */
  merge(rows: readonly DeviceRow[]): void {
    for (const row of rows) {
      const known = this.#rows.get(row.device);
      if (known && known.revision > row.revision) continue;
      if (!known || known.serial !== row.serial) this.#byName = null;
      this.#rows.set(row.device, row);
      this.version++;
    }
  }

  /** Forgets all devices but these. */
  keep(devices: ReadonlySet<string>): void {
    for (const device of this.#rows.keys()) {
      if (devices.has(device)) continue;
      this.#rows.delete(device);
      this.#byName = null;
      this.version++;
    }
  }

  clear(): void {
    this.keep(new Set());
  }

  /** Those that are meant, the most urgent first, and by name. @param now ms since the epoch */
  select(filter: Filter, now: number): DeviceRow[] {
    const groups: DeviceRow[][] = [...urgency, ''].map(() => []);
    for (const device of this.#order()) {
      const row = this.#rows.get(device) as DeviceRow;
      if (!matches(filter, row, now)) continue;
      const place = urgency.indexOf(row.trust);
      groups[place < 0 ? urgency.length : place]?.push(row);
    }
    return groups.flat();
  }

  /** How many are of each trust among those that are meant whatever their trust; the most urgent first. */
  counts(filter: Filter, now: number): Map<string, number> {
    const counts = new Map<string, number>();
    for (const { trust } of this.select(
      filter.filter(({ key }) => key !== 'trust'),
      now,
    ))
      counts.set(trust, (counts.get(trust) ?? 0) + 1);
    return counts;
  }

  #order(): readonly string[] {
    this.#byName ??= [...this.#rows.values()]
      .sort((one, other) => names.compare(one.serial, other.serial) || (one.device < other.device ? -1 : 1))
      .map(({ device }) => device);
    return this.#byName;
  }
}
