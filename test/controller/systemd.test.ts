// The unit of EVC, by systemd's own tools.
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { needDebian } from '../kit/debian.ts';
import { inFolder } from '../kit/folders.ts';
import { projectRoot } from '../kit/root.ts';

const unit = readFileSync(fileURLToPath(new URL('controller/systemd/evc.service', projectRoot)), 'utf8');

test('it says when it is ready and that it lives, and leaves no core dump', () => {
  for (const line of ['Type=notify', 'NotifyAccess=all', 'WatchdogSec=60', 'Restart=always', 'LimitCORE=0'])
    assert.ok(unit.split('\n').includes(line), line);
  // It finishes for 20 s at most, and then closes.
  assert.ok(Number(/^TimeoutStopSec=(\d+)$/m.exec(unit)?.[1]) > 30);
});

if (await needDebian(['systemd'], ['systemd-analyze'])) {
  test('systemd reads it without a complaint, and it exposes little', () =>
    inFolder((folder) => {
      const file = join(folder, 'evc.service');
      writeFileSync(file, unit.replace('ExecStart=evc ', 'ExecStart=/bin/true '));
      const verified = spawnSync('systemd-analyze', ['verify', file], { encoding: 'utf8' });
      assert.equal([verified.status, `${verified.stdout}${verified.stderr}`], [0, '']);
      const args = ['security', '--offline=true', '--threshold=20', file];
      const { status, stdout } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
      assert.is(status, 0, stdout);
    }));
}

test.run();
