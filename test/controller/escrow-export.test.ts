// deadline: 120 s
// Keys out for safe-keeping and back: only what is lost comes back, and only where the record lists it.
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OperatorError } from '../../controller/decision.ts';
import { ExportError, ExportReader, type KeptKey } from '../../controller/escrow-export.ts';
import { encryptJwe } from '../../controller/jwe.ts';
import { ApiBench } from '../kit/api.ts';
import { escrowKey } from '../kit/controller.ts';
import { rejects } from '../kit/rejects.ts';

const bench = await ApiBench.open();
const { evc } = bench.evc;
const { store, escrowExport } = evc;
const { trusted, uud, board } = await bench.devices();
test.after(async () => {
  await bench.close();
  await board.close();
});

const { publicKey, privateKey } = generateKeyPairSync('x25519');
const to = publicKey.export({ type: 'spki', format: 'pem' }).toString();
const box = await escrowKey(bench.evc, trusted, 'k');
const row = async () => {
  const found = await store.escrowed(trusted.id, 1);
  assert.ok(found);
  return found;
};
const keysOf = async (limit = 100) => {
  const reader = new ExportReader(privateKey);
  const keys: KeptKey[] = [];
  let after = '';
  for (let pages = 1; ; pages++) {
    const page = await escrowExport.page(to, { after, limit });
    keys.push(...reader.page(page.sealed));
    if (page.next === null) {
      reader.end();
      return { keys, pages, lost: page.lost };
    }
    after = page.next;
  }
};
const outcomes = async (keys: readonly KeptKey[], reason?: string, accounts: string[] | null = null) =>
  (
    await escrowExport.restore(keys, { by: 'ann', accounts, ...(reason === undefined ? {} : { reason }) })
  ).map(({ outcome }) => outcome);
const whole = (await keysOf()).keys;

test('an export holds each key that is kept, sealed as it is, in pages of any size', async () => {
  assert.equal(
    whole.map(({ device, version, keyId, box: kept }) => [device, version, keyId, kept]),
    [[trusted.id, 1, 'k', Buffer.from(box).toString('base64')]],
  );
  const small = await keysOf(1);
  assert.equal([small.keys, small.pages], [whole, 2]);
  await rejects(
    escrowExport.page('no key', { limit: 1 }),
    OperatorError,
    ({ code }) => code === 'export.key',
  );
});

test('what is there stays as it is', async () => {
  assert.equal(await outcomes(whole, 'to be sure'), ['there']);
  const [key] = whole as [KeptKey];
  const other = Buffer.from(await escrowKey(bench.evc, uud, 'u')).toString('base64');
  assert.equal(await outcomes([{ ...key, box: other }], 'another'), ['there']);
  assert.equal((await row()).box, box);
});

test('a key that the store lost comes back, with a reason, and it is in the audit log', async () => {
  const good = await row();
  assert.ok(await store.restoreEscrow({ ...good, box: Uint8Array.of(7) }, good.box));
  assert.is((await keysOf()).lost, 1);
  assert.equal(await outcomes(whole), ['missing']);
  assert.equal((await row()).box, Uint8Array.of(7), 'it was only looked at');
  await rejects(outcomes(whole, ' '), OperatorError, ({ code }) => code === 'reason.missing');
  const [key] = whole as [KeptKey];
  const wrong: [Partial<KeptKey>, string][] = [
    [{ device: 'ab'.repeat(32) }, 'unlisted'],
    [{ device: trusted.id.slice(0, 20) }, 'unlisted'],
    [{ version: 2 }, 'unlisted'],
    [{ keyId: 'l' }, 'unlisted'],
    [{ box: 'AAAA' }, 'unreadable'],
  ];
  for (const [change, outcome] of wrong)
    assert.equal(await outcomes([{ ...key, ...change }], 'x'), [outcome], JSON.stringify(change));
  assert.equal(await outcomes(whole, 'x', ['other']), ['unlisted'], 'of another account');
  assert.equal(await outcomes(whole, 'the disk was lost'), ['restored']);
  assert.equal(await row(), good);
  const [entry] = await store.audits({ limit: 1, subject: trusted.id });
  assert.equal(
    [entry?.what, entry?.by, entry?.reason, entry?.account, entry?.after],
    ['escrow.restored', 'ann', 'the disk was lost', 'factory', { version: 1, keyId: 'k' }],
  );
  assert.equal(await outcomes(whole, 'again'), ['there']);
});

test('a file that is cut short, put together or made for another key is refused', async () => {
  const first = (await escrowExport.page(to, { limit: 1 })) as { sealed: string; next: string };
  const last = await escrowExport.page(to, { limit: 1, after: first.next });
  const refused = (code: string, read: (reader: ExportReader) => unknown, key = privateKey) => {
    try {
      read(new ExportReader(key));
    } catch (error) {
      assert.instance(error, ExportError, `${error}`);
      assert.is((error as ExportError).code, code);
      return;
    }
    assert.unreachable(`should have been refused with ${code}`);
  };
  refused('export.incomplete', (reader) => reader.end());
  refused('export.incomplete', (reader) => {
    reader.page(first.sealed);
    reader.end();
  });
  refused('export.incomplete', (reader) => reader.page(last.sealed));
  refused('export.incomplete', (reader) => {
    reader.page(first.sealed);
    reader.page(last.sealed);
    reader.page(first.sealed);
  });
  refused('export.file', (reader) => reader.page('{}'));
  refused('export.file', (reader) => reader.page(encryptJwe(publicKey, Buffer.from('{"format":"x"}'))));
  refused('export.file', (reader) => reader.page(encryptJwe(publicKey, Buffer.from('no JSON'))));
  refused(
    'export.other-key',
    (reader) => reader.page(first.sealed),
    generateKeyPairSync('x25519').privateKey,
  );
});

test.run();
