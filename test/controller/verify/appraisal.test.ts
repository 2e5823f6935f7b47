// Evidence of nobody that EVC knows, judged by a policy that is written down: what is real, what shows enough, and what does neither.
import { generateKeyPairSync, sign } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type AppraisalPolicy, appraise, type Submitted } from '../../../controller/verify/appraisal.ts';
import { bareKey, type StatedPcrs } from '../../../controller/verify/quote.ts';
import { parseLog } from '../../../formats/eventlog/parse.ts';
import { replay } from '../../../formats/eventlog/replay.ts';
import { EventType } from '../../../formats/eventlog/types.ts';
import { encode } from '../../../formats/tpm2/codec.ts';
import { TPM_ALG, TPM_GENERATED_VALUE, TPM_ST } from '../../../formats/tpm2/constants.ts';
import { digestSize, type HashName, hashId } from '../../../formats/tpm2/hash.ts';
import { pcrDigest, pcrSelection } from '../../../formats/tpm2/pcrs.ts';
import { TPMS_ATTEST, TPMT_SIGNATURE } from '../../../formats/tpm2/structures.ts';
import { hash, madeLog, readEventLog, sent } from '../../kit/eventlogs.ts';

const log = readEventLog('eve/binary_bios_measurement');
const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const nonce = Buffer.from('a nonce of this test');
const boot = [0, 1, 2, 3, 4, 5, 6, 7];
type Banks = Partial<Record<HashName, readonly number[]>>;

/** What a TPM holds after the boot of this log. */
function valuesOf(bytes: Uint8Array, banks: Banks): StatedPcrs {
  const stated: StatedPcrs = {};
  for (const [name, pcrs = []] of Object.entries(banks)) {
    const bank = name as HashName;
    const { pcrs: reached } = replay([parseLog(bytes)], bank, hash);
    stated[bank] = new Map(
      pcrs.map((pcr) => [pcr, new Uint8Array(reached.get(pcr) ?? new Uint8Array(digestSize(bank)))]),
    );
  }
  return stated;
}

/** @param change of the values before they are signed */
function quoteOf(banks: Banks, extraData: Uint8Array, bytes = log, change?: (stated: StatedPcrs) => void) {
  const pcrs = valuesOf(bytes, banks);
  change?.(pcrs);
  const pcrSelect = Object.entries(banks).map(([bank, of = []]) => pcrSelection(bank as HashName, of));
  const attest = encode(TPMS_ATTEST, {
    magic: TPM_GENERATED_VALUE,
    type: TPM_ST.ATTEST_QUOTE,
    qualifiedSigner: new Uint8Array(34),
    extraData,
    clockInfo: { clock: 1000n, resetCount: 5, restartCount: 0, safe: true },
    firmwareVersion: 7n,
    attested: { pcrSelect, pcrDigest: pcrDigest(hash, 'sha256', pcrSelect, pcrs) },
  } as never);
  const raw = sign('sha256', attest, { key: pair.privateKey, dsaEncoding: 'ieee-p1363' });
  const signature = encode(TPMT_SIGNATURE, {
    sigAlg: TPM_ALG.ECDSA,
    signature: { hash: hashId('sha256'), signatureR: raw.subarray(0, 32), signatureS: raw.subarray(32) },
  });
  return { attest, signature, pcrs };
}

const submitted = (banks: Banks, change: Partial<Submitted> = {}): Submitted => ({
  evidence: quoteOf(banks, nonce),
  key: bareKey(pair.publicKey),
  qualifyingData: nonce,
  logs: sent(log),
  last: null,
  ...change,
});
const policy = (change: Partial<AppraisalPolicy> = {}): AppraisalPolicy => ({
  pcrs: new Map([['sha256', boot]]),
  values: [],
  log: true,
  secureBoot: false,
  ...change,
});
const both = new Map<HashName, readonly number[]>([
  ['sha256', boot],
  ['sha384', boot],
]);

function judged(what: Submitted, wanted = policy()) {
  const { genuine, accepted, reasons, quote } = appraise(what, wanted);
  return { verdict: [genuine, accepted], codes: reasons.map(({ code }) => code), reasons, quote };
}

test('a quote over what the policy asks, with the log that leads there, is accepted', () => {
  const { verdict, codes, quote } = judged(submitted({ sha256: boot }));
  assert.equal([verdict, codes], [[true, true], []]);
  assert.equal([...(quote?.pcrs.keys() ?? [])], boot);
});

test('a second bank that the policy asks about has to be covered, all of it', () => {
  assert.equal(judged(submitted({ sha256: boot, sha384: boot }), policy({ pcrs: both })).verdict, [
    true,
    true,
  ]);
  const without = judged(submitted({ sha256: boot }), policy({ pcrs: both, log: false }));
  assert.equal(without.verdict, [true, false], 'real, and too little');
  assert.ok(without.codes.includes('evidence.quote.bank'));
  const part = judged(
    submitted({ sha256: boot, sha384: [0, 1, 2, 4, 5, 6] }, { logs: [] }),
    policy({ pcrs: both, log: false }),
  );
  assert.equal(part.verdict, [true, false]);
  assert.equal(
    part.reasons.map(({ code, pcr }) => [code, pcr]),
    [
      ['evidence.quote.selection', 3],
      ['evidence.quote.selection', 7],
    ],
  );
});

test('a quote over fewer PCRs than the policy asks about is real, and too little', () => {
  const { verdict, codes, quote } = judged(submitted({ sha256: [0, 1, 2, 3, 4, 5, 6] }));
  assert.equal([verdict, codes, quote], [[true, false], ['evidence.quote.selection'], null]);
});

test('no log: asked for by the log or by Secure Boot, and by nobody else', () => {
  const none = submitted({ sha256: boot }, { logs: [] });
  for (const wanted of [{ log: true }, { log: false, secureBoot: true }]) {
    const { verdict, codes } = judged(none, policy(wanted));
    assert.equal([verdict, codes], [[true, false], ['evidence.log.absent']]);
  }
  assert.equal(judged(none, policy({ log: false })).verdict, [true, true]);
});

test('a log that was sent has to be true, though nobody asked for it', () => {
  const other = sent(readEventLog('eve/TpmLogs.last_good_log.bin'));
  const { verdict, codes } = judged(submitted({ sha256: boot }, { logs: other }), policy({ log: false }));
  assert.equal(verdict, [false, false]);
  assert.ok(codes.includes('evidence.log.mismatch'));
});

test('what firmware and boot loader logged beside the policy’s PCRs has to be true as well; what the system extends has not', () => {
  const all = [...boot, 8, 9, 10, 14];
  const wanted = policy({ pcrs: new Map([['sha256', [0, 4, 7]]]) });
  const spoil = (pcr: number) => (stated: StatedPcrs) => {
    const values = new Map(stated.sha256);
    values.set(pcr, new Uint8Array(32).fill(9));
    stated.sha256 = values;
  };
  for (const pcr of [1, 2, 3, 5, 6, 8, 9]) {
    const evidence = quoteOf({ sha256: all }, nonce, log, spoil(pcr));
    const { verdict, reasons } = judged(submitted({}, { evidence }), wanted);
    assert.equal(
      [verdict, reasons.map(({ code, pcr: of }) => [code, of])],
      [[false, false], [['evidence.log.mismatch', pcr]]],
      `PCR ${pcr}`,
    );
  }
  for (const pcr of [10, 14]) {
    const evidence = quoteOf({ sha256: all }, nonce, log, spoil(pcr));
    assert.equal(judged(submitted({}, { evidence }), wanted).verdict, [true, true], `PCR ${pcr}`);
  }
  const settings = policy({ pcrs: new Map([['sha256', [1]]]) });
  for (const pcr of [0, 4, 7]) {
    const evidence = quoteOf({ sha256: all }, nonce, log, spoil(pcr));
    const { verdict, reasons } = judged(submitted({}, { evidence }), settings);
    assert.equal(
      [verdict, reasons.map(({ code, pcr: of }) => [code, of])],
      [[false, false], [['evidence.log.mismatch', pcr]]],
      `PCR ${pcr}`,
    );
  }
});

test('what the system extends has not to be true though the log has a part of it', () => {
  const bytes = madeLog([0, 4, 10].map((pcr) => ({ pcr, type: EventType.EV_POST_CODE, data: `of ${pcr}` })));
  const spoil = (stated: StatedPcrs) => {
    stated.sha256 = new Map(stated.sha256).set(10, new Uint8Array(32).fill(9));
  };
  const evidence = quoteOf({ sha256: [0, 4, 10] }, nonce, bytes, spoil);
  const of = (...pcrs: number[]) => policy({ pcrs: new Map([['sha256', pcrs]]) });
  const what = submitted({}, { evidence, logs: sent(bytes) });
  assert.equal(judged(what, of(0, 4)).verdict, [true, true]);
  assert.equal(judged(what, of(0, 4, 10)).codes, ['evidence.log.mismatch'], 'asked about, it has');
});

test('PCR 0 and PCR 4 that nobody extended are refused where the policy asks about them', () => {
  const empty = (pcr: number) => (stated: StatedPcrs) => {
    const values = new Map(stated.sha256);
    values.set(pcr, new Uint8Array(32));
    stated.sha256 = values;
  };
  for (const pcr of [0, 4]) {
    const evidence = quoteOf({ sha256: boot }, nonce, log, empty(pcr));
    const { verdict, reasons } = judged(submitted({}, { evidence }));
    assert.equal(verdict, [false, false]);
    assert.equal(
      reasons.map(({ code, pcr: of }) => [code, of]),
      [['evidence.pcr.not-extended', pcr]],
    );
  }
  const evidence = quoteOf({ sha256: [1, 2, 7] }, nonce);
  assert.equal(
    judged(submitted({}, { evidence }), policy({ pcrs: new Map([['sha256', [1, 2, 7]]]) })).verdict,
    [true, true],
    'of what is not asked about, nothing has to be there',
  );
});

test('values: of a PCR one of those that are written down, and of one that is covered', () => {
  const value = Buffer.from(valuesOf(log, { sha256: [7] }).sha256?.get(7) ?? []).toString('hex');
  const one = (allowed: readonly string[], pcr = 7) =>
    judged(submitted({ sha256: boot }), policy({ values: [{ bank: 'sha256', pcr, allowed }] }));
  assert.equal(one(['00', value]).verdict, [true, true]);
  const other = one(['00', '11']);
  assert.equal([other.verdict, other.codes], [[true, false], ['policy.pcr.unexpected']]);
  assert.equal(
    other.reasons.map(({ pcr, seen, allowed }) => [pcr, seen, allowed]),
    [[7, value, '00 or 11']],
  );
  const uncovered = one([value], 9);
  assert.equal(uncovered.verdict, [true, false]);
  assert.is(uncovered.reasons[0]?.seen, 'not covered by the quote');
});

test('Secure Boot: on where the log vouches for it, and off else', () => {
  const wanted = policy({ secureBoot: true, log: false });
  const off = judged(submitted({ sha256: boot }), wanted);
  assert.equal([off.verdict, off.codes], [[true, false], ['policy.secure-boot.off']]);
  assert.equal([off.reasons[0]?.pcr, off.reasons[0]?.allowed], [7, 'on']);
  const signed = readEventLog('ovmf/deb2022-crb-shim-grub-sb/binary_bios_measurements');
  const evidence = quoteOf({ sha256: boot }, nonce, signed);
  const on = judged(submitted({}, { evidence, logs: sent(signed) }), wanted);
  assert.equal([on.verdict, on.codes], [[true, true], []]);
});

test('who sends no key, an empty nonce or none is refused by name', () => {
  const why = { code: 'evidence.identity.key', text: 'a key of anybody' };
  const keyless = judged(submitted({ sha256: boot }, { key: why }));
  assert.equal([keyless.verdict, keyless.codes], [[false, false], ['evidence.identity.key']]);
  const empty = judged(submitted({ sha256: boot }, { qualifyingData: new Uint8Array() }));
  assert.equal([empty.verdict, empty.codes], [[false, false], ['evidence.quote.nonce']]);
  const none = judged(submitted({ sha256: boot }, { qualifyingData: null }));
  assert.equal([none.verdict, none.codes], [[false, false], ['evidence.nonce.none']]);
  // The quote of nobody’s nonce that has one byte, zero: what stands in for a nonce answers none.
  const zero = {
    ...submitted({}),
    evidence: quoteOf({ sha256: boot }, Uint8Array.of(0)),
    qualifyingData: null,
  };
  assert.equal(judged(zero).codes, ['evidence.nonce.none']);
  const fewer = judged({ ...submitted({ sha256: [0] }), qualifyingData: null });
  assert.ok(fewer.codes.includes('evidence.quote.selection'), 'what else is wrong is said as well');
  assert.is(fewer.codes.at(-1), 'evidence.nonce.none');
});

test('another nonce is refused, and is no quote that is only too little', () => {
  const { verdict, codes, quote } = judged(submitted({ sha256: boot }, { qualifyingData: Buffer.from('x') }));
  assert.equal([verdict, codes, quote], [[false, false], ['evidence.quote.nonce'], null]);
});

test('a clock that ran back refuses; one that is worth a note does not', () => {
  const last = { resetCount: 5, restartCount: 0, clock: 1000n, firmware: 7n };
  assert.equal(judged(submitted({ sha256: boot }, { last })).verdict, [true, true]);
  const back = judged(submitted({ sha256: boot }, { last: { ...last, resetCount: 6 } }));
  assert.equal(back.verdict, [false, false]);
  assert.equal(back.codes, ['evidence.clock.reset-count']);
  const noted = judged(submitted({ sha256: boot }, { last: { ...last, firmware: 6n } }));
  assert.equal([noted.verdict, noted.codes], [[true, true], ['evidence.tpm.firmware-changed']]);
});

test('a policy without PCRs is none', () => {
  assert.throws(
    () => appraise(submitted({ sha256: boot }), policy({ pcrs: new Map() })),
    /^a policy needs PCRs$/,
  );
});

test.run();
