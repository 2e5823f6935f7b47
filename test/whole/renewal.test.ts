// deadline: 120 s
// EVC's certificates are renewed while a device is connected: it takes them over without a restart, and no attestation is lost.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Running, runToEnd } from '../kit/process.ts';

const folder = mkdtempSync(join(tmpdir(), 'evc-renew-'));
const data = join(folder, 'evc');
const state = join(folder, 'd');
const env = { EVC_DATA: data };
test.after(() => rmSync(folder, { recursive: true }));

function shown(port: number): Promise<string> {
  const ca = readFileSync(join(data, 'pki/root.cert.pem'));
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ host: 'localhost', servername: 'localhost', port, ca }, () => {
      resolve(socket.getPeerCertificate().fingerprint256);
      socket.destroy();
    });
    socket.once('error', reject);
  });
}

test('renewed under a connected device, and again while it is away', async () => {
  await runToEnd('evc', ['init'], env);
  const evc = new Running('evc', ['serve', '--json', '--mqtt-port', '0', '--https-port', '0'], env);
  const ports = JSON.parse(await evc.line(/"kind":"serving"/)) as { mqttPort: number; httpsPort: number };
  await runToEnd('evc', ['key', 'add', '--out', join(state, 'config'), '--serial', 'renewed-1'], env);
  await runToEnd('eve', ['image', 'create', join(folder, 'i'), '--version', '1.0.0']);
  const run = ['run', '--json', '--state', state, '--image', join(folder, 'i')];
  const complete = /"kind":"state","component":"attest-task".*"state":"complete"/;
  const eve = new Running('eve', run);
  const renewAll = async () => {
    const from = evc.lines.length;
    const done = await runToEnd('evc', ['certificates', 'renew'], env);
    assert.is(done.code, 0, done.stderr);
    // EVC looks by itself, and may do so between the first file and the last.
    for (const name of ['server', 'signing', 'exchange'])
      await evc.line(new RegExp(`"kind":"certificates".*"renewed":\\[[^\\]]*"${name}"`), from);
  };
  try {
    await eve.line(complete);
    await eve.line(/"component":"config-task".*"state":"idle"/);
    const before = await Promise.all([shown(ports.mqttPort), shown(ports.httpsPort)]);
    await renewAll();
    const after = await Promise.all([shown(ports.mqttPort), shown(ports.httpsPort)]);
    assert.is(after[0], after[1]);
    assert.is.not(after[0], before[0]);
    // It attests on the very connection that it had.
    let from = eve.lines.length;
    const rotated = await runToEnd('evc', ['rotate', 'renewed-1'], env);
    assert.is(rotated.code, 0, rotated.stderr);
    await eve.line(/"kind":"state","component":"attest-task".*"state":\{?"nonceWait"/, from);
    await eve.line(complete, from);
    const said = eve.lines.slice(from);
    assert.equal(
      said.filter((line) => /wire\.signature|"kind":"link","at":\d+,"up":false|"phase":"fails"/.test(line)),
      [],
    );

    // Away over two renewals, with certificates and a vault from before.
    assert.is(await eve.stop(), 0);
    await renewAll();
    await renewAll();
    const back = new Running('eve', run);
    from = 0;
    await back.line(complete);
    await back.line(/"component":"config-task".*"state":"idle"/);
    assert.not.match(back.lines.join('\n'), /wire\.signature|certs\./);
    assert.is(await back.stop(), 0);
    const { stdout } = await runToEnd('evc', ['device', 'show', 'renewed-1', '--json'], env);
    assert.is((JSON.parse(stdout) as { trust: string }).trust, 'trusted');

    const { stdout: text, code } = await runToEnd('evc', ['certificates', 'show'], env);
    assert.is(code, 0);
    assert.match(text, /^server +39[67]d/m);
    const wrong = await runToEnd('evc', ['certificates', 'renew', 'root'], env);
    assert.is(wrong.code, 2);
    assert.match(wrong.stderr, '[certificates.unknown]');
  } finally {
    await eve.stop();
    assert.is(await evc.stop(), 0);
  }
});

test.run();
