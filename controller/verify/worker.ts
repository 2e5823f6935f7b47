// The other thread of pool.ts: takes a batch of cases, answers with their verdicts in order.
import { parentPort } from 'node:worker_threads';
import type { Case } from './pool.ts';
import { verify } from './verify.ts';

const port = parentPort;
if (!port) throw new TypeError('worker.ts runs as a worker');

port.on('message', (cases: readonly Case[]) => {
  port.postMessage(cases.map(({ evidence, basis, now }) => verify(evidence, basis, now)));
});
