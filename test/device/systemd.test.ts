// The units, by systemd's own tools: they are read without a complaint, and expose little.
import { spawnSync } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { components } from '../../machines/device-steps.ts';
import { needDebian } from '../kit/debian.ts';
import { inFolder } from '../kit/folders.ts';
import { projectRoot } from '../kit/root.ts';

const units = fileURLToPath(new URL('device/systemd', projectRoot));
const services = readdirSync(units).filter((name) => name.endsWith('.service'));
const here = await needDebian(['systemd'], ['systemd-analyze']);

function analyze(...args: string[]): { code: number | null; said: string } {
  const { status, stdout, stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
  return { code: status, said: `${stdout}${stderr}` };
}

/** The units with a program that is installed here in place of the agent; `change` spoils them. */
function inUnits(work: (folder: string) => void, change = (text: string) => text): Promise<void> {
  return inFolder((folder) => {
    cpSync(units, folder, { recursive: true });
    for (const name of services) {
      const text = readFileSync(join(folder, name), 'utf8');
      writeFileSync(join(folder, name), change(text.replace('ExecStart=eve ', 'ExecStart=/bin/true ')));
    }
    work(folder);
  });
}

const all = (folder: string) => [...services, 'eve.target'].map((name) => join(folder, name));

test('a unit for the whole, and one for each component', () => {
  assert.equal(services.sort(), ['eve-device-steps.service', 'eve.service', 'eve@.service']);
  const target = readFileSync(join(units, 'eve.target'), 'utf8');
  for (const name of components) assert.ok(target.includes(`eve@${name}.service`), name);
});

test('each unit says that it lives, and is started anew when it does not', () => {
  for (const name of services) {
    const text = readFileSync(join(units, name), 'utf8');
    assert.match(text, /^WatchdogSec=60$/m, name);
    assert.match(text, /^NotifyAccess=all$/m, name);
    assert.match(text, /^Restart=always$/m, name);
  }
});

test('no unit leaves a core dump with a key in it', () => {
  for (const name of services) assert.match(readFileSync(join(units, name), 'utf8'), /^LimitCORE=0$/m, name);
});

if (here) {
  test('systemd reads them without a complaint', () =>
    inUnits((folder) => assert.equal(analyze('verify', ...all(folder)), { code: 0, said: '' })));

  test('and complains of what it does not know', () =>
    inUnits(
      (folder) =>
        assert.match(analyze('verify', ...all(folder)).said, /Unknown key (name )?'NoNewPrivilege'/),
      (text) => text.replace('NoNewPrivileges', 'NoNewPrivilege'),
    ));

  // Exposure, times ten: a service without any of this has 96.
  const threshold = ['security', '--offline=true', '--threshold=20'];
  for (const name of services) {
    test(`${name} exposes little`, () =>
      inUnits((folder) => {
        const { code, said } = analyze(...threshold, join(folder, name));
        assert.is(code, 0, said);
        assert.match(said, /Overall exposure level for eve\S*: 1\.\d/);
      }));

    test(`${name} with all capabilities exposes more`, () =>
      inUnits(
        (folder) => assert.is.not(analyze(...threshold, join(folder, name)).code, 0),
        (text) => text.replace(/^(User|CapabilityBoundingSet|SystemCallFilter)=.*$/gm, ''),
      ));
  }
}

test.run();
