// deadline: 300 s
// Three controllers on PostgreSQL behind Mosquitto, devices that attest all the time, and one controller after the other
// killed as a pulled plug does it.
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openStore } from '../../controller/store/open.ts';
import { Attester, Fleet } from '../kit/attester.ts';
import { needDebian } from '../kit/debian.ts';
import { enrolled } from '../kit/enrolled.ts';
import { buildLogin, freePort, keepLocal, Mosquitto, mosquittoPackages } from '../kit/mosquitto.ts';
import { PostgresServer, postgresPrograms } from '../kit/postgres.ts';
import { Running, runToEnd } from '../kit/process.ts';

const devices = 12;
const kills = 9;
/** Attestations between two kills. */
const between = 2 * devices;

if (await needDebian(['postgresql-15', ...mosquittoPackages], [])) {
  const folder = mkdtempSync(join(tmpdir(), 'evc-controllers-'));
  const server = await PostgresServer.start(postgresPrograms() as string);
  const store = await server.database();
  const data = join(folder, 'evc');
  const config = join(folder, 'broker');
  const file = await enrolled(data, devices, await openStore(store));
  const [port, ...https] = await Promise.all([freePort(), freePort(), freePort(), freePort()]);
  const made = await runToEnd('evc', [
    ...['broker', 'config', 'mosquitto', '--data', data, '--out', config, '--port', `${port}`],
    ...['--plugin', buildLogin(join(folder, 'evc-login.so'))],
    ...['--login', `https://localhost:${https[0]}/broker/login`],
  ]);
  assert.is(made.code, 0, made.stderr);
  keepLocal(config);
  const broker = await Mosquitto.start(config, port);
  const database = new pg.Pool({ connectionString: store, max: 2 });
  // An ended pool does not wait for its sockets, so the server's last word can come after it.
  database.on('error', () => undefined);

  /** Starts a controller, on the same port whenever it is started anew. */
  async function controller(index: number): Promise<Running> {
    const own = join(folder, `evc-${index}`);
    cpSync(data, own, { recursive: true });
    const running = new Running('evc', [
      ...['serve', '--json', '--data', own, '--store', store, '--broker', `mqtts://localhost:${port}`],
      ...['--https-port', `${https[index]}`],
    ]);
    await running.line(/"kind":"serving"/);
    return running;
  }

  // The first one answers when the broker asks who may log in.
  const first = await controller(0);
  const controllers = [first, ...(await Promise.all([1, 2].map(controller)))];
  const fleet = new Fleet(file, readFileSync(join(data, 'pki/root.cert.pem'), 'utf8'), {
    host: 'localhost',
    port,
  });
  const attesters = file.devices.map((device) => new Attester(fleet, device));

  test.after(async () => {
    for (const attester of attesters) await attester.close();
    for (const running of controllers) await running.stop();
    await broker.stop();
    await database.end();
    await server.stop();
    rmSync(folder, { recursive: true });
  });

  const trusted = attesters.map(() => 0);
  const all = () => trusted.reduce((sum, count) => sum + count, 0);

  /** One attestation; what fails on the way to EVC is tried again, as a device does. */
  async function attested(index: number): Promise<void> {
    for (;;) {
      try {
        await (attesters[index] as Attester).attest();
        (trusted[index] as number)++;
        return;
      } catch (error) {
        const { code = '' } = error as { code?: string };
        // A controller that is gone, or a nonce and a token that another one knows better: never a verdict.
        assert.match(code, /^(link|store|internal|token|evidence\.nonce)\./, `${error}`);
        await delay(50);
      }
    }
  }

  test(`${kills} controllers are killed while ${devices} devices attest, and nothing is lost`, async () => {
    for (const attester of attesters) while (!attester.connected) await delay(20);
    await (attesters[0] as Attester).fetchCertificates();
    let going = true;
    const loops = attesters.map(async (_, i) => {
      while (going) await attested(i);
    });
    for (let round = 0; round < kills; round++) {
      const before = all();
      while (all() < before + between) await delay(20);
      const index = round % controllers.length;
      await (controllers[index] as Running).stop('SIGKILL');
      controllers[index] = await controller(index);
    }
    going = false;
    await Promise.all(loops);
    // What a killed controller left is done by another one.
    const left = async () => Number((await database.query('select count(*) from effects')).rows[0].count);
    while ((await left()) > 0) await delay(200);
    await Promise.all(attesters.map((_, i) => attested(i)));
    while ((await left()) > 0) await delay(50);
    console.log(`${all()} attestations of ${devices} devices while controllers were killed ${kills} times`);
  });

  interface JournalRow {
    event: string;
    body: { attempt?: { id: string } | string; accepted?: boolean; version?: number };
  }

  test('every device ends trusted, and its journal and its record agree', async () => {
    for (const [index, { id }] of file.devices.entries()) {
      const { rows: records } = await database.query(
        'select version, trust, snapshot from records where device = $1',
        [id],
      );
      const { version, trust, snapshot } = records[0];
      const { context } = typeof snapshot === 'string' ? JSON.parse(snapshot) : snapshot;
      const { rows } = await database.query(
        'select event, body from journal where device = $1 order by seq',
        [id],
      );
      const journal = rows.map(({ event, body }) => ({
        event,
        body: typeof body === 'string' ? JSON.parse(body) : body,
      })) as JournalRow[];
      assert.is(trust, 'trusted');
      assert.is(journal.length, Number(version), 'each step stands in the journal once');

      const verdicts = new Map<string, boolean[]>();
      const quotes: string[] = [];
      for (const { event, body } of journal) {
        if (event === 'quote.received') quotes.push((body.attempt as { id: string }).id);
        if (event !== 'verdict.given') continue;
        const attempt = body.attempt as string;
        assert.ok(quotes.includes(attempt), 'no verdict comes before its evidence');
        verdicts.set(attempt, [...(verdicts.get(attempt) ?? []), body.accepted as boolean]);
      }
      assert.ok(
        [...verdicts.values()].every((given) => given.length === 1 && given[0]),
        `each verdict is given once: ${JSON.stringify([...verdicts.values()])}`,
      );
      assert.ok(verdicts.has(quotes.at(-1) as string), 'the last evidence has its verdict');
      assert.ok(
        verdicts.size >= (trusted[index] as number),
        `${verdicts.size} verdicts, and ${trusted[index]} were answered`,
      );
      assert.is(context.verdict.attempt, quotes.at(-1));

      const { rows: held } = await database.query(
        'select version from escrow where device = $1 order by version desc',
        [id],
      );
      const kept = held.map((row) => Number(row.version));
      assert.equal(
        context.escrow.map((one: { version: number }) => one.version),
        kept.slice(0, context.escrow.length),
        'each key of the record is in escrow, and none is younger',
      );
    }
  });
} else test.skip('Mosquitto or PostgreSQL is not on this machine', () => {});

test.run();
