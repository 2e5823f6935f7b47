// The other thread of threaded.ts: the store, which answers what it is asked in the order in which it is done.
import { parentPort, workerData } from 'node:worker_threads';
import { LibsqlStore } from './libsql.ts';

export interface Ask {
  n: number;
  /** Of LibsqlStore, or `opened`. */
  method: string;
  values: unknown[];
}

export interface Failure {
  name: string;
  code: string;
  message: string;
}

export interface Answer {
  n: number;
  value?: unknown;
  failure?: Failure;
}

const port = parentPort;
if (!port) throw new TypeError('serve.ts runs on a thread');

let answers: Answer[] = [];

function answer(one: Answer): void {
  answers.push(one);
  // One commit answers many. What was only read is answered before the next commit begins.
  if (answers.length === 1)
    process.nextTick(() => {
      port?.postMessage(answers);
      answers = [];
    });
}

function failureOf(error: unknown): Failure {
  const { name = 'Error', code = '', message = String(error) } = error as Partial<Failure>;
  return { name, code, message };
}

let store: LibsqlStore | null = null;
let refusal: Failure | null = null;
try {
  store = LibsqlStore.open((workerData as { path: string }).path);
} catch (error) {
  refusal = failureOf(error);
}

async function carriedOut({ n, method, values }: Ask): Promise<Answer> {
  if (!store) return { n, failure: refusal as Failure };
  if (method === 'opened') return { n };
  try {
    const work = store[method as keyof LibsqlStore] as (...values: unknown[]) => Promise<unknown>;
    return { n, value: await work.apply(store, values) };
  } catch (error) {
    return { n, failure: failureOf(error) };
  }
}

port.on('message', (asks: readonly Ask[]) => {
  for (const ask of asks) void carriedOut(ask).then(answer);
});
