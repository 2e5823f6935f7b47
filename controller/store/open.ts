// Which store: a file of one controller, or a database that several share.
import { LibsqlStore } from './libsql.ts';
import { PostgresStore } from './postgres.ts';
import { type Store, StoreError } from './store.ts';

/** @param url `postgres://…`; undefined for the file. Rejects with StoreError. */
export async function openStore(url: string | undefined, file: string): Promise<Store> {
  if (url === undefined) return LibsqlStore.open(file);
  if (/^postgres(ql)?:\/\//.test(url)) return PostgresStore.open({ url });
  throw new StoreError(
    'unreachable',
    'a store is postgres://USER@HOST/DATABASE, or none for a file of its own',
  );
}
