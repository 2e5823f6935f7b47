// A store in a file whose engine works on a thread of its own: what waits for the disk there holds up nobody here.
import type { Worker } from 'node:worker_threads';
import { startThread } from '../thread.ts';
import { knownDocuments } from './known-documents.ts';
import { LibsqlStore } from './libsql.ts';
import { alone, prepared } from './prepared.ts';
import type { Answer, Ask, Failure } from './serve.ts';
import {
  type DocumentKind,
  type Step,
  StepConflict,
  type Store,
  StoreError,
  type TimerRow,
  TimerTaken,
} from './store.ts';

/** Asks that wait for the end of a turn of the event loop at the most: in a long turn the other thread would have nothing to do. */
const mostAtOnce = 32;
/** Tries of an update whose document somebody changes meanwhile, each time. */
const updateTries = 1000;

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
  step: Pick<Step, 'device' | 'timer'> | null;
}

type Methods = { [Name in keyof LibsqlStore]: LibsqlStore[Name] };

/** Opens the file, or makes it. Rejects with StoreError version, broken, taken. */
export async function openThreaded(path: string): Promise<Store> {
  const thread = await Thread.start(path);
  const ask =
    (method: string) =>
    (...values: unknown[]) =>
      thread.ask(method, ...values);
  const methods = Object.getOwnPropertyNames(LibsqlStore.prototype).filter((name) => name !== 'constructor');
  const plain = Object.fromEntries(methods.map((name) => [name, ask(name)])) as unknown as Methods;
  const commit: Store['commit'] = (step) => thread.write(step);
  const update: Store['update'] = (kind, id, change) => updated(plain, kind, id, change);
  const close: Store['close'] = () => thread.close();
  // Texts go to another thread in less time than what they say.
  const load: Store['load'] = async (device) => {
    const text = await plain.recordText(device);
    return text && { ...text, snapshot: JSON.parse(text.snapshot) as object };
  };
  return { ...plain, load, commit, close, ...knownDocuments({ ...plain, update }) };
}

/** A change is a function, which stays here: it is made again when somebody else was faster. */
async function updated<Body extends object>(
  store: Pick<LibsqlStore, 'text' | 'replace'>,
  kind: DocumentKind,
  id: string,
  change: (body: Body | null) => Body,
): Promise<Body> {
  for (let tries = 0; tries < updateTries; tries++) {
    const was = await store.text(kind, id);
    const body = change(was === null ? null : (JSON.parse(was) as Body));
    if (await store.replace(kind, id, was, JSON.stringify(body))) return body;
  }
  throw new Error(`${kind} ${id} was changed ${updateTries} times meanwhile`);
}

class Thread {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #n = 0;
  /** What is asked in one turn of the event loop goes over together. */
  #asked: Ask[] = [];
  #ended: Error | null = null;

  /** Rejects with what is wrong with the file. */
  static async start(path: string): Promise<Thread> {
    const thread = new Thread(path);
    try {
      await thread.ask('opened');
      return thread;
    } catch (error) {
      await thread.#worker.terminate();
      throw error;
    }
  }

  private constructor(path: string) {
    this.#worker = startThread(new URL('./serve', import.meta.url), { workerData: { path } });
    this.#worker.on('message', (answers: readonly Answer[]) => {
      for (const answer of answers) this.#settle(answer);
    });
    this.#worker.once('error', (cause) =>
      this.#end(new StoreError('broken', `${path}: its thread ended`, { cause })),
    );
    this.#worker.once('exit', () => this.#end(new StoreError('closed', `${path} was closed`)));
  }

  ask(method: string, ...values: unknown[]): Promise<unknown> {
    return this.#ask(
      method,
      values.map((value) => (value instanceof Uint8Array ? alone(value) : value)),
      null,
    );
  }

  async write(step: Step): Promise<void> {
    await this.#ask('write', [prepared(step)], step);
  }

  async close(): Promise<void> {
    if (this.#ended) return;
    await this.ask('close').finally(() => this.#worker.terminate());
  }

  #ask(method: string, values: unknown[], step: Waiting['step']): Promise<unknown> {
    if (this.#ended) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      const n = this.#n++;
      this.#waiting.set(n, { resolve, reject, step });
      this.#asked.push({ n, method, values });
      if (this.#asked.length === 1) setImmediate(() => this.#send());
      else if (this.#asked.length === mostAtOnce) this.#send();
    });
  }

  #send(): void {
    if (this.#asked.length > 0) this.#worker.postMessage(this.#asked.splice(0));
  }

  #settle({ n, value, failure }: Answer): void {
    const waiting = this.#waiting.get(n);
    this.#waiting.delete(n);
    if (failure) waiting?.reject(revived(failure, waiting.step));
    else waiting?.resolve(value);
  }

  #end(error: Error): void {
    this.#ended ??= error;
    for (const { reject } of this.#waiting.values()) reject(this.#ended);
    this.#waiting.clear();
  }
}

/** Errors lose their kind on the way. */
function revived({ name, code, message }: Failure, step: Waiting['step']): Error {
  if (name === 'StepConflict') return new StepConflict(step?.device ?? '');
  if (name === 'TimerTaken') return new TimerTaken(step?.timer as TimerRow);
  if (name === 'StoreError') return new StoreError(code as StoreError['code'], message);
  return new Error(message);
}
