// From the file of one controller to the database of several: all tables as they stood at one moment, in one transaction.
// Done again it brings over what has changed since, so the last time, with EVC stopped, takes a moment.
import Database from 'libsql';
import pg from 'pg';
import { migrate } from './postgres-schema.ts';
import { StoreError } from './store.ts';
import { inTransaction } from './transaction.ts';

interface Table {
  name: string;
  /** Columns by their type in PostgreSQL. */
  columns: Record<string, 'text' | 'bigint' | 'bytea'>;
  key: readonly string[];
}

const tables: readonly Table[] = [
  {
    name: 'records',
    columns: {
      ...{ device: 'text', version: 'bigint', snapshot: 'text', serial: 'text', uuid: 'text' },
      ...{ account: 'text', trust: 'text', seen: 'bigint', labels: 'text', facts: 'text' },
    },
    key: ['device'],
  },
  {
    name: 'journal',
    columns: { seq: 'bigint', device: 'text', at: 'bigint', event: 'text', body: 'text' },
    key: ['seq'],
  },
  { name: 'effects', columns: { id: 'text', device: 'text', type: 'text', params: 'text' }, key: ['id'] },
  { name: 'timers', columns: { device: 'text', timer: 'text', at: 'bigint' }, key: ['device', 'timer'] },
  {
    name: 'escrow',
    columns: { device: 'text', version: 'bigint', key_id: 'text', box: 'bytea', at: 'bigint' },
    key: ['device', 'version'],
  },
  {
    name: 'evidence',
    columns: { id: 'text', device: 'text', at: 'bigint', bytes: 'bytea' },
    key: ['id'],
  },
  { name: 'blobs', columns: { sha256: 'text', bytes: 'bytea' }, key: ['sha256'] },
  {
    name: 'attempts',
    columns: {
      ...{ device: 'text', attempt: 'bigint', begun: 'bigint', ended: 'bigint', steps: 'bigint' },
      ...{ size: 'bigint', dropped: 'bigint', evidence: 'text', outcome: 'text' },
    },
    key: ['device', 'attempt'],
  },
  {
    name: 'attempt_lines',
    columns: { seq: 'bigint', device: 'text', attempt: 'bigint', lines: 'text' },
    key: ['seq'],
  },
  {
    name: 'audit',
    columns: {
      ...{ seq: 'bigint', at: 'bigint', who: 'text', what: 'text', subject: 'text', account: 'text' },
      ...{ reason: 'text', was: 'text', became: 'text' },
    },
    key: ['seq'],
  },
  { name: 'documents', columns: { kind: 'text', id: 'text', body: 'text' }, key: ['kind', 'id'] },
];

const batch = 500;

export interface Copied {
  /** Rows by table. */
  rows: Record<string, number>;
}

/**
 * Makes the database what the file is. Rejects with StoreError; `newer` where the database has gone on by itself.
 * @param onTable called with each table when it is over
 */
export async function copyStore(
  file: string,
  url: string,
  onTable?: (table: string, rows: number) => void,
): Promise<Copied> {
  const source = new Database(file, { readonly: true, fileMustExist: true } as Database.Options);
  const pool = new pg.Pool({ connectionString: url, max: 1, connectionTimeoutMillis: 10_000 });
  pool.on('error', () => undefined);
  try {
    await migrate(pool, 'the database');
    // What is read is what was there when the first row was, whatever EVC writes meanwhile.
    source.exec('begin');
    return await inTransaction(pool, async (client) => {
      await refuseNewer(source, client);
      const rows: Copied['rows'] = {};
      for (const table of tables) {
        rows[table.name] = await copyTable(source, client, table);
        onTable?.(table.name, rows[table.name] as number);
      }
      await client.query(
        "select setval('journal_seq', (select coalesce(max(seq), 0) + 1 from journal), false)",
      );
      for (const name of ['attempt_lines', 'audit'])
        await client.query(
          `select setval(pg_get_serial_sequence('${name}', 'seq'), (select coalesce(max(seq), 0) + 1 from ${name}), false)`,
        );
      return { rows };
    });
  } finally {
    source.close();
    await pool.end();
  }
}

/** A database whose controllers have stepped a record further is the store by now, and not its copy. */
async function refuseNewer(source: Database.Database, client: pg.PoolClient): Promise<void> {
  const { rows } = await client.query<{ device: string; version: string }>(
    'select device, version from records',
  );
  const known = source.prepare('select version from records where device = ?');
  for (const { device, version } of rows) {
    const row = known.get([device]) as { version: number } | undefined;
    if (row && row.version >= Number(version)) continue;
    throw new StoreError(
      'newer',
      `the record of ${device} has version ${version} in the database and ${row?.version ?? 'none'} in the file: the database is in use`,
    );
  }
}

async function copyTable(source: Database.Database, client: pg.PoolClient, table: Table): Promise<number> {
  const { name, columns, key } = table;
  const names = Object.keys(columns);
  const list = names.join(', ');
  await client.query(
    `create temporary table copied on commit drop as select ${list} from ${name} with no data`,
  );
  const insert = `insert into copied (${list}) select * from unnest(${names.map((column, i) => `$${i + 1}::${columns[column]}[]`).join(', ')})`;
  let count = 0;
  let rows: Record<string, unknown>[] = [];
  const flush = async () => {
    await client.query(
      insert,
      names.map((column) =>
        // Rows that are read one by one have their bytes in a plain ArrayBuffer.
        rows.map((row) =>
          columns[column] === 'bytea' ? Buffer.from(row[column] as ArrayBuffer) : row[column],
        ),
      ),
    );
    count += rows.length;
    rows = [];
  };
  for (const row of source.prepare(`select ${list} from ${name}`).iterate([])) {
    rows.push(row as Record<string, unknown>);
    if (rows.length === batch) await flush();
  }
  if (rows.length > 0) await flush();
  const same = key.map((column) => `copied.${column} = ${name}.${column}`).join(' and ');
  await client.query(`delete from ${name} where not exists (select from copied where ${same})`);
  const changed = names.filter((column) => !key.includes(column));
  if (name === 'journal') {
    // Never changed, and cut by time, so without a key that spans its parts.
    await client.query(`insert into journal (${list}) select ${list} from copied where not exists (
      select from journal where ${same})`);
  } else {
    const more = name === 'effects' ? { columns: ', leased', values: ', 0' } : { columns: '', values: '' };
    const update = changed.map((column) => `${column} = excluded.${column}`).join(', ');
    await client.query(
      `insert into ${name} (${list}${more.columns}) overriding system value select ${list}${more.values} from copied on conflict (${key.join(', ')}) do update set ${update}`,
    );
  }
  await client.query('drop table copied');
  return count;
}
