// A device that asks more than it has to: its own request for its configuration, as it sent it, over a connection of its own,
// again and again. Broker and EVC treat each as what it is, a real one. And pages that read what comes of it, or never do.
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import { join } from 'node:path';
import type mqtt from 'mqtt';
import { startApi } from '../../controller/api/server.ts';
import { StepStream } from '../../controller/api/stream.ts';
import { makeToken } from '../../controller/api/token.ts';
import { loadPki } from '../../controller/pki.ts';
import { login } from '../../device/link/dial.ts';
import { decodeFrame } from '../../formats/wire/frame.ts';
import { downFilter, parseTopic } from '../../formats/wire/topics.ts';
import { clientOn, outcome, pairTo } from './logins.ts';
import type { World, WorldDevice } from './world.ts';

const atOnce = 4;

export class Traffic {
  readonly #world: World;
  readonly #device: WorldDevice;
  #connections = 0;

  /** The device has been configured, since it booted. */
  constructor(world: World, device: WorldDevice) {
    this.#world = world;
    this.#device = device;
  }

  /**
   * Asks so many times, a few at once, and resolves when EVC has answered all of it. Below a thousand, for a connection has its
   * limits, and a device has its own of requests that wait.
   */
  async ask(count: number): Promise<void> {
    const client = await this.connect(`traffic-${++this.#connections}`);
    const { topic, bytes } = this.#request();
    let asked = 0;
    const ask = () => {
      asked++;
      client.publish(topic, Buffer.from(bytes), { qos: 1 });
    };
    const answered = new Promise<void>((resolve, reject) => {
      let answers = 0;
      client.on('message', (_, bytes) => {
        const { status } = decodeFrame(bytes);
        if (status !== 200 && status !== 304) reject(new Error(`answered with ${status}`));
        if (++answers === count) resolve();
        else if (asked < count) ask();
      });
      client.once('close', () => reject(new Error(`cut after ${answers} answers`)));
    });
    answered.catch(() => undefined);
    while (asked < Math.min(count, atOnce)) ask();
    await answered;
    await client.endAsync();
  }

  /** The last one, since it bears a token that is good until the device restarts. */
  #request(): { topic: string; bytes: Uint8Array } {
    const request = this.#device.events.findLast(
      (event) =>
        event.kind === 'message' && event.direction === 'up' && parseTopic(event.topic).endpoint === 'config',
    );
    if (request?.kind !== 'message') throw new TypeError('the device has asked for no configuration yet');
    return request;
  }

  /** A connection of the device that listens to all it may. */
  async connect(name: string): Promise<mqtt.MqttClient> {
    const { node } = this.#device.node;
    if (!node) throw new TypeError('the device is off');
    const identity = await node.identity();
    const password = await login(identity, null, (payload) => node.tpm.sign(payload), this.#world.clock);
    const client = clientOn(pairTo(this.#world.broker), {
      clientId: `${identity.device}:${name}`,
      username: identity.device,
      password,
    });
    if ((await outcome(client)) !== 'connected') throw new Error('the broker does not let it in');
    await client.subscribeAsync(downFilter(identity.device), { qos: 1 });
    return client;
  }
}

/** EVC's API, as its page has it. */
export async function serveApi(world: World) {
  const { token, hash } = makeToken();
  const { server } = loadPki(join(world.folder, 'evc', 'pki'));
  const stream = new StepStream();
  world.onStep = (step) => stream.publish(step);
  const api = await startApi({
    evc: world.evc,
    stream,
    tokenHash: hash,
    uploads: join(world.folder, 'uploads'),
    host: '127.0.0.1',
    port: 0,
    key: server.key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    certificate: server.certificate.toString(),
    service: () => ({ mqttPort: 1, httpsPort: 2, hosts: ['localhost'], since: 0 }),
  });
  return { api, token, url: `https://127.0.0.1:${api.port}/` };
}

export interface Page {
  /** Bytes that it has read. */
  read: number;
  text: string;
  pause(): void;
  resume(): void;
  close(): void;
}

/** Reads an address of the API that has no end, until it is told to stop. */
export async function openReader(url: string, token: string): Promise<Page> {
  const request = https.get(url, {
    agent: false,
    rejectUnauthorized: false,
    headers: { authorization: `Bearer ${token}` },
  });
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  if (response.statusCode !== 200) throw new Error(`${url}: ${response.statusCode}`);
  const page: Page = {
    read: 0,
    text: '',
    pause: () => void response.pause(),
    resume: () => void response.resume(),
    close: () => void request.destroy(),
  };
  response.setEncoding('utf8').on('data', (text: string) => {
    page.read += text.length;
    page.text += text;
  });
  response.on('error', () => undefined);
  request.on('error', () => undefined);
  return page;
}
