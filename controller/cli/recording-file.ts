// Recordings in files and folders: read line by line, unpacked where they are gzip, bounded.
import { createReadStream, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { constants, createGunzip } from 'node:zlib';
import { type Header, type Kind, type Line, RecordingError } from '../../formats/recording/format.ts';
import { RecordingReader } from '../../formats/recording/read.ts';
import { Failure } from './failure.ts';
import { nameOf, unusable } from './input.ts';

const endings = /\.jsonl(?:\.gz)?$/;
/** Bytes once unpacked. */
const largest = 2 * 1024 ** 3;

/** The files that these paths name, folders by what is in them, in order. Throws Failure input.unreadable. */
export function recordingFiles(paths: readonly string[]): string[] {
  return paths.flatMap((path) => {
    if (path === '-') return [path];
    try {
      if (!statSync(path).isDirectory()) return [path];
      const inside = (readdirSync(path, { recursive: true }) as string[]).filter((name) =>
        endings.test(name),
      );
      if (inside.length === 0)
        throw unusable(`there is no recording in ${path}`, {
          code: 'input.unreadable',
          hint: 'recordings end in .jsonl or .jsonl.gz',
        });
      return inside.sort().map((name) => join(path, name));
    } catch (error) {
      throw asFailure(path, error);
    }
  });
}

export interface ReadEnd {
  header: Header;
  version: number;
  notes: string[];
}

/**
 * Reads a recording; `take` gets its lines in pieces, and ends the reading with true. Rejects with Failure recording.*,
 * input.unreadable, input.too-large.
 */
export async function readRecordingFile(
  path: string,
  take: (lines: Line[]) => boolean | undefined,
  passOver?: ReadonlySet<Kind>,
): Promise<ReadEnd> {
  const reader = new RecordingReader(undefined, passOver);
  try {
    for await (const piece of textOf(path)) {
      if (take(reader.push(piece)) === true) return endOf(reader, []);
    }
    const { lines, notes } = reader.end();
    take(lines);
    return endOf(reader, notes);
  } catch (error) {
    throw asFailure(path, error);
  }
}

function endOf(reader: RecordingReader, notes: string[]): ReadEnd {
  return { header: reader.header as Header, version: reader.version, notes };
}

async function* textOf(path: string): AsyncGenerator<string> {
  const source: Readable = path === '-' ? process.stdin : createReadStream(path);
  const chunks = (source as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  const first = await chunks.next();
  const whole = async function* () {
    for (let next = first; !next.done; next = await chunks.next()) yield next.value;
  };
  const packed = !first.done && first.value[0] === 0x1f && first.value[1] === 0x8b;
  const decoder = new TextDecoder();
  let size = 0;
  for await (const chunk of packed ? unpacked(whole()) : whole()) {
    size += chunk.length;
    if (size > largest)
      throw unusable(`${nameOf(path)} has more than ${largest} bytes`, { code: 'input.too-large' });
    yield decoder.decode(chunk, { stream: true });
  }
}

/** What was packed by a process that was killed ends without an end: everything before it counts. */
function unpacked(chunks: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  const gunzip = createGunzip({ finishFlush: constants.Z_SYNC_FLUSH });
  const source = Readable.from(chunks);
  source.once('error', (error) => gunzip.destroy(error));
  return source.pipe(gunzip);
}

function asFailure(path: string, cause: unknown): Failure {
  if (cause instanceof Failure) return cause;
  if (cause instanceof RecordingError) {
    const { code, message } = cause;
    return unusable(`${nameOf(path)}: ${message}`, {
      code: codes[code],
      hint: hints[code] ?? '',
      cause,
    });
  }
  const { message } = cause as Error;
  return unusable(`${nameOf(path)} cannot be read: ${message}`, { code: 'input.unreadable', cause });
}

const codes: Record<RecordingError['code'], string> = {
  none: 'recording.none',
  newer: 'recording.newer',
  malformed: 'recording.malformed',
  oversize: 'recording.oversize',
};

const hints: Partial<Record<RecordingError['code'], string>> = {
  none: 'recordings are made by evc record, evc attempt show and eve run --record',
  malformed: 'it was changed since it was recorded; record it again',
};
