// One transaction in PostgreSQL, on a connection of its own: all of it, or nothing.
import type pg from 'pg';

/** Rejects as `work` does. A connection that failed is closed, and the transaction with it. */
export async function inTransaction<Result>(
  pool: pg.Pool,
  work: (client: pg.PoolClient) => Promise<Result>,
): Promise<Result> {
  const client = await pool.connect();
  // A connection that breaks says so in the next query as well; the pool listens to those alone that it has.
  const broken = () => undefined;
  client.on('error', broken);
  const release = (failed?: Error) => {
    client.off('error', broken);
    client.release(failed);
  };
  try {
    await client.query('begin');
    const result = await work(client);
    await client.query('commit');
    release();
    return result;
  } catch (error) {
    await client.query('rollback').then(() => release(), release);
    throw error;
  }
}
