// `npm run bench -- NAME [--json]` runs NAME beside this file, compiled: a loader in between would be measured as well.
// Each exports `bench`, which returns a table.
import { readdirSync } from 'node:fs';
import { cpus } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface BenchTable {
  /** What is measured, in one sentence. */
  title: string;
  /** One object per line; all have the same keys in the same order. The unit is in the text of the row or the key. */
  rows: Record<string, string | number>[];
  /** What a reader has to know about the numbers. */
  notes: string[];
}

const folder = dirname(fileURLToPath(import.meta.url));
const self = basename(fileURLToPath(import.meta.url));
const names = readdirSync(folder)
  .filter((name) => name.endsWith('.js') && name !== self)
  .map((name) => name.slice(0, -3));

function rounded(value: string | number): string {
  if (typeof value === 'string') return value;
  return value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(2) : value.toPrecision(2);
}

function print(table: BenchTable): void {
  const columns = Object.keys(table.rows[0] ?? {});
  const lines = [columns, ...table.rows.map((row) => columns.map((name) => rounded(row[name] ?? '')))];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)));
  console.log(table.title);
  for (const line of lines)
    console.log(
      line
        .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
        .join('  '),
    );
  for (const note of table.notes) console.log(note);
}

const wanted = process.argv.slice(2).filter((argument) => argument !== '--json');
const name = wanted[0];
if (wanted.length !== 1 || name === undefined || !names.includes(name)) {
  console.log(`usage: npm run bench -- NAME [--json]\nbenchmarks: ${names.join(', ')}`);
  process.exit(name === undefined ? 0 : 2);
}
const { bench } = (await import(join(folder, `${name}.js`))) as { bench(): Promise<BenchTable> };
const table = await bench();
const machine = `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}, Node ${process.versions.node}`;
if (process.argv.includes('--json'))
  console.log(JSON.stringify({ name, machine, at: new Date().toISOString(), ...table }, undefined, 2));
else print({ ...table, notes: [...table.notes, machine] });
