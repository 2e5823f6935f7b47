// `npm run docs:api`: the document, and the types of a client made from it by openapi-typescript, which is in tools/.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { apiDocument } from './document.ts';

const here = import.meta.dirname;
const document = apiDocument();
const paths = { document: join(here, 'openapi.json'), client: join(here, 'client.ts') };
writeFileSync(paths.document, document);
const maker = join(here, '../../tools/node_modules/openapi-typescript/bin/cli.js');
const made = spawnSync(process.execPath, [maker, paths.document, '--output', paths.client], {
  stdio: 'inherit',
});
if (made.status !== 0) process.exit(1);
const hash = createHash('sha256').update(document).digest('hex');
writeFileSync(
  paths.client,
  `// Of the document with SHA-256 ${hash}.\n${readFileSync(paths.client, 'utf8')}`,
);
