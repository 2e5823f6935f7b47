// Idempotency-Key: a request that is sent again, since its answer got lost, is answered again and not done again.
import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Clock } from '../../machines/clock.ts';
import type { Store } from '../store/store.ts';
import { problemOf, RequestError } from './problem.ts';

interface Kept {
  /** ms since the epoch. */
  at: number;
  /** Of what was asked: the same key for anything else is a mistake. */
  asked: string;
  state: 'running' | 'done' | 'told';
  status: number;
  /** JSON of the answer, where it may be told twice. */
  answer: string;
}

const day = 86_400_000;
/** ms after which a request that never ended is taken for one that was lost with its EVC. */
const lost = 5 * 60_000;
const form = /^[\x21-\x7e]{1,128}$/;

export class Idempotency {
  readonly #store: Store;
  readonly #clock: Clock;

  constructor({ store, clock }: { store: Store; clock: Clock }) {
    this.#store = store;
    this.#clock = clock;
  }

  /** Runs what was asked, unless the request bears a key under which that was done. */
  async once(
    request: FastifyRequest,
    reply: FastifyReply,
    { id, secret }: { id: string; secret: boolean },
    run: () => Promise<unknown>,
  ): Promise<unknown> {
    const key = request.headers['idempotency-key'];
    if (key === undefined) return run();
    if (typeof key !== 'string' || !form.test(key))
      throw new RequestError('request.invalid', 422, 'Idempotency-Key has 1 to 128 visible characters');
    const name = hashOf(`${request.caller?.id} ${key}`);
    const asked = hashOf(
      `${id} ${request.url} ${request.headers['if-match'] ?? ''} ${JSON.stringify(request.body ?? null)}`,
    );
    const former = await this.#claim(name, asked);
    if (former) {
      if (former.state === 'told')
        throw new RequestError(
          'idempotency.told',
          409,
          'this was done, and its answer holds a secret that is told once; take back what was made, and make another',
        );
      reply.code(former.status).header('idempotency-replayed', 'true');
      return JSON.parse(former.answer);
    }
    const keep = (kept: Pick<Kept, 'state' | 'status' | 'answer'>) =>
      this.#store.put('idempotency', name, { at: this.#clock.now(), asked, ...kept } satisfies Kept);
    try {
      const answer = await run();
      const text = JSON.stringify(answer ?? null);
      const status = reply.statusCode;
      await keep(secret ? { state: 'told', status, answer: '' } : { state: 'done', status, answer: text });
      return answer;
    } catch (error) {
      // What was refused changed nothing, and may be asked again; what failed may have changed something.
      if (problemOf(error).status < 500) await this.#store.remove('idempotency', name);
      throw error;
    }
  }

  /** Forgets what nobody will ask for again. */
  async sweep(): Promise<void> {
    const now = this.#clock.now();
    for (const { id, body } of await this.#store.all<Kept>('idempotency'))
      if (now - body.at > day) await this.#store.remove('idempotency', id);
  }

  /** Null where the request is ours to carry out. */
  async #claim(name: string, asked: string): Promise<Kept | null> {
    const now = this.#clock.now();
    let former: Kept | null = null;
    await this.#store.update<Kept>('idempotency', name, (found) => {
      former = null;
      const over = found && (now - found.at > day || (found.state === 'running' && now - found.at > lost));
      if (!found || over) return { at: now, asked, state: 'running', status: 0, answer: '' };
      if (found.asked !== asked)
        throw new RequestError('idempotency.other', 422, 'this Idempotency-Key was used for another request');
      if (found.state === 'running')
        throw new RequestError(
          'idempotency.running',
          409,
          'the request with this Idempotency-Key is under way',
        );
      former = found;
      return found;
    });
    return former;
  }
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
