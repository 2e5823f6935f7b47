import { createHash, createHmac, createPublicKey, randomBytes, verify } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { seededEntropy } from '../../wasm/seeded.ts';
import { WasmTpm, WasmTpmError } from '../../wasm/tpm.ts';
import * as t from '../kit/tpm-bytes.ts';

const RC = { initialize: 0x100, failure: 0x101, lockout: 0x921, retry: 0x922 };

function fresh(hooks = {}): WasmTpm {
  const tpm = new WasmTpm(hooks);
  tpm.manufacture();
  tpm.powerOn();
  assert.is(t.rc(tpm.execute(t.startup())), 0);
  return tpm;
}

/** Runs a command, again when the TPM asks for it: at the first use of an object with dictionary attack protection. */
function run(tpm: WasmTpm, command: Uint8Array): Uint8Array {
  const response = tpm.execute(command);
  return t.rc(response) === RC.retry ? tpm.execute(command) : response;
}

/** Runs a command that has to succeed. */
function ok(tpm: WasmTpm, command: Uint8Array): Uint8Array {
  const response = run(tpm, command);
  assert.is(t.rc(response), 0, `TPM_RC ${t.rc(response).toString(16)}`);
  return response;
}

function primary(tpm: WasmTpm, hierarchy = t.RH.owner, area = t.template.srk()): number {
  return t.handleOf(ok(tpm, t.createPrimary(hierarchy, area)));
}

function clockOf(tpm: WasmTpm) {
  const info = t.body(ok(tpm, t.command(t.CC.ReadClock, [], Buffer.alloc(0))));
  return {
    time: info.readBigUInt64BE(0),
    clock: info.readBigUInt64BE(8),
    resetCount: info.readUInt32BE(16),
    restartCount: info.readUInt32BE(20),
    safe: info[24],
  };
}

test('it starts once per power on, tests itself, and says what it is', () => {
  const tpm = fresh();
  assert.is(t.rc(tpm.execute(t.startup())), RC.initialize);
  ok(tpm, t.command(t.CC.SelfTest, [], t.u8(1)));
  assert.is(t.propertyValue(ok(tpm, t.property(0x105))), Buffer.from('WASM').readUInt32BE(0));
  assert.is(t.propertyValue(ok(tpm, t.property(0x102))), 154, 'revision of the specification');
  assert.is(t.propertyValue(ok(tpm, t.property(0x12d))) & 1, 0, 'no claim of FIPS 140-2');
  assert.is(tpm.failed, false);
});

test('a command needs power, and before Startup nothing but Startup runs', () => {
  const tpm = new WasmTpm();
  const code = (run: () => unknown) => {
    try {
      run();
    } catch (error) {
      assert.instance(error, WasmTpmError);
      return (error as WasmTpmError).code;
    }
    return undefined;
  };
  assert.is(
    code(() => tpm.powerOn()),
    'off',
  );
  assert.is(
    code(() => tpm.exportNv()),
    'off',
  );
  tpm.manufacture();
  assert.is(
    code(() => tpm.execute(t.startup())),
    'off',
  );
  tpm.powerOn();
  assert.is(t.rc(tpm.execute(t.getRandom(8))), RC.initialize);
  ok(tpm, t.startup());
  tpm.powerOff();
  assert.is(tpm.powered, false);
  assert.is(
    code(() => tpm.execute(t.getRandom(8))),
    'off',
  );
});

test('PCRs extend in each of the four banks and start as the PC Client profile says', () => {
  const tpm = fresh();
  for (const [id, name, size] of [
    [4, 'sha1', 20],
    [0xb, 'sha256', 32],
    [0xc, 'sha384', 48],
    [0xd, 'sha512', 64],
  ] as const) {
    const digest = createHash(name).update('event').digest();
    ok(tpm, t.command(t.CC.PCR_Extend, [7], t.cat(t.u32(1), t.u16(id), digest), t.password));
    const select = t.cat(t.u32(1), t.u16(id), t.u8(3), Buffer.of(0x80, 0, 0));
    const value = t.pcrValues(ok(tpm, t.command(t.CC.PCR_Read, [], select)))[0];
    assert.equal(value, createHash(name).update(Buffer.alloc(size)).update(digest).digest());
  }
  const [pcr16, pcr17] = t.pcrValues(ok(tpm, t.pcrRead(16, 17)));
  assert.equal(pcr16, Buffer.alloc(32));
  assert.equal(pcr17, Buffer.alloc(32, 0xff));
});

test('a quote verifies, and says what the PCRs are', () => {
  const tpm = fresh();
  const ak = ok(tpm, t.createPrimary(t.RH.endorsement, t.template.ak()));
  ok(tpm, t.pcrExtend(0, t.sha256(Buffer.from('kernel'))));
  const nonce = randomBytes(20);
  const response = t.body(ok(tpm, t.quote(t.handleOf(ak), nonce, 0, 7)));
  const attest = t.sizeds(response, 1)[0] ?? Buffer.alloc(0);
  const [r, s] = t.sizeds(response.subarray(2 + attest.length + 4), 2);
  const area = t.sizeds(t.body(ak, 1), 1)[0] ?? Buffer.alloc(0);
  const [x, y] = t.sizeds(area.subarray(area.length - 68), 2);
  const key = createPublicKey({
    format: 'jwk',
    key: { kty: 'EC', crv: 'P-256', x: x?.toString('base64url') ?? '', y: y?.toString('base64url') ?? '' },
  });
  assert.ok(verify('sha256', attest, { key, dsaEncoding: 'ieee-p1363' }, t.cat(r as Buffer, s as Buffer)));
  assert.is(attest.readUInt32BE(0), 0xff544347);
  assert.ok(attest.includes(t.sized(nonce)));
  assert.equal(attest.subarray(-32), t.sha256(...t.pcrValues(ok(tpm, t.pcrRead(0, 7)))));
});

test('what is sealed to PCRs opens with them only', () => {
  const tpm = fresh();
  const srk = primary(tpm);
  const trial = t.handleOf(ok(tpm, t.startPolicy('trial')));
  ok(tpm, t.policyPcr(trial, 7, 16));
  const policy = t.sizeds(t.body(ok(tpm, t.policyDigest(trial))), 1)[0] ?? Buffer.alloc(0);
  ok(tpm, t.flush(trial));
  const secret = Buffer.from('of the vault');
  const item = t.handleOf(ok(tpm, t.load(srk, ok(tpm, t.create(srk, t.template.sealed(policy), secret)))));
  const session = () => {
    const handle = t.handleOf(ok(tpm, t.startPolicy()));
    ok(tpm, t.policyPcr(handle, 7, 16));
    return { handle, attributes: 0 };
  };
  assert.equal(t.sizeds(t.body(ok(tpm, t.unseal(item, session()))), 1)[0], secret);
  const early = session();
  ok(tpm, t.pcrExtend(16, t.sha256(Buffer.from('another kernel'))));
  assert.is(t.rc(tpm.execute(t.unseal(item, early))), 0x128, 'TPM_RC_PCR_CHANGED');
  assert.is(t.rc(tpm.execute(t.unseal(item, session()))), 0x99d, 'TPM_RC_POLICY_FAIL, session 1');
  assert.is(t.rc(run(tpm, t.unseal(item, t.password))), 0x12f, 'TPM_RC_AUTH_UNAVAILABLE');
});

test('instances share nothing', () => {
  const [a, b] = [fresh(), fresh()];
  ok(a, t.pcrExtend(3, Buffer.alloc(32, 1)));
  assert.equal(t.pcrValues(ok(b, t.pcrRead(3)))[0], Buffer.alloc(32));
  ok(a, t.nvDefine(0x1800001, 8));
  assert.is(t.rc(b.execute(t.nvRead(0x1800001, 8))), 0x28b, 'TPM_RC_HANDLE, handle 2');
  const key = (tpm: WasmTpm) =>
    Buffer.from(ok(tpm, t.createPrimary(t.RH.owner, t.template.srk()))).toString('hex');
  assert.is.not(key(a), key(b));
  const random = (tpm: WasmTpm) => Buffer.from(ok(tpm, t.getRandom(32))).toString('hex');
  assert.is.not(random(a), random(b));
});

test('NV memory goes to another instance: keys, indices and counters stay, PCRs do not', () => {
  let now = 5000;
  const a = fresh({ now: () => now });
  ok(a, t.nvDefine(0x1800010, 64));
  ok(a, t.nvWrite(0x1800010, Buffer.alloc(64, 7)));
  ok(a, t.nvDefine(0x1800011, 8, 0x60006 | (1 << 4)));
  ok(a, t.command(t.CC.NV_Increment, [t.RH.owner, 0x1800011], Buffer.alloc(0), t.password));
  const srk = ok(a, t.createPrimary(t.RH.owner, t.template.srk()));
  const evict = t.command(t.CC.EvictControl, [t.RH.owner, t.handleOf(srk)], t.u32(0x81000001), t.password);
  ok(a, evict);
  ok(a, t.pcrExtend(3, Buffer.alloc(32, 1)));
  const counter = t.sizeds(t.body(ok(a, t.nvRead(0x1800011, 8))), 1)[0];
  now += 123_456;
  const before = clockOf(a);
  assert.is(before.time, 123_456n);
  const generation = a.nvGeneration;
  ok(a, t.pcrRead(3));
  assert.is(a.nvGeneration, generation, 'reading writes nothing');
  ok(a, t.shutdown());
  assert.ok(a.nvGeneration > generation);

  const b = new WasmTpm({ now: () => now });
  b.importNv(a.exportNv());
  b.powerOn();
  ok(b, t.startup());
  assert.equal(t.sizeds(t.body(ok(b, t.nvRead(0x1800010, 64))), 1)[0], Buffer.alloc(64, 7));
  assert.equal(t.sizeds(t.body(ok(b, t.nvRead(0x1800011, 8))), 1)[0], counter);
  const area = t.sizeds(t.body(srk, 1), 1)[0];
  assert.equal(
    t.sizeds(t.body(ok(b, t.command(t.CC.ReadPublic, [0x81000001], Buffer.alloc(0)))), 1)[0],
    area,
  );
  assert.equal(t.pcrValues(ok(b, t.pcrRead(3)))[0], Buffer.alloc(32));
  const after = clockOf(b);
  assert.is(after.resetCount, before.resetCount + 1);
  assert.is(after.safe, 1);
  assert.ok(after.clock >= before.clock, 'the clock goes on');
  assert.is(after.time, 0n, 'the time begins again');
});

test('Shutdown and Startup decide between reset, restart and resume', () => {
  const tpm = fresh();
  const counts = () => [clockOf(tpm).resetCount, clockOf(tpm).restartCount, clockOf(tpm).safe];
  const cycle = (type: 'clear' | 'state') => {
    tpm.powerOff();
    tpm.powerOn();
    return t.rc(tpm.execute(t.startup(type)));
  };
  const [reset, restart] = counts() as [number, number, number];
  ok(tpm, t.pcrExtend(3, Buffer.alloc(32, 1)));
  ok(tpm, t.pcrExtend(16, Buffer.alloc(32, 1)));
  const kept = t.pcrValues(ok(tpm, t.pcrRead(3)))[0];

  ok(tpm, t.shutdown('state'));
  assert.is(cycle('state'), 0);
  assert.equal(counts(), [reset, restart + 1, 1], 'resume');
  assert.equal(t.pcrValues(ok(tpm, t.pcrRead(3)))[0], kept);
  assert.equal(t.pcrValues(ok(tpm, t.pcrRead(16)))[0], Buffer.alloc(32), 'the debug PCR is not saved');

  ok(tpm, t.shutdown('state'));
  assert.is(cycle('clear'), 0);
  assert.equal(counts(), [reset, restart + 2, 1], 'restart');
  assert.equal(t.pcrValues(ok(tpm, t.pcrRead(3)))[0], Buffer.alloc(32));

  assert.is(cycle('clear'), 0);
  assert.equal(counts(), [reset + 1, 0, 0], 'reset after an unorderly shutdown: the clock is not safe');
  assert.is(cycle('state'), 0x1c4, 'TPM_RC_VALUE, parameter 1: there is no state');
});

test('a power loss counts as an attack only when a protected authorization was used before it', () => {
  const tpm = fresh();
  const failedTries = () => t.propertyValue(ok(tpm, t.property(0x20e)));
  const loss = () => {
    tpm.powerOff();
    tpm.powerOn();
    ok(tpm, t.startup());
    // The count changes with the first command after Startup that may write NV memory.
    ok(tpm, t.command(t.CC.SelfTest, [], t.u8(0)));
  };
  const trial = t.handleOf(ok(tpm, t.startPolicy('trial')));
  ok(tpm, t.policyPcr(trial, 7));
  const policy = t.sizeds(t.body(ok(tpm, t.policyDigest(trial))), 1)[0] as Buffer;
  ok(tpm, t.flush(trial));
  const secret = Buffer.from('x');
  const srk = primary(tpm);
  const bound = ok(tpm, t.create(srk, t.template.sealed(policy), secret));
  const guarded = ok(tpm, t.create(srk, t.template.sealed(Buffer.alloc(0)), secret, Buffer.from('right')));
  for (let round = 0; round < 6; round++) {
    const item = t.handleOf(ok(tpm, t.load(primary(tpm), bound)));
    const session = t.handleOf(ok(tpm, t.startPolicy()));
    ok(tpm, t.policyPcr(session, 7));
    ok(tpm, t.unseal(item, { handle: session }));
    loss();
    assert.is(failedTries(), 0, `after ${round + 1} power losses`);
  }
  const tryOnce = (hmac: string) => {
    const item = t.handleOf(ok(tpm, t.load(primary(tpm), guarded)));
    return t.rc(run(tpm, t.unseal(item, { ...t.password, hmac: Buffer.from(hmac) })));
  };
  assert.is(tryOnce('right'), 0);
  loss();
  assert.is(failedTries(), 1, 'the TPM cannot know whether the loss hid a wrong try');
  assert.is(tryOnce('wrong'), 0x98e, 'TPM_RC_AUTH_FAIL, session 1');
  assert.is(failedTries(), 2);
});

test('CVE-2023-1017 and CVE-2023-1018: decryption stays inside the command', () => {
  const tpm = fresh();
  const started = ok(
    tpm,
    t.command(
      t.CC.StartAuthSession,
      [t.RH.null, t.RH.null],
      t.cat(t.sized(Buffer.alloc(16, 1)), t.sized(), t.u8(0), t.u16(6), t.u16(128), t.u16(0x43), t.u16(0xb)),
    ),
  );
  const nonceTpm = t.sizeds(t.body(started, 1), 1)[0] as Buffer;
  const nonce = Buffer.alloc(16, 2);
  const attributes = 0x21; // continueSession, decrypt
  const send = (parameters: Buffer) => {
    const cpHash = t.sha256(t.u32(t.CC.CreatePrimary), t.u32(t.RH.owner), parameters);
    const hmac = createHmac('sha256', Buffer.alloc(0))
      .update(t.cat(cpHash, nonce, nonceTpm, t.u8(attributes)))
      .digest();
    return t.rc(
      tpm.execute(
        t.command(t.CC.CreatePrimary, [t.RH.owner], parameters, {
          handle: t.handleOf(started),
          nonce,
          attributes,
          hmac,
        }),
      ),
    );
  };
  assert.is(send(Buffer.of(0)) & 0xff, 0x9a, 'TPM_RC_INSUFFICIENT for half a size field');
  assert.is(send(Buffer.of(0, 2)) & 0xff, 0x95, 'TPM_RC_SIZE for two bytes that are not there');
  assert.is(send(Buffer.of(0, 3, 0xaa, 0xaa)) & 0xff, 0x95, 'TPM_RC_SIZE for one byte that is not there');
  assert.is(tpm.failed, false);
});

test('CVE-2025-2884: an HMAC key signs with HMAC only', () => {
  const tpm = fresh();
  const srk = primary(tpm);
  const key = t.handleOf(ok(tpm, t.load(srk, ok(tpm, t.create(srk, t.template.hmac())))));
  const sign = (scheme: Buffer, digest: Buffer) =>
    run(
      tpm,
      t.command(
        t.CC.Sign,
        [key],
        t.cat(t.sized(digest), scheme, t.u16(0x8024), t.u32(t.RH.null), t.sized()),
        t.password,
      ),
    );
  const sha256 = t.u16(0xb);
  assert.is(t.rc(sign(t.cat(t.u16(5), sha256), Buffer.alloc(32))), 0);
  const schemes: [string, Buffer, number][] = [
    ['RSASSA', t.cat(t.u16(0x14), sha256), 32],
    ['RSASSA with SHA-512', t.cat(t.u16(0x14), t.u16(0xd)), 64],
    ['ECDSA', t.cat(t.u16(0x18), sha256), 32],
    ['ECDAA', t.cat(t.u16(0x1a), sha256, t.u16(1)), 32],
  ];
  for (const [name, scheme, size] of schemes) {
    assert.is(t.rc(sign(scheme, Buffer.alloc(size))) & 0xbf, 0x92, `${name}: TPM_RC_SCHEME`);
    assert.is(tpm.failed, false);
  }
});

test('failure mode answers TPM_RC_FAILURE, tells where, and ends with a power cycle', () => {
  const tpm = new WasmTpm();
  tpm.manufacture();
  // The size of a persistent structure that cannot be: the TPM notices when it reads it.
  const nv = tpm.exportNv();
  nv.fill(0xee);
  tpm.importNv(nv);
  tpm.powerOn();
  assert.is(t.rc(tpm.execute(t.startup())), RC.failure);
  assert.is(tpm.failed, true);
  assert.match(tpm.lastFailure ?? '', /^\w+ line \d+, failure \d+$/);
  assert.is(t.rc(tpm.execute(t.getRandom(8))), RC.failure);
  const result = tpm.execute(t.command(t.CC.GetTestResult, [], Buffer.alloc(0)));
  assert.is(t.rc(result), 0);
  assert.is(t.sizeds(t.body(result), 1)[0]?.length, 12, 'function, line, code');
});

test('an entropy source that throws ends the instance, not the process', () => {
  let broken = false;
  const tpm = fresh({
    entropy: (bytes: Uint8Array) => {
      if (broken) throw new Error('no more');
      bytes.fill(7);
    },
  });
  broken = true;
  const kill = () => {
    for (let i = 0; i < 2; i++) {
      tpm.powerOff();
      tpm.powerOn();
      tpm.execute(t.startup());
    }
  };
  assert.throws(kill, (error: WasmTpmError) => error.code === 'dead' && /no more/.test(error.message));
  assert.throws(
    () => tpm.execute(t.getRandom(8)),
    (error: WasmTpmError) => error.code === 'dead' && /last NV image/.test(error.message),
  );
});

test('commands out of bounds get the TPM’s own refusals', () => {
  const tpm = fresh();
  const large = Buffer.alloc(4097);
  large.writeUInt16BE(0x8001, 0);
  large.writeUInt32BE(4097, 2);
  assert.is(t.rc(tpm.execute(large)), 0x142, 'TPM_RC_COMMAND_SIZE');
  large.writeUInt32BE(4096, 2);
  assert.is(t.rc(tpm.execute(large)), 0x142);
  assert.is(t.rc(tpm.execute(new Uint8Array(0))), 0x9a, 'TPM_RC_INSUFFICIENT');
  assert.is(t.rc(tpm.execute(Buffer.from('8001ee', 'hex'))), 0x9a);
  assert.is(t.rc(tpm.execute(t.command(0x20000000, [], Buffer.alloc(0)))), 0x143, 'no vendor command');
});

test('random and mutated commands trap nothing', () => {
  const tpm = fresh({ entropy: seededEntropy('fuzz') });
  const stream = seededEntropy('fuzz commands');
  const valid = [
    t.startup(),
    t.getRandom(16),
    t.createPrimary(t.RH.owner, t.template.srk()),
    t.pcrRead(0, 7),
    t.pcrExtend(3, Buffer.alloc(32)),
    t.startPolicy(),
    t.nvDefine(0x1800001, 8),
    t.quote(0x80000000, Buffer.alloc(8), 1),
    t.create(0x80000000, t.template.ak()),
  ];
  const dice = new Uint8Array(8);
  for (let round = 0; round < 8000; round++) {
    stream(dice);
    const [kind = 0, at = 0, value = 0, cut = 0, code = 0] = dice;
    let command: Buffer;
    if (kind < 64) {
      command = Buffer.alloc(10 + (at % 120));
      stream(command);
      command.writeUInt16BE(0x8001 + (value & 1), 0);
      command.writeUInt32BE(0x11f + (code % 0x80), 6);
    } else {
      command = Buffer.from(valid[value % valid.length] as Buffer);
      const index = 6 + (at % (command.length - 6));
      command[index] = (command[index] ?? 0) ^ (1 << (cut & 7));
      if (cut > 200) command = command.subarray(0, Math.max(10, command.length - (cut % 16)));
    }
    command.writeUInt32BE(command.length, 2);
    const response = tpm.execute(command);
    assert.is(Buffer.from(response).readUInt32BE(2), response.length);
    assert.is(tpm.failed, false, `failure mode by ${command.toString('hex')}`);
    if (round % 50 === 49) {
      tpm.powerOff();
      tpm.powerOn();
      tpm.execute(t.startup());
    }
  }
});

test('thousands of commands leave its memory as large as it was', () => {
  const tpm = fresh();
  const size = () => {
    const memory = tpm.goAway();
    tpm.comeBack(memory);
    return memory.byteLength;
  };
  const before = size();
  const ak = primary(tpm, t.RH.endorsement, t.template.ak());
  for (let round = 0; round < 400; round++) {
    ok(tpm, t.quote(ak, Buffer.alloc(20), 0));
    ok(tpm, t.flush(primary(tpm)));
    ok(tpm, t.flush(t.handleOf(ok(tpm, t.startPolicy()))));
    // A point that is not on the curve.
    assert.is.not(
      t.rc(
        tpm.execute(
          t.command(
            0x154,
            [ak],
            t.sized(t.cat(t.sized(Buffer.alloc(32, 1)), t.sized(Buffer.alloc(32, 1)))),
            t.password,
          ),
        ),
      ),
      0,
    );
  }
  assert.is(size(), before);
});

test('the D-RTM sequence resets and extends PCR 17', () => {
  const tpm = fresh();
  tpm.hashStart();
  tpm.hashData(Buffer.alloc(5000, 1));
  tpm.hashEnd();
  assert.equal(
    t.pcrValues(ok(tpm, t.pcrRead(17)))[0],
    t.sha256(Buffer.alloc(32), t.sha256(Buffer.alloc(5000, 1))),
  );
});

test('locality and physical presence go with the command', () => {
  const tpm = fresh();
  const reset = t.command(t.CC.PCR_Reset, [20], Buffer.alloc(0), t.password);
  assert.is(t.rc(tpm.execute(reset)), 0x907, 'TPM_RC_LOCALITY');
  assert.is(t.rc(tpm.execute(reset, { locality: 2 })), 0);
  assert.is(t.rc(tpm.execute(reset)), 0x907);
});

test.run();
