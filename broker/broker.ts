// EVC's broker: an Aedes that knows devices by their keys, lets each on its own topics, and bounds what any of them can do.
import net from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import { Aedes, type AedesPublishPacket, type AuthenticateError, type Client } from 'aedes';
import { channelBinding } from '../formats/wire/login.ts';
import { upFilter } from '../formats/wire/topics.ts';
import { allowed, type Peer } from './acl.ts';
import { defaultLimits, guard, type Limits } from './limits.ts';
import { LoginCheck, type LoginOptions } from './login.ts';

export interface BrokerOptions extends LoginOptions {
  limits?: Partial<Limits>;
  /** Most connections at once. */
  connections?: number;
  onMessage(topic: string, payload: Uint8Array): void;
  onLink?(device: string, online: boolean): void;
  /** A connection, message or subscription that was refused: which, and why. */
  onRefused?(what: string, reason: string): void;
}

export interface Listener {
  port: number;
  close(): Promise<void>;
}

const peers = new WeakMap<Client, Peer>();
const mostConnections = 20_000;
const connectTimeout = 10_000;

export class Broker {
  readonly #aedes: Aedes;
  readonly #options: BrokerOptions;
  readonly #limits: Limits;
  readonly #online = new Map<string, number>();
  #connections = 0;

  private constructor(aedes: Aedes, options: BrokerOptions) {
    this.#aedes = aedes;
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
  }

  static async start(options: BrokerOptions): Promise<Broker> {
    const aedes = await Aedes.createBroker({ connectTimeout, drainTimeout: 10_000, concurrency: 1000 });
    const broker = new Broker(aedes, options);
    broker.#arm();
    return broker;
  }

  /** Takes a stream as a connection; what it is bound to comes from the stream, where that is TLS. */
  accept(stream: Duplex): void {
    const { connections = mostConnections, onRefused } = this.#options;
    if (this.#connections >= connections) {
      onRefused?.('connection', 'limit.connections');
      stream.destroy();
      return;
    }
    this.#connections++;
    stream.once('close', () => {
      this.#connections--;
    });
    stream.on('error', () => stream.destroy());
    this.#aedes.handle(guard(stream, this.#limits, (reason) => onRefused?.('connection', reason)) as net.Socket);
  }

  /** Listens with TLS 1.3. Rejects with an error that names the port when it is taken. */
  listen(address: { host: string; port: number }, key: string, certificate: string): Promise<Listener> {
    const server = tls.createServer({ key, cert: certificate, minVersion: 'TLSv1.3', handshakeTimeout: connectTimeout }, (socket) =>
      this.accept(socket),
    );
    // A handshake that fails is the peer's matter.
    server.on('tlsClientError', () => undefined);
    const open = new Set<net.Socket>();
    server.on('connection', (socket) => {
      open.add(socket);
      socket.once('close', () => open.delete(socket));
    });
    return new Promise((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(error, address)));
      server.listen(address.port, address.host, () => {
        const { port } = server.address() as net.AddressInfo;
        resolve({
          port,
          close: () =>
            new Promise((done) => {
              server.close(() => done());
              for (const socket of open) socket.destroy();
            }),
        });
      });
    });
  }

  /** Publishes as EVC. */
  publish(topic: string, payload: Uint8Array): Promise<void> {
    const packet = { cmd: 'publish', topic, payload: Buffer.from(payload), qos: 1, retain: false, dup: false };
    return new Promise((resolve, reject) => {
      this.#aedes.publish(packet as AedesPublishPacket, (error) => (error ? reject(error) : resolve()));
    });
  }

  close(): Promise<void> {
    return new Promise((resolve) => this.#aedes.close(() => resolve()));
  }

  #arm(): void {
    const { onMessage, onLink, onRefused } = this.#options;
    const aedes = this.#aedes;
    const login = new LoginCheck(this.#options);

    aedes.authenticate = (client, user, password, done) => {
      void login.check(user ?? undefined, password ?? undefined, channelOf(client)).then((result) => {
        if (result.ok) {
          // The client id says which connection of the device it is; it must not take another device's place.
          if (client.id === result.device || client.id.startsWith(`${result.device}:`)) {
            peers.set(client, { kind: 'device', device: result.device });
            done(null, true);
            return;
          }
        }
        onRefused?.(user?.slice(0, 64) ?? 'nobody', result.ok ? 'login.client-id' : result.reason);
        // CONNACK 4: bad user name or password [MQTT 3.1.1, 3.2.2.3].
        done(Object.assign(new Error('refused'), { returnCode: 4 }) as AuthenticateError, false);
      });
    };
    aedes.authorizePublish = (client, packet, done) => {
      const peer = client && peers.get(client);
      if (!peer || packet.retain || !allowed(peer, 'publish', packet.topic)) {
        onRefused?.(nameOf(client), 'acl.publish');
        done(new Error('not allowed'));
        return;
      }
      done(null);
    };
    aedes.authorizeSubscribe = (client, subscription, done) => {
      const peer = client && peers.get(client);
      if (peer && allowed(peer, 'subscribe', subscription.topic)) {
        done(null, subscription);
        return;
      }
      onRefused?.(nameOf(client), 'acl.subscribe');
      done(null, null);
    };
    aedes.authorizeForward = (client, packet) => {
      const peer = peers.get(client);
      return peer && allowed(peer, 'receive', packet.topic) ? packet : null;
    };
    aedes.subscribe(
      upFilter,
      (packet, done) => {
        onMessage(packet.topic, packet.payload as Buffer);
        done();
      },
      () => undefined,
    );
    // A will would speak for a device that is gone: no topic of ours takes one.
    aedes.preConnect = (_client, packet, done) => {
      const willed = (packet as { will?: unknown }).will !== undefined && (packet as { will?: unknown }).will !== null;
      if (willed) onRefused?.('connection', 'acl.will');
      done(null, !willed);
    };
    aedes.on('clientReady', (client) => this.#count(client, 1, onLink));
    aedes.on('clientDisconnect', (client) => this.#count(client, -1, onLink));
  }

  #count(client: Client, step: 1 | -1, onLink: BrokerOptions['onLink']): void {
    const peer = peers.get(client);
    if (peer?.kind !== 'device') return;
    const before = this.#online.get(peer.device) ?? 0;
    const after = Math.max(0, before + step);
    if (after === 0) this.#online.delete(peer.device);
    else this.#online.set(peer.device, after);
    if ((before === 0) !== (after === 0)) onLink?.(peer.device, after > 0);
  }
}


function channelOf(client: Client): Uint8Array | null {
  const socket = client.conn as unknown;
  if (!(socket instanceof tls.TLSSocket)) return null;
  return socket.exportKeyingMaterial(channelBinding.length, channelBinding.label, Buffer.alloc(0));
}

function nameOf(client: Client | null): string {
  return (client?.id ?? 'nobody').slice(0, 80);
}

function listenError(error: NodeJS.ErrnoException, { host, port }: { host: string; port: number }): Error {
  if (error.code === 'EADDRINUSE') {
    return new Error(`port ${port} on ${host} is taken by another program; stop it, or choose another with --mqtt-port`, { cause: error });
  }
  if (error.code === 'EACCES') {
    return new Error(`port ${port} needs privileges; choose one above 1023 with --mqtt-port`, { cause: error });
  }
  return new Error(`cannot listen on ${host}:${port} (${error.code})`, { cause: error });
}
