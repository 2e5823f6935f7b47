// What a verdict costs: signature, log and replay of a real EVE node, one thread and several. Where one thread works, it is
// this process's CPU time, so that others on the machine do not count.
import { type KeyObject, hash as nodeHash, verify as verifySignature } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { hash } from '../../controller/verify/hash.ts';
import { VerifierPool } from '../../controller/verify/pool.ts';
import { type Basis, type Presented, verify } from '../../controller/verify/verify.ts';
import { parseLog } from '../../formats/eventlog/parse.ts';
import { replay } from '../../formats/eventlog/replay.ts';
import { evePolicyPcrs } from '../../machines/pcrs.ts';
import { SoftQuoter } from '../kit/soft-quote.ts';
import type { BenchTable } from './main.ts';

const recorded = new URL('../../device/boot/recorded/four-banks.bin', import.meta.url);
const log = new Uint8Array(readFileSync(recorded));
const nonce = Buffer.alloc(32, 7);
const sha256 = (bytes: Uint8Array) => nodeHash('sha256', bytes);

interface Subject {
  presented: Presented;
  basis: Basis;
  key: KeyObject;
  signature: Buffer;
}

/** A quote over the PCRs of the log by a key of this process, and a baseline that it is like. */
function subject(): Subject {
  const quoter = new SoftQuoter(log);
  const values = new Map(quoter.pcrs);
  const { attest, signature } = quoter.quote(nonce);
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
  const versions = { image: '1', firmware: '1' };
  const logs = [{ kind: 'bios' as const, bytes: log, sha256: sha256(log) }];
  return {
    key: quoter.key,
    // r and s as they stand in TPMT_SIGNATURE, each behind its size.
    signature: Buffer.concat([signature.subarray(6, 38), signature.subarray(40, 72)]),
    presented: { attest, signature, pcrs: values, nonce, claims: null, versions, boot: { logs } },
    basis: {
      nonceHash: sha256(nonce),
      key: quoter.identity,
      software: {
        baseline: {
          pcrs: Object.fromEntries(
            evePolicyPcrs.map((pcr) => [String(pcr), hex(values.get(pcr) as Uint8Array)]),
          ),
          logs,
          versions,
        },
        acceptance: null,
        upgrade: null,
        firmware: null,
        former: [],
        catalogue: [],
        rules: [],
      },
      place: { locked: null, radius: 0 },
      lastClock: null,
    },
  };
}

/** Median of what one call costs, µs of this process's CPU. */
function cost(run: () => unknown): number {
  for (let i = 0; i < 300; i++) run();
  const rounds = Array.from({ length: 9 }, () => {
    const before = process.cpuUsage();
    const end = performance.now() + 150;
    let count = 0;
    while (performance.now() < end) for (let i = 0; i < 20; i++, count++) run();
    const { user, system } = process.cpuUsage(before);
    return (user + system) / count;
  });
  return rounds.sort((a, b) => a - b)[4] as number;
}

/** Verdicts a second through the pool, wall-clock. */
async function throughput(threads: number, make: () => Presented, basis: Basis): Promise<number> {
  const pool = new VerifierPool(threads);
  const batch = async () => {
    const verdicts = await Promise.all(Array.from({ length: 512 }, () => pool.verify(make(), basis, 0)));
    if (!verdicts.every(({ accepted }) => accepted)) throw new Error('a verdict is wrong');
  };
  await batch();
  const rates: number[] = [];
  for (let round = 0; round < 5; round++) {
    const start = performance.now();
    await batch();
    await batch();
    rates.push((1024 * 1000) / (performance.now() - start));
  }
  await pool.close();
  return rates.sort((a, b) => a - b)[2] as number;
}

export async function bench(): Promise<BenchTable> {
  const { presented, basis, key, signature } = subject();
  const first = verify(presented, basis, 0);
  if (!first.accepted) throw new Error(JSON.stringify(first.findings));
  let serial = 0;
  // As a log that nobody saw before: known logs are told by their hash, and this one always has another.
  const cold = (): Presented => {
    const part = { kind: 'bios' as const, bytes: log, sha256: `${sha256(log)} ${serial++}` };
    return { ...presented, boot: { logs: [part] } };
  };
  const warm = (): Presented => {
    const part = { kind: 'bios' as const, bytes: log, sha256: sha256(log) };
    return { ...presented, boot: { logs: [part] } };
  };
  const p1363 = { key, dsaEncoding: 'ieee-p1363' as const };
  const reference = cost(() => verifySignature('sha256', presented.attest, p1363, signature));
  const row = (what: string, micros: number) => ({
    what,
    'per second': 1e6 / micros,
    µs: micros,
    'of crypto.verify': reference / micros,
  });
  const threads = availableParallelism();
  const rows = [
    row('crypto.verify alone, P-256', reference),
    row(
      'parse',
      cost(() => parseLog(log)),
    ),
    row(
      'parse and replay, SHA-256',
      cost(() => replay([parseLog(log)], 'sha256', hash)),
    ),
    row(
      'parse, replay and crypto.verify',
      cost(() => {
        replay([parseLog(log)], 'sha256', hash);
        verifySignature('sha256', presented.attest, p1363, signature);
      }),
    ),
    row(
      'verdict, log not seen before',
      cost(() => verify(cold(), basis, 0)),
    ),
    row(
      'verdict, log known by its hash',
      cost(() => verify(warm(), basis, 0)),
    ),
  ];
  for (const count of [0, 1, threads]) {
    const rate = await throughput(count, cold, basis);
    rows.push(
      row(
        `512 at once, log not seen before, ${count === 0 ? 'this thread' : `${count} workers`}`,
        1e6 / rate,
      ),
    );
  }
  return {
    title: `Verdicts over a log of an EVE node: ${log.length} bytes, ${parseLog(log).events.length} events, four banks`,
    rows,
    notes: [
      'A verdict: freshness, key on record, signature, covered PCRs, log, every word that firmware always measures,',
      'baseline; the log is hashed in it, to know it again. Rows with workers are wall-clock time, the others CPU time.',
      'Parse, replay and P-256 by go-attestation 0.6.4, on another machine: 0.21 of its crypto.verify.',
    ],
  };
}
