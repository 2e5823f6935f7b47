// One SQLite file: write-ahead log, every commit on the disk before it counts, and one commit for all that is changed in a turn of
// the event loop.
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import Database from 'libsql';
import { storeError } from './libsql-error.ts';
import { schema, upgrades, version } from './libsql-schema.ts';
import { StoreError } from './store.ts';

export type Row = Record<string, unknown>;

/** A change that waits for the next commit. */
interface Waiting {
  run(): void;
  stored(): void;
  failed(error: Error): void;
}

/** Pages of the file that stay in memory, bytes. */
const cacheSize = 8 * 1024 * 1024;
/** The log goes into the file after so many pages of 4 KiB: pages that change often go there once. */
const checkpointPages = 16_000;
export class Sqlite {
  readonly #db: Database.Database;
  readonly #statements = new Map<string, Database.Statement>();
  #waiting: Waiting[] = [];

  readonly #path: string;
  #closed = false;

  private constructor(db: Database.Database, path: string) {
    this.#db = db;
    this.#path = path;
  }

  /** Opens the file, or makes it; `:memory:` for tests. Throws StoreError version, broken, taken. */
  static open(path: string): Sqlite {
    try {
      if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      const db = new Database(path);
      db.exec('pragma journal_mode = wal');
      db.exec('pragma synchronous = full');
      db.exec('pragma busy_timeout = 5000');
      db.exec(`pragma cache_size = -${cacheSize / 1024}`);
      db.exec(`pragma wal_autocheckpoint = ${checkpointPages}`);
      const found = Number((db.prepare('pragma user_version').get() as Row).user_version);
      if (found > version) {
        throw new StoreError(
          'version',
          `${path} was written by a newer EVC (store ${found}, this one knows ${version}); run that one`,
        );
      }
      if (found < version) {
        const missing = Array.from({ length: version - found }, (_, i) => upgrades[found + 1 + i] ?? '');
        const parts = found === 0 ? [schema, ...missing] : missing;
        db.exec(`begin immediate; ${parts.join('')} pragma user_version = ${version}; commit`);
      }
      return new Sqlite(db, path);
    } catch (error) {
      throw storeError(path, error);
    }
  }

  /** Stores what waits, and leaves one file. */
  close(): void {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    this.#statements.clear();
    try {
      this.#db.exec('pragma wal_checkpoint(truncate)');
    } catch {
      // One file for a backup would be nice; the log beside it is as good.
    }
    this.#db.close();
  }

  /**
   * Changes what is kept, together with all that others change in this turn of the event loop: one write to the disk serves
   * them all. Each is there whole or not at all, whatever becomes of the others. Resolves when it is on the disk.
   */
  grouped<Result>(work: () => Result): Promise<Result> {
    return new Promise((resolve, reject) => {
      let result: Result;
      const run = () => {
        result = work();
      };
      this.#waiting.push({ run, stored: () => resolve(result), failed: reject });
      if (this.#waiting.length === 1) setImmediate(() => this.#flush());
    });
  }

  #flush(): void {
    const group = this.#waiting;
    if (group.length === 0) return;
    this.#waiting = [];
    try {
      this.#transaction(() => {
        for (const one of group) one.run();
      });
    } catch {
      // Nothing is stored. It may be the matter of one of them alone: each on its own finds out whose.
      for (const one of group) this.#alone(one);
      return;
    }
    for (const one of group) one.stored();
  }

  #alone(one: Waiting): void {
    try {
      this.#transaction(one.run);
    } catch (error) {
      one.failed(error as Error);
      return;
    }
    one.stored();
  }

  #transaction<Result>(work: () => Result): Result {
    this.#checkOpen();
    try {
      this.#db.exec('begin immediate');
      const result = work();
      this.#db.exec('commit');
      return result;
    } catch (error) {
      if (this.#db.inTransaction) this.#db.exec('rollback');
      throw storeError(this.#path, error);
    }
  }

  #statement(sql: string): Database.Statement {
    let statement = this.#statements.get(sql);
    if (!statement) {
      statement = this.#db.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  /** Asked anything after its end, libsql ends the process. */
  #checkOpen(): void {
    if (this.#closed) throw new StoreError('closed', `${this.#path} was closed`);
  }

  /** One change on its own: a statement that fails outside a transaction is never reset, and no commit works after it. */
  change(sql: string, ...values: unknown[]): Promise<number> {
    return this.grouped(() => this.run(sql, ...values));
  }

  run(sql: string, ...values: unknown[]): number {
    return this.#mapped(() => this.#statement(sql).run(values).changes);
  }

  get(sql: string, ...values: unknown[]): Row | undefined {
    return this.#mapped(() => this.#statement(sql).get(values) as Row | undefined);
  }

  all(sql: string, ...values: unknown[]): Row[] {
    return this.#mapped(() => this.#statement(sql).all(values) as Row[]);
  }

  /** Values go in one array: a lone Buffer would be taken for named parameters, and end the process. */
  #mapped<Result>(query: () => Result): Result {
    this.#checkOpen();
    try {
      return query();
    } catch (error) {
      throw storeError(this.#path, error);
    }
  }
}
