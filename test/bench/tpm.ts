// The WebAssembly TPM beside Debian's swtpm, the same commands in the same run.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Transport } from '../../device/tpm/transport.ts';
import { openSocketTpm } from '../../device/tpm/transports/socket.ts';
import { openWasmTpm } from '../../device/tpm/transports/wasm.ts';
import { WasmTpm } from '../../wasm/tpm.ts';
import { needDebian } from '../kit/debian.ts';
import * as t from '../kit/tpm-bytes.ts';
import type { BenchTable } from './main.ts';

/** One TPM with what the operations need, made once. */
interface Subject {
  tpm: Transport;
  ak: number;
  srk: number;
  policy: Buffer;
  sealed: Uint8Array;
}

async function ok(tpm: Transport, command: Uint8Array): Promise<Uint8Array> {
  let response = await tpm.send(command);
  // TPM_RC_RETRY: the first use of an object with dictionary attack protection after Startup.
  if (t.rc(response) === 0x922) response = await tpm.send(command);
  if (t.rc(response) !== 0) throw new Error(`TPM_RC ${t.rc(response).toString(16)}`);
  return response;
}

async function prepare(tpm: Transport): Promise<Subject> {
  const ak = t.handleOf(await ok(tpm, t.createPrimary(t.RH.endorsement, t.template.ak())));
  const srk = t.handleOf(await ok(tpm, t.createPrimary(t.RH.owner, t.template.srk())));
  const trial = t.handleOf(await ok(tpm, t.startPolicy('trial')));
  await ok(tpm, t.policyPcr(trial, 0, 7));
  const policy = t.sizeds(t.body(await ok(tpm, t.policyDigest(trial))), 1)[0] ?? Buffer.alloc(0);
  await ok(tpm, t.flush(trial));
  const sealed = await ok(tpm, t.create(srk, t.template.sealed(policy), Buffer.alloc(32, 1)));
  return { tpm, ak, srk, policy, sealed };
}

const operations: { name: string; rounds: number; run(subject: Subject): Promise<void> }[] = [
  {
    name: 'PCR_Read, 8 PCRs',
    rounds: 400,
    run: async ({ tpm }) => void (await ok(tpm, t.pcrRead(0, 1, 2, 3, 4, 5, 6, 7))),
  },
  {
    name: 'PCR_Extend',
    rounds: 400,
    // A PCR that the policy of the sealed secret does not look at.
    run: async ({ tpm }) => void (await ok(tpm, t.pcrExtend(16, Buffer.alloc(32, 1)))),
  },
  {
    name: 'Quote, ECDSA P-256',
    rounds: 200,
    run: async ({ tpm, ak }) =>
      void (await ok(tpm, t.quote(ak, Buffer.alloc(32, 2), 0, 1, 2, 3, 4, 5, 6, 7))),
  },
  {
    name: 'Seal to PCRs (Create)',
    rounds: 200,
    run: async ({ tpm, srk, policy }) =>
      void (await ok(tpm, t.create(srk, t.template.sealed(policy), Buffer.alloc(32, 1)))),
  },
  {
    name: 'Unseal: Load, session, PolicyPCR, Unseal',
    rounds: 200,
    run: async ({ tpm, srk, sealed }) => {
      const item = t.handleOf(await ok(tpm, t.load(srk, sealed)));
      const session = t.handleOf(await ok(tpm, t.startPolicy()));
      await ok(tpm, t.policyPcr(session, 0, 7));
      // continueSession is clear, so the session ends here.
      await ok(tpm, t.unseal(item, { handle: session, attributes: 0 }));
      await ok(tpm, t.flush(item));
    },
  },
  {
    name: 'CreatePrimary, ECC P-256',
    rounds: 60,
    run: async ({ tpm }) => {
      const made = t.handleOf(await ok(tpm, t.createPrimary(t.RH.owner, t.template.srk())));
      await ok(tpm, t.flush(made));
    },
  },
];

interface Spread {
  median: number;
  p95: number;
  mean: number;
}

function spread(times: number[]): Spread {
  const sorted = [...times].sort((a, b) => a - b);
  const quantile = (part: number) => sorted[Math.floor((sorted.length - 1) * part)] ?? Number.NaN;
  return {
    median: quantile(0.5),
    p95: quantile(0.95),
    mean: times.reduce((sum, time) => sum + time, 0) / times.length,
  };
}

/** Milliseconds per operation of each subject, their rounds taken in turns so that a busy machine hits all alike. */
async function measure(operation: (typeof operations)[number], subjects: Subject[]): Promise<Spread[]> {
  const times = subjects.map(() => [] as number[]);
  const batch = Math.ceil(operation.rounds / 10);
  for (let done = -batch; done < operation.rounds; done += batch)
    for (const [i, subject] of subjects.entries())
      for (let round = 0; round < batch; round++) {
        const start = performance.now();
        await operation.run(subject);
        // The first batch warms up.
        if (done >= 0) times[i]?.push(performance.now() - start);
      }
  return times.map(spread);
}

interface Swtpm {
  process: ChildProcess;
  path: string;
  folder: string;
}

async function startSwtpm(): Promise<Swtpm> {
  const folder = mkdtempSync(join(tmpdir(), 'eve-attest-bench-'));
  const path = join(folder, 'socket');
  const process = spawn(
    'swtpm',
    [
      ...['socket', '--tpm2', '--tpmstate', `dir=${folder}`],
      ...['--server', `type=unixio,path=${path}`, '--ctrl', `type=unixio,path=${path}.ctrl`],
      ...['--flags', 'not-need-init,startup-clear'],
    ],
    { stdio: 'ignore' },
  );
  return { process, path, folder };
}

async function connectTo(swtpm: Swtpm): Promise<Transport> {
  for (let attempt = 0; ; attempt++)
    try {
      return await openSocketTpm({ path: swtpm.path });
    } catch (error) {
      if (attempt > 2000 || swtpm.process.exitCode !== null) throw error;
      await delay(1);
    }
}

async function stopSwtpm(swtpm: Swtpm): Promise<void> {
  const ended = once(swtpm.process, 'exit');
  if (swtpm.process.kill()) await ended;
  rmSync(swtpm.folder, { recursive: true, force: true });
}

/** Resident memory of a process in KB. */
function residentKb(pid: number | 'self'): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

function freshWasmTpm(): WasmTpm {
  const tpm = new WasmTpm();
  tpm.manufacture();
  tpm.powerOn();
  tpm.execute(t.startup());
  return tpm;
}

interface Fresh {
  /** Milliseconds until a new TPM waits for commands. */
  times: number[];
  /** What each keeps resident. */
  kb: number;
}

function freshWasm(): Fresh {
  for (let i = 0; i < 100; i++) freshWasmTpm();
  const before = residentKb('self');
  const kept: WasmTpm[] = [];
  const times: number[] = [];
  while (kept.length < 1000) {
    const start = performance.now();
    kept.push(freshWasmTpm());
    times.push(performance.now() - start);
  }
  return { times, kb: (residentKb('self') - before) / kept.length };
}

async function freshSwtpm(): Promise<Fresh> {
  const times: number[] = [];
  let kb = 0;
  while (times.length < 15) {
    const start = performance.now();
    const swtpm = await startSwtpm();
    const tpm = await connectTo(swtpm);
    await ok(tpm, t.getRandom(8));
    times.push(performance.now() - start);
    kb += residentKb(swtpm.process.pid as number);
    await tpm.close();
    await stopSwtpm(swtpm);
  }
  return { times, kb: kb / times.length };
}

type Row = BenchTable['rows'][number];

function spreadRow(operation: string, wasm: Spread, swtpm: Spread): Row {
  return {
    operation,
    wasm: wasm.median,
    'wasm p95': wasm.p95,
    swtpm: swtpm.median,
    'swtpm p95': swtpm.p95,
    'wasm/swtpm': wasm.median / swtpm.median,
  };
}

function plainRow(operation: string, wasm: number, swtpm: number): Row {
  return { operation, wasm, 'wasm p95': '', swtpm, 'swtpm p95': '', 'wasm/swtpm': wasm / swtpm };
}

export async function bench(): Promise<BenchTable> {
  if (!(await needDebian(['swtpm'], ['swtpm']))) throw new Error('there is no swtpm to compare with');
  const fresh = { wasm: freshWasm(), swtpm: await freshSwtpm() };
  const rows: Row[] = [];
  const swtpm = await startSwtpm();
  const tpm = await openWasmTpm();
  try {
    const link = await connectTo(swtpm);
    const subjects = [await prepare(tpm), await prepare(link)];
    for (const operation of operations) {
      const [wasm, native] = await measure(operation, subjects);
      if (wasm && native) rows.push(spreadRow(`${operation.name}, ms`, wasm, native));
    }
    await link.close();
  } finally {
    await stopSwtpm(swtpm);
    await tpm.close();
  }
  const [wasm, native] = [spread(fresh.wasm.times), spread(fresh.swtpm.times)];
  rows.push(
    spreadRow('Fresh TPM, ms', wasm, native),
    plainRow('Fresh TPMs per second', 1000 / wasm.mean, 1000 / native.mean),
    plainRow('Memory per TPM, KB', fresh.wasm.kb, fresh.swtpm.kb),
  );
  return {
    title: 'The WebAssembly TPM in process beside swtpm on a Unix socket: medians, wall clock.',
    rows,
    notes: [
      'Fresh: until the first command can run; for swtpm that is a process of its own, and its memory is that process.',
    ],
  };
}
