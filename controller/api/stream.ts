// What EVC does, as it happens: server-sent events, one for each step of a record.
import { hangUp } from '../../inspector/server/readers.ts';
import { type RunnerEvent, withoutSettings } from '../record/runner.ts';
import { type Given, type Operations, reach } from './operation.ts';
import { RequestError } from './problem.ts';
import { body, text } from './schemas.ts';

/** A step as others see it: no evidence, no keys, and of a verdict what people read. */
export interface StepView {
  device: string;
  serial: string;
  at: number;
  event: { type: string; record: { account: string | null } & Record<string, unknown> } & Record<
    string,
    unknown
  >;
  before: unknown;
  after: unknown;
  ignored: boolean;
  /** Answers and pushes that the step led to. */
  effects: { type: string; params: object }[];
}

interface Reader {
  wants(device: string, account: string): boolean;
  write(text: string): void;
}

const mostReaders = 50;
/** A comment now and then, so that whatever stands between does not take the silence for an end, ms. */
const pulse = 15_000;
/** Bytes that may wait for a slow reader before it misses steps. */
const backlog = 1024 * 1024;

export class StepStream {
  readonly #readers = new Set<Reader>();

  publish(step: RunnerEvent): void {
    if (this.#readers.size === 0) return;
    const view = stepView(step);
    const text = `event: step\ndata: ${JSON.stringify(view)}\n\n`;
    const account = view.event.record.account ?? '';
    for (const { wants, write } of this.#readers) if (wants(view.device, account)) write(text);
  }

  serve(api: Operations, find: (words: string, accounts: readonly string[] | null) => Promise<string>): void {
    api.add<unknown, { device?: string; account?: string }, unknown>({
      id: 'readEvents',
      method: 'GET',
      path: '/api/v1/events',
      summary: 'Every step of every record from now on, as server-sent events',
      tag: 'devices',
      role: 'viewer',
      reach: 'own',
      query: body({
        device: { ...text(200), description: 'of this device' },
        account: { ...text(64), description: 'of the devices of this account' },
      }),
      produces: 'text/event-stream',
      answer: { type: 'string' },
      run: async (given) => {
        const { query, caller } = given;
        const { accounts } = caller;
        const device = query.device === undefined ? null : await find(query.device, accounts);
        if (query.account !== undefined) reach(caller, query.account);
        const wants = (of: string, account: string) =>
          (device === null || of === device) &&
          (query.account === undefined || account === query.account) &&
          (accounts === null || accounts.includes(account));
        this.#read(given, wants);
      },
    });
  }

  #read(
    {
      request,
      reply,
      untilRefused,
    }: Pick<Given<unknown, unknown, unknown>, 'request' | 'reply' | 'untilRefused'>,
    wants: Reader['wants'],
  ): void {
    if (this.#readers.size >= mostReaders) {
      throw new RequestError('events.too-many', 503, `${mostReaders} others read the events already`);
    }
    reply.hijack();
    const { raw } = reply;
    raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    let dropped = 0;
    const write = (text: string) => {
      if (raw.writableLength > backlog) {
        dropped++;
        return;
      }
      // Whoever was too slow is told what it missed, as soon as there is room for it.
      if (dropped > 0) raw.write(`event: dropped\ndata: {"dropped":${dropped}}\n\n`);
      dropped = 0;
      raw.write(text);
    };
    const timer = setInterval(() => raw.writableLength > backlog || write(':\n\n'), pulse);
    const reader = { wants, write };
    this.#readers.add(reader);
    let forget = () => {};
    const stop = () => {
      clearInterval(timer);
      this.#readers.delete(reader);
      forget();
    };
    forget = untilRefused(() => {
      stop();
      hangUp(raw);
    });
    raw.on('error', () => raw.destroy());
    request.raw.once('close', stop);
    // The reader knows that it misses nothing from here on.
    write('event: ready\ndata: {}\n\n');
  }
}

export function stepView(step: RunnerEvent): StepView {
  const { device, at, before, after, ignored, effects, snapshot } = step;
  const { basis, account, baseline, upgrade, upgraded, place } = snapshot.context;
  const seen = { account: account?.id ?? null, basis, baseline: baseline?.versions ?? null };
  return {
    device,
    serial: snapshot.context.serial,
    at,
    event: {
      ...eventView(step.event as { type: string }),
      record: { ...seen, upgrade: upgrade?.to ?? null, upgraded, place },
    },
    before,
    after,
    ignored,
    effects: effects
      .filter(({ type }) => type === 'reply' || type === 'push')
      .map(({ type, params }) => ({ type, params: paramsView(params) })),
  };
}

function eventView(event: { type: string }): { type: string } & Record<string, unknown> {
  const {
    type,
    identity: _identity,
    challenge: _challenge,
    attempt,
    ...rest
  } = event as { type: string } & Record<string, unknown>;
  const { verdict, upgrade } = rest as {
    verdict?: Record<string, unknown>;
    upgrade?: Record<string, unknown>;
  };
  return {
    ...withoutSettings(rest),
    type,
    ...(verdict ? { verdict: { ...verdict, pcrs: undefined, logs: undefined } } : {}),
    ...(upgrade ? { upgrade: { from: upgrade.from, to: upgrade.to, until: upgrade.until } } : {}),
    ...(attempt === undefined
      ? {}
      : { attempt: typeof attempt === 'string' ? attempt : (attempt as { id: string }).id }),
  };
}

/** Of a reply, what a person follows; boxes and salts stay where they are. */
function paramsView(params: object): object {
  const { request, status, body } = params as {
    request?: object;
    status?: string;
    body?: Record<string, unknown>;
  };
  if (!request) return params;
  const { kind, code, why, findings, partial, version, key, rotate } = body ?? {};
  return { request, status, body: { kind, code, why, findings, partial, version, key, rotate } };
}
