// deadline: 240 s
// EVC behind a broker that is not its own: two controllers that share a store and a broker, and devices that see neither
// which of them answers nor that one of them is gone.
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import mqtt from 'mqtt';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { needDebian } from '../kit/debian.ts';
import { buildLogin, freePort, keepLocal, Mosquitto, mosquittoPackages } from '../kit/mosquitto.ts';
import { PostgresServer, postgresPrograms } from '../kit/postgres.ts';
import { Running, runToEnd } from '../kit/process.ts';

const complete = (component: string) =>
  new RegExp(`"kind":"state","component":"${component}".*"state":(\\{)?"complete"`);

if (await needDebian(['postgresql-15', ...mosquittoPackages], [])) {
  const folder = mkdtempSync(join(tmpdir(), 'evc-mosquitto-'));
  const data = join(folder, 'evc');
  const config = join(folder, 'broker');
  const server = await PostgresServer.start(postgresPrograms() as string);
  const store = await server.database();
  const [port, https, https2] = [await freePort(), await freePort(), await freePort()];
  const url = `mqtts://localhost:${port}`;
  await runToEnd('evc', ['init', '--data', data]);
  const made = await runToEnd('evc', [
    ...['broker', 'config', 'mosquitto', '--data', data, '--out', config, '--port', `${port}`],
    ...['--plugin', buildLogin(join(folder, 'evc-login.so'))],
    ...['--login', `https://localhost:${https}/broker/login`],
  ]);
  assert.is(made.code, 0, made.stderr);
  keepLocal(config);
  let broker = await Mosquitto.start(config, port);
  const serve = (at: number, files = data) =>
    new Running('evc', [
      ...['serve', '--json', '--data', files, '--store', store, '--broker', url],
      ...['--https-port', `${at}`],
    ]);
  const evc = serve(https);
  await evc.line(/"kind":"serving"/);
  let second: Running | null = null;

  test.after(async () => {
    await second?.stop();
    await evc.stop();
    await broker.stop();
    await server.stop();
    rmSync(folder, { recursive: true });
  });

  const device = async (serial: string) => {
    const state = join(folder, serial);
    const added = await runToEnd('evc', ['key', 'add', '--out', join(state, 'config'), '--serial', serial], {
      EVC_DATA: data,
    });
    assert.is(added.code, 0, added.stderr);
    return new Running('eve', ['run', '--json', '--state', state, '--image', join(folder, 'image')]);
  };
  const trust = async (serial: string) => {
    const { stdout } = await runToEnd('evc', ['device', 'show', serial, '--json'], { EVC_DATA: data });
    return (JSON.parse(stdout) as { trust: string }).trust;
  };

  test('a device is onboarded and attested through Mosquitto, before and after the broker restarts', async () => {
    await runToEnd('eve', ['image', 'create', join(folder, 'image'), '--version', '1.0.0']);
    const eve = await device('m-1');
    try {
      await eve.line(complete('attest-task'));
      assert.is(await trust('m-1'), 'trusted');
      await broker.stop();
      await evc.line(/"kind":"broker".*"connected":false/);
      broker = await Mosquitto.start(config, port);
      const from = eve.lines.length;
      eve.process.kill('SIGHUP');
      await eve.line(complete('attest-task'), from);
      assert.is(await trust('m-1'), 'trusted');
    } finally {
      assert.is(await eve.stop(), 0);
    }
  });

  test('two controllers share devices, and one of them may go', async () => {
    // A controller on another machine has a folder of its own, with the same keys.
    const files = join(folder, 'evc-2');
    cpSync(data, files, { recursive: true });
    second = serve(https2, files);
    await second.line(/"kind":"serving"/);
    const eve = await device('m-2');
    try {
      await eve.line(complete('attest-task'));
      await second.stop('SIGKILL');
      const from = eve.lines.length;
      eve.process.kill('SIGHUP');
      await eve.line(complete('attest-task'), from);
      assert.is(await trust('m-2'), 'trusted');
    } finally {
      assert.is(await eve.stop(), 0);
    }
  });

  test('without a login nobody gets in, and nobody publishes as EVC', async () => {
    const ca = readFileSync(join(config, 'root.pem'));
    const attempt = (username: string, password: string) =>
      mqtt.connectAsync(url, { ca, username, password, reconnectPeriod: 0, connectTimeout: 5000 }).then(
        async (client) => {
          await client.endAsync();
          return 'in';
        },
        (error: Error & { code?: number }) => error.code,
      );
    // 5: not authorized [MQTT 3.1.1, 3.2.2.3].
    assert.is(await attempt('evc', 'guess'), 5);
    assert.is(await attempt('evc', '"}'), 5);
    assert.is(await attempt('0'.repeat(64), 'guess'), 5);
    assert.is(await attempt('evc', readFileSync(join(config, 'secret'), 'utf8').trim()), 'in');
  });
} else test.skip('Mosquitto or PostgreSQL is not on this machine', () => {});

test.run();
