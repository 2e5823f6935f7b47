// EVC's broker: an Aedes that knows devices by their keys, lets each on its own topics, and bounds what any of them can do.
import net from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import { Aedes, type AedesPublishPacket, type AuthenticateError, type Client } from 'aedes';
import { channelBinding } from '../formats/wire/login.ts';
import { isDeviceId, upFilter } from '../formats/wire/topics.ts';
import { allowed, type Peer } from './acl.ts';
import { defaultLimits, guard, type Limits, rateWindow } from './limits.ts';
import { LoginCheck, type LoginOptions } from './login.ts';
import { Pace } from './pace.ts';
import { Places, sourceOf } from './places.ts';

export interface BrokerOptions extends LoginOptions {
  limits?: Partial<Limits>;
  /** Most connections at once. */
  connections?: number;
  onMessage(topic: string, payload: Uint8Array): void;
  onLink?(device: string, online: boolean): void;
  /** Who may read events with this password, or the code of why not. Without it nobody may. */
  reader?(user: string, password: string): Promise<EventReader | string>;
  /** Whether a device is enrolled: until it is, its connection counts to those of its address. Without it all are. */
  enrolled?(device: string): Promise<boolean>;
  /** A connection, message or subscription that was refused: which, and why. */
  onRefused?(what: string, reason: string): void;
}

/** Somebody who is told what happens, and says nothing. */
export interface EventReader {
  /** Also the name of its connections, as that of a device is. */
  id: string;
  /** Of the devices of these accounts; null: of all. */
  accounts: readonly string[] | null;
  /** Calls back when it may not any more, unless the result is called before. */
  untilRefused(end: () => void): () => void;
}

export interface Listener {
  port: number;
  /** Shows another certificate from the next handshake on; who is connected stays so. */
  renew(key: string, certificate: string): void;
  close(): Promise<void>;
}

interface Channel {
  /** Binds a login to it. */
  binding: Uint8Array;
  /** Where it comes from. */
  source: string;
  /** Gives the place that it has among those who are unknown to the next. */
  known(): void;
}

const peers = new WeakMap<Client, Peer>();
const mostConnections = 20_000;
/** Connections of one device at once: the one that it uses, and those whose end nobody has noticed yet. */
const mostOfDevice = 4;
/** Devices that are known to have sent too much; of more the first is let in again. */
const hastyKnown = 10_000;
/** Filters that a reader may ask for on one connection: Aedes keeps each. */
const mostFilters = 100;
/** CONNACK return codes [MQTT 3.1.1, 3.2.2.3]. */
const connack = { identifierRejected: 2, unavailable: 3, badLogin: 4 } as const;

export class Broker {
  readonly #aedes: Aedes;
  readonly #options: BrokerOptions;
  readonly #limits: Limits;
  readonly #online = new Map<string, Set<Client>>();
  /** Logged in, ready or not. */
  readonly #loggedIn = new Map<string, Set<Client>>();
  readonly #streams = new Set<Duplex>();
  readonly #filters = new WeakMap<Client, number>();
  /** Who has logged in on a stream. */
  readonly #devices = new WeakMap<object, string>();
  /** Devices that were cut off for all they sent, and until when they stay so: another connection is no way around a limit. */
  readonly #hasty = new Map<string, number>();
  #readers = 0;
  /** Of streams that are TLS. */
  readonly #channels = new WeakMap<object, Channel>();
  readonly #pace: Pace;
  readonly #places: Places;
  /** What gives the place of a connection back, by the address and port that it comes from. */
  readonly #held = new Map<string, () => void>();

  private constructor(aedes: Aedes, options: BrokerOptions) {
    this.#aedes = aedes;
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
    const { handshakes, login } = this.#limits;
    this.#places = new Places(options.connections ?? mostConnections);
    this.#pace = new Pace({ perSecond: handshakes, patience: login / 2 });
  }

  static async start(options: BrokerOptions): Promise<Broker> {
    const { login: connectTimeout } = { ...defaultLimits, ...options.limits };
    const aedes = await Aedes.createBroker({ connectTimeout, drainTimeout: 10_000, concurrency: 1000 });
    const broker = new Broker(aedes, options);
    broker.#arm();
    return broker;
  }

  /** Takes a stream as a connection; what it is bound to comes from the stream, where that is TLS. */
  accept(stream: Duplex): void {
    const { connections = mostConnections, onRefused } = this.#options;
    stream.on('error', () => stream.destroy());
    if (this.#streams.size >= connections) {
      onRefused?.('connection', 'limit.connections');
      stream.destroy();
      return;
    }
    if (stream.destroyed) return;
    // Asked for now: at the login the channel may be gone, and then Node throws.
    if (stream instanceof tls.TLSSocket) {
      const known = this.#held.get(peerOf(stream)) ?? (() => undefined);
      this.#channels.set(stream, {
        binding: bindingOf(stream),
        source: sourceOf(stream.remoteAddress),
        known,
      });
    }
    this.#streams.add(stream);
    stream.once('close', () => this.#streams.delete(stream));
    this.#aedes.handle(
      guard(stream, this.#limits, (reason) => {
        const device = this.#devices.get(stream);
        if (device === undefined) this.#failed(stream);
        else if (reason === 'limit.rate') this.#keepOut(device);
        onRefused?.('connection', reason);
      }) as net.Socket,
    );
  }

  /** Listens with TLS 1.3. Rejects with an error that names the port when it is taken. */
  listen(address: { host: string; port: number }, key: string, certificate: string): Promise<Listener> {
    const { connections = mostConnections, onRefused } = this.#options;
    const secure = tls.createServer(
      { key, cert: certificate, minVersion: 'TLSv1.3', handshakeTimeout: this.#limits.login },
      (socket) => this.accept(socket),
    );
    // A handshake that fails is the peer's matter. One that never ends Node tells of, and leaves open.
    secure.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
      if (error.code === 'ERR_TLS_HANDSHAKE_TIMEOUT') onRefused?.('connection', 'limit.malformed');
      socket.destroy();
    });
    const server = net.createServer({ noDelay: true, pauseOnConnect: true });
    // Those that are still at their handshake, or before it, count as well.
    server.maxConnections = connections;
    server.on('drop', () => onRefused?.('connection', 'limit.connections'));
    const open = new Set<net.Socket>();
    server.on('connection', (socket) => {
      const [source, peer] = [sourceOf(socket.remoteAddress), peerOf(socket)];
      const giveBack = this.#places.take(source);
      if (!giveBack) {
        onRefused?.('connection', 'limit.source-connections');
        socket.destroy();
        return;
      }
      open.add(socket);
      this.#held.set(peer, giveBack);
      socket.on('error', () => socket.destroy());
      socket.once('close', () => {
        open.delete(socket);
        if (this.#held.get(peer) === giveBack) this.#held.delete(peer);
        giveBack();
      });
      this.#pace.come(source, {
        begin: () => {
          if (socket.destroyed) return false;
          secure.emit('connection', socket);
          socket.resume();
          return true;
        },
        refuse: () => {
          onRefused?.('connection', 'limit.handshakes');
          socket.destroy();
        },
      });
    });
    return new Promise((resolve, reject) => {
      server.on('error', (error: NodeJS.ErrnoException) => reject(listenError(error, address)));
      server.listen(address.port, address.host, () => {
        const { port } = server.address() as net.AddressInfo;
        resolve({
          port,
          renew: (nextKey, cert) => secure.setSecureContext({ key: nextKey, cert, minVersion: 'TLSv1.3' }),
          close: () =>
            new Promise((done) => {
              server.close(() => done());
              for (const socket of open) socket.destroy();
            }),
        });
      });
    });
  }

  /**
   * Publishes as EVC, and keeps nothing: a session ends with its connection, and a device that misses an answer asks again.
   */
  publish(topic: string, payload: Uint8Array): Promise<void> {
    const packet = {
      cmd: 'publish',
      topic,
      payload: Buffer.from(payload),
      qos: 0,
      retain: false,
      dup: false,
    };
    return new Promise((resolve, reject) => {
      this.#aedes.publish(packet as AedesPublishPacket, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** Connections that are told of events. */
  get readers(): number {
    return this.#readers;
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => this.#aedes.close(() => resolve()));
    // Aedes closes those that have logged in.
    for (const stream of this.#streams) stream.destroy();
  }

  #arm(): void {
    const { onMessage, onLink, onRefused } = this.#options;
    const aedes = this.#aedes;
    const login = new LoginCheck(this.#options);

    const refuse = ({ conn }: Client, what: string, reason: string, returnCode: number) => {
      onRefused?.(what, reason);
      // What EVC cannot look at is no fault of the peer.
      if (reason !== 'login.unavailable') this.#failed(conn);
      return Object.assign(new Error('refused'), { returnCode }) as AuthenticateError;
    };

    aedes.authenticate = (client, user, password, done) => {
      const channel = this.#channels.get(client.conn)?.binding ?? null;
      const who = user && isDeviceId(user) ? user : 'nobody';
      const enter = (id: string, peer: Peer): boolean => {
        // The client id says which connection of the device it is; it must not take another device's place.
        if (!isClientOf(id, client.id)) {
          done(refuse(client, who, 'login.client-id', connack.identifierRejected), false);
          return false;
        }
        if ((this.#hasty.get(id) ?? 0) > performance.now()) {
          done(refuse(client, who, 'limit.rate', connack.unavailable), false);
          return false;
        }
        if (!this.#admit(id, client)) {
          done(refuse(client, who, 'limit.device-connections', connack.unavailable), false);
          return false;
        }
        peers.set(client, peer);
        this.#devices.set(client.conn, id);
        if (peer.kind === 'reader') this.#channels.get(client.conn)?.known();
        else void this.#ask(id);
        done(null, true);
        return true;
      };
      const { reader: readerOf } = this.#options;
      if (readerOf && user && password && !isDeviceId(user)) {
        readerOf(user, password.toString('utf8')).then(
          (reader) => {
            if (typeof reader === 'string') done(refuse(client, who, reader, connack.badLogin), false);
            else if (enter(reader.id, { kind: 'reader', accounts: reader.accounts }))
              this.#read(client, reader);
          },
          () => done(refuse(client, who, 'login.unavailable', connack.unavailable), false),
        );
        return;
      }
      login.check(user ?? undefined, password ?? undefined, channel).then(
        (result) => {
          if (!result.ok) {
            done(refuse(client, who, result.reason, connack.badLogin), false);
            return;
          }
          const { device } = result;
          enter(device, { kind: 'device', device });
        },
        // Whether the device is retired could not be asked: nobody is let in unchecked.
        () => done(refuse(client, who, 'login.unavailable', connack.unavailable), false),
      );
    };
    aedes.authorizePublish = (client, packet, done) => {
      const peer = client && peers.get(client);
      // Of QoS 2 Aedes keeps each message until its release, and a thousand of the largest are too many.
      const kept = packet.retain || packet.qos === 2;
      if (!peer || kept || !allowed(peer, 'publish', packet.topic)) {
        onRefused?.(nameOf(client), peer && kept ? 'acl.kept' : 'acl.publish');
        done(new Error('not allowed'));
        return;
      }
      done(null);
    };
    aedes.authorizeSubscribe = (client, subscription, done) => {
      const peer = client && peers.get(client);
      if (peer?.kind === 'reader' && !this.#mayAsk(client)) {
        onRefused?.(nameOf(client), 'limit.filters');
        client.conn.destroy();
        done(null, null);
        return;
      }
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
    aedes.preConnect = (client, packet, done) => {
      // A will would speak for a device that is gone: no topic of ours takes one.
      const { will } = packet as { will?: unknown };
      const willed = will !== undefined && will !== null;
      if (willed) refuse(client, 'connection', 'acl.will', connack.badLogin);
      // What Aedes keeps of a session for its next connection has no bound. EVC asks again, and the device as well.
      packet.clean = true;
      // Without an error Aedes refuses and leaves the connection open.
      done(willed ? new Error('refused') : null, !willed);
    };
    aedes.on('connectionError', (_client, error) => {
      // Aedes has no code for it.
      if (error.message === 'connect did not arrive in time') onRefused?.('connection', 'limit.malformed');
    });
    aedes.on('clientReady', (client) => {
      const peer = peers.get(client);
      // It can be gone before it was ready, and then nobody reports its end.
      if (peer?.kind !== 'device' || client.closed) return;
      const clients = this.#online.get(peer.device) ?? new Set();
      if (clients.size === 0) onLink?.(peer.device, true);
      this.#online.set(peer.device, clients.add(client));
    });
    aedes.on('clientDisconnect', (client) => {
      const peer = peers.get(client);
      const clients = peer?.kind === 'device' ? this.#online.get(peer.device) : undefined;
      if (peer?.kind !== 'device' || !clients?.delete(client) || clients.size > 0) return;
      this.#online.delete(peer.device);
      onLink?.(peer.device, false);
    });
  }

  /** Counts a reader until it goes, or may not read any more. */
  #read(client: Client, { untilRefused }: EventReader): void {
    const { conn } = client;
    if (conn.destroyed) return;
    this.#readers++;
    const forget = untilRefused(() => conn.destroy());
    conn.once('close', () => {
      this.#readers--;
      forget();
    });
  }

  /** Anybody can make a key and log in with it; it is a device of ours that is no stranger. */
  async #ask(device: string): Promise<void> {
    const { enrolled } = this.#options;
    // What cannot be asked now keeps its place as a stranger.
    if (!enrolled || (await enrolled(device).catch(() => false))) this.known(device);
  }

  /** A device was enrolled: its connections count to those of its address no more. */
  known(device: string): void {
    for (const { conn } of this.#loggedIn.get(device) ?? []) this.#channels.get(conn)?.known();
  }

  #failed(stream: object): void {
    const source = this.#channels.get(stream)?.source;
    if (source !== undefined) this.#pace.fail(source);
  }

  #keepOut(device: string): void {
    const now = performance.now();
    this.#hasty.delete(device);
    // The first of them was cut first.
    for (const [id, until] of this.#hasty) {
      if (until > now && this.#hasty.size < hastyKnown) break;
      this.#hasty.delete(id);
    }
    this.#hasty.set(device, now + rateWindow);
  }

  #mayAsk(client: Client): boolean {
    const filters = (this.#filters.get(client) ?? 0) + 1;
    this.#filters.set(client, filters);
    return filters <= mostFilters;
  }

  #admit(device: string, client: Client): boolean {
    const clients = this.#loggedIn.get(device) ?? new Set();
    // A client of the same id gives way to this one.
    if ([...clients].filter(({ id }) => id !== client.id).length >= mostOfDevice) return false;
    if (client.conn.destroyed) return true;
    this.#loggedIn.set(device, clients.add(client));
    client.conn.once('close', () => {
      clients.delete(client);
      if (clients.size === 0 && this.#loggedIn.get(device) === clients) this.#loggedIn.delete(device);
    });
    return true;
  }
}

/** Connections of a device are told apart by a word after its id. */
function isClientOf(device: string, client: string): boolean {
  return (
    client === device ||
    (client.startsWith(`${device}:`) && /^[A-Za-z0-9_-]{1,32}$/.test(client.slice(device.length + 1)))
  );
}

function peerOf({ remoteAddress, remotePort }: net.Socket): string {
  return `${remoteAddress} ${remotePort}`;
}

function bindingOf(socket: tls.TLSSocket): Uint8Array {
  return socket.exportKeyingMaterial(channelBinding.length, channelBinding.label, Buffer.alloc(0));
}

function nameOf(client: Client | null): string {
  return (client?.id ?? 'nobody').slice(0, 80);
}

function listenError(error: NodeJS.ErrnoException, { host, port }: { host: string; port: number }): Error {
  if (error.code === 'EADDRINUSE') {
    return new Error(
      `port ${port} on ${host} is taken by another program; stop it, or choose another with --mqtt-port`,
      { cause: error },
    );
  }
  if (error.code === 'EACCES') {
    return new Error(`port ${port} needs privileges; choose one above 1023 with --mqtt-port`, {
      cause: error,
    });
  }
  return new Error(`cannot listen on ${host}:${port} (${error.code})`, { cause: error });
}
