import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { executeInWorker, takesLong } from '../../wasm/keygen.ts';
import { WasmTpm, type WasmTpmError } from '../../wasm/tpm.ts';
import * as t from '../kit/tpm-bytes.ts';

function fresh(): WasmTpm {
  const tpm = new WasmTpm();
  tpm.manufacture();
  tpm.powerOn();
  tpm.execute(t.startup());
  return tpm;
}

test('RSA keys and the full self test take long, nothing else does', () => {
  const long = [
    t.createPrimary(t.RH.owner, t.template.rsaStorage()),
    t.create(0x80000000, t.template.rsaStorage(), Buffer.alloc(0), Buffer.alloc(20, 1)),
    t.command(t.CC.SelfTest, [], t.u8(1)),
  ];
  const short = [
    t.createPrimary(t.RH.owner, t.template.srk()),
    t.create(0x80000000, t.template.sealed(Buffer.alloc(32)), Buffer.alloc(32)),
    t.command(t.CC.SelfTest, [], t.u8(0)),
    t.startup(),
    t.quote(0x80000000, Buffer.alloc(8), 1),
  ];
  for (const command of long) assert.is(takesLong(command), true, command.toString('hex'));
  for (const command of short) assert.is(takesLong(command), false, command.toString('hex'));
});

test('a command cut anywhere, or with sizes that lie, is looked at without harm', () => {
  const command = t.createPrimary(t.RH.owner, t.template.rsaStorage());
  for (let size = 0; size <= command.length; size++) takesLong(command.subarray(0, size));
  for (const offset of [14, 15, 16, 17, 27, 28]) {
    const lying = Buffer.from(command);
    lying[offset] = 0xff;
    assert.is(takesLong(lying), false, `byte ${offset}`);
  }
});

test('a command in the worker leaves the TPM as if it had run here', async () => {
  const tpm = fresh();
  tpm.execute(t.pcrExtend(3, Buffer.alloc(32, 1)));
  const generation = tpm.nvGeneration;
  const primary = t.createPrimary(t.RH.owner, t.template.rsaStorage());
  const inWorker = await executeInWorker(tpm, primary);
  assert.is(t.rc(inWorker), 0);
  assert.equal(t.pcrValues(tpm.execute(t.pcrRead(3)))[0], t.sha256(Buffer.alloc(32), Buffer.alloc(32, 1)));
  const here = tpm.execute(primary);
  assert.is(t.handleOf(here), t.handleOf(inWorker) + 1, 'the worker’s key is in its slot');
  assert.equal(t.sizeds(t.body(here, 1), 1), t.sizeds(t.body(inWorker, 1), 1), 'one seed, one key');
  assert.ok(tpm.nvGeneration >= generation);
});

test('while a worker has it, the TPM is away', async () => {
  const tpm = fresh();
  const answer = executeInWorker(tpm, t.createPrimary(t.RH.owner, t.template.srk()));
  assert.throws(
    () => tpm.execute(t.getRandom(8)),
    (error: WasmTpmError) => error.code === 'away',
  );
  assert.throws(
    () => tpm.exportNv(),
    (error: WasmTpmError) => error.code === 'away',
  );
  assert.is(t.rc(await answer), 0);
  assert.is(t.rc(tpm.execute(t.getRandom(8))), 0);
});

test('many TPMs share the worker and get their own answers', async () => {
  const tpms = Array.from({ length: 8 }, fresh);
  const answers = await Promise.all(
    tpms.map((tpm) => executeInWorker(tpm, t.createPrimary(t.RH.owner, t.template.srk()))),
  );
  const keys = answers.map((answer) => t.sizeds(t.body(answer, 1), 1)[0]?.toString('hex'));
  assert.is(new Set(keys).size, tpms.length);
  for (const [i, tpm] of tpms.entries()) {
    const again = tpm.execute(t.createPrimary(t.RH.owner, t.template.srk()));
    assert.is(t.sizeds(t.body(again, 1), 1)[0]?.toString('hex'), keys[i]);
  }
});

test.run();
