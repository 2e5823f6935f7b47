// A line of a recording as an arrow of a message chart: from whom, to whom, and in a few words what.
import type { Line } from '../formats/recording/format.ts';
import { keyOf } from '../formats/recording/playback.ts';
import { refusalOf } from './refusal.ts';
import { eventText, shorten } from './text.ts';
import type { Track } from './track.ts';

export type ArrowKind = 'mqtt' | 'bus' | 'event' | 'port' | 'tpm' | 'mark';

export interface Arrow {
  kind: ArrowKind;
  /** Names of lifelines; the same for what a component does by itself. */
  from: string;
  to: string;
  /** The lifeline in between that passes it on. */
  via?: string;
  text: string;
  /** What is said beside the text. */
  more: string;
  weight: 'refused' | 'trouble' | null;
}

export const arrowKinds: readonly { kind: ArrowKind; label: string; usual: boolean }[] = [
  { kind: 'mqtt', label: 'EVE ↔ EVC', usual: true },
  { kind: 'bus', label: 'bus', usual: false },
  { kind: 'event', label: 'events', usual: true },
  { kind: 'port', label: 'ports', usual: true },
  { kind: 'tpm', label: 'TPM', usual: false },
  { kind: 'mark', label: 'marks', usual: true },
];

export const broker = 'broker';
export const evc = 'EVC';
export const wholeDevice = 'EVE';
const recordComponent = 'device-record';

/** Who of a device has which business with EVC. */
const owners: Readonly<Record<string, string>> = {
  certs: 'client',
  register: 'client',
  uuid: 'client',
  attest: 'attest-task',
  config: 'config-task',
  info: 'info-task',
  push: 'config-task',
};

/** Internal to a chart: its own clock and its start. */
const internal = /^xstate\.(init|stop|after)/;

/** null for a line that is no arrow. */
export function arrowOf(line: Line, track: Track): Arrow | null {
  const weight = refusalOf(line)?.weight ?? null;
  const me = lifelineOf(line);
  const self = { from: me, to: me, weight };
  switch (line.kind) {
    case 'message':
      return line.link === 'mqtt' ? mqttArrow(line, track, weight) : busArrow(line, weight);
    case 'event':
      return eventArrow(line, me, weight);
    case 'invoke':
      if (line.port === 'sleepUntil') return null;
      return { ...self, kind: 'port', text: line.port, more: '' };
    case 'action':
      if (line.action === 'ignored' || line.action.endsWith('Timer')) return null;
      return { ...self, kind: 'port', text: line.action, more: '' };
    case 'tpm':
      return {
        ...self,
        kind: 'tpm',
        text: line.command,
        more: `${line.code.replace('TPM_RC_SUCCESS', '✓')} ${line.ms.toFixed(1)} ms`,
      };
    case 'evidence':
      return {
        ...self,
        kind: 'mark',
        text: weight ? 'evidence refused' : 'evidence accepted',
        more: refusalOf(line)?.code ?? '',
      };
    case 'power':
      return { ...self, kind: 'mark', text: line.on ? 'power on' : 'power off', more: line.reason };
    case 'boot':
      return { ...self, kind: 'mark', text: `boots ${shorten(line.image, 40)}`, more: line.slot };
    case 'link':
      return { ...self, kind: 'mark', text: line.up ? 'link up' : 'link down', more: line.why ?? '' };
    case 'fault':
      return { ...self, kind: 'mark', text: line.code, more: line.text };
    case 'dropped':
      return { ...self, kind: 'mark', text: `${line.lines} lines are missing`, more: line.why };
    default:
      return null;
  }
}

/** The lifeline that a line belongs to. */
export function lifelineOf(line: Line): string {
  if (line.component === recordComponent || line.component === 'mqtt') return evc;
  if (line.kind === 'tpm') return 'TPM';
  if (line.component === 'recorder' || line.component === 'uplink') return 'board';
  return keyOf(line);
}

function mqttArrow(line: Extract<Line, { kind: 'message' }>, track: Track, weight: Arrow['weight']): Arrow {
  const endpoint = endpointOf(line.topic);
  const owner = owners[endpoint] ?? '';
  const device = track.running.has(owner) ? owner : wholeDevice;
  const up = line.direction === 'up';
  const status = line.frame && !up ? ` ${line.frame.status}` : '';
  const type = bodyType(line.body);
  return {
    kind: 'mqtt',
    from: up ? device : evc,
    to: up ? evc : device,
    via: broker,
    text: `${endpoint}${type === '' ? '' : ` ${type}`}${line.frame?.status ? status : ''}`,
    more: '',
    weight,
  };
}

function busArrow(line: Extract<Line, { kind: 'message' }>, weight: Arrow['weight']): Arrow {
  const [from = '', type = ''] = line.topic.split('/');
  const { state, status } = (line.body ?? {}) as { state?: unknown; status?: unknown };
  const more = typeof state === 'string' ? state : typeof status === 'string' ? status : '';
  return { kind: 'bus', from, to: 'bus', text: shorten(type, 48), more: shorten(more, 40), weight };
}

function eventArrow(
  line: Extract<Line, { kind: 'event' }>,
  me: string,
  weight: Arrow['weight'],
): Arrow | null {
  const { type } = line.event;
  if (internal.test(type) || type.endsWith('.actor.wait')) return null;
  const more = weight ? (refusalOf(line)?.code ?? '') : '';
  if (type.startsWith('xstate.'))
    return { kind: 'port', from: me, to: me, text: eventText(type), more, weight };
  return { kind: 'event', from: me, to: me, text: shorten(type, 60), more, weight };
}

/** `eve/v2/{device}/up/{endpoint}/{request}`; a topic of somebody else is its own last word. */
function endpointOf(topic: string): string {
  const parts = topic.split('/');
  return shorten(parts[4] ?? parts.at(-1) ?? topic, 40);
}

/** The kind of request that a body is, where one is told apart: ATTEST_REQ_NONCE is `nonce`. */
function bodyType(body: unknown): string {
  const { reqType, respType, key } = (body ?? {}) as Record<string, unknown>;
  const name = [reqType, respType, key].find((one) => typeof one === 'string');
  if (typeof name !== 'string') return '';
  return shorten(
    name
      .replace(/^ATTEST_(REQ|RESP)_/, '')
      .toLowerCase()
      .replaceAll('_', ' '),
    24,
  );
}

/** The arrows of a track of the kinds that are wanted: made once for each line, and again only for new ones. */
export class Arrows {
  readonly #track: Track;
  readonly #wanted: ReadonlySet<ArrowKind>;
  readonly #lifelines: ReadonlySet<string> | null;
  readonly #search: string;
  /** Indices of lines. */
  readonly rows: number[] = [];
  #read = 0;

  constructor(track: Track, wanted: ReadonlySet<ArrowKind>, hidden: ReadonlySet<string>, search: string) {
    this.#track = track;
    this.#wanted = wanted;
    this.#lifelines = hidden.size > 0 ? hidden : null;
    this.#search = search.toLowerCase();
  }

  get track(): Track {
    return this.#track;
  }

  update(): void {
    const { lines } = this.#track;
    for (; this.#read < lines.length; this.#read++) {
      const arrow = arrowOf(lines[this.#read] as Line, this.#track);
      if (!arrow || !this.#wanted.has(arrow.kind)) continue;
      if (this.#lifelines?.has(arrow.from) && this.#lifelines.has(arrow.to)) continue;
      if (
        this.#search !== '' &&
        !`${arrow.text} ${arrow.more} ${arrow.from} ${arrow.to}`.toLowerCase().includes(this.#search)
      )
        continue;
      this.rows.push(this.#read);
    }
  }
}

/** The lifelines that arrows of these kinds have in a track: from the board over the components to EVC. */
export function lifelines(track: Track, wanted: ReadonlySet<ArrowKind>): string[] {
  const charts = [...track.running.keys()].filter((key) => !key.endsWith(recordComponent));
  const seen = new Set<string>(charts);
  // The first lines show who takes part; whoever comes later has a chart.
  for (const line of track.lines.slice(0, 20_000)) {
    const arrow = arrowOf(line, track);
    if (!arrow || !wanted.has(arrow.kind)) continue;
    seen.add(arrow.from);
    seen.add(arrow.to);
    if (arrow.via) seen.add(arrow.via);
  }
  if (track.running.has(recordComponent)) seen.add(evc);
  const last = ['bus', broker, evc];
  const others = [...seen].filter((name) => !charts.includes(name) && !last.includes(name));
  const order = (name: string) => ['board', 'TPM', wholeDevice].indexOf(name);
  others.sort((a, b) => order(a) - order(b));
  return [...others, ...charts, ...last.filter((name) => seen.has(name))].slice(0, 40);
}
