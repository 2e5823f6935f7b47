// RSA key generation takes 0.1 to 1 s, in which the thread does nothing else. The whole state of a TPM is its memory,
// so such a command runs in a worker on a copy of it (about 1 ms for both ways), and the event loop goes on.
import { Worker } from 'node:worker_threads';
import type { CommandOptions, WasmTpm } from './tpm.ts';

export interface Job {
  id: number;
  memory: ArrayBuffer;
  command: Uint8Array;
  options: CommandOptions;
  /** The TPM's time stands still during the command. */
  now: number;
}

export type Answer =
  | { id: number; response: Uint8Array; memory: ArrayBuffer }
  | { id: number; error: string };

const TPM_ST_SESSIONS = 0x8002;
const TPM_ALG_RSA = 0x0001;
const TPM_CC_CreatePrimary = 0x131;
const TPM_CC_SelfTest = 0x143;
const TPM_CC_Create = 0x153;
const TPM_CC_CreateLoaded = 0x191;

/** Whether a command is one of the few that take more than a tenth of a second: RSA keys and the full self test. */
export function takesLong(command: Uint8Array): boolean {
  if (command.length < 11) return false;
  const view = new DataView(command.buffer, command.byteOffset, command.byteLength);
  switch (view.getUint32(6)) {
    case TPM_CC_SelfTest:
      return command[10] === 1;
    case TPM_CC_CreatePrimary:
    case TPM_CC_Create:
    case TPM_CC_CreateLoaded: {
      // One handle, the authorizations, then inSensitive and inPublic, whose first field is the type (Part 3, TPM2_Create).
      if (view.getUint16(0) !== TPM_ST_SESSIONS || command.length < 18) return false;
      const inSensitive = 18 + view.getUint32(14);
      if (inSensitive + 2 > command.length) return false;
      const inPublic = inSensitive + 2 + view.getUint16(inSensitive);
      return inPublic + 4 <= command.length && view.getUint16(inPublic + 2) === TPM_ALG_RSA;
    }
    default:
      return false;
  }
}

interface Waiting {
  resolve(answer: Answer): void;
  reject(error: Error): void;
}

let worker: Worker | undefined;
let lastId = 0;
const waiting = new Map<number, Waiting>();

// One worker for all TPMs of the process, made at the first use. It keeps the process alive only while it works.
function theWorker(): Worker {
  if (worker) return worker;
  const source = import.meta.url.endsWith('.ts');
  const entry = new URL(source ? './worker.ts' : './worker.js', import.meta.url);
  // Loaders given with --import do not reach into workers before Node 22, so a run from source has to ask for its own.
  const made = source
    ? new Worker(
        `import(${JSON.stringify(import.meta.resolve('tsx/esm/api'))}).then((tsx) => {
          tsx.register();
          return import(${JSON.stringify(entry)});
        })`,
        { eval: true, execArgv: [] },
      )
    : // Flags of the main thread may be unfit for a worker, as --input-type is.
      new Worker(entry, { execArgv: [] });
  made.unref();
  made.on('message', (answer: Answer) => {
    waiting.get(answer.id)?.resolve(answer);
    waiting.delete(answer.id);
    if (waiting.size === 0) made.unref();
  });
  const lose = (error: Error) => {
    if (worker === made) worker = undefined;
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  };
  made.on('error', lose);
  made.on('exit', (code) => lose(new Error(`the worker ended with exit code ${code}`)));
  worker = made;
  return made;
}

/** Runs one command of this TPM in the worker, with the system's entropy. Rejects with WasmTpmError as `execute` throws. */
export async function executeInWorker(
  tpm: WasmTpm,
  command: Uint8Array,
  options: CommandOptions = {},
): Promise<Uint8Array> {
  const to = theWorker();
  const job: Job = {
    id: ++lastId,
    memory: tpm.goAway(),
    command: Uint8Array.from(command),
    options,
    now: tpm.now(),
  };
  const answered = new Promise<Answer>((resolve, reject) => waiting.set(job.id, { resolve, reject }));
  to.ref();
  to.postMessage(job, [job.memory]);
  let answer: Answer;
  try {
    answer = await answered;
  } catch (error) {
    throw tpm.die(error);
  }
  if ('error' in answer) throw tpm.die(new Error(answer.error));
  tpm.comeBack(answer.memory);
  return answer.response;
}
