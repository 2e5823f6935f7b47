// deadline: 120 s
// EVC and a device as services: when they are ready, how they stop, and what they say then.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Running, runToEnd } from '../../kit/process.ts';

const folder = mkdtempSync(join(tmpdir(), 'evc-stop-'));
const data = join(folder, 'evc');
test.after(() => rmSync(folder, { recursive: true }));
await runToEnd('evc', ['init', '--data', data]);

/** For devices, that of the first one; they are installed with it. */
let port = 0;
const serve = (...more: string[]) =>
  new Running('evc', ['serve', '--data', data, '--mqtt-port', `${port}`, '--https-port', '0', ...more]);

function ask(port: number, path: string): Promise<{ status: number; body: unknown }> {
  const ca = readFileSync(join(data, 'pki/root.cert.pem'));
  return new Promise((resolve, reject) => {
    https
      .get({ host: 'localhost', port, path, ca, agent: false }, (response) => {
        let text = '';
        response.on('data', (chunk) => {
          text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) }));
      })
      .on('error', reject);
  });
}

/** Both before the process can do anything about either. */
function signalTwice({ process: { pid } }: Running): void {
  process.kill(pid as number, 'SIGSTOP');
  process.kill(pid as number, 'SIGTERM');
  process.kill(pid as number, 'SIGINT');
  process.kill(pid as number, 'SIGCONT');
}

test('EVC is ready without a token, and stops in order; a device beside it too', async () => {
  const evc = serve('--json');
  const served = JSON.parse(await evc.line(/"kind":"serving"/)) as Record<'httpsPort' | 'mqttPort', number>;
  const { httpsPort } = served;
  port = served.mqttPort;
  assert.equal(await ask(httpsPort, '/healthz'), { status: 200, body: { alive: true } });
  const ready = { ready: true, store: 'ready', broker: 'ready', stopping: false };
  assert.equal(await ask(httpsPort, '/readyz'), { status: 200, body: ready });

  await runToEnd('evc', ['key', 'add', '--out', join(folder, 'd/config')], { EVC_DATA: data });
  await runToEnd('eve', ['image', 'create', join(folder, 'i'), '--version', '1.0.0']);
  const run = ['run', '--json', '--state', join(folder, 'd'), '--image', join(folder, 'i')];
  const eve = new Running('eve', run);
  await eve.line(/"kind":"state","component":"attest-task".*"state":"complete"/);
  assert.is(await evc.stop(), 0);
  const { kind, finished } = JSON.parse(evc.lines.at(-1) ?? '{}') as Record<string, unknown>;
  assert.equal([kind, finished], ['stopped', true]);
  assert.is(await eve.stop(), 0);
  const last = JSON.parse(eve.lines.at(-1) ?? '{}') as Record<string, unknown>;
  assert.is(last.kind, 'stopped');
  assert.is(last.trial, false);
  assert.type(last.reports, 'number');
});

test('whoever signals twice waits for nothing, and the next start finds all in order', async () => {
  const evc = serve();
  await evc.line(/^EVC serves/);
  signalTwice(evc);
  assert.is(await evc.ended, 130);
  const again = serve();
  await again.line(/^EVC serves/);

  const eve = new Running('eve', ['run', '--state', join(folder, 'd')]);
  await eve.line(/attest-task +complete/);
  signalTwice(eve);
  assert.is(await eve.ended, 130);
  const next = new Running('eve', ['run', '--state', join(folder, 'd')]);
  await next.line(/attest-task +complete/);
  assert.is(await next.stop(), 0);
  assert.match(next.lines.at(-1) ?? '', /^the agent has stopped; /);
  assert.is(await again.stop(), 0);
  assert.equal(again.lines.slice(-2), [
    'EVC stops; what is under way is finished and stored first',
    'EVC has stopped; nothing is left to do',
  ]);
});

test.run();
