// What happens to the record of a device, as lines of a recording: for the attempts that the store keeps, and for whoever
// listens at the moment. Nobody who listens is waited for.
import { createHash, createHmac, randomBytes } from 'node:crypto';
import {
  type Body,
  type Header,
  recordingFormat,
  recordingVersion,
  secretsOf,
} from '../../formats/recording/format.ts';
import { LateLine, labelOf, renumbered, type Said } from '../../formats/recording/line.ts';
import { chartJson, hashOf, type Sink } from '../../formats/recording/recorder.ts';
import { standing, type Taken } from '../../formats/recording/step.ts';
import { wireMessage } from '../../formats/recording/wire.ts';
import { version } from '../../formats/version.ts';
import { readTopic } from '../../formats/wire/topics.ts';
import type { Clock } from '../../machines/clock.ts';
import {
  type DeviceRecordEvent,
  type DeviceRecordSnapshot,
  deviceRecord,
} from '../../machines/device-record.ts';
import type { Verdict } from '../../machines/flow.ts';
import type { AttemptLines } from '../store/store.ts';
import type { LogBytes } from '../verify/known-boots.ts';
import type { Basis } from '../verify/verify.ts';
import { basisJson, logsOf } from './basis.ts';

/** Somebody who reads along. */
export type Listener = Pick<Sink, 'line' | 'late'> & {
  /** Without room, lines are dropped, and it is said how many. */
  room(): boolean;
};

/** What a verdict was given on. */
export interface Judged {
  attempt: string;
  /** ms since the epoch. */
  at: number;
  basis: Basis;
  verdict: Verdict;
  /** The evidence as it was sent, and the logs in it, which it may only name. */
  bytes: Uint8Array;
  logs: readonly LogBytes[];
}

export const recordComponent = 'device-record';
const secrets: ReadonlySet<string> = new Set(secretsOf(deviceRecord));
/** Events with which something begins that is worth a recording of its own. */
const beginnings: ReadonlySet<string> = new Set(['device.registered', 'nonce.requested']);
/** Characters of a message's line without what the message says. */
const messageFrame = 250;
const chartHash = hashOf(deviceRecord, (text) => createHash('sha256').update(text).digest('hex'));

interface Reading {
  listener: Listener;
  n: number;
  missed: number;
  /** Logs that it was told, by their SHA-256. */
  blobs: Set<string>;
  /** Nothing is known to it of how the record stands: it has to be told first. */
  lost: boolean;
}

export class RecordRecorder {
  readonly #clock: Clock;
  readonly #mono: () => number;
  readonly #by: string;
  readonly #readings = new Map<string, Set<Reading>>();
  readonly #key = randomBytes(32);

  constructor({
    clock,
    mono = () => performance.now(),
    by = `evc ${version}`,
  }: {
    clock: Clock;
    mono?(): number;
    by?: string;
  }) {
    this.#clock = clock;
    this.#mono = mono;
    this.#by = by;
  }

  /** The lines of one step, before it is stored. */
  step(
    device: string,
    before: DeviceRecordSnapshot,
    event: DeviceRecordEvent,
    taken: Taken<DeviceRecordSnapshot>,
    judged: Judged | undefined,
  ): AttemptLines {
    const bodies = taken.bodies(device);
    const lines = judged ? [evidenceBody(judged), ...bodies] : bodies;
    return {
      begins: beginnings.has(event.type),
      lines: lines.map((body) => this.#text(body)),
      standing: () => this.#standing(device, before),
      ...(judged ? { evidence: judged.attempt, outcome: outcomeOf(judged.verdict) } : {}),
    };
  }

  /** A step that was stored, for those who read along. */
  stepped(device: string, { lines, standing }: AttemptLines, judged: Judged | undefined): void {
    for (const reading of this.#readings.get(device) ?? []) {
      if (this.#caughtUp(reading)) {
        if (reading.lost) this.#tell(reading, standing());
        reading.lost = false;
        if (judged) this.#tellEvidence(reading, judged);
        for (const line of judged ? lines.slice(1) : lines) this.#tell(reading, line);
      } else {
        reading.missed += lines.length;
        reading.lost = true;
      }
    }
  }

  /** A message from or to a device. */
  message(topic: string, bytes: Uint8Array): void {
    if (this.#readings.size === 0) return;
    const device = readTopic(topic)?.device ?? null;
    const readings = device === null ? undefined : this.#readings.get(device);
    if (!readings) return;
    const weight = messageFrame + 3 * bytes.length;
    const line = this.#line(() => wireMessage(topic, bytes, base64), 'mqtt', weight);
    for (const reading of readings) {
      if (this.#caughtUp(reading)) this.#tell(reading, line);
      else reading.missed++;
    }
  }

  /** Tells a listener how the record stands, and everything from now on, until the result is called. */
  listen(device: string, now: DeviceRecordSnapshot | null, listener: Listener): () => void {
    const reading: Reading = { listener, n: 0, missed: 0, blobs: new Set(), lost: true };
    for (const line of this.opening(device)) listener.line(line);
    reading.n = 1;
    if (now) this.#tell(reading, this.#standing(device, now));
    const readings = this.#readings.get(device) ?? new Set();
    readings.add(reading);
    this.#readings.set(device, readings);
    return () => {
      readings.delete(reading);
      if (readings.size === 0 && this.#readings.get(device) === readings) this.#readings.delete(device);
    };
  }

  /** The header and the chart. */
  opening(device: string, about?: string): string[] {
    const header: Header = {
      recording: recordingFormat,
      version: recordingVersion,
      made: this.#clock.now(),
      by: this.#by,
      device,
      ...(about === undefined ? {} : { about }),
    };
    return [JSON.stringify(header), this.#text(chartJson(deviceRecord, chartHash))];
  }

  #caughtUp(reading: Reading): boolean {
    if (!reading.listener.room()) return false;
    if (reading.missed > 0) {
      const lines = reading.missed;
      reading.missed = 0;
      this.#tell(
        reading,
        this.#text({ kind: 'dropped', lines, why: 'there was no room for them' }, 'recorder'),
      );
    }
    return true;
  }

  /** With the bytes, which the store has elsewhere. */
  #tellEvidence(reading: Reading, judged: Judged): void {
    for (const { sha256, bytes } of logsNeeded(judged)) {
      if (!reading.blobs.has(sha256))
        this.#tell(reading, this.#text({ kind: 'blob', sha256, bytes: base64(bytes) }));
      reading.blobs.add(sha256);
    }
    this.#tell(reading, this.#text({ ...evidenceBody(judged), bytes: base64(judged.bytes) } as Body));
  }

  #tell(reading: Reading, line: string | LateLine): void {
    const { listener } = reading;
    const n = reading.n++;
    if (typeof line === 'string') listener.line(renumbered(line, n));
    else if (listener.late) listener.late(line.numbered(n));
    else listener.line(line.numbered(n).text);
  }

  #standing(device: string, { value, context }: DeviceRecordSnapshot): string {
    return this.#text(standing(deviceRecord, chartHash, { value, context }, device));
  }

  #text(body: Said, component = recordComponent): string {
    return this.#line(body, component).text;
  }

  #line(body: Said, component: string, weight?: number): LateLine {
    const place = { n: 0, at: this.#clock.now(), mono: Math.round(this.#mono() * 1000) / 1000, component };
    const more = weight === undefined ? {} : { weight };
    return LateLine.of(place, body, { secrets, label: this.#label, ...more });
  }

  readonly #label = (secret: string): string =>
    labelOf(createHmac('sha256', this.#key).update(secret).digest('hex'));
}

/** To judge it again. */
function logsNeeded({ basis, logs }: Judged): LogBytes[] {
  return [...logsOf(basis), ...logs];
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}

function evidenceBody({ attempt, at, basis, verdict }: Judged): Body {
  return {
    kind: 'evidence',
    attempt,
    judged: at,
    basis: basisJson(basis),
    verdict: verdict as unknown as Record<string, unknown>,
  };
}

/** In a word: the grounds of trust, or the code of the first finding. */
function outcomeOf({ accepted, grounds, findings }: Verdict): string {
  return accepted ? `trusted (${grounds})` : (findings[0]?.code ?? 'refused');
}
