// A file of EVC's on another thread.
import { Worker, type WorkerOptions } from 'node:worker_threads';

/** @param entry without its ending: a program that is built has `.js`, one that runs from source `.ts` */
export function startThread(entry: URL, options: Pick<WorkerOptions, 'workerData'> = {}): Worker {
  const source = import.meta.url.endsWith('.ts');
  const file = new URL(`${entry.href}${source ? '.ts' : '.js'}`);
  if (!source) return new Worker(file, { execArgv: [], ...options });
  // Loaders given with --import do not reach into workers before Node 22, so a run from source has to ask for its own.
  const load = `import(${JSON.stringify(import.meta.resolve('tsx/esm/api'))}).then((tsx) => {
    tsx.register();
    return import(${JSON.stringify(file)});
  })`;
  return new Worker(load, { eval: true, execArgv: [], ...options });
}
