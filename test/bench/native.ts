// The ways to a TPM: through the addon, as a file, over a socket. Each has a swtpm of its own, in the same run.

import { type Keys, provisionKeys } from '../../device/tpm/keys.ts';
import { quote } from '../../device/tpm/quote.ts';
import { type SealedBlob, seal, unseal } from '../../device/tpm/seal.ts';
import { Tpm } from '../../device/tpm/tpm.ts';
import type { Transport } from '../../device/tpm/transport.ts';
import { openFileTpm } from '../../device/tpm/transports/file.ts';
import { openNativeTpm } from '../../device/tpm/transports/native.ts';
import { openSocketTpm } from '../../device/tpm/transports/socket.ts';
import { needAddon } from '../kit/addon.ts';
import { needDebian } from '../kit/debian.ts';
import { deviceFile, startSwtpm } from '../kit/swtpm.ts';
import { someDigest } from '../kit/tpm.ts';
import * as t from '../kit/tpm-bytes.ts';
import type { BenchTable } from './main.ts';

interface Subject {
  name: string;
  transport: Transport;
  tpm: Tpm;
  keys: Keys;
  blob: SealedBlob;
  stop(): Promise<void>;
}

const ways: { name: string; asDevice: boolean; open(path: string): Promise<Transport> }[] = [
  { name: 'socket', asDevice: false, open: (path) => openSocketTpm({ path }) },
  { name: 'addon', asDevice: false, open: (path) => openNativeTpm(`swtpm:path=${path}`) },
  { name: 'addon as device', asDevice: true, open: (path) => openNativeTpm(`device:${path}`) },
  { name: 'file', asDevice: true, open: openFileTpm },
];

const pcrs = [0, 4, 7];

const operations: { name: string; rounds: number; run(subject: Subject): Promise<unknown> }[] = [
  {
    name: 'round trip (GetRandom), ms',
    rounds: 1000,
    run: ({ transport }) => transport.send(t.getRandom(8)),
  },
  {
    name: 'quote with PCRs, ms',
    rounds: 200,
    run: ({ tpm, keys }) => quote(tpm, keys.ak, { qualifyingData: new Uint8Array(32), bank: 'sha256', pcrs }),
  },
  {
    name: 'unseal in a salted session, ms',
    rounds: 100,
    run: ({ tpm, keys, blob }) => unseal(tpm, keys.srk, blob),
  },
];

async function prepare({ name, asDevice, open }: (typeof ways)[number]): Promise<Subject> {
  const swtpm = await startSwtpm();
  const device = asDevice ? await deviceFile(swtpm.path) : null;
  const transport = await open(device?.path ?? swtpm.path);
  const tpm = new Tpm(transport);
  for (const pcr of pcrs) await tpm.pcrExtend(pcr, { sha256: someDigest(pcr) });
  const keys = await provisionKeys(tpm);
  const blob = await seal(tpm, keys.srk, new Uint8Array(32), { pcrs });
  const stop = async () => {
    await transport.close();
    await device?.stop();
    await swtpm.stop();
  };
  return { name, transport, tpm, keys, blob, stop };
}

/** Medians in ms, the subjects in turns, so that a busy machine hits all alike. */
async function medians({ rounds, run }: (typeof operations)[number], subjects: Subject[]): Promise<number[]> {
  const times = subjects.map(() => [] as number[]);
  const batch = Math.ceil(rounds / 10);
  for (let done = -batch; done < rounds; done += batch)
    for (const [n, subject] of subjects.entries())
      for (let round = 0; round < batch; round++) {
        const start = performance.now();
        await run(subject);
        // The first batch warms up.
        if (done >= 0) times[n]?.push(performance.now() - start);
      }
  return times.map((list) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? Number.NaN);
}

export async function bench(): Promise<BenchTable> {
  const packages = ['swtpm', 'socat', 'libtss2-tctildr0', 'libtss2-tcti-swtpm0', 'libtss2-tcti-device0'];
  if (!(await needAddon()) || !(await needDebian(packages, ['swtpm', 'socat'])))
    throw new Error('what is to be measured is not here');
  const subjects: Subject[] = [];
  try {
    for (const way of ways) subjects.push(await prepare(way));
    const rows: BenchTable['rows'] = [];
    for (const operation of operations) {
      const [socket = Number.NaN, ...others] = await medians(operation, subjects);
      const row: BenchTable['rows'][number] = { operation: operation.name, socket };
      for (const [n, median] of others.entries()) {
        const name = ways[n + 1]?.name ?? '';
        row[name] = median;
        row[`${name}/socket`] = median / socket;
      }
      rows.push(row);
    }
    return {
      title: 'The ways to a swtpm, each its own: medians, wall clock.',
      rows,
      notes: [
        'Addon as device and file go through a terminal and socat, which stand for /dev/tpmrm0: compare these two with each other.',
        'A TPM of real hardware takes 5 to 1000 ms for a command, whichever way it comes.',
      ],
    };
  } finally {
    for (const subject of subjects) await subject.stop();
  }
}
