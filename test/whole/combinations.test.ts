// deadline: 480 s
// The sequences, with processes of their own, on each store and a broker that is not EVC's.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { needDebian } from '../kit/debian.ts';
import { buildLogin, freePort, keepLocal, Mosquitto, mosquittoPackages } from '../kit/mosquitto.ts';
import { PostgresServer, postgresPrograms } from '../kit/postgres.ts';
import { runToEnd } from '../kit/process.ts';

interface Line {
  kind: string;
  story?: string;
  ok?: boolean;
  text?: string;
  failed?: number;
}

if (await needDebian(['postgresql-15', ...mosquittoPackages], [])) {
  const folder = mkdtempSync(join(tmpdir(), 'evc-combinations-'));
  const server = await PostgresServer.start(postgresPrograms() as string);
  const plugin = buildLogin(join(folder, 'evc-login.so'));

  test.after(async () => {
    await server.stop();
    rmSync(folder, { recursive: true });
  });

  /** Plays every story behind a Mosquitto; returns what became of each. */
  async function played(name: string, engines: readonly string[]): Promise<Line[]> {
    const data = join(folder, name);
    const config = join(folder, `${name}-broker`);
    const [port, https] = [await freePort(), await freePort()];
    await runToEnd('evc', ['init', '--data', join(data, 'evc')]);
    const made = await runToEnd('evc', [
      ...['broker', 'config', 'mosquitto', '--data', join(data, 'evc'), '--out', config, '--port', `${port}`],
      ...['--plugin', plugin, '--login', `https://localhost:${https}/broker/login`],
    ]);
    assert.is(made.code, 0, made.stderr);
    keepLocal(config);
    const broker = await Mosquitto.start(config, port);
    try {
      const { code, stdout, stderr } = await runToEnd('evc', [
        ...['up', '--exit', '--json', '--data', data, '--broker', `mqtts://localhost:${port}`],
        ...['--https-port', `${https}`, ...engines],
      ]);
      const lines = stdout
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as Line);
      const ends = lines.filter(({ kind }) => kind === 'end');
      assert.is(code, 0, stderr + ends.map(({ story, ok, text }) => `${story} ${ok} ${text}`).join('\n'));
      return ends;
    } finally {
      await broker.stop();
    }
  }

  test('every story ends as it must on SQLite behind Mosquitto', async () => {
    const ends = await played('libsql', []);
    assert.is(ends.length, 10);
    assert.ok(ends.every(({ ok }) => ok));
  });

  test('every story ends as it must on PostgreSQL behind Mosquitto', async () => {
    const ends = await played('postgres', ['--store', await server.database()]);
    assert.is(ends.length, 10);
    assert.ok(ends.every(({ ok }) => ok));
  });

  test('every story ends as it must on PostgreSQL with the broker of EVC', async () => {
    const data = join(folder, 'own');
    const store = await server.database();
    const { code, stdout } = await runToEnd('evc', [
      'up',
      '--exit',
      '--json',
      '--data',
      data,
      '--store',
      store,
    ]);
    assert.is(code, 0, stdout.split('\n').slice(-5).join('\n'));
  });
} else test.skip('Mosquitto or PostgreSQL is not on this machine', () => {});

test.run();
