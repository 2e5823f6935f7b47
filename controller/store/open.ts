// Which store: the address of a database that several controllers share.
import { type Store, StoreError } from './store.ts';

/** @param url `postgres://USER@HOST/DATABASE`. Rejects with StoreError. */
export async function openStore(url: string): Promise<Store> {
  // Loaded by those alone who have one: it is a tenth of what a start costs.
  if (/^postgres(ql)?:\/\//.test(url)) return (await import('./postgres.ts')).PostgresStore.open({ url });
  throw new StoreError(
    'unreachable',
    'a store is postgres://USER@HOST/DATABASE, or none for a file of its own',
  );
}
