// True evidence, and one thing spoiled at a time: each is refused for its own reason.
import { createHash } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Basis, type Presented, verify } from '../../../controller/verify/verify.ts';
import { quote } from '../../../device/tpm/quote.ts';
import { parseLog } from '../../../formats/eventlog/parse.ts';
import { type EventFields, EventType } from '../../../formats/eventlog/types.ts';
import { writeLog } from '../../../formats/eventlog/write.ts';
import type { LogPart, Verdict } from '../../../machines/flow.ts';
import { evePolicyPcrs, eveQuotePcrs } from '../../../machines/pcrs.ts';
import {
  baselineOf,
  LabBoard as Lab,
  type LabBoard,
  labNonce,
  onBoard,
  withBaseline,
} from '../../kit/evidence.ts';

const now = Date.UTC(2026, 5, 1);
const berlin = { latitude: 52.52, longitude: 13.405, accuracy: 10, at: now };

/** Codes that decide: notes about a clock after a power cut are none. */
const notes = ['evidence.clock.unsafe', 'evidence.tpm.firmware-changed'];
function codes({ findings }: Verdict): string[] {
  return findings
    .filter(({ code }) => !notes.includes(code))
    .map(({ code, pcr }) => (pcr === undefined ? code : `${code} ${pcr}`));
}

/** Not genuine, for these reasons, and nothing of the evidence in the verdict. */
function refusedAs(presented: Presented, basis: Basis, expected: string[]): void {
  const verdict = verify(presented, basis, now);
  assert.equal(codes(verdict), expected);
  assert.equal(
    [
      verdict.genuine,
      verdict.accepted,
      verdict.grounds,
      verdict.pcrs,
      verdict.logs,
      verdict.versions,
      verdict.clock,
      verdict.location,
    ],
    [false, false, null, {}, [], null, null, { fix: null, vouched: false, moved: false }],
  );
}

/** Genuine and not wanted, for a reason that comes first. */
function unwanted(presented: Presented, basis: Basis, first: string): Verdict {
  const verdict = verify(presented, basis, now);
  assert.equal([verdict.genuine, verdict.accepted, verdict.grounds], [true, false, null]);
  assert.is(verdict.findings[0]?.code, first);
  return verdict;
}

function trusted(presented: Presented, basis: Basis, grounds: Verdict['grounds']): Verdict {
  const verdict = verify(presented, basis, now);
  assert.equal(
    [verdict.genuine, verdict.accepted, verdict.grounds, codes(verdict)],
    [true, true, grounds, []],
  );
  return verdict;
}

const flipped = (bytes: Uint8Array, at: number) => {
  const copy = Uint8Array.from(bytes);
  const index = at < 0 ? copy.length + at : at;
  copy[index] = (copy[index] ?? 0) ^ 1;
  return copy;
};

/** The firmware's log with its events changed; what is not touched keeps its bytes. */
function relogged(
  { boot }: Presented,
  change: (events: EventFields[]) => EventFields[],
): { boot: { logs: LogPart[] } } {
  const logs = boot.logs.map((part) => {
    if (part.kind !== 'bios') return part;
    const { format, events } = parseLog(part.bytes);
    const plain = events.map(({ pcr, type, digests, data }) => ({ pcr, type, digests, data }));
    return partOf(part.kind, writeLog({ format, events: change(plain) }));
  });
  return { boot: { logs } };
}

function partOf(kind: LogPart['kind'], bytes: Uint8Array): LogPart {
  return { kind, bytes, sha256: createHash('sha256').update(bytes).digest('hex') };
}

const withUpgrade = (basis: Basis, upgrade: Basis['software']['upgrade']): Basis => ({
  ...basis,
  software: { ...basis.software, upgrade },
});

// ---- What is true is believed

test('the first boot is taken as it is, and the baseline from then on', () =>
  onBoard(async (board, presented, basis) => {
    const first = trusted(
      presented,
      { ...basis, software: { ...basis.software, baseline: null } },
      'first-boot',
    );
    assert.equal(
      first.logs,
      presented.boot.logs.map(({ sha256 }) => sha256),
    );
    assert.equal(first.versions, { image: '1.0.0', firmware: '1.0.0' });
    assert.equal(
      evePolicyPcrs.map((pcr) => first.pcrs[pcr]),
      evePolicyPcrs.map((pcr) => Buffer.from(presented.pcrs.get(pcr) ?? []).toString('hex')),
    );
    trusted(presented, basis, 'baseline');
    await board.boot();
    trusted(await board.present(), basis, 'baseline');
  }));

test('a quote that bears the nonce alone is genuine, and its location is not vouched for', () =>
  onBoard(async (board, _, basis) => {
    const verdict = trusted(
      await board.present({ claims: null }),
      { ...basis, place: { locked: berlin, radius: 1 } },
      'baseline',
    );
    assert.equal(verdict.location, { fix: null, vouched: false, moved: false });
    assert.equal(verdict.versions, { image: '1.0.0', firmware: '1.0.0' });
  }));

test('a power cut before the boot is a note and no failure', () =>
  onBoard(async (board, presented, basis) => {
    assert.ok(verify(presented, basis, now).findings.some(({ code }) => code === 'evidence.clock.unsafe'));
    assert.is(verify(presented, basis, now).clock?.safe, false);
    await board.shutdown();
    await board.boot();
    const orderly = verify(await board.present(), basis, now);
    assert.equal([orderly.accepted, orderly.clock?.safe, orderly.findings], [true, true, []]);
  }));

// ---- Freshness

test('an old quote, sent again for another nonce', () =>
  onBoard(async (board, presented, basis) => {
    const fresh = Buffer.alloc(32, 7);
    const asked = { ...basis, nonceHash: (await board.basis(fresh)).nonceHash };
    refusedAs(presented, asked, ['evidence.nonce.other']);
    // The nonce beside it can be lied about; the one in the quote cannot.
    refusedAs({ ...presented, nonce: fresh }, asked, ['evidence.quote.nonce']);
    const plain = await board.present({ claims: null });
    refusedAs({ ...plain, nonce: fresh }, asked, ['evidence.quote.nonce']);
  }));

test('claims swapped beside a valid quote: location, token, version, or left out', () =>
  onBoard(
    (board, presented, basis) => {
      const other = (options: Parameters<LabBoard['claims']>[0]) => ({
        ...presented,
        claims: board.claims({ location: berlin, ...options }),
      });
      trusted(other({}), basis, 'baseline');
      refusedAs(other({ location: { ...berlin, latitude: 48.1 } }), basis, ['evidence.quote.nonce']);
      refusedAs(other({ location: null }), basis, ['evidence.quote.nonce']);
      refusedAs(other({ tokenHash: Buffer.alloc(32, 9) }), basis, ['evidence.quote.nonce']);
      refusedAs(other({ versions: { image: '2.0.0' } }), basis, ['evidence.quote.nonce']);
      refusedAs({ ...presented, claims: null }, basis, ['evidence.quote.nonce']);
    },
    { location: berlin },
  ));

test('claims that cannot be read, and claims without a token', () =>
  onBoard(async (board, presented, basis) => {
    refusedAs({ ...presented, claims: Buffer.from('08ffffffffffffffffffff', 'hex') }, basis, [
      'evidence.claims.malformed',
    ]);
    const long = new Uint8Array(4096);
    refusedAs({ ...presented, claims: long }, basis, ['evidence.claims.malformed']);
    const tokenless = await board.present({ claims: board.claims({ tokenHash: new Uint8Array() }) });
    refusedAs(tokenless, basis, ['evidence.claims.malformed']);
  }));

// ---- Identity

test('a quote of another TPM', () =>
  onBoard(async (_, __, basis) => {
    const other = await Lab.open();
    try {
      await other.boot();
      refusedAs(await other.present(), basis, ['evidence.quote.signature']);
    } finally {
      await other.close();
    }
  }));

test('a key record that was tampered with: another public area, no area, no key at all', () =>
  onBoard(async (board, presented, basis) => {
    const other = await Lab.open();
    try {
      const theirs = (await other.basis()).key as NonNullable<Basis['key']>;
      const ours = basis.key as NonNullable<Basis['key']>;
      refusedAs(presented, { ...basis, key: { ...theirs, akPublic: ours.akPublic } }, [
        'evidence.identity.name',
      ]);
      refusedAs(presented, { ...basis, key: { akName: 'ab', akPublic: '0001' } }, ['evidence.identity.key']);
      refusedAs(presented, { ...basis, key: null }, ['evidence.identity.unknown']);
    } finally {
      await other.close();
    }
    // The device key signs what it is given, so nothing that it signs is a quote.
    const { device } = await board.keys();
    const unrestricted = {
      akName: Buffer.from(device.name).toString('hex'),
      akPublic: Buffer.from(device.publicBytes).toString('hex'),
    };
    refusedAs(presented, { ...basis, key: unrestricted }, ['evidence.identity.key']);
  }));

// ---- Quote

test('no quote, a quote of a device that had a TPM before, and bytes that no TPM made', () =>
  onBoard((_, presented, basis) => {
    refusedAs({ ...presented, attest: new Uint8Array(), signature: new Uint8Array() }, basis, [
      'evidence.quote.absent',
    ]);
    refusedAs({ ...presented, attest: flipped(presented.attest, 0) }, basis, ['evidence.quote.magic']);
    refusedAs({ ...presented, attest: flipped(presented.attest, 5) }, basis, ['evidence.quote.type']);
    refusedAs({ ...presented, attest: presented.attest.subarray(0, -1) }, basis, [
      'evidence.quote.malformed',
    ]);
    refusedAs({ ...presented, signature: presented.signature.subarray(0, -1) }, basis, [
      'evidence.quote.malformed',
    ]);
    refusedAs({ ...presented, signature: flipped(presented.signature, -1) }, basis, [
      'evidence.quote.signature',
    ]);
  }));

test('no single bit of quote, signature or stated values can be changed', () =>
  onBoard((_, presented, basis) => {
    const believed = (changed: Partial<Presented>) =>
      verify({ ...presented, ...changed }, basis, now).genuine;
    for (let at = 0; at < presented.attest.length; at++)
      assert.not(believed({ attest: flipped(presented.attest, at) }), `attest byte ${at}`);
    for (let at = 0; at < presented.signature.length; at++) {
      assert.not(believed({ signature: flipped(presented.signature, at) }), `signature byte ${at}`);
    }
    for (const pcr of eveQuotePcrs) {
      const pcrs = new Map(presented.pcrs).set(pcr, flipped(presented.pcrs.get(pcr) as Uint8Array, 31));
      refusedAs({ ...presented, pcrs }, basis, ['evidence.quote.digest']);
    }
  }));

test('a quote over fewer PCRs names each that is missing', () =>
  onBoard(async (board, presented, basis) => {
    const fewer = await board.present({ pcrs: eveQuotePcrs.filter((pcr) => pcr !== 13 && pcr !== 14) });
    refusedAs(fewer, basis, ['evidence.quote.selection 13', 'evidence.quote.selection 14']);
    // Stating the values that are missing beside it vouches for nothing.
    refusedAs({ ...fewer, pcrs: presented.pcrs }, basis, [
      'evidence.quote.selection 13',
      'evidence.quote.selection 14',
    ]);
  }));

test('PCR values beside the quote that it does not cover are dropped', () =>
  onBoard(async (board, presented, basis) => {
    const narrow = await board.present({ pcrs: evePolicyPcrs });
    const more = new Map(narrow.pcrs)
      .set(10, Buffer.alloc(32, 1))
      .set(23, Buffer.alloc(32, 2))
      .set(4_000_000_000, Buffer.alloc(1));
    const verdict = trusted({ ...narrow, pcrs: more }, basis, 'baseline');
    assert.equal(Object.keys(verdict.pcrs).map(Number), [...evePolicyPcrs]);
    const without = new Map(presented.pcrs);
    without.delete(7);
    refusedAs({ ...presented, pcrs: without }, basis, ['evidence.quote.digest']);
  }));

test('a quote of the SHA-1 bank', () =>
  onBoard(async (board, presented, basis) => {
    const { ak } = await board.keys();
    const claims = presented.claims as Uint8Array;
    const qualifyingData = createHash('sha256').update(labNonce).update(claims).digest();
    const weak = await quote(board.tpm, ak, { qualifyingData, bank: 'sha1', pcrs: eveQuotePcrs });
    const { findings, genuine } = verify(
      { ...presented, attest: weak.attest, signature: weak.signature },
      basis,
      now,
    );
    assert.not(genuine);
    assert.ok(findings.some(({ code }) => code === 'evidence.quote.bank'));
  }));

test('counters and clock of the TPM never run back', () =>
  onBoard(async (board, presented, basis) => {
    const { clock } = trusted(presented, basis, 'baseline');
    const last = {
      resetCount: clock?.resetCount ?? 0,
      restartCount: clock?.restartCount ?? 0,
      clock: BigInt(clock?.clock ?? 0),
      firmware: BigInt(clock?.firmware ?? 0),
    };
    trusted(presented, { ...basis, lastClock: last }, 'baseline');
    refusedAs(presented, { ...basis, lastClock: { ...last, resetCount: last.resetCount + 1 } }, [
      'evidence.clock.reset-count',
    ]);
    refusedAs(presented, { ...basis, lastClock: { ...last, restartCount: 1 } }, [
      'evidence.clock.restart-count',
    ]);
    // Not sure of its clock after a power cut, so a lag is no proof of anything.
    trusted(presented, { ...basis, lastClock: { ...last, clock: 1n << 40n } }, 'baseline');
    await board.shutdown();
    await board.boot();
    const orderly = await board.present();
    const counts = {
      ...last,
      resetCount: verify(orderly, basis, now).clock?.resetCount ?? 0,
      restartCount: 0,
    };
    refusedAs(orderly, { ...basis, lastClock: { ...counts, clock: 1n << 40n } }, [
      'evidence.clock.backwards',
    ]);
    // Another boot: what the clock said in the one before counts for nothing.
    trusted(orderly, { ...basis, lastClock: { ...last, clock: 1n << 40n } }, 'baseline');
    const other = verify(orderly, { ...basis, lastClock: { ...counts, clock: 0n, firmware: 5n } }, now);
    assert.ok(other.accepted);
    assert.equal(
      other.findings.map(({ code, allowed }) => [code, allowed]),
      [['evidence.tpm.firmware-changed', '5']],
    );
  }));

// ---- Log

test('no event log', () =>
  onBoard((_, presented, basis) => {
    refusedAs({ ...presented, boot: { logs: [] } }, basis, ['evidence.log.absent']);
    refusedAs({ ...presented, boot: { logs: [partOf('bios', new Uint8Array())] } }, basis, [
      'evidence.log.absent',
    ]);
  }));

test('a log cut short, at an event and within one', () =>
  onBoard((_, presented, basis) => {
    const [bios, config] = presented.boot.logs as [LogPart, LogPart];
    const within = {
      boot: { logs: [partOf('bios', bios.bytes.subarray(0, bios.bytes.length - 3)), config] },
    };
    const { findings } = verify({ ...presented, ...within }, basis, now);
    assert.is(findings[0]?.code, 'evidence.log.truncated');
    const at = parseLog(bios.bytes).events.at(-1);
    const shorter = relogged(presented, (events) => events.slice(0, -1));
    refusedAs({ ...presented, ...shorter }, basis, [`evidence.log.mismatch ${at?.pcr}`]);
    refusedAs({ ...presented, boot: { logs: [bios] } }, basis, ['evidence.log.pcr-without-events 14']);
  }));

test('a log extended by an event that no TPM saw', () =>
  onBoard((_, presented, basis) => {
    const more = relogged(presented, (events) => [...events, { ...(events.at(-1) as EventFields), pcr: 13 }]);
    refusedAs({ ...presented, ...more }, basis, ['evidence.log.mismatch 13']);
  }));

test('two events of one PCR in another order', () =>
  onBoard((_, presented, basis) => {
    const swapped = relogged(presented, (events) => {
      const [one = 0, two = 0] = events.flatMap(({ pcr }, index) => (pcr === 8 ? [index] : []));
      return events.map(
        (event, index) => (index === one ? events[two] : index === two ? events[one] : event) as EventFields,
      );
    });
    refusedAs({ ...presented, ...swapped }, basis, ['evidence.log.mismatch 8']);
  }));

test('one digest of a log changed', () =>
  onBoard((_, presented, basis) => {
    const changed = relogged(presented, (events) => {
      const at = events.findIndex(({ pcr, type }) => pcr === 4 && type !== EventType.EV_SEPARATOR);
      return events.map((event, index) =>
        index === at
          ? {
              ...event,
              digests: event.digests.map(({ hashAlg, digest }) => ({ hashAlg, digest: flipped(digest, 0) })),
            }
          : event,
      );
    });
    refusedAs({ ...presented, ...changed }, basis, ['evidence.log.mismatch 4']);
  }));

test('the data of an event edited, and its digest left as it is', () =>
  onBoard((_, presented, basis) => {
    const edited = relogged(presented, (events) => {
      const at = events.findIndex(({ type }) => type === EventType.EV_EFI_VARIABLE_DRIVER_CONFIG);
      return events.map((event, index) =>
        index === at ? { ...event, data: flipped(event.data, -1) } : event,
      );
    });
    const { findings, genuine } = verify({ ...presented, ...edited }, basis, now);
    assert.not(genuine);
    assert.equal(
      findings.map(({ code, pcr }) => [code, pcr]),
      [['evidence.log.data-edited', 7]],
    );
  }));

test('something extended after the boot', () =>
  onBoard(async (board, _, basis) => {
    await board.tpm.pcrExtend(13, { sha256: Buffer.alloc(32, 1) });
    refusedAs(await board.present(), basis, ['evidence.log.mismatch 13']);
  }));

test('a log of another boot beside the quote of this one', () =>
  onBoard(async (board, presented, basis) => {
    await board.boot({ version: '2.0.0' });
    const other = await board.present();
    refusedAs(
      { ...other, boot: presented.boot },
      basis,
      [8, 9, 13].map((pcr) => `evidence.log.mismatch ${pcr}`),
    );
  }));

test('a boot whose firmware measured nothing', () =>
  onBoard(async (board, presented, basis) => {
    await board.chip.powerCycle();
    refusedAs({ ...presented, ...(await board.present()), boot: presented.boot }, basis, [
      'evidence.pcr.not-extended 0',
      'evidence.pcr.not-extended 4',
    ]);
  }));

// ---- Policy

test('unknown software is refused, and what differs is named PCR by PCR', () =>
  onBoard(async (board, _, basis) => {
    await board.boot({ version: '6.6.6', cmdline: 'console=tty0 init=/bin/sh' });
    const shown = await board.present();
    const verdict = unwanted(shown, basis, 'policy.software.unknown');
    const pcr9 = verdict.findings.find(({ code, pcr }) => code === 'policy.pcr.unexpected' && pcr === 9);
    assert.is(pcr9?.seen, Buffer.from(shown.pcrs.get(9) ?? []).toString('hex'));
    assert.is(pcr9?.allowed, basis.software.baseline?.pcrs[9]);
    assert.ok(verdict.findings.some(({ code }) => code === 'log.kernel-changed'));
  }));

test('unknown software is not believed about where it is', () =>
  onBoard(async (board, _, basis) => {
    await board.boot({ version: '6.6.6' });
    const shown = await board.present({ claims: board.claims({ location: berlin }) });
    const verdict = unwanted(
      shown,
      { ...basis, place: { locked: { ...berlin, latitude: 0 }, radius: 1 } },
      'policy.software.unknown',
    );
    assert.equal(verdict.location, { fix: null, vouched: false, moved: false });
  }));

test('an unknown version that borrows the name of the baseline', () =>
  onBoard(async (board, _, basis) => {
    await board.boot({ version: '6.6.6' });
    const shown = await board.present({ claims: board.claims({ versions: { image: '1.0.0' } }) });
    unwanted(shown, basis, 'policy.software.unknown');
  }));

test('an image of the catalogue that EVC did not push, and an older one', () =>
  onBoard(async (board, _, basis) => {
    await board.boot({ version: '2.0.0' });
    const shown = await board.present();
    const software = { ...basis.software, catalogue: ['1.0.0', '2.0.0'] };
    unwanted(shown, { ...basis, software }, 'policy.upgrade.not-pushed');
    unwanted(shown, { ...basis, software: { ...software, former: ['2.0.0'] } }, 'policy.version.older');
  }));

test('the upgrade that EVC drives is accepted inside its window alone', () =>
  onBoard(async (board, _, basis) => {
    const image = { version: '2.0.0' };
    await board.boot(image, 'IMGB');
    const shown = await board.present();
    const entries = await board.entries(image);
    trusted(shown, withUpgrade(basis, { to: '2.0.0', until: now, entries }), 'upgrade');
    unwanted(
      shown,
      withUpgrade(basis, { to: '2.0.0', until: now - 1, entries }),
      'policy.upgrade.window-closed',
    );
    unwanted(shown, withUpgrade(basis, { to: '3.0.0', until: now, entries }), 'policy.upgrade.other-version');
    unwanted(
      shown,
      withUpgrade(basis, { to: '2.0.0', until: now, entries: [] }),
      'policy.upgrade.unknown-entries',
    );
  }));

test('an unknown image that names the pushed version, with one known thing replaced', () =>
  onBoard(async (board, _, basis) => {
    const entries = await board.entries({ version: '2.0.0' });
    await board.boot({ version: '2.0.0', cmdline: 'console=tty0 init=/bin/sh' }, 'IMGB');
    const verdict = unwanted(
      await board.present(),
      withUpgrade(basis, { to: '2.0.0', until: now, entries }),
      'policy.upgrade.unknown-entries',
    );
    const unknown = verdict.findings.filter(({ code }) => code === 'policy.entry.unknown');
    assert.ok(unknown.length > 0 && unknown.every(({ pcr }) => pcr === 8));
    const digests = entries.map(({ digests: { sha256 } }) => sha256);
    // What was seen, and what would have been allowed in its place.
    assert.ok(unknown.every(({ seen = '' }) => !digests.includes(seen)));
    assert.ok(unknown.every(({ allowed = '' }) => allowed.split(' ').every((one) => digests.includes(one))));
    assert.ok(unknown.every(({ text }) => /allowed would have been: .*console=ttyS0/.test(text)));
  }));

test('an unknown version that names known events', () =>
  onBoard(async (board, _, basis) => {
    const image = { version: '2.0.0' };
    await board.boot(image, 'IMGB');
    const shown = await board.present({ claims: board.claims({ versions: { image: '9.9.9' } }) });
    const upgrade = { to: '2.0.0', until: now, entries: await board.entries(image) };
    unwanted(shown, withUpgrade(basis, upgrade), 'policy.upgrade.other-version');
  }));

test('firmware that changed with an upgrade is looked up by its own version', () =>
  onBoard(async (board, _, basis) => {
    const image = { version: '2.0.0' };
    const entries = await board.entries(image);
    const withFirmware = { ...image, firmwareVersion: '1.1.0' };
    await board.boot(withFirmware, 'IMGB');
    const shown = await board.present();
    const upgrade = { to: '2.0.0', until: now, entries };
    const refused = unwanted(shown, withUpgrade(basis, upgrade), 'policy.upgrade.unknown-entries');
    assert.ok(refused.findings.some(({ code, pcr }) => code === 'policy.entry.unknown' && pcr === 0));
    const all = await board.entries(withFirmware);
    const firmware = { vendor: '', entries: all.filter(({ pcr }) => [0, 1, 2, 3, 6, 7].includes(pcr)) };
    trusted(
      shown,
      { ...withUpgrade(basis, upgrade), software: { ...basis.software, upgrade, firmware } },
      'upgrade',
    );
    // Measurements of a firmware excuse nothing that the image measures.
    const misused = {
      ...basis.software,
      upgrade: { ...upgrade, entries: [] },
      firmware: { vendor: '', entries: all },
    };
    const verdict = unwanted(shown, { ...basis, software: misused }, 'policy.upgrade.unknown-entries');
    const blamed = new Set(
      verdict.findings.flatMap(({ code, pcr }) => (code === 'policy.entry.unknown' ? [pcr] : [])),
    );
    assert.equal([...blamed].sort(), [13, 5, 8, 9]);
  }));

test('what a person accepted is accepted as it was shown, and not a bit beside it', () =>
  onBoard(async (board, _, basis) => {
    await board.boot({ version: '6.6.6' });
    const shown = await board.present();
    const accepted = { ...basis, software: { ...basis.software, acceptance: baselineOf(shown) } };
    trusted(shown, accepted, 'acceptance');
    await board.boot({ version: '6.6.7' });
    unwanted(await board.present(), accepted, 'policy.software.unknown');
    // An acceptance that lacks a PCR accepts nothing.
    const { 13: _left, ...some } = baselineOf(shown).pcrs;
    const partial = { ...baselineOf(shown), pcrs: some };
    await board.boot({ version: '6.6.6' });
    unwanted(
      await board.present(),
      { ...basis, software: { ...basis.software, acceptance: partial } },
      'policy.software.unknown',
    );
  }));

test('a vouched location outside the locked circle is a movement, and no reason to distrust the software', () =>
  onBoard(
    (_, presented, basis) => {
      const at = (latitude: number, radius: number): Basis => ({
        ...basis,
        place: { locked: { ...berlin, latitude }, radius },
      });
      const here = trusted(presented, at(52.52, 100), 'baseline');
      assert.equal(here.location, { fix: berlin, vouched: true, moved: false });
      const moved = verify(presented, at(52.53, 100), now);
      assert.equal(
        [moved.accepted, moved.location.moved, moved.findings[0]?.code],
        [true, true, 'policy.location.moved'],
      );
      assert.not(verify(presented, at(52.53, 2000), now).location.moved);
    },
    { location: berlin },
  ));

for (const [what, at, counts] of [
  ['an hour old', now - 3_600_000, true],
  ['older than an hour', now - 3_600_001, false],
  ['of the future', now + 3_600_001, false],
] as const)
  test(`a fix that is ${what} ${counts ? 'counts' : 'is as good as none'}`, () =>
    onBoard(
      (_, presented, basis) => {
        const place = { locked: { ...berlin, latitude: 48 }, radius: 100 };
        const { location, accepted } = verify(presented, { ...basis, place }, now);
        const fix = counts ? { ...berlin, at } : null;
        assert.equal({ accepted, ...location }, { accepted: true, fix, vouched: true, moved: counts });
      },
      { location: { ...berlin, at } },
    ));

// ---- Failing closed

test('a baseline whose log does not lead to its values explains no difference', async () => {
  const board = await Lab.open();
  try {
    await board.boot();
    const presented = await board.present();
    const basis = withBaseline(await board.basis(), presented);
    const baseline = basis.software.baseline as NonNullable<Basis['software']['baseline']>;
    const broken = (change: Partial<typeof baseline>) => ({
      ...basis,
      software: { ...basis.software, baseline: { ...baseline, ...change } },
    });
    refusedAs(presented, broken({ pcrs: { ...baseline.pcrs, 4: '00'.repeat(32) } }), ['internal.verify']);
    // The same values need no explanation: a lost log locks nobody out.
    assert.is(verify(presented, broken({ logs: [] }), now).grounds, 'baseline');
    await board.boot({ version: '2.0.0' });
    const changed = await board.present();
    for (const logs of [[], baseline.logs.slice(0, 1)])
      refusedAs(changed, broken({ logs }), ['internal.verify']);
  } finally {
    await board.close();
  }
});

test('an error inside is a refusal that gives nothing away', () =>
  onBoard((_, presented, basis) => {
    const secret = 'the text of an error';
    const throwing = {
      get claims(): Uint8Array {
        throw new RangeError(secret);
      },
    };
    const evidence = Object.defineProperties(
      { ...presented },
      Object.getOwnPropertyDescriptors(throwing),
    ) as Presented;
    const verdict = verify(evidence, basis, now);
    assert.equal([verdict.genuine, verdict.accepted, codes(verdict)], [false, false, ['internal.verify']]);
    assert.not(JSON.stringify(verdict).includes(secret));
    assert.match(verdict.findings[0]?.text ?? '', '(RangeError)');
  }));

test('a baseline is of one board: the same image on another is another boot', async () => {
  const other = await Lab.open();
  try {
    await other.boot({ version: '1.0.0', firmwareVersion: '0.9.0' });
    const theirs = await other.present();
    await onBoard((_, presented, basis) => {
      unwanted(presented, withBaseline(basis, theirs), 'policy.software.unknown');
    });
  } finally {
    await other.close();
  }
});

test.run();
