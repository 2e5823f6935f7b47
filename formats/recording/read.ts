// Lines of text → lines of a recording. Whoever made the file is not believed: every length and count is bounded, every
// field that is used later is checked here, and whatever is wrong is named with its line.
import { type Header, type Kind, type Line, limits, RecordingError, recordingVersion } from './format.ts';
import { type Loose, type Steps, upgradeFrom } from './upgrade.ts';

export interface Recording {
  header: Header;
  /** Version of the file, before it was upgraded. */
  version: number;
  lines: Line[];
  /** What a person should know: a last line that was cut off. */
  notes: string[];
}

type Check = (value: unknown) => boolean;

const text: Check = (value) => typeof value === 'string';
const number: Check = (value) => typeof value === 'number' && Number.isFinite(value);
const flag: Check = (value) => typeof value === 'boolean';
const object: Check = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const texts: Check = (value) => Array.isArray(value) && value.every(text);
const state: Check = (value) => text(value) || object(value);
const event: Check = (value) => object(value) && text((value as Loose).type);
const optional =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);
const transitions: Check = (value) =>
  Array.isArray(value) &&
  value.every((one) => {
    const { from, event: type, to, actions } = (object(one) ? one : {}) as Loose;
    return text(from) && text(type) && texts(to) && texts(actions);
  });
const anything: Check = () => true;

const place = { n: number, at: number, mono: number, component: text, device: optional(text) };

/** The fields of each kind of line. */
const shapes: Record<Kind, Record<string, Check>> = {
  chart: { chart: text, hash: text, definition: object },
  device: { device: text },
  actor: {
    actor: text,
    chart: text,
    hash: text,
    restored: flag,
    input: anything,
    value: state,
    context: object,
  },
  event: { actor: text, event },
  microstep: { actor: text, transitions },
  action: { actor: text, action: text, params: anything },
  invoke: { actor: text, id: text, port: text, input: anything },
  snapshot: { actor: text, status: text, value: state, context: object, removed: optional(texts) },
  stop: { actor: text },
  message: {
    link: (value) => value === 'bus' || value === 'mqtt',
    direction: (value) => value === 'up' || value === 'down' || value === 'shown',
    topic: text,
    size: number,
    body: anything,
    frame: optional(object),
    bytes: optional(text),
    withheld: optional(texts),
  },
  tpm: { command: text, handles: texts, code: text, ms: number },
  power: { on: flag, reason: text },
  boot: { id: text, image: text, slot: text },
  link: { up: flag, why: (value) => value === null || text(value) },
  fault: { code: text, text },
  evidence: { attempt: text, judged: number, bytes: optional(text), basis: object, verdict: object },
  blob: { sha256: text, bytes: text },
  dropped: { lines: number, why: text },
};

const required = Object.fromEntries(
  Object.entries(shapes).map(([kind, fields]) => [kind, Object.entries({ ...place, ...fields })]),
) as unknown as Record<Kind, [string, Check][]>;

/** How a recorder begins a line; its kind is the first group. */
const beginning = /^\{"n":\d+,"at":[\d.]+,"mono":[\d.]+,"component":"[^"\\]*","kind":"(\w+)"/;

/** Reads a recording piece by piece, as it arrives. */
export class RecordingReader {
  readonly #through: { steps: Steps; version: number } | undefined;
  readonly #passOver: ReadonlySet<string>;
  #rest = '';
  #count = 0;
  #last = -1;
  #upgrade: ReturnType<typeof upgradeFrom> | null = null;

  /** @param passOver kinds of lines that are left out without being read, where that can be told from their beginning */
  constructor(through?: { steps: Steps; version: number }, passOver: ReadonlySet<Kind> = new Set()) {
    this.#through = through;
    this.#passOver = passOver;
  }

  /** null until the first line was read. */
  get header(): Header | null {
    return this.#upgrade?.header ?? null;
  }

  /** Version of the file; 0 until the first line was read. */
  get version(): number {
    return this.#upgrade?.from ?? 0;
  }

  /** The lines that this piece completes. Throws RecordingError. */
  push(piece: string): Line[] {
    const lines: Line[] = [];
    const parts = (this.#rest + piece).split('\n');
    this.#rest = parts.pop() ?? '';
    for (const part of parts) this.#take(part, lines);
    if (this.#rest.length > limits.line) throw this.#oversize(this.#count + 1);
    return lines;
  }

  /** The last line where it has no end, and what is to be said about it. Throws RecordingError none. */
  end(): { lines: Line[]; notes: string[] } {
    const lines: Line[] = [];
    const rest = this.#rest;
    this.#rest = '';
    if (rest.trim() !== '') {
      const whole = wholeLine(rest);
      if (!whole && this.#upgrade)
        return { lines, notes: [`line ${this.#count + 1} is cut off; everything before it is here`] };
      this.#take(rest, lines);
    }
    if (!this.#upgrade) throw new RecordingError('none', 0, 'this is no recording: it is empty');
    return { lines, notes: [] };
  }

  #take(part: string, into: Line[]): void {
    this.#count++;
    if (part.length > limits.line) throw this.#oversize(this.#count);
    if (part === '' || part === '\r') return;
    if (this.#count > limits.lines)
      throw new RecordingError('oversize', this.#count, `a recording has ${limits.lines} lines at most`);
    if (this.#passOver.size > 0 && this.#upgrade?.from === recordingVersion) {
      if (this.#passOver.has(beginning.exec(part)?.[1] ?? '') && part.endsWith('}')) return;
    }
    const value = wholeLine(part);
    if (!this.#upgrade) {
      this.#upgrade = upgradeFrom(value ?? {}, this.#through);
      const { device, by, made } = this.#upgrade.header;
      if (!text(device) || !text(by) || !number(made)) throw this.#malformed('the first line lacks a field');
      return;
    }
    if (!value) throw this.#malformed('no JSON object');
    for (const line of this.#upgrade.line(value)) into.push(this.#checked(line));
  }

  #checked(line: Loose): Line {
    const fields = Object.hasOwn(required, String(line.kind)) ? required[line.kind as Kind] : undefined;
    if (!fields) throw this.#malformed(`there is no kind of line ${JSON.stringify(line.kind)?.slice(0, 40)}`);
    for (const [name, check] of fields) {
      if (!check(Object.hasOwn(line, name) ? line[name] : undefined))
        throw this.#malformed(`a ${String(line.kind)} without a proper ${name}`);
    }
    const checked = line as unknown as Line;
    if (checked.n <= this.#last) throw this.#malformed(`number ${checked.n} comes after ${this.#last}`);
    this.#last = checked.n;
    const { header } = this;
    if (checked.kind === 'device' && header?.device === '') header.device = checked.device;
    return checked;
  }

  #malformed(what: string): RecordingError {
    return new RecordingError(
      'malformed',
      this.#count,
      `line ${this.#count} is not as it should be: ${what}`,
    );
  }

  #oversize(line: number): RecordingError {
    return new RecordingError('oversize', line, `line ${line} is longer than ${limits.line} characters`);
  }
}

/** Reads a whole recording. Throws RecordingError. */
export function readRecording(
  whole: string,
  through: { steps: Steps; version: number } | undefined = undefined,
): Recording {
  const reader = new RecordingReader(through);
  const lines = reader.push(whole);
  const { lines: last, notes } = reader.end();
  const version = reader.version;
  const older =
    version < (through?.version ?? recordingVersion) ? [`made by version ${version} of the format`] : [];
  return {
    header: reader.header as Header,
    version,
    lines: last.length > 0 ? [...lines, ...last] : lines,
    notes: [...older, ...notes],
  };
}

function wholeLine(part: string): Loose | null {
  try {
    const value: unknown = JSON.parse(part);
    return object(value) ? (value as Loose) : null;
  } catch {
    return null;
  }
}
