// What happens on a device, as a recording: its charts, its bus, its messages with EVC, the commands of its TPM, its power.
// With nobody who listens it does next to nothing.
import { createHash, createHmac, randomBytes } from 'node:crypto';
import type { AnyStateMachine } from 'xstate';
import { secretsOf } from '../formats/recording/format.ts';
import { labelOf, type Said } from '../formats/recording/line.ts';
import { Recorder, type Sink, type Tap } from '../formats/recording/recorder.ts';
import { wireMessage } from '../formats/recording/wire.ts';
import { commandOf } from '../formats/tpm2/commands.ts';
import { responseCode } from '../formats/tpm2/response-codes.ts';
import { version } from '../formats/version.ts';
import { parseTopic } from '../formats/wire/topics.ts';
import { deviceCharts } from '../machines/charts.ts';
import type { Clock } from '../machines/clock.ts';
import type { NodeEvent } from './edge-node.ts';
import type { Transport } from './tpm/transport.ts';

/** What the components publish has the names that their charts have for it, so it has their secrets too. */
const busSecrets: ReadonlySet<string> = new Set(deviceCharts.flatMap(secretsOf));

/** Bytes of a publication that are kept. */
const largestShown = 256 * 1024;
/** Characters of a message's line without what the message says. */
const lineFrame = 250;
/** Bytes of the header of a command of the TPM, after which its handles come [TPM2 Part 1, 18.4]. */
const header = 10;

export interface DeviceRecorderOptions {
  clock: Pick<Clock, 'now'>;
  /** ms, never backwards. Default: the clock of this process. */
  mono?(): number;
  /** Program and version. */
  by?: string;
}

export class DeviceRecorder {
  readonly #recorder: Recorder;
  readonly #mono: () => number;
  /** Called for every event of the device, before it is recorded. */
  readonly #watchers = new Set<(event: NodeEvent) => void>();

  constructor({ clock, mono = () => performance.now(), by = `eve ${version}` }: DeviceRecorderOptions) {
    this.#mono = mono;
    this.#recorder = new Recorder({
      by,
      device: '',
      now: () => clock.now(),
      mono,
      hash: sha256,
      label: labels(),
    });
  }

  attach(sink: Sink, about?: string): () => void {
    return this.#recorder.attach(sink, about);
  }

  chart(component: string, chart: AnyStateMachine): Tap {
    return this.#recorder.chart(component, chart);
  }

  onEvent(watcher: (event: NodeEvent) => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** Everything of a device that is neither a chart nor its bus nor its TPM. */
  event(event: NodeEvent): void {
    for (const watcher of this.#watchers) watcher(event);
    if (!this.#recorder.on) return;
    switch (event.kind) {
      case 'power':
        this.#add('board', { kind: 'power', on: event.on, reason: event.reason });
        break;
      case 'boot':
        this.#add('board', { kind: 'boot', ...event.boot });
        break;
      case 'link':
        this.#add('uplink', { kind: 'link', up: event.up, why: event.why });
        break;
      case 'failed':
        this.#add(event.component, {
          kind: 'fault',
          code: 'internal.component-failed',
          text: event.text,
        });
        break;
      case 'message':
        this.#message(event.topic, event.bytes);
        break;
      default:
      // States and ports: the charts tell it themselves.
    }
  }

  /** What a component shows the others in a publication of `size` bytes; null takes it back. */
  shown(topic: string, body: unknown, size: number): void {
    if (!this.#recorder.on) return;
    const line = { kind: 'message' as const, link: 'bus' as const, direction: 'shown' as const, topic, size };
    const [component = ''] = topic.split('/');
    // Whoever reaches the bus can publish anything, and a line has its limits.
    this.#recorder.add(component, size > largestShown ? line : { ...line, body }, {
      secrets: busSecrets,
      weight: lineFrame + Math.min(size, largestShown),
    });
  }

  /** The same TPM, whose commands are recorded: their names, handles, response codes and times, and nothing that they carry. */
  tpm<T extends Transport>(tpm: T): T {
    const send: Transport['send'] = async (command, options) => {
      if (!this.#recorder.on) return tpm.send(command, options);
      const began = this.#mono();
      try {
        const response = await tpm.send(command, options);
        this.#command(command, codeOf(response), this.#mono() - began);
        return response;
      } catch (error) {
        const { code = 'io' } = error as { code?: string };
        this.#command(command, `no response: ${code}`, this.#mono() - began);
        throw error;
      }
    };
    return new Proxy(tpm, {
      get(target, name) {
        if (name === 'send') return send;
        const value = Reflect.get(target, name);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  }

  #command(command: Uint8Array, code: string, ms: number): void {
    // What it carries may be wiped after use, and is nothing to hold on to.
    const view = new DataView(command.buffer, command.byteOffset, command.byteLength);
    const number = command.length >= header ? view.getUint32(6) : 0;
    const known = commandOf(number);
    const names = known ? Object.keys(known.handles).length : 0;
    const handles: number[] = [];
    for (let at = header; handles.length < names && at + 4 <= command.length; at += 4)
      handles.push(view.getUint32(at));
    this.#add('tpm', () => commandJson(known?.name ?? hex32(number), handles, code, ms));
  }

  #message(topic: string, bytes: Uint8Array): void {
    this.#identify(topic);
    this.#recorder.add('uplink', () => wireMessage(topic, bytes, base64), {
      // Decoded and as bytes.
      weight: lineFrame + 3 * bytes.length,
    });
  }

  #identify(topic: string): void {
    const { device } = this.#recorder;
    if (device === '' || !topic.includes(device)) this.#recorder.identify(deviceOf(topic));
  }

  #add(component: string, body: Said): void {
    this.#recorder.add(component, body);
  }
}

function labels(): (secret: string) => string {
  const key = randomBytes(32);
  return (secret) => labelOf(createHmac('sha256', key).update(secret).digest('hex'));
}

/** Joined, since these are many: names and numbers need no escapes. */
function commandJson(command: string, handles: readonly number[], code: string, ms: number): string {
  const named = handles.map((handle) => `"${hex32(handle)}"`).join();
  return `{"kind":"tpm","command":"${command}","handles":[${named}],"code":${JSON.stringify(code)},"ms":${Math.round(ms * 1000) / 1000}}`;
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** Name of the response code [TPM2 Part 2, 6.6]. */
function codeOf(response: Uint8Array): string {
  if (response.length < 10) return 'no header';
  const view = new DataView(response.buffer, response.byteOffset, response.byteLength);
  const code = view.getUint32(6);
  return code === 0 ? 'TPM_RC_SUCCESS' : responseCode(code).name;
}

function deviceOf(topic: string): string {
  try {
    return parseTopic(topic).device;
  } catch {
    return '';
  }
}

function hex32(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}
