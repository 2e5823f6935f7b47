// Recordings on the disk: one file that somebody asked for, and the last attempts that every device keeps.
import { createWriteStream, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { constants, createGzip } from 'node:zlib';
import type { LateLine } from '../formats/recording/line.ts';
import { Pieces } from '../formats/recording/pieces.ts';
import type { Sink } from '../formats/recording/recorder.ts';
import type { NodeEvent } from './edge-node.ts';
import type { DeviceRecorder } from './recorder.ts';

/** Lines are handed to the disk after so many ms at the most. */
const delay = 200;
/** Bytes that may wait for a slow disk before lines are dropped. */
const backlog = 8 * 1024 * 1024;

/** A file that takes lines, packed where its name ends in `.gz`. A disk that fails ends the recording, and not the device. */
export class RecordingFile implements Sink {
  readonly path: string;
  readonly #out: Writable;
  readonly #done: Promise<void>;
  readonly #most: number;
  readonly #pieces = new Pieces((piece, done) => this.#put(piece, done), delay);
  /** Tells the piece that is out that it is taken: a packer that is destroyed never does. */
  #taken: (() => void) | null = null;
  #written = 0;
  #full = false;
  #failed = false;

  /** @param most bytes that it takes before it has no room any more */
  constructor(path: string, options: { most?: number; onError?(error: Error): void } = {}) {
    this.path = path;
    this.#most = options.most ?? Number.POSITIVE_INFINITY;
    const file = createWriteStream(path, { mode: 0o600 });
    this.#done = new Promise((resolve) => file.once('close', () => resolve()));
    const failed = (error: Error) => {
      if (!this.#failed) options.onError?.(error);
      this.#failed = true;
      this.#pieces.drop();
      this.#out.destroy();
      file.destroy();
      this.#tookPiece();
    };
    file.on('error', failed);
    if (path.endsWith('.gz')) {
      // Twice as fast as the usual level, and a fifth larger: a recording is to cost a device little.
      const packed = createGzip({ level: constants.Z_BEST_SPEED });
      packed.on('error', failed);
      packed.pipe(file);
      this.#out = packed;
    } else this.#out = file;
  }

  line(text: string): void {
    if (!this.#failed) this.#pieces.line(text);
  }

  late(line: LateLine): void {
    if (!this.#failed) this.#pieces.late(line);
  }

  room(): boolean {
    const { weight } = this.#pieces;
    // The weight is an estimate: it must not be full and then not.
    this.#full ||= this.#written + weight >= this.#most;
    return !this.#failed && !this.#full && weight < backlog;
  }

  /** Resolves when everything is in the file, or when it failed. */
  async close(): Promise<void> {
    await this.#pieces.flush();
    if (this.#failed) return;
    this.#out.end();
    await this.#done;
  }

  #put(piece: Uint8Array, done: () => void): void {
    if (this.#failed) {
      done();
      return;
    }
    this.#written += piece.length;
    this.#taken = done;
    this.#out.write(piece, () => this.#tookPiece());
  }

  #tookPiece(): void {
    const taken = this.#taken;
    this.#taken = null;
    taken?.();
  }
}

export interface RingOptions {
  /** Folder of the files. */
  folder: string;
  /** Files that are kept. */
  keep: number;
  /** Bytes of one of them. */
  most?: number;
  /** The first begins at once, and not when the power is on: for a component that joins a boot. */
  now?: boolean;
}

const fileName = /^attempt-(\d{6})\.jsonl$/;
const largestAttempt = 1024 * 1024;

/** The last attempts of a device, a file each: from power on or from the request for a nonce to the next. */
export class AttemptRing {
  readonly #recorder: DeviceRecorder;
  readonly #options: RingOptions;
  readonly #ignore: () => void;
  #file: RecordingFile | null = null;
  #sink: Sink | null = null;
  #detach: (() => void) | null = null;
  readonly #closing = new Set<Promise<void>>();
  /** Whether the open file holds an attempt already, and whether another one begins. */
  #attempted = false;
  #asking = false;
  #next = false;

  constructor(recorder: DeviceRecorder, options: RingOptions) {
    this.#recorder = recorder;
    this.#options = options;
    this.#ignore = recorder.onEvent((event) => this.#watch(event));
    if (options.now) this.#begin();
  }

  async close(): Promise<void> {
    this.#ignore();
    this.#end();
    await Promise.all(this.#closing);
  }

  #watch(event: NodeEvent): void {
    // No chart runs at this moment.
    if (event.kind === 'power' && event.on) this.#begin();
    if (event.kind !== 'state' || event.component !== 'attest-task') return;
    const asking = typeof event.state === 'object' && event.state !== null && 'nonceWait' in event.state;
    if (asking && !this.#asking) {
      if (this.#attempted) this.#next = true;
      this.#attempted = true;
    }
    this.#asking = asking;
  }

  #begin(): void {
    this.#end();
    this.#next = false;
    this.#attempted = false;
    const { number, file } = this.#nextFile();
    const sink: Sink = {
      line: (text) => file?.line(text),
      late: (line) => file?.late(line),
      room: () => file?.room() ?? false,
      between: () => {
        if (!this.#next || this.#sink !== sink) return;
        this.#begin();
        this.#attempted = true;
      },
    };
    this.#file = file;
    this.#sink = sink;
    this.#detach = this.#recorder.attach(sink, `attempt ${number}`);
  }

  /** Without a file where the disk fails: whoever calls is a chart that runs, and the next attempt has another chance. */
  #nextFile(): { number: number; file: RecordingFile | null } {
    const { folder, keep, most = largestAttempt } = this.#options;
    let number = 0;
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      const numbers = readdirSync(folder).flatMap((name) => fileName.exec(name)?.[1] ?? []);
      number = Math.max(0, ...numbers.map(Number)) + 1;
      for (const old of numbers.filter((name) => Number(name) <= number - keep))
        rmSync(join(folder, `attempt-${old}.jsonl`), { force: true });
      const name = `attempt-${String(number).padStart(6, '0')}.jsonl`;
      return { number, file: new RecordingFile(join(folder, name), { most }) };
    } catch {
      return { number, file: null };
    }
  }

  #end(): void {
    this.#detach?.();
    this.#detach = null;
    this.#sink = null;
    const closing = this.#file?.close();
    this.#file = null;
    if (!closing) return;
    this.#closing.add(closing);
    void closing.finally(() => this.#closing.delete(closing));
  }
}
