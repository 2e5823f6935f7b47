import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Evc } from '../../../device/link/evc.ts';
import type { Node } from '../../../device/node.ts';
import { attestTaskPorts, certifiedName } from '../../../device/ports/attest-task.ts';
import { Refusal } from '../../../device/refusal.ts';
import { StateFolder } from '../../../device/state.ts';
import { Tokens } from '../../../device/tokens.ts';
import type { Challenge, QuoteReply } from '../../../machines/attest-task.ts';
import { inFolder } from '../../kit/folders.ts';

const { signal } = new AbortController();
const approval: QuoteReply = {
  code: 'success',
  why: null,
  retryAfter: 0,
  until: 1,
  key: { keyId: 'k1', version: 1, encryptedKey: 'AA==' },
  rotate: false,
};
const name = 'a1'.repeat(34);
const certificate = 'a certificate';
const nonce = '0a'.repeat(32);
const logs = [{ kind: 'bios' as const, sha256: 'c0'.repeat(32), bytes: Uint8Array.of(1) }];

class Bench {
  readonly persist: StateFolder;
  readonly run: StateFolder;
  readonly node: Node;
  readonly ports: ReturnType<typeof attestTaskPorts>;
  /** What EVC says to a quote. */
  answer: () => QuoteReply = () => approval;
  /** With each quote, the logs that EVC is taken to have. */
  readonly seen: (readonly string[])[] = [];

  constructor(folder: string) {
    this.persist = new StateFolder(join(folder, 'persist'));
    this.run = new StateFolder(join(folder, 'run'), { durable: false });
    const bodies = new Map<string, object>([
      [
        'tpm-manager/EdgeNodeCert',
        {
          name,
          akPublic: '00',
          akCertificate: certificate,
          ekPublic: '00',
          ekCertificate: certificate,
          ecdhPublic: '00',
          ecdhCertificate: certificate,
        },
      ],
      ['tpm-manager/AttestQuote', { nonce, attest: '00', signature: '00', pcrs: {} }],
    ]);
    const evc = {
      sendCertificate: async (): Promise<{ challenge: Challenge | null }> => ({ challenge: null }),
      sendProof: async () => undefined,
      sendQuote: async ({ seen }: { seen: readonly string[] }) => {
        this.seen.push(seen);
        return this.answer();
      },
    };
    this.node = {
      persist: this.persist,
      run: this.run,
      tokens: new Tokens(this.run),
      boot: { versions: { image: '1.0.0', firmware: '' }, logs },
      bus: { latest: (topic: string) => bodies.get(topic) },
      evc: async () => evc as unknown as Evc,
      locate: async () => null,
    } as unknown as Node;
    this.ports = attestTaskPorts(this.node);
  }

  /** An attempt as the chart makes it. */
  async attempt(): Promise<{ tokenHash: string; reply: QuoteReply }> {
    const { tokenHash } = await this.ports.makeClaims({ nonce }, signal);
    return { tokenHash, reply: await this.ports.sendQuote({ nonce, tokenHash }, signal) };
  }
}

const inBench = (work: (bench: Bench) => Promise<void>) => inFolder((folder) => work(new Bench(folder)));

function breakDisk(state: StateFolder, code: string): void {
  const fails = () => {
    throw Object.assign(new Error('write'), { code, syscall: 'write' });
  };
  Object.assign(state, { write: fails, remove: fails });
}

for (const code of ['ENOSPC', 'EROFS'])
  test(`what EVC answers counts on a /persist that fails with ${code}`, () =>
    inBench(async (bench) => {
      await bench.attempt();
      bench.persist.forget('status/seen-logs');
      breakDisk(bench.persist, code);
      assert.equal((await bench.attempt()).reply, approval);
      assert.equal(await bench.ports.sendCertificate({ name }, signal), { challenge: null });
      assert.is(await bench.ports.sendProof({ challenge: 'c', proof: 'p' }, signal), null);
      const refusal: QuoteReply = { ...approval, code: 'noCertFound', key: null, until: 0 };
      bench.answer = () => refusal;
      assert.equal((await bench.attempt()).reply, refusal);
    }));

test('a log that EVC has no more is sent again from a /persist that fails', () =>
  inBench(async (bench) => {
    await bench.attempt();
    breakDisk(bench.persist, 'EROFS');
    bench.answer = () => {
      if (bench.seen.at(-1)?.length !== 0) throw new Refusal('evidence.log.unknown', 'send it again');
      return approval;
    };
    assert.equal((await bench.attempt()).reply, approval);
    assert.equal(bench.seen, [[], [logs[0]?.sha256], []]);
  }));

test('hints that are damaged are none, and are mended by the next answer', () =>
  inBench(async (bench) => {
    for (const hint of ['status/certified', 'status/seen-logs']) {
      bench.persist.write(hint, Buffer.from('half of'));
      bench.persist.write(`${hint}.bak`, Buffer.from('half of'));
    }
    assert.is(certifiedName(bench.node), null);
    await bench.ports.sendCertificate({ name }, signal);
    assert.is(certifiedName(bench.node), name);
    for (let i = 0; i < 2; i++) assert.equal((await bench.attempt()).reply, approval);
    assert.equal(bench.seen, [[], [logs[0]?.sha256]]);
  }));

test('what is known already is not written again', () =>
  inBench(async (bench) => {
    await bench.attempt();
    await bench.ports.sendCertificate({ name }, signal);
    const written: string[] = [];
    const { write } = bench.persist;
    bench.persist.write = (file, bytes) => {
      written.push(file);
      write.call(bench.persist, file, bytes);
    };
    await bench.attempt();
    await bench.ports.sendCertificate({ name }, signal);
    assert.equal(written, []);
  }));

test('attempts leave nothing in /run but the last, and the token that was confirmed', () =>
  inBench(async (bench) => {
    const { tokenHash: confirmed } = await bench.attempt();
    bench.answer = () => ({ ...approval, code: 'quoteFailed', key: null, until: 0 });
    for (let i = 0; i < 20; i++) await bench.attempt();
    const { tokenHash } = await bench.attempt();
    for (const hash of [confirmed, tokenHash]) assert.is(bench.node.tokens.read(hash).length, 32);
    const files = (readdirSync(bench.run.path, { recursive: true }) as string[]).filter((path) =>
      statSync(bench.run.file(path)).isFile(),
    );
    assert.is(files.length, 3, files.join());
    // A quote whose answer was lost is sent again.
    bench.answer = () => approval;
    assert.equal(await bench.ports.sendQuote({ nonce, tokenHash }, signal), approval);
  }));

test('what EVC answers counts where the confirmed token cannot be told from others', () =>
  inBench(async (bench) => {
    bench.node.tokens.confirm = () => {
      throw Object.assign(new Error('rename'), { code: 'EIO', syscall: 'rename' });
    };
    assert.equal((await bench.attempt()).reply, approval);
  }));

test.run();
