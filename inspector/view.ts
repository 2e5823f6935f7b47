// What a view is, and what it is given. The address is the view: everything that a view shows of its own stands behind the #.
import type { Model } from './model.ts';
import type { Server } from './source.ts';
import type { Track } from './track.ts';

export type ViewName =
  | 'devices'
  | 'device'
  | 'charts'
  | 'sequence'
  | 'timeline'
  | 'evidence'
  | 'recordings'
  | 'rollouts'
  | 'images'
  | 'audit'
  | 'trials'
  | 'accounts';

export interface View {
  element: HTMLElement;
  /** The model or the address changed. Called once a frame at the most. */
  update(): void;
  /** A key that nobody else took; true when it is taken. */
  key?(event: KeyboardEvent): boolean;
  close?(): void;
}

export interface Page {
  model: Model;
  server: Server;
  address: URLSearchParams;
  /** Changes the address: these fields, or with `null` without them. */
  go(fields: Record<string, string | null>): void;
  /** Looks at a device of EVC. */
  openDevice(id: string): void;
  /** Looks at a recording. */
  openTrack(track: Track): void;
  /** Reads dropped files. */
  openFiles(files: Iterable<File>): Promise<void>;
  say(text: string, weight?: 'refused' | 'trouble'): void;
  /** The words for which is searched, in lower case. */
  search(): string;
}
