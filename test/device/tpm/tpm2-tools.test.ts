// deadline: 300 s
// Debian's tpm2-tools against `serveTpm`, through both of its socket TCTIs.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type ServedTpm, type SocketProtocol, serveTpm } from '../../../device/tpm/serve.ts';
import { openWasmTpm, type WasmTransport } from '../../../device/tpm/transports/wasm.ts';
import { needDebian } from '../../kit/debian.ts';
import * as t from '../../kit/tpm-bytes.ts';

interface Finished {
  code: number | null;
  out: string;
  err: string;
}

/** Runs a program beside this one: the TPM it talks to is in this process. */
function run(name: string, args: string[], folder: string, env: Record<string, string>): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(name, args, { cwd: folder, env: { ...process.env, ...env } });
    let [out, err] = ['', ''];
    child.stdout.on('data', (chunk) => {
      out += chunk;
    });
    child.stderr.on('data', (chunk) => {
      err += chunk;
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, out, err }));
  });
}

interface Bench {
  tpm: WasmTransport;
  served: ServedTpm;
  folder: string;
  /** Runs `tpm2_…` with arguments split at blanks; fails the test when the tool does. */
  tpm2(line: string): Promise<string>;
  /** Runs a tool that has to fail, and returns what it said. */
  refused(line: string): Promise<string>;
}

function tools(protocol: SocketProtocol): void {
  const bench = suite<Bench>(`tpm2-tools over ${protocol}`);

  bench.before.each(async (context) => {
    context.folder = mkdtempSync(join(tmpdir(), 'eve-attest-tools-'));
    context.tpm = await openWasmTpm({ startup: false });
    context.served = await serveTpm(context.tpm, { protocol, port: 0 });
    const env = {
      TPM2TOOLS_TCTI: `${protocol}:host=127.0.0.1,port=${context.served.port}`,
      TSS2_LOG: 'all+NONE',
    };
    const tool = async (line: string) => {
      const [name = '', ...args] = line.split(' ');
      const finished = await run(`tpm2_${name}`, args, context.folder, env);
      // The tools leave what they loaded in the TPM's three slots; nobody else cleans up without a resource manager.
      await run('tpm2_flushcontext', ['-t'], context.folder, env);
      return finished;
    };
    context.tpm2 = async (line) => {
      const { code, out, err } = await tool(line);
      assert.is(code, 0, `tpm2_${line}: ${err}`);
      return out;
    };
    context.refused = async (line) => {
      const { code, err } = await tool(line);
      assert.is.not(code, 0, `tpm2_${line} was expected to fail`);
      return err;
    };
    await context.tpm2('startup -c');
  });
  bench.after.each(async ({ tpm, served, folder }) => {
    await served.close();
    await tpm.close();
    rmSync(folder, { recursive: true });
  });

  bench('pcrread, pcrextend', async ({ tpm2 }) => {
    const digest = '11'.repeat(32);
    assert.match(await tpm2('pcrread sha256:16'), `0x${'0'.repeat(64)}`);
    await tpm2(`pcrextend 16:sha256=${digest}`);
    const expected = t.sha256(Buffer.alloc(32), Buffer.from(digest, 'hex')).toString('hex');
    assert.match(await tpm2('pcrread sha256:16'), new RegExp(`0x${expected}`, 'i'));
    for (const bank of ['sha1', 'sha256', 'sha384', 'sha512'])
      assert.match(await tpm2(`pcrread ${bank}:0,23`), `${bank}:`);
  });

  for (const algorithm of ['ecc', 'rsa'])
    bench(
      `createek, createak and quote with ${algorithm}; checkquote believes it, and not another`,
      async (b) => {
        const { tpm2, refused } = b;
        await tpm2(`createek -c ek.ctx -G ${algorithm} -u ek.pub`);
        const scheme = algorithm === 'ecc' ? 'ecdsa' : 'rsassa';
        await tpm2(
          `createak -C ek.ctx -c ak.ctx -G ${algorithm} -g sha256 -s ${scheme} -u ak.pem -f pem -n ak.name`,
        );
        await tpm2(`pcrextend 16:sha256=${'22'.repeat(32)}`);
        await tpm2(
          'quote -c ak.ctx -l sha256:0,1,16 -q 0123456789abcdef -m quote -s signature -o pcrs -g sha256',
        );
        await tpm2('checkquote -u ak.pem -m quote -s signature -f pcrs -g sha256 -q 0123456789abcdef');
        await refused('checkquote -u ak.pem -m quote -s signature -f pcrs -g sha256 -q 0123456789abcdee');
        const quote = readFileSync(join(b.folder, 'quote'));
        quote[quote.length - 1] = (quote[quote.length - 1] ?? 0) ^ 1;
        writeFileSync(join(b.folder, 'forged'), quote);
        await refused('checkquote -u ak.pem -m forged -s signature -f pcrs -g sha256 -q 0123456789abcdef');
      },
    );

  bench('create, load and unseal under a PCR policy, and its refusal', async (b) => {
    const { tpm2, refused } = b;
    writeFileSync(join(b.folder, 'secret'), 'of the vault');
    await tpm2('createprimary -C o -G ecc -c srk.ctx');
    await tpm2('startauthsession -S trial');
    await tpm2('policypcr -S trial -l sha256:7,16 -L policy');
    await tpm2('flushcontext trial');
    await tpm2('create -C srk.ctx -L policy -i secret -u seal.pub -r seal.priv');
    await tpm2('load -C srk.ctx -u seal.pub -r seal.priv -c seal.ctx');
    assert.is(await tpm2('unseal -c seal.ctx -p pcr:sha256:7,16'), 'of the vault');
    await tpm2(`pcrextend 16:sha256=${'33'.repeat(32)}`);
    assert.match(await refused('unseal -c seal.ctx -p pcr:sha256:7,16'), /policy|0x99d/i);
    await tpm2('pcrreset 16');
    assert.is(await tpm2('unseal -c seal.ctx -p pcr:sha256:7,16'), 'of the vault');
  });

  bench('makecredential without a TPM, activatecredential with it', async (b) => {
    const { tpm2, refused } = b;
    writeFileSync(join(b.folder, 'challenge'), 'sixteen bytes ok');
    await tpm2('createek -c ek.ctx -G rsa -u ek.pub');
    await tpm2('createak -C ek.ctx -c ak.ctx -G ecc -g sha256 -s ecdsa -n ak.name');
    const name = readFileSync(join(b.folder, 'ak.name')).toString('hex');
    await tpm2(`makecredential -T none -e ek.pub -s challenge -n ${name} -o credential`);
    const activate = async (from: string) => {
      await tpm2('startauthsession --policy-session -S session');
      await tpm2('policysecret -S session -c e');
      return `activatecredential -c ak.ctx -C ek.ctx -i ${from} -o activated -P session:session`;
    };
    await tpm2(await activate('credential'));
    await tpm2('flushcontext session');
    assert.is(readFileSync(join(b.folder, 'activated'), 'utf8'), 'sixteen bytes ok');
    const other = `${name.slice(0, -1)}${name.endsWith('0') ? '1' : '0'}`;
    await tpm2(`makecredential -T none -e ek.pub -s challenge -n ${other} -o foreign`);
    assert.match(await refused(await activate('foreign')), /integrity|0x..f/i);
    await tpm2('flushcontext session');
  });

  bench('nvdefine, nvwrite, nvread', async (b) => {
    const { tpm2, refused } = b;
    writeFileSync(join(b.folder, 'data'), 'thirty-two bytes of NV memory ..');
    await tpm2('nvdefine 0x1800010 -C o -s 32 -a ownerread|ownerwrite');
    assert.match(await refused('nvread 0x1800010 -C o -s 32'), /uninitialized|0x14a/i);
    await tpm2('nvwrite 0x1800010 -C o -i data');
    assert.is(await tpm2('nvread 0x1800010 -C o -s 32'), 'thirty-two bytes of NV memory ..');
    assert.match(await refused('nvdefine 0x1800010 -C o -s 32'), /already defined|0x14c/i);
    await tpm2('nvundefine 0x1800010 -C o');
  });

  bench.run();
}

function ioctl(): void {
  const bench = suite<Bench>('swtpm_ioctl');

  bench('drives the control channel', async () => {
    const tpm = await openWasmTpm();
    const served = await serveTpm(tpm, { protocol: 'swtpm', port: 0 });
    const control = async (...args: string[]) => {
      const finished = await run('swtpm_ioctl', ['--tcp', `127.0.0.1:${served.port + 1}`, ...args], '/', {});
      return finished.out + finished.err;
    };
    const pcr17 = async () => t.pcrValues(await tpm.send(t.pcrRead(17)))[0];
    assert.match(await control('-c'), 'ptm capability is 0x64bf');
    assert.match(await control('-e'), 'tpmEstablished is 0');
    assert.is(await control('-h', 'abc'), '');
    assert.equal(await pcr17(), t.sha256(Buffer.alloc(32), t.sha256(Buffer.from('abc'))));
    assert.match(await control('-e'), 'tpmEstablished is 1');
    assert.is(await control('-r', '3'), '');
    assert.match(await control('-b', '4096'), 'TPM buffersize: 4096');
    assert.match(await control('--info', '1'), '"revision":154');
    assert.match(await control('-v'), 'PTM_STORE_VOLATILE: 0xa');
    assert.is(await control('-l', '2'), '');
    assert.is(await control('-C'), '');
    assert.is(await control('-i'), '');
    assert.equal(await pcr17(), Buffer.alloc(32, 0xff), 'initialised again');
    assert.is(await control('-s'), '');
    await served.closed;
    await tpm.close();
  });

  bench.run();
}

const packages = ['tpm2-tools', 'libtss2-tcti-swtpm0', 'libtss2-tcti-mssim0', 'swtpm-tools'];
if (await needDebian(packages, ['tpm2_quote', 'tpm2_unseal', 'swtpm_ioctl'])) {
  tools('swtpm');
  tools('mssim');
  ioctl();
} else {
  const absent = suite('tpm2-tools');
  absent.skip('not on this machine', () => {});
  absent.run();
}
