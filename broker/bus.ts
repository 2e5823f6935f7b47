// The bus of a device: an Aedes of its own, where the components show each other what they know. Retained messages are
// the published state, so a component that starts late sees the last of each. In one process the clients are stream
// pairs; over a Unix socket any process of the device can join, and `mosquitto_sub` shows a person what happens.
import { chmodSync, rmSync } from 'node:fs';
import net from 'node:net';
import { type Duplex, duplexPair } from 'node:stream';
import { Aedes } from 'aedes';
import mqtt from 'mqtt';

const largestMessage = 1024 * 1024;

export interface BusServer {
  /** One end of a pair whose other end is a client of the broker. */
  connect(): Duplex;
  close(): Promise<void>;
}

/** Starts the broker, and listens on a Unix socket when a path is given. */
export async function startBus(options: { socket?: string } = {}): Promise<BusServer> {
  const aedes = await Aedes.createBroker({ concurrency: 1000, heartbeatInterval: 60_000 });
  let server: net.Server | undefined;
  const guests = new Set<net.Socket>();
  if (options.socket) {
    const path = options.socket;
    rmSync(path, { force: true });
    const listening = net.createServer((socket) => {
      guests.add(socket);
      socket.once('close', () => guests.delete(socket));
      aedes.handle(socket);
    });
    await new Promise<void>((resolve, reject) => {
      listening.once('error', reject);
      listening.listen(path, resolve);
    });
    // Who reaches the bus can pose as a component.
    chmodSync(path, 0o600);
    server = listening;
  }
  return {
    connect() {
      const [near, far] = duplexPair();
      // A pair does not carry `close` across (nodejs): without this the other end would wait for ever.
      near.on('close', () => far.destroy());
      far.on('close', () => near.destroy());
      aedes.handle(far as unknown as net.Socket);
      return near;
    },
    async close() {
      const listenerGone = new Promise<void>((resolve) =>
        server ? server.close(() => resolve()) : resolve(),
      );
      // A server is closed when its last guest is gone, and a guest need not go by itself.
      for (const guest of guests) guest.destroy();
      await listenerGone;
      await new Promise<void>((resolve) => aedes.close(() => resolve()));
    },
  };
}

/** `size` is that of the publication, in bytes. */
export type BusHandler = (topic: string, body: unknown, size: number) => void;

/** One client for all components of a process. */
export class Bus {
  readonly #client: mqtt.MqttClient;
  readonly #latest = new Map<string, unknown>();
  readonly #handlers = new Set<BusHandler>();

  private constructor(client: mqtt.MqttClient) {
    this.#client = client;
    client.on('message', (topic, payload) => {
      const body = parse(payload);
      if (body === undefined) return;
      if (body === null) this.#latest.delete(topic);
      else this.#latest.set(topic, body);
      for (const handler of this.#handlers) handler(topic, body, payload.length);
    });
  }

  static async open(dial: () => Duplex): Promise<Bus> {
    const client = new mqtt.MqttClient(dial, {
      clientId: `bus-${process.pid}-${Math.random().toString(36).slice(2)}`,
      clean: true,
      protocolVersion: 4,
      reconnectPeriod: 1000,
      keepalive: 0,
    });
    const bus = new Bus(client);
    try {
      await new Promise<void>((resolve, reject) => {
        client.once('connect', () => resolve());
        client.once('error', reject);
      });
      // It comes back by itself; without a listener the next error would end the process.
      client.on('error', () => undefined);
      await client.subscribeAsync('#', { qos: 1 });
      return bus;
    } catch (error) {
      client.on('error', () => undefined);
      client.end(true);
      throw error;
    }
  }

  /** Joins the bus of another process. Rejects when nobody serves it. */
  static openSocket(path: string): Promise<Bus> {
    return Bus.open(() => net.connect(path));
  }

  /** The last body that was published under a topic, undefined when there is none. */
  latest(topic: string): unknown {
    return this.#latest.get(topic);
  }

  topics(): string[] {
    return [...this.#latest.keys()];
  }

  /** Calls back for everything that is published from now on; null means that it was taken back. */
  listen(handler: BusHandler): () => void {
    this.#handlers.add(handler);
    return () => this.#handlers.delete(handler);
  }

  /** Resolves when the connection breaks; it is made again by itself, to whatever listens there then. */
  lost(): Promise<void> {
    return new Promise((resolve) => this.#client.once('close', () => resolve()));
  }

  /** Publishes a state, retained; null takes it back. */
  publish(topic: string, body: object | null): void {
    const payload = body === null ? '' : JSON.stringify(body);
    const size = Buffer.byteLength(payload);
    if (size > largestMessage) throw new TypeError(`a message of ${size} bytes on ${topic}`);
    this.#client.publish(topic, payload, { qos: 1, retain: true });
  }

  async close(): Promise<void> {
    this.#handlers.clear();
    await this.#client.endAsync(true);
  }
}

function parse(payload: Uint8Array): unknown {
  if (payload.length === 0) return null;
  if (payload.length > largestMessage) return undefined;
  try {
    return JSON.parse(Buffer.from(payload).toString('utf8'));
  } catch {
    // Not one of ours: a component never publishes anything but JSON.
    return undefined;
  }
}
