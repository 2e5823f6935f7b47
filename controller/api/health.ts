// Whether EVC lives, and whether it can serve: asked by systemd, Kubernetes and load balancers, which have no token. The answers
// say nothing else.
import type { FastifyInstance } from 'fastify';

export interface HealthOptions {
  /** Rejects when the store is out of reach. */
  store(): Promise<unknown>;
  /** Whether devices reach EVC through its broker. */
  broker(): boolean;
  /** EVC is on its way down. */
  stopping(): boolean;
  now(): number;
  /** A store that does not answer in this time is out of reach, ms. */
  patience?: number;
}

export interface Readiness {
  ready: boolean;
  store: 'ready' | 'unreachable';
  broker: 'ready' | 'unreachable';
  stopping: boolean;
}

const usualPatience = 2000;
/** ms for which an answer stands: nobody who asks more often makes the store busy. */
const freshness = 500;

/** Paths that anybody may ask. */
export const healthPaths = ['/healthz', '/readyz'] as const;

export function serveHealth(app: FastifyInstance, options: HealthOptions): void {
  const readiness = readinessOf(options);
  app.get('/healthz', (_, reply) => reply.header('cache-control', 'no-store').send({ alive: true }));
  app.get('/readyz', async (_, reply) => {
    const found = await readiness();
    return reply
      .header('cache-control', 'no-store')
      .code(found.ready ? 200 : 503)
      .send(found);
  });
}

/** Asks the store when the last answer is old, and once for all that ask meanwhile. */
export function readinessOf(options: HealthOptions): () => Promise<Readiness> {
  const { store, broker, stopping, now, patience = usualPatience } = options;
  let last: { at: number; reached: Promise<boolean> } | null = null;
  return async () => {
    const at = now();
    if (!last || Math.abs(at - last.at) > freshness) last = { at, reached: answers(store, patience) };
    const reached = await last.reached;
    const linked = broker();
    return {
      ready: reached && linked && !stopping(),
      store: reached ? 'ready' : 'unreachable',
      broker: linked ? 'ready' : 'unreachable',
      stopping: stopping(),
    };
  };
}

async function answers(store: () => Promise<unknown>, patience: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), patience);
  });
  try {
    return await Promise.race([store().then(() => true), late]);
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
  }
}
