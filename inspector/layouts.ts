// Layouts of charts, each made once for its definition: in a worker, or where there can be none in the page.
import type { ChartLayout } from './chart/layout.ts';
import { el } from './element.ts';

const script = 'layout-worker.js';
/** Characters of a definition, states, and characters of a name; larger ones are nothing that a person could read. */
const largest = 1_000_000;
const mostStates = 600;
const longestName = 160;
/** ms; a chart that takes longer is given up. */
const patience = 20_000;

type Here = typeof globalThis & { layoutOf?: (definition: object) => Promise<ChartLayout> };

const made = new Map<string, Promise<ChartLayout>>();
const waiting = new Map<number, { resolve(layout: ChartLayout): void; reject(error: Error): void }>();
let worker: Worker | null | undefined;
let count = 0;

/** Rejects with what is wrong with it, for a person. */
export function layoutOf(hash: string, definition: object): Promise<ChartLayout> {
  const known = made.get(hash);
  if (known) return known;
  const layout = checked(definition).then((good) => (started() ? inWorker(good) : inPage(good)));
  made.set(hash, layout);
  return layout;
}

async function checked(definition: object): Promise<object> {
  const text = JSON.stringify(definition);
  if (text.length > largest) throw new Error(`its definition has ${text.length} characters`);
  let states = 0;
  const walk = (node: unknown, depth: number): void => {
    const { id, key, states: inner, transitions } = (node ?? {}) as Record<string, unknown>;
    if (typeof id !== 'string' || typeof key !== 'string' || !Array.isArray(transitions))
      throw new Error('its definition is none of XState');
    if (key.length > longestName) throw new Error(`the name of a state has ${key.length} characters`);
    if (++states > mostStates || depth > 24)
      throw new Error(`it has more than ${mostStates} states, or they are nested too deeply`);
    for (const child of Object.values((inner ?? {}) as object)) walk(child, depth + 1);
  };
  walk(definition, 0);
  return definition;
}

function started(): Worker | null {
  if (worker !== undefined) return worker;
  worker = null;
  if (!location.protocol.startsWith('http')) return worker;
  try {
    worker = new Worker(script);
    worker.onmessage = ({ data }: MessageEvent<{ id: number; layout?: ChartLayout; error?: string }>) => {
      const asked = waiting.get(data.id);
      waiting.delete(data.id);
      if (data.layout) asked?.resolve(data.layout);
      else asked?.reject(new Error(data.error ?? 'unknown'));
    };
  } catch {
    worker = null;
  }
  return worker;
}

function inWorker(definition: object): Promise<ChartLayout> {
  return new Promise((resolve, reject) => {
    const id = ++count;
    waiting.set(id, { resolve, reject });
    worker?.postMessage({ id, definition });
    setTimeout(() => {
      if (waiting.delete(id)) reject(new Error('it takes too long to lay out'));
    }, patience);
  });
}

async function inPage(definition: object): Promise<ChartLayout> {
  const here = globalThis as Here;
  if (!here.layoutOf) {
    await new Promise<void>((resolve, reject) => {
      const tag = el('script', {
        src: script,
        onload: () => resolve(),
        onerror: () => reject(new Error(`${script} is not beside the page`)),
      });
      document.head.append(tag);
    });
  }
  if (!here.layoutOf) throw new Error(`${script} is another one`);
  return here.layoutOf(definition);
}
