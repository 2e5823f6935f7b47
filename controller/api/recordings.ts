// Recordings over the API: the attempts that are kept of a device, and its record as it moves, as lines of JSON until the reader
// goes. Nobody who reads slowly is waited for: lines are dropped, and it is said how many.
import type { FastifyInstance } from 'fastify';
import { recordingType, streamTo } from '../../inspector/server/readers.ts';
import { attemptRecording } from '../record/attempt.ts';
import type { RecordRecorder } from '../record/recorder.ts';
import type { RecordRunner } from '../record/runner.ts';
import type { AttemptRow, Store } from '../store/store.ts';
import { RequestError } from './problem.ts';

export interface RecordingsOptions {
  store: Store;
  runner: RecordRunner;
  recorder: RecordRecorder;
  /** Id of the device that these words name. Rejects where there is none. */
  find(words: string): Promise<string>;
}

const mostReaders = 50;

type Words = { Params: { words: string } };
type Numbered = { Params: { words: string; attempt: string } };

export function serveRecordings(
  app: FastifyInstance,
  { store, runner, recorder, find }: RecordingsOptions,
): void {
  let readers = 0;

  app.get<Words>('/api/v1/devices/:words/recording', async (request, reply) => {
    const device = await find(request.params.words);
    if (readers >= mostReaders)
      throw new RequestError('events.too-many', 503, `${mostReaders} others read recordings already`);
    const now = await runner.read(device);
    reply.hijack();
    readers++;
    let stop = () => {};
    const sink = streamTo(reply.raw, {}, () => {
      readers--;
      stop();
    });
    stop = recorder.listen(device, now, sink);
  });

  app.get<Words>('/api/v1/devices/:words/attempts', async ({ params }) => ({
    attempts: await store.attempts(await find(params.words)),
  }));

  app.get<Numbered>('/api/v1/devices/:words/attempts/:attempt', async ({ params }, reply) => {
    const device = await find(params.words);
    const row = pick(await store.attempts(device), params.attempt);
    const lines = row && (await attemptRecording(store, recorder, device, row));
    if (!lines)
      throw new RequestError(
        'attempt.unknown',
        404,
        `no attempt ${params.attempt.slice(0, 64)} is kept of this device`,
      );
    return reply.type(recordingType).send(`${lines.join('\n')}\n`);
  });
}

/** By its number, the beginning of the id of its evidence, or `last`. */
function pick(attempts: readonly AttemptRow[], words: string): AttemptRow | undefined {
  if (words === 'last') return attempts[0];
  return attempts.find(
    ({ attempt, evidence }) => String(attempt) === words || (words.length >= 8 && evidence.startsWith(words)),
  );
}
