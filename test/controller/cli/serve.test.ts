// deadline: 120 s
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import mqtt from 'mqtt';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { DeviceView } from '../../../controller/operator.ts';
import { Running, runToEnd } from '../../kit/process.ts';

const folder = mkdtempSync(join(tmpdir(), 'evc-kill-'));
test.after(() => rmSync(folder, { recursive: true }));

const state = (name: string) =>
  new RegExp(`"kind":"state","component":"attest-task".*"state":(\\{)?"${name}"`);

test('EVC is killed in the middle of an attestation: nothing is lost, and the device is trusted again', async () => {
  const data = join(folder, 'evc');
  await runToEnd('evc', ['init', '--data', data]);
  const serve = (mqtt: string) =>
    new Running('evc', ['serve', '--json', '--data', data, '--mqtt-port', mqtt, '--https-port', '0']);
  const show = async () => {
    const { stdout } = await runToEnd('evc', ['device', 'show', 'killed-1', '--json'], { EVC_DATA: data });
    return JSON.parse(stdout) as DeviceView;
  };
  let evc = serve('0');
  const { mqttPort } = JSON.parse(await evc.line(/"kind":"serving"/)) as { mqttPort: number };
  await runToEnd('evc', ['key', 'add', '--out', join(folder, 'd/config'), '--serial', 'killed-1'], {
    EVC_DATA: data,
  });
  const reader = await mqtt.connectAsync(`mqtts://localhost:${mqttPort}`, {
    ...{
      clientId: 'admin:test',
      username: 'admin',
      password: readFileSync(join(data, 'token'), 'utf8').trim(),
    },
    ...{ protocolVersion: 4, reconnectPeriod: 0, ca: readFileSync(join(data, 'pki/root.cert.pem')) },
  });
  await reader.subscribeAsync('eve/v2/events/+/default/verdict.given');
  const verdict = new Promise<string>((resolve) =>
    reader.once('message', (_, payload) => resolve(payload.toString())),
  );
  await runToEnd('eve', ['image', 'create', join(folder, 'i'), '--version', '1.0.0']);
  const eve = new Running('eve', [
    'run',
    '--json',
    '--state',
    join(folder, 'd'),
    '--image',
    join(folder, 'i'),
  ]);
  try {
    await eve.line(state('complete'));
    const before = await show();
    assert.match(await verdict, /"type":"eve-attest\.verdict\.given".*"serial":"killed-1".*"accepted":true/);
    reader.end(true);

    const from = eve.lines.length;
    await eve.line(/"component":"config-task".*"state":"idle"/);
    eve.process.kill('SIGHUP');
    // A nonce is out: EVC knows it, and the device has not used it.
    await eve.line(state('internalQuoteWait'), from);
    await evc.stop('SIGKILL');
    evc = serve(`${mqttPort}`);
    await evc.line(/"kind":"serving"/);
    await eve.line(state('complete'), from);

    const after = await show();
    assert.is(after.trust, 'trusted');
    assert.equal(after.baseline, before.baseline);
    assert.equal(after.escrow, before.escrow);
    assert.is(after.uuid, before.uuid);
  } finally {
    assert.is(await eve.stop(), 0);
    assert.is(await evc.stop(), 0);
  }
});

test.run();
