// deadline: 60 s
// A file that takes no more: whoever writes is told, and does not wait.
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Failure } from '../../../controller/cli/failure.ts';
import { openOutput } from '../../../controller/cli/output-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'evc-output-'));
test.after(() => rmSync(folder, { recursive: true }));

/** Of random letters, which gzip does not make small. */
const much = Buffer.from(crypto.getRandomValues(new Uint8Array(60_000))).toString('base64');

for (const name of ['full', 'full.gz'])
  test(`a write to a disk that is full fails, and so does its end: ${name}`, async () => {
    const path = join(folder, name);
    symlinkSync('/dev/full', path);
    const output = await openOutput(path);
    const failure = (error: unknown) => {
      assert.instance(error, Failure, `${error}`);
      const { message, code, exitCode, hint } = error as Failure;
      assert.match(message, `${path} cannot be written: ENOSPC`);
      assert.equal([code, exitCode, hint], ['output.failed', 1, 'give another file with -o FILE']);
    };
    const writing = async () => {
      for (let i = 0; i < 100; i++) await output.write(much);
      throw new Error('it was written');
    };
    await writing().catch(failure);
    await output.write('more').then(() => assert.unreachable(), failure);
    await output.close().then(() => assert.unreachable(), failure);
  });

test.run();
