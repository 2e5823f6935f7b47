// A broker that is not ours: EVC is one of its clients, and shares what devices send with other controllers
// [MQTT 5.0, 4.8.2; Mosquitto, EMQX and HiveMQ have it for 3.1.1 as well].
import type { Socket } from 'node:net';
import mqtt, { type MqttClient } from 'mqtt';
import { upFilter } from '../formats/wire/topics.ts';

export interface RemoteOptions {
  /** `mqtts://host:port`. */
  url: string;
  /** PEM of the root that vouches for the broker. */
  ca: string;
  username: string;
  password: string;
  onMessage(topic: string, payload: Uint8Array): void;
  /** Lost, or there again. */
  onState?(connected: boolean): void;
}

/** Name of the group of controllers: each message goes to one of them. */
const group = 'evc';
const patience = 10_000;

export class RemoteBroker {
  readonly #client: MqttClient;

  private constructor(client: MqttClient) {
    this.#client = client;
  }

  /** Rejects with Error that names the broker when it does not answer or does not let EVC in. */
  static async connect({ url, ca, username, password, ...options }: RemoteOptions): Promise<RemoteBroker> {
    const client = mqtt.connect(url, {
      protocolVersion: 4,
      username,
      password,
      ca,
      clean: true,
      reconnectPeriod: 1000,
      connectTimeout: patience,
      resubscribe: true,
    });
    client.on('message', (topic, payload) => options.onMessage(topic, payload));
    client.on('connect', () => {
      // Requests and answers are small and wait for each other: Nagle would add 40 ms to each.
      (client.stream as Partial<Socket>).setNoDelay?.(true);
      options.onState?.(true);
    });
    client.on('close', () => options.onState?.(false));
    try {
      await new Promise<void>((resolve, reject) => {
        client.once('connect', () => resolve());
        client.once('error', reject);
        client.once('close', () => reject(new Error('the connection was closed')));
      });
      const [granted] = await client.subscribeAsync(`$share/${group}/${upFilter}`, { qos: 1 });
      if (!granted || granted.qos > 2) throw new Error('it grants no shared subscription');
    } catch (cause) {
      client.end(true);
      const why = cause instanceof Error ? cause.message : 'unreachable';
      throw new Error(`the broker at ${url} cannot be used: ${why}`, { cause });
    }
    // Later errors are answered by connecting again.
    client.on('error', () => undefined);
    return new RemoteBroker(client);
  }

  /** Resolves when the broker has it. Rejects while that is out of reach: whoever sends keeps what is to be sent. */
  async publish(topic: string, payload: Uint8Array): Promise<void> {
    if (!this.#client.connected) throw new Error('the broker is out of reach');
    await this.#client.publishAsync(topic, Buffer.from(payload), { qos: 1 });
  }

  async close(): Promise<void> {
    await this.#client.endAsync();
  }
}
