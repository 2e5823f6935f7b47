// `npm run docs:charts`
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { chartDocuments } from './documents.ts';

const here = import.meta.dirname;
const files = await chartDocuments();
for (const name of readdirSync(here))
  if (/\.(svg|md)$/.test(name) && !files.has(name)) rmSync(join(here, name));
for (const [name, text] of files) writeFileSync(join(here, name), text);
process.stdout.write(`${files.size} files are in docs/charts\n`);
