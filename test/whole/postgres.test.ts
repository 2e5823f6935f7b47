// deadline: 600 s
// The sequences once more, with EVC's records in PostgreSQL.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { needDebian } from '../kit/debian.ts';
import { PostgresServer, postgresPrograms } from '../kit/postgres.ts';

const sequences = ['s1-onboarding', 's2-restart', 's3-unknown', 's4-upgrade', 's5-moved', 's6-attacks'];

function runOn(store: string, file: string): Promise<{ code: number | null; said: string }> {
  const path = fileURLToPath(new URL(`${file}.test.ts`, import.meta.url));
  const child = spawn(process.execPath, ['--import', 'tsx', path], {
    env: { ...process.env, EVE_ATTEST_TEST_STORE: store },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk) => {
      said += chunk;
    });
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, said })));
}

if (await needDebian(['postgresql-15'], [])) {
  const server = await PostgresServer.start(postgresPrograms() as string);
  test.after(() => server.stop());

  for (const file of sequences)
    test(`${file} passes on PostgreSQL`, async () => {
      const { code, said } = await runOn(server.url('postgres'), file);
      assert.is(code, 0, said);
      assert.match(said, /Passed: +[1-9]/);
    });
} else test.skip('PostgreSQL is not on this machine', () => {});

test.run();
