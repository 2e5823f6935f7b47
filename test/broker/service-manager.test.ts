// What systemd hears, by a socket as systemd's and by its own program.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { patienceOf, ServiceManager } from '../../broker/service-manager.ts';
import { needDebian } from '../kit/debian.ts';

const folder = mkdtempSync(join(tmpdir(), 'eve-notify-'));
const socket = join(folder, 'notify');
const here = await needDebian(['systemd', 'perl-base'], ['systemd-notify', 'perl']);
/** Prints each datagram. It takes no file descriptors, which ends the wait of systemd-notify as systemd does. */
const receive =
  'use Socket; socket(S,AF_UNIX,SOCK_DGRAM,0); bind(S,pack_sockaddr_un($ARGV[0])); while(defined recv(S,$b,4096,0)){syswrite STDOUT,"$b\n"}';
let said = '';
let wake = () => {};
const listener = here ? spawn('perl', ['-e', receive, socket]) : null;
listener?.stdout.on('data', (chunk) => {
  said += chunk;
  wake();
});
while (here && !existsSync(socket)) await setImmediate();

test.after(() => {
  listener?.kill();
  rmSync(folder, { recursive: true });
});

async function heard(words: RegExp): Promise<void> {
  while (!words.test(said)) {
    await new Promise<void>((resolve) => {
      wake = resolve;
    });
  }
}

test('how long a part may be silent is what the unit says', () => {
  assert.is(patienceOf({}), 30_000);
  assert.is(patienceOf({ WATCHDOG_USEC: '60000000' }), 60_000);
  for (const WATCHDOG_USEC of ['', 'soon', '-5', '0', '1e30'])
    assert.is(patienceOf({ WATCHDOG_USEC }), 30_000, WATCHDOG_USEC);
});

test('without a socket nothing is said', () => {
  const manager = new ServiceManager({ WATCHDOG_USEC: '1000' });
  manager.ready('serves');
  manager.stopping('ends');
  manager.close();
});

if (here) {
  test('one whose store hangs says no more that it lives', async () => {
    said = '';
    let [asked, release] = [0, () => {}];
    const hanging = new Promise<void>((resolve) => {
      release = resolve;
    });
    const manager = new ServiceManager({ NOTIFY_SOCKET: socket, WATCHDOG_USEC: '6000' });
    manager.ready('hangs', async () => {
      asked++;
      await hanging;
    });
    await heard(/STATUS=hangs/);
    // A sign of life would have come before this one.
    new ServiceManager({ NOTIFY_SOCKET: socket }).stopping('the next');
    await heard(/STATUS=the next/);
    assert.is(asked, 1);
    assert.not.match(said, 'WATCHDOG=1');
    release();
    await heard(/WATCHDOG=1/);
    manager.close();
  });

  test('it is ready, lives, and stops', async () => {
    said = '';
    const manager = new ServiceManager({ NOTIFY_SOCKET: socket, WATCHDOG_USEC: '30000' });
    manager.ready('serves devices');
    await heard(/READY=1[\s\S]*WATCHDOG=1[\s\S]*WATCHDOG=1/);
    assert.match(said, 'STATUS=serves devices');
    manager.stopping('finishes');
    await heard(/STOPPING=1/);
    manager.close();
  });

  test('a watchdog of another process is not ours', async () => {
    said = '';
    let asked = 0;
    const env = { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '3000', WATCHDOG_PID: '1' };
    const manager = new ServiceManager(env);
    manager.ready('of another', async () => {
      asked++;
    });
    await heard(/STATUS=of another/);
    assert.is(asked, 0);
    manager.close();
  });
}

test.run();
