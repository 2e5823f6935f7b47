// Which store: the address of a database that several controllers share.
import { PostgresStore } from './postgres.ts';
import { type Store, StoreError } from './store.ts';

/** @param url `postgres://USER@HOST/DATABASE`. Rejects with StoreError. */
export async function openStore(url: string): Promise<Store> {
  if (/^postgres(ql)?:\/\//.test(url)) return PostgresStore.open({ url });
  throw new StoreError(
    'unreachable',
    'a store is postgres://USER@HOST/DATABASE, or none for a file of its own',
  );
}
