import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readLogFile } from '../../../device/boot/log.ts';
import { readEventLog } from '../../kit/eventlogs.ts';

let directory: string;

test.before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'eve-log-'));
});
test.after(() => rm(directory, { recursive: true }));

async function file(name: string, content: Uint8Array): Promise<string> {
  await writeFile(join(directory, name), content);
  return join(directory, name);
}

test('a log that is there', async () => {
  const bytes = readEventLog('eve/binary_bios_measurement');
  const read = await readLogFile(await file('log', bytes));
  assert.is(read.kind, 'present');
  assert.ok(read.kind === 'present' && Buffer.from(read.bytes).equals(bytes));
});

test('a file without a size of its own is read to its end, as those of securityfs are', async () => {
  const read = await readLogFile('/proc/self/status');
  assert.ok(read.kind === 'present' && read.bytes.length > 0);
});

test('no file and an empty file are an absent log', async () => {
  assert.equal(await readLogFile(join(directory, 'none')), { kind: 'absent' });
  assert.equal(await readLogFile(await file('empty', new Uint8Array())), { kind: 'absent' });
});

test('what cannot be read says why', async () => {
  assert.equal(await readLogFile(directory), { kind: 'unreadable', reason: 'EISDIR' });
});

test('a log beyond the limit is said to be, one at the limit is read', async () => {
  const path = await file('large', new Uint8Array(70_000));
  assert.equal(await readLogFile(path, 69_999), { kind: 'oversized', limit: 69_999 });
  assert.is((await readLogFile(path, 70_000)).kind, 'present');
});

test.run();
