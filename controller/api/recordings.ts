// Recordings over the API: the attempts that are kept of a device, and its record as it moves, as lines of JSON until the reader
// goes. Nobody who reads slowly is waited for: lines are dropped, and it is said how many.
import { hangUp, recordingType, streamTo } from '../../inspector/server/readers.ts';
import { attemptRecording } from '../record/attempt.ts';
import type { RecordRecorder } from '../record/recorder.ts';
import type { RecordRunner } from '../record/runner.ts';
import type { AttemptRow, Store } from '../store/store.ts';
import type { Operations } from './operation.ts';
import { RequestError } from './problem.ts';
import { deviceParams, fields, list, ref, text } from './schemas.ts';

export interface RecordingsOptions {
  store: Store;
  runner: RecordRunner;
  recorder: RecordRecorder;
}

const mostReaders = 50;

type Words = { device: string };
type Numbered = Words & { attempt: string };

export function serveRecordings(api: Operations, { store, runner, recorder }: RecordingsOptions): void {
  let readers = 0;
  const base = { method: 'GET', tag: 'devices', role: 'viewer', reach: 'device' } as const;

  api.add<Words, unknown, unknown>({
    ...base,
    id: 'followDevice',
    path: '/api/v1/devices/:device/recording',
    summary: 'The record of a device as it moves, as lines of a recording, until the reader goes',
    params: deviceParams,
    produces: recordingType,
    answer: { type: 'string' },
    run: async ({ device, reply, untilRefused }) => {
      if (readers >= mostReaders)
        throw new RequestError('events.too-many', 503, `${mostReaders} others read recordings already`);
      const now = await runner.read(device);
      reply.hijack();
      readers++;
      const forget = untilRefused(() => hangUp(reply.raw));
      let stop = () => {};
      const sink = streamTo(reply.raw, {}, () => {
        readers--;
        forget();
        stop();
      });
      stop = recorder.listen(device, now, sink);
    },
  });

  api.add<Words, unknown, unknown>({
    ...base,
    id: 'listAttempts',
    path: '/api/v1/devices/:device/attempts',
    summary: 'Recordings of the last attempts of a device, newest first',
    params: deviceParams,
    answer: list('attempts', ref('Attempt')),
    run: async ({ device }) => ({ attempts: await store.attempts(device) }),
  });

  api.add<Numbered, unknown, unknown>({
    ...base,
    id: 'showAttempt',
    path: '/api/v1/devices/:device/attempts/:attempt',
    summary: 'The recording of an attempt: by its number, the start of the id of its evidence, or last',
    params: fields({ ...deviceParams.properties, attempt: text(64) }),
    produces: recordingType,
    answer: { type: 'string' },
    run: async ({ device, params, reply }) => {
      const row = pick(await store.attempts(device), params.attempt);
      const lines = row && (await attemptRecording(store, recorder, device, row));
      if (!lines)
        throw new RequestError(
          'attempt.unknown',
          404,
          `no attempt ${params.attempt.slice(0, 64)} is kept of this device`,
        );
      reply.type(recordingType);
      return `${lines.join('\n')}\n`;
    },
  });
}

/** By its number, the beginning of the id of its evidence, or `last`. */
function pick(attempts: readonly AttemptRow[], words: string): AttemptRow | undefined {
  if (words === 'last') return attempts[0];
  return attempts.find(
    ({ attempt, evidence }) => String(attempt) === words || (words.length >= 8 && evidence.startsWith(words)),
  );
}
