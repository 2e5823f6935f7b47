// What SQLite says when something fails, in the words of a store.
import { StoreError } from './store.ts';

export function storeError(path: string, error: unknown): Error {
  if (error instanceof StoreError) return error;
  const { code = '', message = '', syscall } = error as { code?: string; message?: string; syscall?: string };
  if (code === 'SQLITE_FULL' || code === 'SQLITE_IOERR_SHMSIZE') {
    return new StoreError(
      'full',
      `the disk under ${path} is full; free some space, what was stored is safe`,
      { cause: error },
    );
  }
  if (code === 'SQLITE_NOTADB' || code.startsWith('SQLITE_CORRUPT')) {
    return new StoreError('broken', `${path} is damaged; restore it from a backup`, { cause: error });
  }
  if (code.startsWith('SQLITE_BUSY')) {
    return new StoreError('taken', `${path} is in use by another process; stop that one first`, {
      cause: error,
    });
  }
  // libsql says it in its own words when it opens, and Node when it makes the folder.
  const closed = code.startsWith('SQLITE_READONLY') || message.includes('Unable to open connection');
  if (closed || code.startsWith('SQLITE_CANTOPEN') || syscall !== undefined) {
    return new StoreError('broken', `${path} cannot be opened; check the folder and its permissions`, {
      cause: error,
    });
  }
  return error instanceof Error ? error : new Error(message);
}
