// What stands in docs/api is the API of today.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { apiDocument } from '../../docs/api/document.ts';

const folder = join(import.meta.dirname, '../../docs/api');

test('the document and the client made from it are current; else: npm run docs:api', () => {
  const document = apiDocument();
  assert.is(readFileSync(join(folder, 'openapi.json'), 'utf8'), document);
  const hash = createHash('sha256').update(document).digest('hex');
  const [first] = readFileSync(join(folder, 'client.ts'), 'utf8').split('\n');
  assert.is(first, `// Of the document with SHA-256 ${hash}.`);
});

test.run();
