// `npm run fuzz -- [TARGET…] [--minutes N] [--seed N]`: looks for inputs that break a reader.
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { projectRoot } from '../kit/root.ts';
import { type FuzzResult, fuzz } from './fuzzer.ts';
import { targets } from './targets.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { minutes: { type: 'string', default: '10' }, seed: { type: 'string', default: '1' } },
});
const wanted = positionals.length === 0 ? targets : targets.filter(({ name }) => positionals.includes(name));
const minutes = Number(values.minutes);
if (wanted.length < positionals.length || !(minutes > 0)) {
  console.error(`usage: npm run fuzz -- [TARGET…] [--minutes N] [--seed N]`);
  console.error(`targets: ${targets.map(({ name }) => name).join(', ')}`);
  process.exit(2);
}

const root = new URL('../../', import.meta.url);
const found = fileURLToPath(new URL('test/fuzz/found/', projectRoot));
const isOurs = (url: string) =>
  ['formats/', 'controller/', 'machines/'].some((folder) => url.startsWith(new URL(folder, root).href));

const line = (result: FuzzResult) =>
  `${result.target.padEnd(12)} ${result.inputs} inputs in ${result.seconds.toFixed(0)} s (${Math.round(result.inputs / result.seconds)}/s), ` +
  `${result.corpus} of them new, ${result.reached} blocks, slowest ${result.slowestMs.toFixed(1)} ms, found ${result.found.length}`;

let broken = 0;
let inputs = 0;
for (const target of wanted) {
  const result = await fuzz(target, {
    seconds: (60 * minutes) / wanted.length,
    seed: Number(values.seed),
    wanted: isOurs,
    onProgress: (so) => console.log(`  ${line(so)}`),
  });
  console.log(line(result));
  inputs += result.inputs;
  for (const { bytes, fault } of result.found) {
    broken++;
    mkdirSync(found, { recursive: true });
    const name = `${target.name}-${createHash('sha256').update(bytes).digest('hex').slice(0, 16)}.bin`;
    writeFileSync(join(found, name), bytes);
    console.log(
      `  ${fault.what}: ${fault.detail.split('\n').slice(0, 4).join('\n    ')}\n    kept as test/fuzz/found/${name}`,
    );
  }
}
console.log(`${inputs} inputs, ${broken} broke a reader`);
process.exit(broken === 0 ? 0 : 1);
