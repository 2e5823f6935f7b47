// Loaded before each test file. When the tests are done and something still keeps the process alive, uvu would
// wait for ever: this names what it is and fails the file.
import { writeSync } from 'node:fs';

const grace = 3000;
let timer: NodeJS.Timeout | undefined;

const original = process.stdout.write.bind(process.stdout);
process.stdout.write = ((chunk: string | Uint8Array, ...rest: never[]) => {
  // uvu prints its summary when the last suite is done.
  if (typeof chunk === 'string' && chunk.includes('  Duration:') && !timer) {
    timer = setTimeout(() => {
      const handles = process
        .getActiveResourcesInfo()
        .filter((name) => name !== 'Timeout' || timerCount() > 1);
      writeSync(2, `leaked handles ${grace} ms after the last test: ${handles.join(', ')}\n`);
      process.exit(1);
    }, grace);
    timer.unref();
  }
  return original(chunk, ...rest);
}) as typeof process.stdout.write;

function timerCount(): number {
  return process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
}
