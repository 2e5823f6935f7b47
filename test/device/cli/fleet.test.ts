// deadline: 120 s
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Running, runToEnd } from '../../kit/process.ts';

const folder = mkdtempSync(join(tmpdir(), 'eve-fleet-test-'));
const data = join(folder, 'evc');
const config = join(folder, 'config');
const env = { EVC_DATA: data, TMPDIR: folder };
await runToEnd('evc', ['init'], env);
const evc = new Running('evc', ['serve', '--json', '--mqtt-port', '0', '--https-port', '0'], env);
await evc.line(/"kind":"serving"/);
await runToEnd('evc', ['key', 'add', '--out', config, '--limit', '100'], env);

test.after(async () => {
  await evc.stop();
  rmSync(folder, { recursive: true });
});

interface Phase {
  kind: string;
  phase: string;
  trusted: number;
  refused: number;
  reasons: Record<string, number>;
}

const phases = (stdout: string): Phase[] =>
  stdout
    .split('\n')
    .filter((line) => line.includes('"kind":"phase"'))
    .map((line) => JSON.parse(line) as Phase);
const fleet = (...args: string[]) => runToEnd('eve', ['fleet', ...args, '--config', config], env);
const left = () => readdirSync(folder).filter((name) => name.startsWith('eve-fleet-'));

test('a storm: all come back trusted, and those that were tampered with are refused by name', async () => {
  const ended = await fleet(
    ...['8', '--scenario', 'storm', '--tampered', '25', '--slow', '25:20', '--at-once', '4', '--json'],
  );
  assert.is(ended.code, 0, ended.stderr);
  const [first, storm] = phases(ended.stdout);
  assert.equal([first?.phase, first?.trusted, first?.refused], ['power on', 8, 0]);
  assert.equal([storm?.phase, storm?.trusted, storm?.refused], ['power back', 6, 2]);
  assert.equal(storm?.reasons, { 'policy.software.unknown': 2 });
  assert.equal(left(), []);
});

test('a fleet that is kept comes back as the same devices', async () => {
  const state = join(folder, 'kept');
  const devices = async () =>
    (JSON.parse((await runToEnd('evc', ['status', '--json'], env)).stdout) as unknown[]).length;
  const before = await devices();
  for (let life = 0; life < 2; life++) {
    const eve = new Running('eve', ['fleet', '2', '--config', config, '--state', state, '--json'], env);
    await eve.line(/"kind":"phase".*"trusted":2/);
    assert.is(await eve.stop(), 0);
  }
  assert.is(await devices(), before + 2);
  assert.ok(existsSync(join(state, '00001/persist/tpm.nv')));
});

test('ended in the middle, it goes and leaves nothing', async () => {
  const eve = new Running('eve', ['fleet', '30', '--config', config, '--at-once', '2', '--json'], env);
  await eve.line(/"standing":"attesting"/);
  assert.is(await eve.stop(), 0);
  assert.equal(left(), []);
});

test('what cannot be a fleet is said, with what to do', async () => {
  const said = async (...args: string[]) => {
    const { code, stderr } = await fleet(...args);
    assert.is(code, 2, stderr);
    return stderr;
  };
  assert.match(await said('none'), 'the number of devices: none');
  assert.match(await said('5', '--slow', 'much'), '--slow PERCENT:MS');
  assert.match(await said('5', '--scenario', 'rain'), 'known: steady, storm');
  assert.match(await said('5', '--tampered', '101'), 'a number from 0 to 100');
  const empty = await runToEnd('eve', ['fleet', '2', '--config', folder], env);
  assert.is(empty.code, 1);
  assert.match(empty.stderr, 'evc key add --out DIR --limit N');
  writeFileSync(join(config, 'soft_serial'), 'one');
  const alike = await fleet('2');
  assert.is(alike.code, 1);
  assert.match(alike.stderr, 'gives all devices the same serial number');
});

test.run();
