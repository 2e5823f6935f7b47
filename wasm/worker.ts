// The other thread of keygen.ts: takes a TPM's memory and a command, answers with the memory after it.
import { parentPort } from 'node:worker_threads';
import type { Answer, Job } from './keygen.ts';
import { WasmTpm } from './tpm.ts';

const port = parentPort;
if (!port) throw new TypeError('worker.ts runs as a worker');

port.on('message', (job: Job) => {
  let answer: Answer;
  const memory: ArrayBuffer[] = [];
  try {
    const tpm = new WasmTpm({ now: () => job.now });
    tpm.comeBack(job.memory);
    const response = tpm.execute(job.command, job.options);
    answer = { id: job.id, response, memory: tpm.goAway() };
    memory.push(answer.memory);
  } catch (error) {
    answer = { id: job.id, error: error instanceof Error ? error.message : String(error) };
  }
  port.postMessage(answer, memory);
});
