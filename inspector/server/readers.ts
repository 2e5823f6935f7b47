// Lines of a recording to whoever reads along over HTTP. Nobody who reads slowly is waited for: beyond a bounded backlog lines
// are dropped for that reader, and it is told how many.
import type { ServerResponse } from 'node:http';
import { type Line, recordingFormat, recordingVersion } from '../../formats/recording/format.ts';
import { Pieces } from '../../formats/recording/pieces.ts';
import type { Sink } from '../../formats/recording/recorder.ts';

/** What a recorder tells its lines to. */
export type LineSink = Pick<Sink, 'line' | 'late'> & { room(): boolean };

export const recordingType = 'application/x-ndjson';
/** Characters that may wait for a slow reader. */
export const backlog = 1024 * 1024;
/** What a person does not see, ms: lines go out together. */
const delay = 40;
/** An empty line now and then, so that whatever stands between does not take the silence for an end, ms. */
const pulse = 15_000;
/** ms from the end of an answer to that of its connection. */
const lingering = 1000;

/** Begins an answer that has no end; the sink writes to it. `gone` is called when the reader is. */
export function streamTo(
  response: ServerResponse,
  headers: Readonly<Record<string, string>>,
  gone: () => void,
): LineSink {
  response.writeHead(200, { ...headers, 'content-type': recordingType, 'cache-control': 'no-store' });
  response.flushHeaders();
  const pieces = new Pieces((piece, done) => void response.write(piece, done), delay);
  const room = () => pieces.weight < backlog;
  const timer = setInterval(() => pieces.weight === 0 && response.write('\n'), pulse);
  timer.unref();
  // What is on its way when it is hung up is written after its end.
  response.on('error', () => response.destroy());
  response.once('close', () => {
    clearInterval(timer);
    gone();
  });
  return { line: (text) => pieces.line(text), late: (line) => pieces.late(line), room };
}

/** Ends an answer that has no end; a reader that does not read the rest of it is not waited for. */
export function hangUp(response: ServerResponse): void {
  response.end();
  setTimeout(() => response.destroy(), lingering).unref();
}

/** Lines that come from elsewhere, told to every reader: those that say how things stand first. */
export class Readers {
  readonly #by: string;
  readonly #sinks = new Map<LineSink, number>();
  /** The charts and actors of guests, and where they stand: for a reader that comes later. */
  readonly #standing = new Map<string, Line>();
  #n = 0;

  constructor(by: string) {
    this.#by = by;
  }

  get count(): number {
    return this.#sinks.size;
  }

  add(line: Line): void {
    this.#keep(line);
    for (const sink of this.#sinks.keys()) this.#tell(sink, line);
  }

  attach(sink: LineSink, now: number): () => void {
    sink.line(
      JSON.stringify({
        recording: recordingFormat,
        version: recordingVersion,
        made: now,
        by: this.#by,
        device: '',
      }),
    );
    for (const line of this.#standing.values()) this.#tell(sink, line, false);
    this.#sinks.set(sink, 0);
    return () => this.#sinks.delete(sink);
  }

  #tell(sink: LineSink, line: Line, counted = true): void {
    const missed = this.#sinks.get(sink) ?? 0;
    if (counted && !sink.room()) {
      this.#sinks.set(sink, missed + 1);
      return;
    }
    if (missed > 0) {
      this.#sinks.set(sink, 0);
      const { at, mono } = line;
      const why = 'the reader was too slow';
      sink.line(
        JSON.stringify({
          n: this.#n++,
          at,
          mono,
          component: 'recorder',
          kind: 'dropped',
          lines: missed,
          why,
        }),
      );
      for (const one of this.#standing.values()) sink.line(JSON.stringify({ ...one, n: this.#n++ }));
      return;
    }
    sink.line(JSON.stringify({ ...line, n: this.#n++ }));
  }

  #keep(line: Line): void {
    if (line.kind === 'chart') this.#standing.set(`chart ${line.hash}`, line);
    else if (line.kind === 'actor') this.#standing.set(`actor ${line.actor}`, line);
    else if (line.kind === 'snapshot') {
      const begun = this.#standing.get(`actor ${line.actor}`);
      if (begun?.kind !== 'actor') return;
      const context = { ...begun.context, ...line.context };
      for (const name of line.removed ?? []) delete context[name];
      this.#standing.set(`actor ${line.actor}`, { ...begun, value: line.value, context, restored: true });
    } else if (line.kind === 'stop') {
      const begun = this.#standing.get(`actor ${line.actor}`);
      if (begun?.kind === 'actor') this.#standing.delete(`chart ${begun.hash}`);
      this.#standing.delete(`actor ${line.actor}`);
    }
  }
}
