// Every call of a store goes through somebody, but the one that closes it.
import type { Store } from '../../controller/store/store.ts';

type Call = () => Promise<unknown>;

export function throughCalls(store: Store, around: (name: string, call: Call) => Promise<unknown>): Store {
  return new Proxy(store, {
    get: (target, name: keyof Store & string) => {
      const method = target[name] as unknown;
      if (typeof method !== 'function') return method;
      if (name === 'close') return method.bind(target);
      return (...values: unknown[]) => around(name, () => method.apply(target, values));
    },
  });
}
