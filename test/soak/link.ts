// The wire between a fleet and EVC, with somebody who cuts it.
import net from 'node:net';

export class CutLink {
  readonly #server: net.Server;
  readonly #open = new Set<net.Socket>();
  cuts = 0;

  private constructor(server: net.Server) {
    this.#server = server;
  }

  /** Listens on a free port, and leads to the port at EVC. */
  static async open(to: () => number): Promise<CutLink> {
    const server = net.createServer();
    const link = new CutLink(server);
    server.on('connection', (near) => {
      const far = net.connect(to(), '127.0.0.1');
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        link.#open.add(one);
        one.setNoDelay(true);
        one.on('error', () => undefined);
        one.once('close', () => {
          link.#open.delete(one);
          other.destroy();
        });
      }
      near.pipe(far).pipe(near);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return link;
  }

  get port(): number {
    return (this.#server.address() as net.AddressInfo).port;
  }

  /** Cuts this part of what is open, the oldest first: over time each is met. */
  cut(part: number): void {
    const all = [...this.#open];
    for (const socket of all.slice(0, Math.ceil(all.length * part))) socket.destroy();
    this.cuts++;
  }

  async close(): Promise<void> {
    this.cut(1);
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
