// A PostgreSQL of Debian in a folder of its own, on a Unix socket alone.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
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
    await started.#ready();
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
    await this.#ended();
  }

  async stop(): Promise<void> {
    this.#process.kill('SIGINT');
    await this.#ended();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #ready(): Promise<void> {
    for (;;) {
      if (this.#process.exitCode !== null) throw new Error(`postgres ended with ${this.#process.exitCode}`);
      const client = new pg.Client({ connectionString: this.url('postgres') });
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

  #ended(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#process.exitCode !== null || this.#process.signalCode !== null) resolve();
      else this.#process.once('exit', () => resolve());
    });
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
