// What stands in docs/charts is what the charts are today.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { chartDocuments } from '../../docs/charts/documents.ts';

const folder = join(import.meta.dirname, '../../docs/charts');

test('the pictures and tables of the charts are current; else: npm run docs:charts', async () => {
  const files = await chartDocuments();
  const there = readdirSync(folder).filter((name) => /\.(svg|md)$/.test(name));
  assert.equal(there.sort(), [...files.keys()].sort());
  const stale = [...files].filter(([name, text]) => readFileSync(join(folder, name), 'utf8') !== text);
  assert.equal(
    stale.map(([name]) => name),
    [],
  );
});

test('a table names every transition with its event, condition, target and actions', () => {
  const table = readFileSync(join(folder, 'attest-task.md'), 'utf8');
  assert.match(
    table,
    '| **none.certifying** |  |  |  | Sends the attestation certificate to EVC. asks `sendCertificate` |',
  );
  assert.match(table, '|  | `done` | `challenged` | none.activating | `takeChallenge` |');
  assert.match(table, '|  | `always` | `certified` | nonceWait |  |');
});

test.run();
