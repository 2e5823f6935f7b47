// What is remembered of a boot, and what is wrong with its logs although they lead to the right values.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { knowsBoot, replayBoot } from '../../../controller/verify/known-boots.ts';
import { type EventFields, EventType, separatorData } from '../../../formats/eventlog/types.ts';
import { headerEvent, writeLog } from '../../../formats/eventlog/write.ts';
import { FormatError } from '../../../formats/format-error.ts';
import { hashId } from '../../../formats/tpm2/hash.ts';
import { hash, type MadeEvent, madeEvent, madeLog, sent } from '../../kit/eventlogs.ts';

const faultsOf = (...logs: Uint8Array[]) =>
  replayBoot(sent(...logs), 'sha256').faults.map(({ code, pcr, event }) => `${code} ${pcr} ${event}`);
const faultsOfMade = (...events: MadeEvent[]) => faultsOf(madeLog(events));
const zeros = separatorData[0] as Uint8Array;
const ofNothing = hash('sha256', new Uint8Array());
const action = (pcr: number, data: string, measured = data): MadeEvent => ({
  pcr,
  type: EventType.EV_EFI_ACTION,
  data,
  measured,
});

test('a boot is replayed once: it is known by the hashes of its logs, in their order, and the bank', () => {
  const [one, two] = [madeLog([action(4, 'known once')]), madeLog([action(4, 'known twice')])];
  assert.not(knowsBoot(sent(one, two), 'sha256'));
  const boot = replayBoot(sent(one, two), 'sha256');
  assert.ok(knowsBoot(sent(one, two), 'sha256'));
  assert.is(replayBoot(sent(one, two), 'sha256'), boot);
  for (const logs of [sent(two, one), sent(one), sent(two)]) assert.not(knowsBoot(logs, 'sha256'));
  assert.not(knowsBoot(sent(one, two), 'sha384'));
});

test('what cannot be read is known no better the second time', () => {
  const logs = sent(Buffer.from('no log of any firmware, and long enough to be one: '.repeat(3)));
  for (let n = 0; n < 2; n++)
    assert.throws(
      () => replayBoot(logs, 'sha256'),
      (error: unknown) => error instanceof FormatError,
    );
  assert.not(knowsBoot(logs, 'sha256'));
});

test('a separator that is called something else is a fault up to PCR 7, where firmware has separators', () => {
  const program = (pcr: number, measured: Uint8Array): MadeEvent => ({
    pcr,
    type: EventType.EV_EFI_BOOT_SERVICES_APPLICATION,
    data: 'path',
    measured,
  });
  for (const data of separatorData)
    assert.equal(faultsOfMade(program(7, data), program(0, data), program(8, data)), [
      'evidence.log.type-edited 7 1',
      'evidence.log.type-edited 0 2',
    ]);
  // An event whose data are always measured has no fault for measuring four zeros where no firmware ends.
  assert.equal(faultsOf(madeLog([{ pcr: 14, type: EventType.EV_EFI_ACTION, data: zeros }])), []);
  assert.equal(faultsOf(madeLog([{ pcr: 4, type: EventType.EV_SEPARATOR, data: zeros }])), []);
});

test('a root file system of no bytes is one in PCR 13 alone', () => {
  const program = { type: EventType.EV_EFI_BOOT_SERVICES_APPLICATION, data: 'path', measured: ofNothing };
  assert.equal(faultsOfMade({ pcr: 4, ...program }, { pcr: 13, ...program }), [
    'evidence.log.rootfs-not-measured 13 2',
  ]);
});

const written = (...events: EventFields[]) =>
  writeLog({ format: 'crypto-agile', events: [headerEvent(['sha256', 'sha1']), ...events] });

test('what was not extended has no fault', () => {
  const digests = [{ hashAlg: hashId('sha256'), digest: hash('sha256', ofNothing) }];
  const event = { pcr: 13, type: EventType.EV_NO_ACTION as number, data: Buffer.from('a'), digests };
  assert.equal(faultsOf(written(event)), []);
  assert.equal(faultsOf(written({ ...event, type: EventType.EV_IPL })), [
    'evidence.log.rootfs-not-measured 13 1',
  ]);
});

test('an event without a digest in this bank is not judged by that of the one before', () => {
  const banks = ['sha256', 'sha1'] as const;
  const after = madeEvent(action(14, 'b'), banks);
  const [sha256, sha1] = after.digests;
  assert.equal(
    faultsOf(
      written(madeEvent(action(14, 'a'), banks), { ...after, digests: [sha1 as (typeof after.digests)[0]] }),
    ),
    [],
  );
  assert.ok(sha256);
});

test('events are numbered through all logs of a boot', () => {
  const [first, second] = [madeLog([action(4, 'a')]), madeLog([action(14, 'b'), action(14, 'c', 'd')])];
  assert.equal(faultsOf(first, second), ['evidence.log.data-edited 14 4']);
});

test('of very many faults the first twenty are told', () => {
  const forged = Array.from({ length: 25 }, (_, n) => action(14, `a${n}`, 'b'));
  assert.equal(
    faultsOfMade(...forged),
    Array.from({ length: 20 }, (_, n) => `evidence.log.data-edited 14 ${n + 1}`),
  );
});

/** Boots of one log, told apart by their hash as it is said, until the first of them is forgotten. */
function remembered(bytes: Uint8Array, name: string, most: number): number {
  const boot = (n: number) => [{ bytes, sha256: `${name} ${n}` }];
  for (let n = 0; n < most; n++) {
    replayBoot(boot(n), 'sha256');
    if (!knowsBoot(boot(0), 'sha256')) return n;
  }
  return most;
}

test('what is remembered has a bound, and words that a log brings count', () => {
  const MiB = 1024 * 1024;
  const long = 'x'.repeat(2000);
  const forged = madeLog(Array.from({ length: 20 }, (_, n) => action(14, `${n} ${long}`, 'b')));
  const { faults } = replayBoot(sent(forged), 'sha256');
  const words = 2 * faults.reduce((sum, { seen }) => sum + (seen as string).length, 0);
  const kept = remembered(forged, 'words', 1000);
  assert.ok(kept * words < 64 * MiB, `${kept} boots with ${words} bytes of words`);
  assert.ok(kept * (words + 20 * 1024) > 48 * MiB, `${kept} boots`);
});

test.run();
