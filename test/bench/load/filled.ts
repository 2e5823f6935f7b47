// Records of devices that are somewhere else and do nothing: what a store has to hold while the few that are measured attest.
import Database from 'libsql';
import pg from 'pg';
import { recordsOf } from '../../kit/record-states.ts';

/** What a device leaves that has attested and goes on: its record, and what hangs on it. */
function leftovers(): { snapshot: string; certificate: string; body: string; lines: string } {
  const trusted = recordsOf(1).find(
    ({ value }) => value.integrity === 'trusted' && value.escrow === 'held' && value.software === 'steady',
  );
  return {
    snapshot: JSON.stringify(trusted),
    certificate: JSON.stringify({ certificate: 'M'.repeat(500), serial: 'x', account: 'load', uuid: 'x' }),
    body: JSON.stringify({ request: { endpoint: 'attest', id: 'x'.repeat(16) }, tokenHash: '0'.repeat(64) }),
    lines: 'x'.repeat(2000),
  };
}

const journalOfEach = 5;
const batch = 20_000;

export async function fillLibsql(
  path: string,
  count: number,
  progress: (done: number) => void,
): Promise<void> {
  const { snapshot, certificate, body, lines } = leftovers();
  const db = new Database(path);
  // Whoever fills it may begin again after a cut of power.
  db.exec('pragma synchronous = off');
  db.exec('create temp table made (device text, i integer)');
  for (let done = 0; done < count; done += batch) {
    const many = Math.min(batch, count - done);
    db.exec('begin');
    db.exec('delete from made');
    db.prepare(
      `with recursive n(i) as (select 1 union all select i + 1 from n where i < ${many})
       insert into made select lower(hex(randomblob(32))), i + ${done} from n`,
    ).run();
    const run = (sql: string, ...values: unknown[]) => db.prepare(sql).run(values);
    run(
      "insert into records (device, version, snapshot, serial, uuid, account, trust, seen) select device, 5, ?, 'fill-' || i, 'u' || i, 'load', 'trusted', i from made",
      snapshot,
    );
    for (let i = 0; i < journalOfEach; i++)
      run(
        "insert into journal (device, at, event, body) select device, i, 'config.requested', ? from made",
        body,
      );
    run("insert into timers (device, timer, at) select device, 'trust', 9000000000000 + i from made");
    run("insert into documents (kind, id, body) select 'device', device, ? from made", certificate);
    run(
      "insert into documents (kind, id, body) select 'serial', 'fill-' || i, '{\"device\":\"x\"}' from made",
    );
    run(
      'insert into escrow (device, version, key_id, box, at) select device, 1, device, randomblob(300), i from made',
    );
    run("insert into evidence (id, device, at, bytes) select 'e' || i, device, i, randomblob(900) from made");
    run(
      "insert into attempts (device, attempt, begun, ended, steps, size, dropped, evidence, outcome) select device, 1, 1, 1, 5, 2000, 0, '', 'trusted' from made",
    );
    run('insert into attempt_lines (device, attempt, lines) select device, 1, ? from made', lines);
    db.exec('commit');
    progress(done + many);
  }
  db.exec('pragma wal_checkpoint(truncate)');
  db.close();
}

export async function fillPostgres(
  url: string,
  count: number,
  progress: (done: number) => void,
): Promise<void> {
  const { snapshot, certificate, body, lines } = leftovers();
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query('set synchronous_commit = off');
  await client.query('create temp table made (device text, i bigint)');
  for (let done = 0; done < count; done += batch) {
    const many = Math.min(batch, count - done);
    await client.query('begin');
    await client.query('truncate made');
    const run = (sql: string, ...values: unknown[]) => client.query(sql, values);
    await run(
      `insert into made select encode(sha256((i::text || random()::text)::bytea), 'hex'), i
       from generate_series(${done + 1}, ${done + many}) as g(i)`,
    );
    await run(
      "insert into records (device, version, snapshot, serial, uuid, account, trust, seen) select device, 5, $1, 'fill-' || i, 'u' || i, 'load', 'trusted', i from made",
      snapshot,
    );
    for (let i = 0; i < journalOfEach; i++)
      await run(
        "insert into journal (device, at, event, body) select device, $2::bigint, 'config.requested', $1 from made",
        body,
        Date.now(),
      );
    await run("insert into timers (device, timer, at) select device, 'trust', 9000000000000 + i from made");
    await run("insert into documents (kind, id, body) select 'device', device, $1 from made", certificate);
    await run(
      "insert into documents (kind, id, body) select 'serial', 'fill-' || i, '{\"device\":\"x\"}' from made",
    );
    await run(
      "insert into escrow (device, version, key_id, box, at) select device, 1, device, decode(repeat(md5(device), 18), 'hex'), i from made",
    );
    await run(
      "insert into evidence (id, device, at, bytes) select 'e' || i, device, i, decode(repeat(md5(device), 56), 'hex') from made",
    );
    await run(
      "insert into attempts (device, attempt, begun, ended, steps, size, dropped, evidence, outcome) select device, 1, 1, 1, 5, 2000, 0, '', 'trusted' from made",
    );
    await run('insert into attempt_lines (device, attempt, lines) select device, 1, $1 from made', lines);
    await client.query('commit');
    progress(done + many);
  }
  await client.query('analyze');
  await client.end();
}
