// A PostgreSQL of Debian in a folder of its own, on a Unix socket alone.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';

const installed = '/usr/lib/postgresql';

/** Folder of `initdb` and `postgres`, the newest; undefined where there is none. */
export function postgresPrograms(): string | undefined {
  const versions = existsSync(installed) ? readdirSync(installed) : [];
  const newest = versions.sort((a, b) => Number(b) - Number(a))[0];
  return newest && join(installed, newest, 'bin');
}

export class PostgresServer {
  readonly #programs: string;
  readonly #folder: string;
  readonly #process: ChildProcess;

  private constructor(programs: string, folder: string, process: ChildProcess) {
    this.#programs = programs;
    this.#folder = folder;
    this.#process = process;
  }

  /** PostgreSQL refuses to run as root, so root hands it to the user of Debian's package. */
  static async start(programs: string): Promise<PostgresServer> {
    const folder = mkdtempSync(join(tmpdir(), 'evc-postgres-'));
    const user = runAs();
    if (user.uid !== undefined && user.gid !== undefined) {
      chownSync(folder, user.uid, user.gid);
      chmodSync(folder, 0o700);
    }
    const data = join(folder, 'data');
    const made = spawnSync(
      join(programs, 'initdb'),
      ['-D', data, '-U', 'evc', '-A', 'trust', '-E', 'UTF8', '--locale=C'],
      {
        ...user,
        cwd: folder,
        encoding: 'utf8',
      },
    );
    if (made.status !== 0) throw new Error(`initdb: ${made.stderr}`);
    return PostgresServer.#run(programs, folder);
  }

  static async #run(programs: string, folder: string): Promise<PostgresServer> {
    const options = [
      '-D',
      join(folder, 'data'),
      '-k',
      folder,
      '-c',
      'listen_addresses=',
      '-c',
      'max_connections=60',
    ];
    const user = runAs();
    const server = spawn(join(programs, 'postgres'), options, { ...user, cwd: folder, stdio: 'ignore' });
    const started = new PostgresServer(programs, folder, server);
    await until(server, () => started.url('postgres'));
    return started;
  }

  /** Once more on the same data, after it was killed. */
  restart(): Promise<PostgresServer> {
    return PostgresServer.#run(this.#programs, this.#folder);
  }

  /** An empty database. */
  database(): Promise<string> {
    return emptyDatabase(this.url('postgres'));
  }

  url(database: string): string {
    return `postgres://evc@/${database}?host=${encodeURIComponent(this.#folder)}`;
  }

  /** Ends it as a pulled plug does. */
  async kill(): Promise<void> {
    this.#process.kill('SIGQUIT');
    await ended(this.#process);
  }

  async stop(): Promise<void> {
    this.#process.kill('SIGINT');
    await ended(this.#process);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  get folder(): string {
    return this.#folder;
  }
}

function runAs(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {};
  const id = (option: string) => Number(spawnSync('id', [option, 'postgres'], { encoding: 'utf8' }).stdout);
  return { uid: id('-u'), gid: id('-g') };
}

/** A new database beside this one; its address. */
export async function emptyDatabase(url: string): Promise<string> {
  const name = `evc_${randomBytes(6).toString('hex')}`;
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(`create database ${name}`);
  await client.end();
  return url.replace(/(\/\/[^/]*\/)\w+/, `$1${name}`);
}

/** Debian's pgbouncer in front of a server: a session of a client is any of its sessions, another one each transaction. */
export class Pooler {
  readonly #folder: string;
  readonly #process: ChildProcess;

  private constructor(folder: string, process: ChildProcess) {
    this.#folder = folder;
    this.#process = process;
  }

  static async start(server: PostgresServer): Promise<Pooler> {
    const folder = mkdtempSync(join(tmpdir(), 'evc-pooler-'));
    const user = runAs();
    const config = join(folder, 'pgbouncer.ini');
    writeFileSync(
      config,
      [
        '[databases]',
        `* = host=${server.folder} user=evc`,
        '[pgbouncer]',
        'listen_addr =',
        `unix_socket_dir = ${folder}`,
        'auth_type = any',
        'pool_mode = transaction',
        'default_pool_size = 3',
        `pidfile = ${join(folder, 'pid')}`,
        '',
      ].join('\n'),
    );
    if (user.uid !== undefined && user.gid !== undefined) {
      chownSync(folder, user.uid, user.gid);
      chownSync(config, user.uid, user.gid);
    }
    const pooler = new Pooler(
      folder,
      spawn('pgbouncer', [config], { ...user, cwd: folder, stdio: 'ignore' }),
    );
    await until(pooler.#process, () => pooler.through(server.url('postgres')));
    return pooler;
  }

  /** The address of a database, by way of the pooler. */
  through(url: string): string {
    return url.replace(/@\/(\w+)\?host=.*/, `@/$1?host=${encodeURIComponent(this.#folder)}&port=6432`);
  }

  async stop(): Promise<void> {
    this.#process.kill('SIGQUIT');
    await ended(this.#process);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Resolves when something answers at the address. */
async function until(child: ChildProcess, url: () => string): Promise<void> {
  for (;;) {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
    const client = new pg.Client({ connectionString: url() });
    try {
      await client.connect();
      await client.end();
      return;
    } catch {
      // Not yet: the socket or the database is not there.
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve();
    else child.once('exit', () => resolve());
  });
}
