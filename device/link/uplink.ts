// The link to EVC: one MQTT connection that comes back by itself, requests with deadlines, replies matched by their id.
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import mqtt from 'mqtt';
import { decodeFrame, encodeFrame, type Frame } from '../../formats/wire/frame.ts';
import { downFilter, type Endpoint, formatTopic, parseTopic } from '../../formats/wire/topics.ts';
import type { Clock } from '../../machines/clock.ts';
import { linkBackoff, pause, second } from '../../machines/waiting.ts';
import { Refusal, reasonOf } from '../refusal.ts';

/** A stream to the broker, ready for MQTT. */
export interface Dialled {
  stream: Duplex;
  /** Keying material that both ends of a TLS channel share; null where there is no TLS. */
  channel: Uint8Array | null;
}

export interface UplinkOptions {
  device: string;
  /** Tells connections of one device apart, for the broker. */
  name: string;
  dial(): Promise<Dialled>;
  /** A fresh proof of who we are, bound to the channel. */
  login(channel: Uint8Array | null): Promise<string>;
  clock: Clock;
  /** EVC's news: the topic, and what it sent. */
  onPush(topic: string, frame: Frame): void;
  onLink?(up: boolean, why: string | null): void;
  /** Every message in both directions, for the story and the inspector. */
  watch?(direction: 'up' | 'down', topic: string, bytes: Uint8Array): void;
}

export type Reply = Frame & { topic: string };

interface Waiter {
  topic: string;
  resolve(reply: Reply): void;
  reject(error: Error): void;
}

/** Why a deadline is given up: one for all, since an error is costly to make. */
const answered = new Error('the request was answered');

export const requestDeadline = 10 * second;

export class Uplink {
  readonly #options: UplinkOptions;
  readonly #waiters = new Map<string, Waiter>();
  readonly #stopping = new AbortController();
  #client: mqtt.MqttClient | null = null;
  #connecting: Promise<void> | null = null;
  #wake: (() => void) | null = null;
  #failures = 0;
  #why = 'no connection was tried yet';

  constructor(options: UplinkOptions) {
    this.#options = options;
    void this.#keepConnected();
  }

  get connected(): boolean {
    return this.#client !== null;
  }

  /**
   * Sends one request and waits for its reply. The container is made for the topic, which is made here.
   * Throws Refusal link.down, link.timeout, link.lost.
   */
  async request(
    endpoint: Endpoint,
    enclose: (topic: string) => Promise<Uint8Array>,
    signal?: AbortSignal,
  ): Promise<Reply> {
    const { device, clock, watch } = this.#options;
    const deadline = clock.now() + requestDeadline;
    const client = await this.#ready(deadline);
    const id = randomBytes(12).toString('base64url');
    const topic = formatTopic({ device, direction: 'up', endpoint, request: id });
    const container = await enclose(topic);
    const bytes = encodeFrame({
      kind: 'request',
      status: 0,
      retryAfter: 0,
      patience: requestDeadline,
      container,
    });
    const over = new AbortController();
    const stop = () => over.abort(signal?.reason);
    if (signal?.aborted) stop();
    else signal?.addEventListener('abort', stop, { once: true });
    const late = clock.sleepUntil(deadline, over.signal).then(() => {
      throw new Refusal(
        'link.timeout',
        `EVC did not answer a ${endpoint} request within ${requestDeadline / 1000} s`,
      );
    });
    const reply = new Promise<Reply>((resolve, reject) => {
      this.#waiters.set(id, {
        topic: formatTopic({ device, direction: 'down', endpoint, request: id }),
        resolve,
        reject,
      });
    });
    try {
      watch?.('up', topic, bytes);
      client.publish(topic, Buffer.from(bytes), { qos: 0 });
      return await Promise.race([reply, late]);
    } finally {
      signal?.removeEventListener('abort', stop);
      over.abort(answered);
      late.catch(() => undefined);
      reply.catch(() => undefined);
      this.#waiters.delete(id);
    }
  }

  /** Tries now instead of at the end of the pause. */
  retryNow(): void {
    this.#wake?.();
  }

  async close(): Promise<void> {
    this.#stopping.abort(new Refusal('link.down', 'the link was closed'));
    this.#wake?.();
    const client = this.#client;
    this.#drop('the link was closed');
    if (client) await client.endAsync(true);
  }

  /** The client, as soon as it is connected; no longer than the deadline, and not at all when EVC is known to be out of reach. */
  async #ready(deadline: number): Promise<mqtt.MqttClient> {
    if (!this.#client && this.#connecting) {
      const over = new AbortController();
      const late = this.#options.clock.sleepUntil(deadline, over.signal).catch(() => undefined);
      await Promise.race([this.#connecting.catch(() => undefined), late]);
      over.abort();
    }
    if (!this.#client) throw new Refusal('link.down', `EVC is out of reach: ${this.#why}`);
    return this.#client;
  }

  async #keepConnected(): Promise<void> {
    const { clock, onLink } = this.#options;
    while (!this.#stopping.signal.aborted) {
      try {
        this.#connecting = this.#connect();
        await this.#connecting;
        this.#failures = 0;
        onLink?.(true, null);
        await this.#closed();
        onLink?.(false, this.#why);
      } catch (error) {
        this.#failures++;
        this.#why = error instanceof Refusal ? error.message : describe(error);
        onLink?.(false, this.#why);
      } finally {
        this.#connecting = null;
      }
      const stop = new AbortController();
      this.#wake = () => stop.abort();
      const until = clock.now() + pause(Math.max(1, this.#failures), clock.random(), linkBackoff);
      const signal = AbortSignal.any([stop.signal, this.#stopping.signal]);
      await clock.sleepUntil(until, signal).catch(() => undefined);
      this.#wake = null;
    }
  }

  async #connect(): Promise<void> {
    const { device, name, dial, login } = this.#options;
    const { stream, channel } = await dial();
    // A TPM takes its time for a login, and until there is a client nobody listens; an error that nobody hears ends the process.
    stream.on('error', () => undefined);
    const password = await login(channel).catch((error) => {
      stream.destroy();
      throw error;
    });
    if (stream.destroyed) throw new Refusal('link.down', 'the connection was lost before the login');
    const client = new mqtt.MqttClient(() => stream, {
      clientId: `${device}:${name}`,
      username: device,
      password,
      protocolVersion: 4,
      clean: true,
      reconnectPeriod: 0,
      keepalive: 30,
      connectTimeout: requestDeadline,
      timerVariant: 'native',
    });
    client.on('message', (topic, payload) => this.#receive(topic, payload));
    // mqtt.js reports through 'error' what 'close' repeats; without a listener it would end the process.
    client.on('error', (error) => {
      this.#why = refusedLogin(error) ?? describe(error);
    });
    try {
      await new Promise<void>((resolve, reject) => {
        client.once('connect', () => resolve());
        client.once('error', reject);
        client.once('close', () => reject(new Refusal('link.down', 'the broker closed the connection')));
      });
      await this.#subscribe(client);
      this.#stopping.signal.throwIfAborted();
    } catch (error) {
      client.end(true);
      stream.destroy();
      const refused = refusedLogin(error as Error);
      if (refused) throw new Refusal('link.refused', refused);
      throw error;
    }
    client.once('close', () => this.#drop(this.#why));
    this.#client = client;
  }

  /** Its own deadline: mqtt.js has none for it, and the pings of a broker that never answers keep the connection. */
  async #subscribe(client: mqtt.MqttClient): Promise<void> {
    const { device, clock } = this.#options;
    const over = new AbortController();
    const signal = AbortSignal.any([over.signal, this.#stopping.signal]);
    const late = clock.sleepUntil(clock.now() + requestDeadline, signal).then(() => {
      throw new Refusal(
        'link.timeout',
        `the broker did not answer the subscription within ${requestDeadline / 1000} s`,
      );
    });
    try {
      await Promise.race([client.subscribeAsync(downFilter(device), { qos: 1 }), late]);
    } finally {
      over.abort(answered);
    }
  }

  #closed(): Promise<void> {
    const client = this.#client;
    if (!client) return Promise.resolve();
    return new Promise((resolve) => client.once('close', () => resolve()));
  }

  #receive(topic: string, payload: Uint8Array): void {
    this.#options.watch?.('down', topic, payload);
    try {
      const { endpoint, request } = parseTopic(topic);
      const frame = decodeFrame(payload);
      if (endpoint === 'push') {
        this.#options.onPush(topic, frame);
        return;
      }
      const waiter = this.#waiters.get(request);
      if (waiter?.topic === topic && frame.kind === 'reply') waiter.resolve({ ...frame, topic });
      // Anything else is late or foreign: nobody waits for it.
    } catch (error) {
      this.#why = describe(error);
    }
  }

  #drop(why: string): void {
    this.#client = null;
    this.#why = why;
    // MQTT 3.1.1 has no negative acknowledgement: a close right after a publish may mean that it was refused.
    for (const waiter of this.#waiters.values()) {
      waiter.reject(new Refusal('link.lost', `the connection to EVC broke while a request was out: ${why}`));
    }
    this.#waiters.clear();
  }
}

/** CONNACK codes 4 and 5 [MQTT 3.1.1, 3.2.2.3]. */
function refusedLogin(error: Error & { code?: unknown }): string | null {
  return error.code === 4 || error.code === 5 ? 'the broker refuses the login of this device' : null;
}

function describe(error: unknown): string {
  const reason = reasonOf(error);
  if (reason.code !== 'internal.error') return reason.text;
  const { code, message } = error as { code?: string; message?: string };
  return code ? `${code}` : (message ?? 'unknown error');
}
