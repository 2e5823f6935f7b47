// Places for connections of which nobody knows yet who they are. One source holds no more than half of them, so that nobody alone keeps
// all others out.

export class Places {
  readonly #most: number;
  readonly #held = new Map<string, number>();

  /** @param connections how many there are */
  constructor(connections: number) {
    this.#most = Math.ceil(connections / 2);
  }

  /** Takes one, and returns what gives it back, once; null where the source has its half. */
  take(source: string): (() => void) | null {
    const held = this.#held.get(source) ?? 0;
    if (held >= this.#most) return null;
    this.#held.set(source, held + 1);
    let given = false;
    return () => {
      if (given) return;
      given = true;
      const left = (this.#held.get(source) ?? 1) - 1;
      if (left > 0) this.#held.set(source, left);
      else this.#held.delete(source);
    };
  }
}

/** Who a connection is counted to: its address, of IPv6 the 64 bits of its network, since a host has as many addresses as it likes. */
export function sourceOf(address = ''): string {
  const mapped = /^::ffff:([\d.]+)$/i.exec(address)?.[1];
  if (mapped) return mapped;
  if (!address.includes(':')) return address;
  const [front = [], back = []] = address.split('::').map((half) => half.split(':').filter(Boolean));
  const zeros = Array<string>(Math.max(0, 8 - front.length - back.length)).fill('0');
  return [...front, ...zeros, ...back].slice(0, 4).join(':');
}
