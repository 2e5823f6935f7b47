// Everything that reads what a peer chose to send.
import { createHash, createPublicKey } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { create, toBinary } from '@bufbuild/protobuf';
import { openEvidence } from '../../controller/evidence.ts';
import { grubEvents } from '../../controller/images/grub.ts';
import { readManifest, writeManifest } from '../../controller/images/manifest.ts';
import { readClaims } from '../../controller/verify/freshness.ts';
import { hash } from '../../controller/verify/hash.ts';
import { verifyLog } from '../../controller/verify/log.ts';
import { bareKey, verifyQuote } from '../../controller/verify/quote.ts';
import { coverOf } from '../../formats/eventlog/covers.ts';
import { readEventData } from '../../formats/eventlog/data.ts';
import { describeEvent } from '../../formats/eventlog/describe.ts';
import { diffLogs } from '../../formats/eventlog/diff.ts';
import { bootFacts } from '../../formats/eventlog/facts.ts';
import { type EventLog, parseLog } from '../../formats/eventlog/parse.ts';
import { type CheckedLog, checkReplay, replay } from '../../formats/eventlog/replay.ts';
import { writeLog } from '../../formats/eventlog/write.ts';
import { authenticodeRanges } from '../../formats/image/authenticode.ts';
import { squashfsUsed } from '../../formats/image/squashfs.ts';
import { type Codec, decode, encode } from '../../formats/tpm2/codec.ts';
import type { HashName } from '../../formats/tpm2/hash.ts';
import * as structures from '../../formats/tpm2/structures.ts';
import { decodeBox } from '../../formats/wire/box.ts';
import { openContainer, readMessage } from '../../formats/wire/envelope.ts';
import * as wire from '../../formats/wire/eve_pb.ts';
import { decodeFrame, encodeFrame } from '../../formats/wire/frame.ts';
import { readLogin } from '../../formats/wire/login.ts';
import { parseTopic } from '../../formats/wire/topics.ts';
import { tpmModelOf } from '../../formats/x509/endorsement.ts';
import { certificatesIn, parseCertificate } from '../../formats/x509/parse.ts';
import { projectRoot } from '../kit/root.ts';
import type { Target } from './target.ts';

const fixtures = fileURLToPath(new URL('test/fixtures/', projectRoot));
const recorded = fileURLToPath(new URL('device/boot/recorded/', projectRoot));

function filesBelow(folder: string, fits: RegExp): Uint8Array[] {
  return (readdirSync(folder, { recursive: true }) as string[])
    .filter((name) => fits.test(name))
    .sort()
    .map((name) => new Uint8Array(readFileSync(join(folder, name))))
    .filter(({ length }) => length > 0);
}

function checkedAgainstItself(logs: readonly EventLog[], bank: HashName): CheckedLog {
  const own = replay(logs, bank, hash);
  const quoted = new Map([...own.pcrs].filter(([pcr]) => !own.unmeasured.has(pcr)));
  const check = checkReplay(own, quoted, hash, () => logs);
  if (!check.ok) throw new Error('a log does not lead to its own values');
  return check.log;
}

const eventLogs: Target = {
  name: 'eventlog',
  declared: ['FormatError'],
  seeds: () => [
    ...filesBelow(join(fixtures, 'eventlog'), /eventlog$|\.bin$|measurements$|event_log$/),
    ...filesBelow(recorded, /\.bin$/),
  ],
  run(bytes) {
    const log = parseLog(bytes);
    const [bank] = log.banks;
    for (const event of log.events) {
      readEventData(event);
      describeEvent(event);
      const digest = bank && event.digest(bank);
      if (bank && digest) coverOf(event, digest, bank, hash);
    }
    if (!log.truncated && !sameEvents(parseLog(writeLog(log)), log))
      throw new Error('the log is written as another one than was read');
    if (!bank) return;
    const checked = checkedAgainstItself([log], bank);
    bootFacts(checked);
    if (diffLogs(checked, checked).length > 0) throw new Error('a log differs from itself');
    if (log.banks.includes('sha256')) diffLogs(baseline, checkedAgainstItself([log], 'sha256'));
  },
};
const baseline = checkedAgainstItself(
  [parseLog(new Uint8Array(readFileSync(join(recorded, 'update.before.bin'))))],
  'sha256',
);

function sameEvents(one: EventLog, other: EventLog): boolean {
  const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;
  return (
    one.format === other.format &&
    one.events.length === other.events.length &&
    one.events.every((event, i) => {
      const also = other.events[i] as typeof event;
      const digests = also.digests;
      return (
        event.pcr === also.pcr &&
        event.type === also.type &&
        same(event.data, also.data) &&
        event.digests.length === digests.length &&
        event.digests.every(
          ({ hashAlg, digest }, j) =>
            hashAlg === digests[j]?.hashAlg && same(digest, digests[j]?.digest ?? new Uint8Array()),
        )
      );
    })
  );
}

/** The check as EVC does it: what the log says may be anything, and a refusal is an answer. */
const logVerdicts: Target = {
  name: 'log-verdict',
  declared: [],
  seeds: eventLogs.seeds,
  run(bytes) {
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    verifyLog([{ bytes, sha256 }], { bank: 'sha256', pcrs: baseline.pcrs });
  },
};

const { TPMS_ATTEST, TPMT_SIGNATURE, TPMT_PUBLIC, TPM2B_PUBLIC, TPML_PCR_SELECTION } = structures;
const codecs: readonly Codec<unknown>[] = [
  ...[TPMS_ATTEST, TPMT_SIGNATURE, TPMT_PUBLIC, TPM2B_PUBLIC, TPML_PCR_SELECTION].map(
    (codec) => codec as Codec<unknown>,
  ),
];

/** The first byte chooses the structure. */
const tpm2: Target = {
  name: 'tpm2',
  declared: ['FormatError'],
  seeds: () => {
    const quotes = filesBelow(join(fixtures, 'quotes'), /\.json$/).map(
      (json) => JSON.parse(Buffer.from(json).toString()) as { attest: string; signature: string },
    );
    const tagged = (index: number, bytes: Uint8Array) => Buffer.concat([Buffer.of(index), bytes]);
    return [
      ...quotes.map(({ attest }) => tagged(0, Buffer.from(attest, 'hex'))),
      ...quotes.map(({ signature }) => tagged(1, Buffer.from(signature, 'hex'))),
      ...filesBelow(fixtures, /tpm2b/).flatMap((area) => [tagged(2, area.subarray(2)), tagged(3, area)]),
      tagged(4, Buffer.from('00000001000b03ffff00', 'hex')),
    ];
  },
  run(bytes) {
    const codec = codecs[(bytes[0] ?? 0) % codecs.length] as Codec<unknown>;
    const value = decode(codec, bytes.subarray(1));
    const again = encode(codec, value);
    if (Buffer.compare(again, bytes.subarray(1)) !== 0) throw new Error(`${codec.name} has two encodings`);
  },
};

const quoteKey = bareKey(
  createPublicKey(
    (JSON.parse(readFileSync(join(fixtures, 'quotes/valid-p256.json'), 'utf8')) as { akPem: string }).akPem,
  ),
);

/** Attest and signature, each behind its length. */
const quotes: Target = {
  name: 'quote',
  declared: [],
  seeds: () =>
    filesBelow(join(fixtures, 'quotes'), /\.json$/).map((json) => {
      const quote = JSON.parse(Buffer.from(json).toString()) as { attest: string; signature: string };
      const attest = Buffer.from(quote.attest, 'hex');
      return Buffer.concat([
        Buffer.of(attest.length >> 8, attest.length),
        attest,
        Buffer.from(quote.signature, 'hex'),
      ]);
    }),
  run(bytes) {
    const length = ((bytes[0] ?? 0) << 8) | (bytes[1] ?? 0);
    const attest = bytes.subarray(2, 2 + length);
    const signature = bytes.subarray(2 + length);
    const pcrs = { sha256: new Map(Array.from({ length: 24 }, (_, pcr) => [pcr, new Uint8Array(32)])) };
    verifyQuote(
      { attest, signature, pcrs },
      { key: quoteKey, qualifyingData: Buffer.alloc(32), pcrs: [0, 7] },
    );
  },
};

const messages = [
  wire.ZAttestReqSchema,
  wire.ZRegisterMsgSchema,
  wire.ConfigRequestSchema,
  wire.ZInfoMsgSchema,
  wire.UuidRequestSchema,
  wire.CertsRequestSchema,
];

function attestMessage(): Uint8Array {
  const [log] = eventLogs.seeds();
  return toBinary(
    wire.ZAttestReqSchema,
    create(wire.ZAttestReqSchema, {
      reqType: wire.ZAttestReqType.ATTEST_REQ_QUOTE,
      quote: {
        attestData: new Uint8Array(145).fill(7),
        nonce: new Uint8Array(32),
        tpmtSignature: new Uint8Array(72),
        pcrValues: [{ index: 0, hashAlgo: wire.TpmHashAlgo.SHA256, value: new Uint8Array(32) }],
        tpmBinaryEventLog: log?.subarray(0, 400) ?? new Uint8Array(),
      },
    }),
  );
}

/** What a device sends to EVC: frame, container, message, evidence; the first byte chooses where to begin. */
const wires: Target = {
  name: 'wire',
  declared: ['WireError', 'FormatError', 'LogUnknown'],
  seeds: () => {
    const message = attestMessage();
    const container = toBinary(
      wire.AuthContainerSchema,
      create(wire.AuthContainerSchema, {
        protectedPayload: { payload: message },
        algo: wire.HashAlgorithm.SHA256_32BYTES,
        senderCertHash: new Uint8Array(32),
        signatureHash: new Uint8Array(64),
      }),
    );
    const frame = encodeFrame({ kind: 'request', status: 0, patience: 0, retryAfter: 0, container });
    const tagged = (index: number, bytes: Uint8Array) => Buffer.concat([Buffer.of(index), bytes]);
    const quote = create(wire.ZAttestQuoteSchema, { nonce: new Uint8Array(32), claims: new Uint8Array(8) });
    const topic = `eve/v2/${'ab'.repeat(32)}/up/attest/00aa11bb22cc`;
    return [
      tagged(0, frame),
      tagged(1, message),
      tagged(2, toBinary(wire.ZAttestQuoteSchema, quote)),
      tagged(3, toBinary(wire.ClaimsSchema, create(wire.ClaimsSchema, { tokenHash: new Uint8Array(32) }))),
      tagged(4, Buffer.from(topic)),
      tagged(5, Buffer.from('eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA')),
      tagged(6, new Uint8Array(120)),
    ];
  },
  async run(bytes) {
    const rest = bytes.subarray(1);
    switch ((bytes[0] ?? 0) % 7) {
      case 0: {
        const { container } = decodeFrame(rest);
        return readAll(openContainer(container).payload);
      }
      case 1:
        return readAll(rest);
      case 2:
        await openEvidence(rest, async () => null);
        return;
      case 3:
        readClaims(rest);
        return;
      case 4:
        parseTopic(Buffer.from(rest).toString('utf8'));
        return;
      case 5:
        readLogin(Buffer.from(rest).toString('utf8'));
        return;
      default:
        decodeBox(rest);
    }
  },
};

function readAll(payload: Uint8Array): void {
  const where = { topic: 'eve/v2/x/up/attest/1', status: 0 };
  let refused = 0;
  for (const schema of messages) {
    try {
      readMessage(schema, payload, where);
    } catch (error) {
      if (!(error instanceof Error) || error.name !== 'WireError') throw error;
      refused++;
    }
  }
  if (refused === 0) throw new Error('a message is of every kind at once');
}

/** Certificates of endorsement keys, as a TPM or a file has them. */
const certificates: Target = {
  name: 'certificate',
  declared: ['FormatError'],
  seeds: () => filesBelow(fixtures, /\.der$|cert.*\.pem$|ca\.pem$/),
  run(bytes) {
    for (const der of certificatesIn(bytes, 8)) tpmModelOf(parseCertificate(der));
  },
};

/** Files of images; the first byte chooses the reader. */
const images: Target = {
  name: 'image',
  declared: ['FormatError', 'CatalogueError'],
  seeds: () => {
    const tagged = (index: number, bytes: Uint8Array) => Buffer.concat([Buffer.of(index), bytes]);
    const pe = Buffer.alloc(1024);
    pe.write('MZ', 0);
    pe.writeUInt32LE(128, 60);
    pe.write('PE\0\0', 128);
    pe.writeUInt16LE(1, 134);
    pe.writeUInt16LE(240, 148);
    pe.writeUInt16LE(0x20b, 152);
    pe.writeUInt32LE(512, 212);
    pe.writeUInt32LE(16, 260);
    const squash = Buffer.alloc(96);
    squash.write('hsqs', 0);
    squash.writeBigUInt64LE(96n, 40);
    const script = 'set timeout=5\nif [ -f /a ]; then\n  linux /vmlinuz quiet\nelse\n  echo "$root"\nfi\n';
    const entry = {
      pcr: 9,
      type: 'EV_IPL',
      subject: 'kernel',
      text: 'k',
      digests: { sha256: 'ab'.repeat(32) },
    };
    return [
      tagged(0, pe),
      tagged(1, squash),
      tagged(2, Buffer.from(script)),
      tagged(2, Buffer.from('menuentry "a" { boot }\nfunction f { set x=$1 }\nf 1\n')),
      tagged(3, writeManifest('images', [{ version: '1', entries: [entry] }])),
    ];
  },
  run(bytes) {
    const rest = bytes.subarray(1);
    switch ((bytes[0] ?? 0) % 4) {
      case 0:
        authenticodeRanges(rest, rest.length);
        return;
      case 1:
        squashfsUsed(rest, rest.length);
        return;
      case 2:
        grubEvents(Buffer.from(rest).toString('utf8'), 'grub.cfg');
        return;
      default:
        readManifest('images', rest);
    }
  },
};

export const targets: readonly Target[] = [eventLogs, logVerdicts, tpm2, quotes, wires, certificates, images];
