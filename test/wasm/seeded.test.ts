import { spawnSync } from 'node:child_process';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { seededEntropy } from '../../wasm/seeded.ts';
import { WasmTpm } from '../../wasm/tpm.ts';
import * as t from '../kit/tpm-bytes.ts';

/** Everything a TPM of this seed says and keeps in a run of commands, as one digest. */
function life(seed: string): string {
  let now = 0;
  const tpm = new WasmTpm({ entropy: seededEntropy(seed), now: () => (now += 3) });
  tpm.manufacture();
  tpm.powerOn();
  const said: Uint8Array[] = [];
  const say = (command: Uint8Array) => {
    let response = tpm.execute(command);
    if (t.rc(response) === 0x922) response = tpm.execute(command);
    assert.is(t.rc(response), 0);
    said.push(response);
    return response;
  };
  say(t.startup());
  const srk = t.handleOf(say(t.createPrimary(t.RH.owner, t.template.srk())));
  say(t.createPrimary(t.RH.endorsement, t.template.rsaStorage()));
  const ak = t.handleOf(say(t.load(srk, say(t.create(srk, t.template.ak())))));
  say(t.quote(ak, Buffer.from('nonce'), 0, 1));
  say(t.getRandom(32));
  say(t.shutdown());
  return t.sha256(...said, tpm.exportNv()).toString('hex');
}

test('the same seed lives the same life, another seed another', () => {
  const first = life('a');
  assert.is(life('a'), first);
  assert.is.not(life('b'), first);
});

test('without the test runner’s environment there is no seed', () => {
  const before = process.env.EVE_ATTEST_TEST;
  try {
    for (const value of [undefined, '', '0', 'true', 'yes']) {
      if (value === undefined) delete process.env.EVE_ATTEST_TEST;
      else process.env.EVE_ATTEST_TEST = value;
      assert.throws(() => seededEntropy('a'), /exists in tests only/);
    }
  } finally {
    if (before !== undefined) process.env.EVE_ATTEST_TEST = before;
  }
});

test('no program imports it', () => {
  const grep = spawnSync('git', ['grep', '-l', 'seeded[.]ts', '--', '*.ts', ':!test'], {
    encoding: 'utf8',
    cwd: new URL('../..', import.meta.url).pathname,
  });
  assert.is(grep.stdout, '');
  assert.is(grep.status, 1, 'git looked and found nothing');
});

test.run();
