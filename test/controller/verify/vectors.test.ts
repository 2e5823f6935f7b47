// Published attacks on verifiers and the mistakes behind them, by their numbers. A generator builds true evidence with a real
// TPM, one thing is spoiled, and the verdict has to name it. The last test holds the list: no number without a test.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Basis, type Presented, verify } from '../../../controller/verify/verify.ts';
import { quote } from '../../../device/tpm/quote.ts';
import { parseLog } from '../../../formats/eventlog/parse.ts';
import { type EventFields, EventType } from '../../../formats/eventlog/types.ts';
import { headerEvent, writeLog } from '../../../formats/eventlog/write.ts';
import { decode, encode } from '../../../formats/tpm2/codec.ts';
import { Certify } from '../../../formats/tpm2/commands.ts';
import { TPM_ALG } from '../../../formats/tpm2/constants.ts';
import { digestSize, type HashName, hashId, hashName } from '../../../formats/tpm2/hash.ts';
import { TPMT_SIGNATURE } from '../../../formats/tpm2/structures.ts';
import { eveQuotePcrs } from '../../../machines/pcrs.ts';
import { hash, sent } from '../../kit/eventlogs.ts';
import { LabBoard, labNonce, sha256, withBaseline } from '../../kit/evidence.ts';

const now = Date.UTC(2026, 5, 1);

/** A board that booted, its evidence, and what EVC knows: the verdict over them is "trusted". */
interface Truth {
  board: LabBoard;
  presented: Presented;
  basis: Basis;
}

interface Vector {
  id: string;
  what: string;
  /** What is different from the truth. */
  spoil(truth: Truth): Promise<Partial<Truth>> | Partial<Truth>;
  /** The first finding, with its PCR where it has one; `trusted` where the verifier must not be fooled into a refusal. */
  code: string;
}

type EcdsaSignature = Extract<TPMT_SIGNATURE, { sigAlg: typeof TPM_ALG.ECDSA }>;
const order = 'ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551';

const spoilt = (change: (presented: Presented) => Partial<Presented>) => ({
  spoil: ({ presented }: Truth) => ({ presented: { ...presented, ...change(presented) } }),
});
const evidence = (change: (truth: Truth) => Promise<Presented> | Presented) => ({
  spoil: async (truth: Truth) => ({ presented: await change(truth) }),
});
const known = (change: (basis: Basis, presented: Presented) => Partial<Basis>) => ({
  spoil: ({ basis, presented }: Truth) => ({ basis: { ...basis, ...change(basis, presented) } }),
});

const signature = (change: (signature: EcdsaSignature['signature']) => object) =>
  spoilt((presented) => {
    const { sigAlg, signature: parts } = decode(TPMT_SIGNATURE, presented.signature) as EcdsaSignature;
    const changed = { sigAlg, signature: { ...parts, ...change(parts) } } as EcdsaSignature;
    return { signature: encode(TPMT_SIGNATURE, changed) };
  });
const bytes = (field: 'attest' | 'signature', change: (bytes: Buffer) => Uint8Array) =>
  spoilt((presented) => ({ [field]: change(Buffer.from(presented[field])) }));
const flip = (at: number) => (copy: Buffer) => {
  copy[at] = (copy[at] as number) ^ 1;
  return copy;
};

/** The firmware's log with its events changed; bytes that cannot be written are patched. */
const log = (
  change: (events: EventFields[]) => EventFields[],
  patch: (bytes: Buffer) => Uint8Array = (b) => b,
) =>
  spoilt(({ boot }) => {
    const [bios, ...others] = boot.logs;
    if (!bios) throw new TypeError('the board has no log');
    const { format, events } = parseLog(bios.bytes);
    const plain = events.map(({ pcr, type, digests, data }) => ({ pcr, type, digests, data }));
    const written = patch(Buffer.from(writeLog({ format, events: change(plain) })));
    return {
      boot: { logs: [...sent(written).map((one) => ({ ...one, kind: 'bios' as const })), ...others] },
    };
  });
const rawLog = (patch: (bytes: Buffer) => Uint8Array) => log((events) => events, patch);
const onEvent = (
  fits: (event: EventFields) => boolean,
  change: (event: EventFields) => EventFields | EventFields[],
) =>
  log((events) => {
    const at = events.findIndex(fits);
    if (at < 0) throw new TypeError('no such event');
    return events.flatMap((event, i) => (i === at ? change(event) : event));
  });
const last = (events: EventFields[]) => events.at(-1) as EventFields;
const isSeparator = ({ type, pcr }: EventFields) => type === EventType.EV_SEPARATOR && pcr === 7;

const vectors: Vector[] = [
  // Quote
  {
    id: 'N01',
    what: 'a quote over no PCR at all',
    code: 'evidence.quote.selection 0',
    ...evidence(({ board }) => board.present({ pcrs: [] })),
  },
  {
    id: 'N02',
    what: 'a quote over fewer PCRs than the policy',
    code: 'evidence.quote.selection 3',
    ...evidence(({ board }) => board.present({ pcrs: [0, 1, 2] })),
  },
  {
    id: 'N02',
    what: 'good values extended into PCRs 16 and 23, and quoted as if they were 0 and 7',
    code: 'evidence.quote.selection 0',
    ...evidence(async ({ board, presented }) => {
      for (const [pcr, of] of [
        [16, 0],
        [23, 7],
      ] as const)
        await board.tpm.pcrExtend(pcr, { sha256: presented.pcrs.get(of) as Uint8Array });
      const other = await board.present({ pcrs: [16, 23] });
      return { ...other, pcrs: presented.pcrs };
    }),
  },
  {
    id: 'N02',
    what: 'values beside the quote that it does not cover',
    code: 'trusted',
    ...spoilt(({ pcrs }) => ({ pcrs: new Map(pcrs).set(23, Buffer.alloc(32, 1)) })),
  },
  {
    id: 'N03',
    what: 'a bit of the signature flipped',
    code: 'evidence.quote.signature',
    ...bytes('signature', flip(20)),
  },
  {
    id: 'N03',
    what: 'r = 0',
    code: 'evidence.quote.signature',
    ...signature(() => ({ signatureR: Buffer.alloc(32) })),
  },
  {
    id: 'N03',
    what: 's = 0',
    code: 'evidence.quote.signature',
    ...signature(() => ({ signatureS: Buffer.alloc(32) })),
  },
  {
    id: 'N03',
    what: 'r = n',
    code: 'evidence.quote.signature',
    ...signature(() => ({ signatureR: Buffer.from(order, 'hex') })),
  },
  {
    id: 'N03',
    what: 'r one byte too wide',
    code: 'evidence.quote.signature',
    ...signature(({ signatureR }) => ({ signatureR: Buffer.concat([Buffer.of(1), signatureR]) })),
  },
  {
    id: 'N03',
    what: 'a signature in DER',
    code: 'evidence.quote.malformed',
    ...bytes('signature', (tpmt) => Buffer.concat([Buffer.from('3044', 'hex'), tpmt.subarray(6)])),
  },
  {
    id: 'N03',
    what: 'another hash of the signing scheme',
    code: 'evidence.quote.signature',
    ...signature(() => ({ hash: hashId('sha384') })),
  },
  {
    id: 'N03',
    what: 'SHA-1 as the hash of the signing scheme',
    code: 'evidence.quote.algorithm',
    ...signature(() => ({ hash: hashId('sha1') })),
  },
  {
    id: 'N03',
    what: 'an RSA signature with an EC key',
    code: 'evidence.quote.algorithm',
    ...spoilt(() => ({
      signature: encode(TPMT_SIGNATURE, {
        sigAlg: TPM_ALG.RSASSA,
        signature: { hash: hashId('sha256'), sig: Buffer.alloc(256, 1) },
      }),
    })),
  },
  {
    id: 'N03',
    what: 'the signature of another quote of the same key',
    code: 'evidence.quote.signature',
    ...evidence(async ({ board, presented }) => ({
      ...presented,
      signature: (await board.present({ pcrs: [0] })).signature,
    })),
  },
  { id: 'N04', what: 'another magic', code: 'evidence.quote.magic', ...bytes('attest', flip(0)) },
  {
    id: 'N05',
    what: 'TPM2_Certify by the same key over the right nonce',
    code: 'evidence.quote.type',
    ...evidence(async ({ board, presented }) => {
      const { ak, device } = await board.keys();
      const certified = await board.tpm.execute(Certify, {
        objectHandle: device,
        signHandle: ak,
        qualifyingData: sha256(labNonce, presented.claims as Uint8Array),
        inScheme: { scheme: TPM_ALG.NULL },
      });
      const signed = encode(TPMT_SIGNATURE, certified.signature);
      return { ...presented, attest: certified.certifyInfo, signature: signed };
    }),
  },
  {
    id: 'N06',
    what: 'the SHA-1 bank alone',
    code: 'evidence.quote.bank',
    ...evidence(async ({ board, presented }) => {
      const { ak } = await board.keys();
      const qualifyingData = sha256(labNonce, presented.claims as Uint8Array);
      const weak = await quote(board.tpm, ak, { qualifyingData, bank: 'sha1', pcrs: eveQuotePcrs });
      return { ...presented, attest: weak.attest, signature: weak.signature };
    }),
  },
  {
    id: 'N07',
    what: 'a boot that measured nothing',
    code: 'evidence.pcr.not-extended 0',
    ...evidence(async ({ board, presented }) => {
      await board.chip.powerCycle();
      return { ...(await board.present()), boot: presented.boot };
    }),
  },
  {
    id: 'N07',
    what: 'a log whose firmware does not know the quoted bank',
    code: 'evidence.log.bank 0',
    ...log((events) =>
      events.map((event, i) =>
        i === 0
          ? headerEvent(['sha1'])
          : { ...event, digests: event.digests.filter(({ hashAlg }) => hashAlg === hashId('sha1')) },
      ),
    ),
  },
  {
    id: 'N08',
    what: 'no quote',
    code: 'evidence.quote.absent',
    ...spoilt(() => ({ attest: new Uint8Array(), signature: new Uint8Array() })),
  },
  { id: 'N08', what: 'no PCR values', code: 'evidence.quote.digest', ...spoilt(() => ({ pcrs: new Map() })) },
  { id: 'N08', what: 'no log', code: 'evidence.log.absent', ...spoilt(() => ({ boot: { logs: [] } })) },
  {
    id: 'N09',
    what: 'a byte behind the quote',
    code: 'evidence.quote.malformed',
    ...bytes('attest', (attest) => Buffer.concat([attest, Buffer.of(0)])),
  },
  {
    id: 'N09',
    what: 'a quote that ends too early',
    code: 'evidence.quote.malformed',
    ...bytes('attest', (attest) => attest.subarray(0, -1)),
  },
  {
    id: 'N09',
    what: 'a length past the end',
    code: 'evidence.quote.malformed',
    ...bytes('attest', (attest) => {
      attest[6] = 0xff;
      return attest;
    }),
  },
  {
    id: 'N09',
    what: 'a byte behind the signature',
    code: 'evidence.quote.malformed',
    ...bytes('signature', (tpmt) => Buffer.concat([tpmt, Buffer.of(0)])),
  },

  // Freshness
  {
    id: 'N10',
    what: 'the quote of an earlier request',
    code: 'evidence.quote.nonce',
    ...evidence(async ({ board, presented }) => ({
      ...(await board.present({ nonce: Buffer.alloc(32, 1) })),
      nonce: presented.nonce,
    })),
  },
  {
    id: 'N11',
    what: 'an empty nonce',
    code: 'evidence.nonce.other',
    ...spoilt(() => ({ nonce: new Uint8Array() })),
  },
  {
    id: 'N11',
    what: 'the nonce of another device',
    code: 'evidence.nonce.other',
    ...spoilt(() => ({ nonce: Buffer.alloc(32, 9) })),
  },
  {
    id: 'N12',
    what: 'other claims beside a valid quote',
    code: 'evidence.quote.nonce',
    spoil: ({ board, presented }) => ({
      presented: { ...presented, claims: board.claims({ versions: { image: '9.9.9' } }) },
    }),
  },
  { id: 'N12', what: 'claims left out', code: 'evidence.quote.nonce', ...spoilt(() => ({ claims: null })) },
  {
    id: 'N13',
    what: 'the answer to a nonce that another one replaced',
    code: 'evidence.nonce.other',
    ...known(() => ({ nonceHash: sha256(Buffer.of(1)).toString('hex') })),
  },
  ...(
    [
      ['the reset count fell', { resetCount: 1_000_000 }, 'evidence.clock.reset-count'],
      ['the restart count fell', { restartCount: 1_000_000 }, 'evidence.clock.restart-count'],
    ] as const
  ).map(([what, change, code]) => ({
    id: 'N15',
    what,
    code,
    ...known((basis, presented) => ({ lastClock: { ...clockOf(presented, basis), ...change } })),
  })),
  { id: 'N15', what: 'safe = 0 after a power cut', code: 'trusted', spoil: () => ({}) },
  {
    id: 'N15',
    what: 'boots that nobody attested',
    code: 'trusted with evidence.clock.unseen-resets',
    ...known((basis, presented) => {
      const last = clockOf(presented, basis);
      return { lastClock: { ...last, resetCount: last.resetCount - 2 } };
    }),
  },
  {
    id: 'N16',
    what: 'another firmware of the TPM',
    code: 'trusted with evidence.tpm.firmware-changed',
    ...known((basis, presented) => ({ lastClock: { ...clockOf(presented, basis), firmware: 5n } })),
  },

  // Identity
  {
    id: 'N41',
    what: 'another key on record than the one that was proven',
    code: 'evidence.identity.name',
    ...known(({ key }) => ({ key: { akPublic: key?.akPublic ?? '', akName: `000b${'ab'.repeat(32)}` } })),
  },
  {
    id: 'N44',
    what: 'a key that signs what its holder likes',
    code: 'evidence.identity.key',
    spoil: async ({ board, basis }) => {
      const { device } = await board.keys();
      const hex = (of: Uint8Array) => Buffer.from(of).toString('hex');
      return { basis: { ...basis, key: { akName: hex(device.name), akPublic: hex(device.publicBytes) } } };
    },
  },
  {
    id: 'N46',
    what: 'a quote by a key in software',
    code: 'evidence.quote.signature',
    ...signature(({ signatureS }) => ({ signatureS: Buffer.from(signatureS).reverse() })),
  },
  {
    id: 'N47',
    what: 'the quote of another good device',
    code: 'evidence.quote.signature',
    ...evidence(async () => {
      const other = await LabBoard.open();
      try {
        await other.boot();
        return await other.present();
      } finally {
        await other.close();
      }
    }),
  },

  // Event log
  {
    id: 'N20',
    what: 'a separator under another type',
    code: 'evidence.log.type-edited 7',
    ...onEvent(isSeparator, (event) => ({ ...event, type: EventType.EV_POST_CODE })),
  },
  {
    id: 'N20',
    what: 'a file under the type of words that are always measured',
    code: 'evidence.log.data-edited 9',
    ...onEvent(
      ({ pcr }) => pcr === 9,
      (event) => ({ ...event, type: EventType.EV_EFI_ACTION }),
    ),
  },
  {
    id: 'N21',
    what: 'edited data under the old digest',
    code: 'evidence.log.data-edited 7',
    ...onEvent(
      ({ type }) => type === EventType.EV_EFI_VARIABLE_DRIVER_CONFIG,
      (event) => ({ ...event, data: flip(event.data.length - 1)(Buffer.from(event.data)) }),
    ),
  },
  {
    id: 'N22',
    what: 'a second separator',
    code: 'evidence.log.mismatch 7',
    ...onEvent(isSeparator, (event) => [event, event]),
  },
  {
    id: 'N22',
    what: 'events appended after the last',
    code: 'evidence.log.mismatch 5',
    ...log((events) => [...events, { ...last(events), pcr: 5 }]),
  },
  {
    id: 'N23',
    what: 'all events of a PCR removed',
    code: 'evidence.log.pcr-without-events 13',
    ...log((events) => events.filter(({ pcr }) => pcr !== 13)),
  },
  {
    id: 'N24',
    what: 'a log cut within an event',
    code: 'evidence.log.truncated',
    ...rawLog((whole) => whole.subarray(0, -1)),
  },
  {
    id: 'N24',
    what: 'a log cut between two events',
    code: 'evidence.log.mismatch 5',
    ...log((events) => events.slice(0, -1)),
  },
  {
    id: 'N25',
    what: 'a startup locality that the TPM did not see',
    code: 'evidence.log.mismatch 0',
    ...log(([header, ...events]) => [
      header as EventFields,
      localityEvent(header as EventFields, 3),
      ...events,
    ]),
  },
  {
    id: 'N26',
    what: 'an event that informs, with a digest',
    code: 'trusted',
    ...log((events) => [...events, { ...last(events), type: EventType.EV_NO_ACTION }]),
  },
  {
    id: 'N26',
    what: 'an event that informs, in PCR 0xffffffff',
    code: 'trusted',
    ...log((events) => [...events, { ...last(events), type: EventType.EV_NO_ACTION, pcr: 0xffffffff }]),
  },
  {
    id: 'N27',
    what: 'PCR 0 extended without a word in the log',
    code: 'evidence.log.mismatch 0',
    ...evidence(async ({ board }) => {
      await board.tpm.pcrExtend(0, { sha256: Buffer.alloc(32, 1) });
      return board.present();
    }),
  },
  {
    id: 'N28',
    what: 'an event without a digest in the quoted bank',
    code: 'evidence.log.bank 13',
    ...onEvent(
      ({ pcr }) => pcr === 13,
      (event) => ({ ...event, digests: event.digests.filter(({ hashAlg }) => hashAlg !== hashId('sha256')) }),
    ),
  },
  {
    id: 'N28',
    what: 'an event with no digest at all',
    code: 'evidence.log.bank 13',
    ...onEvent(
      ({ pcr }) => pcr === 13,
      (event) => ({ ...event, digests: [] }),
    ),
  },
  {
    id: 'N28',
    what: 'the digests in another order',
    code: 'trusted',
    ...onEvent(
      ({ pcr }) => pcr === 13,
      (event) => ({ ...event, digests: [...event.digests].reverse() }),
    ),
  },
  {
    id: 'N29',
    what: 'the two events of ExitBootServices left out',
    code: 'trusted',
    ...log((events) =>
      events.filter(
        ({ type, data }) =>
          type !== EventType.EV_EFI_ACTION || !Buffer.from(data).includes('Exit Boot Services'),
      ),
    ),
  },

  // Bombs
  {
    id: 'N30',
    what: 'an event of 3.18 GB',
    code: 'evidence.log.malformed',
    ...rawLog(firstEventSize(3_180_000_000)),
  },
  {
    id: 'N30',
    what: 'an event of 0xffffffff bytes',
    code: 'evidence.log.malformed',
    ...rawLog(firstEventSize(0xffffffff)),
  },
  {
    id: 'N33',
    what: 'PCR 0xfffffffe',
    code: 'evidence.log.malformed',
    ...onEvent(
      ({ pcr }) => pcr === 13,
      (event) => ({ ...event, pcr: 0xfffffffe }),
    ),
  },
  {
    id: 'N35',
    what: '0xffffffff algorithms in the header',
    code: 'evidence.log.malformed',
    ...rawLog((whole) => {
      whole.writeUInt32LE(0xffffffff, 32 + 24);
      return whole;
    }),
  },
  {
    id: 'N35',
    what: 'a log of 100 MB',
    code: 'evidence.log.malformed',
    ...rawLog((whole) => Buffer.concat([whole, Buffer.alloc(100 << 20, 1)])),
  },
  {
    id: 'N35',
    what: 'more logs than a boot has',
    code: 'evidence.log.malformed',
    ...spoilt(({ boot }) => ({ boot: { logs: Array(5).fill(boot.logs[0]) } })),
  },

  // What a device measures
  {
    id: 'N70',
    what: 'another file in /config',
    code: 'policy.software.unknown, and log.config-file-changed 14',
    ...evidence(async ({ board }) => {
      writeFileSync(join(board.config, 'server'), 'mqtts://elsewhere.example\n');
      await board.boot();
      return board.present();
    }),
  },
  {
    id: 'N72',
    what: 'the hash of nothing as the root file system',
    code: 'evidence.log.rootfs-not-measured 13',
    ...evidence(async ({ board }) => {
      const nothing = hash('sha256', new Uint8Array());
      const data = Buffer.from(`squash4 ${Buffer.from(nothing).toString('hex')}\0`);
      await board.bootAs((events) =>
        events.map((event) => {
          if (event.pcr !== 13) return event;
          const { pcr, type, digests } = event;
          const of = (hashAlg: number) => hash(hashName(hashAlg) as HashName, nothing);
          return {
            pcr,
            type,
            data,
            digests: digests.map(({ hashAlg }) => ({ hashAlg, digest: of(hashAlg) })),
          };
        }),
      );
      return board.present();
    }),
  },
];

/** What EVC remembers of the clock after the evidence. */
function clockOf(presented: Presented, basis: Basis): NonNullable<Basis['lastClock']> {
  const { clock } = verify(presented, basis, now);
  if (!clock) throw new TypeError('the evidence is not genuine');
  const { resetCount, restartCount } = clock;
  return { resetCount, restartCount, clock: BigInt(clock.clock), firmware: BigInt(clock.firmware) };
}

function localityEvent(like: EventFields, locality: number): EventFields {
  const digests = [{ hashAlg: hashId('sha256'), digest: new Uint8Array(digestSize('sha256')) }];
  return { ...like, digests, data: Buffer.from(`StartupLocality\0${String.fromCharCode(locality)}`) };
}

/** eventSize of the event after the header. */
function firstEventSize(size: number): (whole: Buffer) => Uint8Array {
  return (whole) => {
    const { events } = parseLog(whole);
    const event = events[1] as (typeof events)[number];
    const at = event.offset + event.size - event.data.length - 4;
    whole.writeUInt32LE(size, at);
    return whole;
  };
}

for (const { id, what, spoil, code } of vectors)
  test(`[${id}] ${what}: ${code}`, async () => {
    const board = await LabBoard.open();
    try {
      await board.boot();
      const presented = await board.present();
      const basis = withBaseline(await board.basis(), presented);
      const truth = { board, presented, basis };
      assert.is(verify(presented, basis, now).accepted, true);

      const lie = { ...truth, ...(await spoil(truth)) };
      const { genuine, accepted, findings } = verify(lie.presented, lie.basis, now);
      const named = findings.map(({ code, pcr }) => (pcr === undefined ? code : `${code} ${pcr}`));
      if (code.startsWith('trusted')) {
        assert.equal([genuine, accepted], [true, true], named.join(', '));
        const note = code.slice('trusted with '.length);
        if (note) assert.ok(named.includes(note), named.join(', '));
        return;
      }
      assert.is(accepted, false);
      const [first, ...others] = code.split(', and ');
      assert.is(named[0], first, named.join(', '));
      for (const other of others) assert.ok(named.includes(other), named.join(', '));
      assert.is(genuine, code.startsWith('policy.'));
    } finally {
      await board.close();
    }
  });

/** Those of the numbers that concern evidence, and not a service of another design. */
const numbers =
  '01 02 03 04 05 06 07 08 09 10 11 12 13 14 15 16 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 40 41 42 43 44 45 46 47 70 71 72'.split(
    ' ',
  );

test('every number has a test that names it', () => {
  const root = new URL('../../', import.meta.url);
  const files = (readdirSync(root, { recursive: true }) as string[]).filter((name) =>
    name.endsWith('.test.ts'),
  );
  const text = files.map((name) => readFileSync(new URL(name, root), 'utf8')).join('\n');
  const named = new Set(vectors.map(({ id }) => id));
  for (const [, list = ''] of text.matchAll(/\[((?:N\d\d(?:, | to )?)+)\]/g))
    for (const id of list.match(/N\d\d/g) ?? []) named.add(id);
  assert.equal(
    numbers.filter((number) => !named.has(`N${number}`)).map((number) => `N${number}`),
    [],
  );
});

test.run();
