// One model for all views: what is looked at (a recording from a file, or one that is made right now), and where in it.
// Views ask for it and are told when it changes, once a frame at the most.
import { RecordingError } from '../formats/recording/format.ts';
import { RecordingReader } from '../formats/recording/read.ts';
import { byteSize } from './text.ts';
import { Track } from './track.ts';

/** A file larger than this is not read, bytes. */
const largestFile = 512 * 1024 * 1024;
/** Lines of a live recording after which it begins anew, so that a page may stay open for weeks. */
export const mostLiveLines = 250_000;
/** ms between two steps at normal speed, where they happened at the same time, and where they did not. */
const shortestPause = 120;
const longestPause = 1500;

export class Model {
  track: Track | null = null;
  /** Every recording that was opened, newest last. */
  readonly opened: Track[] = [];
  /** Index of the line after which everything is shown. */
  at = -1;
  /** The newest line is the one that is shown. */
  following = false;
  playing = false;
  /** How many times as fast as it happened. */
  speed = 1;
  readonly #listeners = new Set<() => void>();
  readonly #schedule: (work: () => void) => void;
  #pending = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param schedule calls back at the next frame */
  constructor(schedule: (work: () => void) => void) {
    this.#schedule = schedule;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  changed(): void {
    if (this.#pending) return;
    this.#pending = true;
    this.#schedule(() => {
      this.#pending = false;
      for (const listener of this.#listeners) listener();
    });
  }

  show(track: Track | null): void {
    this.pause();
    this.track = track;
    this.following = track?.live ?? false;
    this.at = track ? track.lines.length - 1 : -1;
    if (track && !track.live && !this.opened.includes(track)) this.opened.push(track);
    this.changed();
  }

  /** Lines have arrived in a track. */
  grown(track: Track): void {
    if (track === this.track && this.following) this.at = track.lines.length - 1;
    if (track === this.track) this.changed();
  }

  seek(index: number): void {
    const { track } = this;
    if (!track) return;
    this.at = Math.max(0, Math.min(index, track.lines.length - 1));
    this.following = false;
    this.changed();
  }

  /** Back to what happens now. */
  follow(): void {
    if (!this.track) return;
    this.pause();
    this.at = this.track.lines.length - 1;
    this.following = this.track.live;
    this.changed();
  }

  /** To the step after or before; whether there was one. */
  step(direction: 1 | -1): boolean {
    const next = neighbour(this.track?.steps ?? [], this.at, direction);
    if (next === undefined) return false;
    this.seek(next);
    return true;
  }

  /** To the next refusal, and from the last one to the first. */
  nextRefusal(): boolean {
    const { track } = this;
    const refused = track?.refusals.filter((index) => track.refusal(index)?.weight === 'refused') ?? [];
    const next = neighbour(refused, this.at, 1) ?? refused[0];
    if (next === undefined) return false;
    this.pause();
    this.seek(next);
    return true;
  }

  play(): void {
    const { track } = this;
    if (!track || this.playing) return;
    if (neighbour(track.steps, this.at, 1) === undefined) this.seek(0);
    this.playing = true;
    this.following = false;
    this.#tick();
    this.changed();
  }

  pause(): void {
    clearTimeout(this.#timer);
    if (!this.playing) return;
    this.playing = false;
    this.changed();
  }

  #tick(): void {
    const { track } = this;
    const next = neighbour(track?.steps ?? [], this.at, 1);
    if (!track || next === undefined) {
      this.pause();
      return;
    }
    const gap = (track.lines[next]?.at ?? 0) - (track.lines[this.at]?.at ?? 0);
    const pause = Math.min(longestPause, Math.max(shortestPause, gap)) / this.speed;
    this.#timer = setTimeout(() => {
      this.seek(next);
      this.#tick();
    }, pause);
  }
}

/** The first element after a place in a rising list, or the last one before it. */
function neighbour(rising: readonly number[], at: number, direction: 1 | -1): number | undefined {
  let low = 0;
  let high = rising.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const value = rising[middle] as number;
    if (direction === 1 ? value <= at : value < at) low = middle + 1;
    else high = middle;
  }
  return rising[direction === 1 ? low : low - 1];
}

/** What can be read piece by piece: a dropped file, an answer of a server. */
export interface Source {
  name: string;
  size: number;
  pieces: AsyncIterable<string>;
}

/** Reads a recording; `progress` is told the characters that were read. Rejects with RecordingError. */
export async function readTrack(source: Source, progress: (read: number) => void = () => {}): Promise<Track> {
  if (source.size > largestFile) {
    const most = byteSize(largestFile);
    throw new RecordingError('oversize', 0, `${byteSize(source.size)} are too much; a file may have ${most}`);
  }
  const track = new Track(source.name, false);
  const reader = new RecordingReader();
  let read = 0;
  for await (const piece of source.pieces) {
    track.add(reader.push(piece));
    read += piece.length;
    progress(read);
  }
  const { lines, notes } = reader.end();
  track.add(lines);
  track.notes = notes;
  track.header = reader.header;
  return track;
}

/** Reads what arrives into a track as it comes. Resolves at the end of it; rejects with RecordingError. */
export async function readLive(
  pieces: AsyncIterable<string>,
  begin: () => Track,
  grown: (track: Track) => void,
): Promise<void> {
  const reader = new RecordingReader();
  const track = begin();
  for await (const piece of pieces) {
    track.add(reader.push(piece));
    track.header = reader.header;
    grown(track);
    if (track.lines.length > mostLiveLines) return;
  }
}
