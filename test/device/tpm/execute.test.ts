// deadline: 120 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TpmError } from '../../../device/tpm/execute.ts';
import { readTpmInfo } from '../../../device/tpm/info.ts';
import { loadKey, provisionKeys } from '../../../device/tpm/keys.ts';
import { quote } from '../../../device/tpm/quote.ts';
import { seal, unseal } from '../../../device/tpm/seal.ts';
import { withSession } from '../../../device/tpm/session.ts';
import { Tpm } from '../../../device/tpm/tpm.ts';
import { TransportError } from '../../../device/tpm/transport.ts';
import { FormatError } from '../../../formats/format-error.ts';
import * as commands from '../../../formats/tpm2/commands.ts';
import { commandOf } from '../../../formats/tpm2/commands.ts';
import { TPM_ALG, TPM_CAP, TPM_CC, TPM_HT, TPM_RH } from '../../../formats/tpm2/constants.ts';
import { commandName, explainCommand, explainResponse } from '../../../formats/tpm2/explain.ts';
import { decodeCommand } from '../../../formats/tpm2/message.ts';
import { storageRootKey } from '../../../formats/tpm2/templates.ts';
import { rejects } from '../../kit/rejects.ts';
import { leftovers, someDigest, withTpm } from '../../kit/tpm.ts';
import {
  changed,
  errorResponse,
  FaultyTransport,
  isCommand,
  refusing,
  responseLost,
  withFaults,
} from '../../kit/tpm-faults.ts';

const primary = {
  primaryHandle: TPM_RH.OWNER,
  inSensitive: { userAuth: new Uint8Array(), data: new Uint8Array() },
  inPublic: storageRootKey,
  outsideInfo: new Uint8Array(),
  creationPCR: [],
};

test('[TPM2 P3] each command has as many handles as the TPM says', () =>
  withTpm(async (tpm) => {
    const { capabilityData } = await tpm.execute(commands.GetCapability, {
      capability: TPM_CAP.COMMANDS,
      property: 0,
      propertyCount: 256,
    });
    if (capabilityData.capability !== TPM_CAP.COMMANDS) throw new Error('another capability');
    const described = Object.values(TPM_CC).filter((code) => commandOf(code));
    assert.ok(described.length >= 50, `${described.length} commands`);
    for (const code of described) {
      const command = commandOf(code) as commands.Command;
      const known = capabilityData.data.find(({ commandIndex, V }) => !V && commandIndex === code);
      assert.ok(known, `the TPM has ${command.name}`);
      assert.is(Object.keys(command.handles).length, known.cHandles, command.name);
      assert.is(command.responseHandles.length, known.rHandle ? 1 : 0, command.name);
      const roles = Object.values(command.handles);
      assert.not(roles.join().includes('none,user'), `${command.name}: authorized handles come first`);
    }
  }));

test('a refusal names command, code, what it is about and whether to try again', () =>
  withTpm(async (tpm) => {
    const unknown = tpm.execute(commands.ReadPublic, { objectHandle: 0x81001234 });
    await rejects(unknown, TpmError, (e) => {
      assert.is(
        e.message,
        'TPM2_ReadPublic: TPM_RC_HANDLE (handle 1): the handle refers to nothing, or to the wrong kind of thing',
      );
      return (
        e.rcName === 'TPM_RC_HANDLE' &&
        e.kind === 'handle' &&
        e.number === 1 &&
        !e.retry &&
        e.command === 'TPM2_ReadPublic'
      );
    });
    const badHash = tpm.execute(commands.Hash, {
      data: new Uint8Array(),
      hashAlg: 0x12,
      hierarchy: TPM_RH.NULL,
    });
    await rejects(
      badHash,
      TpmError,
      (e) => e.rcName === 'TPM_RC_HASH' && e.kind === 'parameter' && e.number === 2,
    );
  }));

for (const [name, code] of [
  ['RETRY', 0x922],
  ['YIELDED', 0x908],
  ['TESTING', 0x90a],
  ['NV_RATE', 0x920],
] as const)
  test(`TPM_RC_${name}: the same bytes again, a little later each time`, () =>
    withFaults(async (tpm, wire, pauses) => {
      wire.fault = refusing('GetRandom', code, 4);
      assert.is((await tpm.random(16)).length, 16);
      assert.equal(pauses, [5, 10, 20, 40]);
      const sent = wire.commands;
      assert.is(sent.length, 5);
      for (const command of sent) assert.equal(command, sent[0]);
    }));

test('retrying ends, and says that it would have helped', () =>
  withFaults(async (tpm, wire, pauses) => {
    wire.fault = refusing('GetRandom', 0x922, 1000);
    await rejects(tpm.random(16), TpmError, (e) => e.rcName === 'TPM_RC_RETRY' && e.retry);
    assert.is(wire.count('GetRandom'), 12);
    assert.ok(pauses.reduce((sum, ms) => sum + ms, 0) < 10_000);
    assert.ok(Math.max(...pauses) <= 1000);
  }));

test('what does not help is not tried again', () =>
  withFaults(async (tpm, wire) => {
    for (const code of [0x921, 0x902, 0x101, 0x909]) {
      wire.forget();
      wire.fault = refusing('GetRandom', code, 1);
      await rejects(tpm.random(16), TpmError, (e) => e.code === code);
      assert.is(wire.count('GetRandom'), 1);
    }
  }));

test('a session survives refusals in between', () =>
  withFaults(
    async (tpm, wire) => {
      const { srk } = await provisionKeys(tpm);
      const blob = await seal(tpm, srk, new Uint8Array(32).fill(7), { pcrs: [0, 4] });
      wire.forget();
      wire.fault = refusing('Unseal', 0x922, 3);
      assert.equal(await unseal(tpm, srk, blob), new Uint8Array(32).fill(7));
      assert.is(wire.count('Unseal'), 4);
    },
    { extended: [0, 4] },
  ));

test('responses that are no such responses are refused with path and offset', () =>
  withFaults(async (tpm, wire) => {
    const broken: [string, (response: Uint8Array) => Uint8Array][] = [
      ['response at byte 2: size is 28, but there are 29 bytes', (r) => Uint8Array.of(...r, 0)],
      ['response at byte 2: size is 28, but there are 27 bytes', (r) => r.subarray(0, 27)],
      ['response.tag at byte 0: need 2 bytes, have 0', () => new Uint8Array()],
      ['response at byte 0: tag is 0x8002, must be 0x8001', (r) => r.with(1, 2)],
      ['GetRandom response.randomBytes at byte 2: need 17 bytes, have 16', (r) => r.with(11, 17)],
      ['GetRandom response at byte 17: 1 bytes left over', (r) => r.with(11, 15)],
      [
        'GetRandom response.randomBytes at byte 0: size is 65535, at most 64',
        (r) => r.with(10, 255).with(11, 255),
      ],
    ];
    for (const [message, spoil] of broken) {
      wire.fault = async (command, send) => spoil(await send(command));
      await rejects(
        tpm.random(16),
        FormatError,
        (e) => e.message === message || assert.is(e.message, message) === undefined,
      );
    }
    wire.fault = undefined;
    assert.is((await tpm.random(16)).length, 16, 'the next command works');
  }));

test('an object needs its name when a session signs the command', () =>
  withTpm(async (tpm) => {
    const { srk, device } = await provisionKeys(tpm);
    await withSession(tpm, { type: 'hmac', salt: srk }, async (session) => {
      const args = {
        digest: new Uint8Array(32),
        inScheme: { scheme: TPM_ALG.NULL },
        validation: { tag: 0x8024, hierarchy: TPM_RH.NULL, digest: new Uint8Array() },
      } as const;
      await rejects(
        tpm.execute(commands.Sign, { keyHandle: device.handle, ...args }, [{ session }]),
        TypeError,
        (e) => e.message === 'keyHandle needs a name, because a session signs the command',
      );
      await tpm.execute(commands.Sign, { keyHandle: device, ...args }, [{ session }]);
    });
  }));

test('only what the specification lets be encrypted is', () =>
  withTpm(async (tpm) => {
    const { srk } = await provisionKeys(tpm);
    await withSession(tpm, { type: 'hmac', salt: srk }, async (session) => {
      await rejects(
        tpm.execute(commands.GetRandom, { bytesRequested: 4 }, [{ session, decrypt: true }]),
        TypeError,
        (e) => e.message.includes('no parameter of GetRandom'),
      );
      await rejects(
        tpm.execute(commands.PCR_Reset, { pcrHandle: 16 }, [{ session, encrypt: true }]),
        TypeError,
        (e) => e.message.includes('no response parameter of PCR_Reset'),
      );
    });
    await withSession(tpm, { type: 'hmac' }, (session) =>
      rejects(
        tpm.execute(commands.GetRandom, { bytesRequested: 4 }, [{ session, encrypt: true }]),
        TypeError,
        (e) => e.message.includes('without salt'),
      ),
    );
  }));

test('lost responses: what may have been made is flushed before the next sequence', () =>
  withFaults(async (tpm, wire) => {
    wire.fault = responseLost;
    await rejects(tpm.execute(commands.CreatePrimary, primary), TransportError, (e) => e.code === 'timeout');
    assert.match(tpm.lost ?? '', /TPM2_CreatePrimary got no usable response/);
    wire.fault = undefined;
    await tpm.readClock();
    assert.is(tpm.lost, undefined);
    assert.equal(await leftovers(tpm), []);
  }));

test('lost responses: within the sequence nothing but flushing goes on', () =>
  withFaults(async (tpm, wire) => {
    const { srk } = await provisionKeys(tpm);
    await rejects(
      withSession(tpm, { type: 'hmac', salt: srk }, async () => {
        wire.fault = (command, send) =>
          isCommand(command, 'CreatePrimary') ? responseLost(command, send) : send(command);
        await tpm.execute(commands.CreatePrimary, primary).catch(() => {});
        await tpm.readClock();
      }),
      TransportError,
      (e) => e.code === 'closed' && e.message.startsWith('reopen the TPM first'),
    );
    assert.is(wire.count('FlushContext'), 6, 'five primaries and the session');
    await tpm.readClock();
    assert.equal(await leftovers(tpm), []);
  }));

test('lost responses: a shared TPM is reopened, or says that it must be', () =>
  withTpm(async (_, transport) => {
    const wire = new FaultyTransport(transport);
    wire.close = async () => {};
    wire.fault = responseLost;
    const stuck = new Tpm(wire);
    await stuck.execute(commands.CreatePrimary, primary).catch(() => {});
    await rejects(stuck.readClock(), TransportError, (e) => e.code === 'closed');

    let reopened = 0;
    wire.forget();
    const agile = new Tpm(wire, {
      reopen: async () => {
        reopened++;
        return transport;
      },
    });
    await agile.execute(commands.CreatePrimary, primary).catch(() => {});
    await agile.readClock();
    assert.is(reopened, 1);
    await agile.flushAll();
  }));

test('an unusable response to a command that makes something: it is flushed at once', () =>
  withFaults(async (tpm, wire) => {
    // The handle is intact, the rest is not.
    wire.fault = changed('CreatePrimary', (response) => response.fill(0xff, 18, 22));
    await rejects(tpm.execute(commands.CreatePrimary, primary), FormatError, (e) =>
      e.path.startsWith('CreatePrimary'),
    );
    wire.fault = undefined;
    assert.equal(await leftovers(tpm), []);
    assert.is(tpm.lost, undefined);
  }));

test('no room: what is in the way is flushed before the next sequence, where nobody else uses the TPM', () =>
  withTpm(async (tpm, transport) => {
    const { ak } = await provisionKeys(tpm);
    const attempt = (on: Tpm) =>
      quote(on, ak, { qualifyingData: new Uint8Array(4), bank: 'sha256', pcrs: [0] });
    const shared = new Tpm(transport);
    for (let left = 0; left < 3; left++) await shared.execute(commands.CreatePrimary, primary);
    const full = (error: TpmError) => error.rcName === 'TPM_RC_OBJECT_MEMORY';
    await rejects(attempt(shared), TpmError, full);
    assert.is(shared.lost, undefined, 'they may be somebody else’s');
    await rejects(attempt(tpm), TpmError, full);
    assert.match(tpm.lost ?? '', /TPM_RC_OBJECT_MEMORY/);
    await attempt(tpm);
    assert.is(tpm.lost, undefined);
    let reopened = 0;
    const reopen = async () => {
      reopened++;
      await tpm.flushAll();
      return transport;
    };
    const kept = { send: (command: Uint8Array) => transport.send(command), close: async () => {} };
    const managed = new Tpm(kept, { reopen });
    for (let left = 0; left < 3; left++) await managed.execute(commands.CreatePrimary, primary);
    await rejects(attempt(managed), TpmError, full);
    await attempt(managed);
    assert.is(reopened, 1);
  }));

test('a connection that failed is opened anew before the next sequence, until one opens', () =>
  withTpm(async (_, transport) => {
    const wire = new FaultyTransport(transport);
    wire.close = async () => {};
    let there = true;
    const tpm = new Tpm(wire, {
      reopen: async () => {
        if (!there) throw new TransportError('io', 'nobody there');
        return transport;
      },
    });
    there = false;
    wire.fault = async () => {
      throw new TransportError('io', 'gone');
    };
    await rejects(tpm.readClock(), TransportError, (error) => error.message === 'gone');
    for (const _ of [1, 2])
      await rejects(tpm.readClock(), TransportError, (error) => error.message === 'nobody there');
    there = true;
    await tpm.readClock();
    assert.is(tpm.lost, undefined);
  }));

test('ten thousand quotes leave nothing', () =>
  withTpm(async (tpm) => {
    const { ak } = await provisionKeys(tpm);
    const room = async () => {
      const { free } = await readTpmInfo(tpm);
      return [free.transient, free.sessions, free.persistent];
    };
    const before = await room();
    const qualifyingData = new Uint8Array(32);
    const counted = new Set<string>();
    for (let count = 0; count < 10_000; count++) {
      new DataView(qualifyingData.buffer).setUint32(0, count);
      const { signature } = await quote(tpm, ak, { qualifyingData, bank: 'sha256', pcrs: [0, 4, 7, 8, 13] });
      counted.add(Buffer.from(signature).toString('base64'));
    }
    assert.is(counted.size, 10_000, 'each is a quote of its own');
    assert.equal(await leftovers(tpm), []);
    assert.equal(await room(), before);
    console.log(
      `${counted.size} quotes: no object, no session, and as much room as before (${before.join(', ')})`,
    );
  }));

test('sequences do not mix, and join in when nested', () =>
  withTpm(async (tpm) => {
    const order: string[] = [];
    const sequence = (name: string) =>
      tpm.exclusive(async () => {
        order.push(`${name} begins`);
        await tpm.random(8);
        await tpm.exclusive(async () => tpm.random(8));
        await Promise.all([tpm.random(8), tpm.readClock()]);
        order.push(`${name} ends`);
      });
    const failing = tpm.exclusive(async () => {
      await tpm.random(8);
      throw new Error('on purpose');
    });
    await Promise.all([
      sequence('a'),
      rejects(failing, Error, (e) => e.message === 'on purpose'),
      sequence('b'),
      tpm.random(8),
      sequence('c'),
    ]);
    assert.equal(order, ['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends']);
  }));

test('what outlives its sequence waits for a turn of its own', () =>
  withTpm(async (tpm) => {
    let late: Promise<Uint8Array> | undefined;
    let release = () => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    await tpm.exclusive(async () => {
      late = gate.then(() => tpm.random(8));
    });
    const events: string[] = [];
    const other = tpm.exclusive(async () => {
      release();
      await tpm.random(8);
      await tpm.random(8);
      events.push('other ends');
    });
    await Promise.all([other, (late as unknown as Promise<Uint8Array>).then(() => events.push('late ends'))]);
    assert.equal(events, ['other ends', 'late ends']);
  }));

test('what a TPM says about itself', () =>
  withTpm(async (tpm) => {
    const capabilities = await tpm.capabilities();
    assert.is(capabilities.manufacturer, 'WASM');
    assert.ok(capabilities.revision >= 138);
    assert.ok(capabilities.nvBufferMax >= 512);
    assert.is(capabilities.banks.get('sha256')?.length, 24);
    assert.ok(capabilities.firmwareVersion > 0n);
    assert.ok((await tpm.readClock()).clockInfo.clock >= 0n);
    assert.is(await tpm.startup(), false, 'the platform has started it');
    assert.is((await tpm.random(100)).length, 100);
    assert.equal(await tpm.handles(TPM_HT.PERSISTENT), []);
    await rejects(loadKey(tpm, 'ak'), Error, (e) => e.message === 'ak at 0x81000004: there is no key');
  }));

test('PCRs: more than eight at once, banks, extending', () =>
  withTpm(async (tpm) => {
    await tpm.pcrExtend(16, { sha256: someDigest(1), sha1: someDigest(1, 20) });
    const values = await tpm.pcrRead('sha256', [16, 0, 3, 1, 2, 4, 5, 6, 7, 8, 23]);
    assert.equal([...values.keys()], [0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 23]);
    assert.is.not(Buffer.from(values.get(16) as Uint8Array).toString('hex'), '00'.repeat(32));
    assert.is((await tpm.pcrRead('sha1', [16])).get(16)?.length, 20);
    await tpm.execute(commands.PCR_Reset, { pcrHandle: 16 });
    assert.equal((await tpm.pcrRead('sha256', [16])).get(16), new Uint8Array(32));
    const { digests } = await tpm.execute(commands.PCR_Event, {
      pcrHandle: 16,
      eventData: Buffer.from('event'),
    });
    assert.is(digests.length, 4);
  }));

test('a PCR bank that the TPM does not have is an error, not an endless loop', () =>
  withFaults(async (tpm, wire) => {
    // As a TPM answers when the bank is not allocated: an empty selection and no values.
    const empty = '8001 0000001c 00000000 00000001 00000001 000b 03 000000 00000000'.replace(/ /g, '');
    wire.fault = async () => Uint8Array.from(Buffer.from(empty, 'hex'));
    await rejects(
      tpm.pcrRead('sha256', [0, 7]),
      RangeError,
      (e) => e.message === 'this TPM has no PCR 0, 7 in its sha256 bank',
    );
  }));

test('no secret in an error: only names and numbers', () =>
  withFaults(async (tpm, wire) => {
    const secret = Buffer.from('do not print this');
    wire.fault = async () => errorResponse(0x2d5);
    await rejects(
      tpm.execute(commands.CreatePrimary, { ...primary, inSensitive: { userAuth: secret, data: secret } }),
      TpmError,
      (e) =>
        !`${e.message}${e.stack}`.includes('do not print') && !e.message.includes(secret.toString('hex')),
    );
    assert.is(decodeCommand(wire.commands[0] as Uint8Array).command.name, 'CreatePrimary');
  }));

test('every command and response of a device can be explained, to the last byte', () =>
  withFaults(
    async (tpm, wire) => {
      const { srk, ak } = await provisionKeys(tpm);
      await tpm.capabilities();
      await quote(tpm, ak, { qualifyingData: new Uint8Array(32), bank: 'sha256', pcrs: [0, 4] });
      await unseal(tpm, srk, await seal(tpm, srk, new Uint8Array(32), { pcrs: [0, 4] }));
      await rejects(tpm.execute(commands.ReadPublic, { objectHandle: 0x81001234 }), TpmError);
      assert.ok(wire.commands.length > 40);
      for (const [i, command] of wire.commands.entries()) {
        const { code, sessions } = decodeCommand(command);
        const response = wire.responses[i] as Uint8Array;
        for (const [bytes, { fields, problem }] of [
          [command, explainCommand(command)],
          [response, explainResponse(response, code, sessions.length)],
        ] as const) {
          assert.is(problem, undefined);
          const covered = fields.toSorted((a, b) => a.offset - b.offset);
          let end = 0;
          for (const { path, offset, length } of covered) {
            assert.is(offset, end, path);
            end += length;
          }
          assert.is(end, bytes.length, commandName(code));
        }
      }
    },
    { extended: [0, 4] },
  ));

test('a test that leaves something in its TPM fails', async () => {
  const careless = withTpm(async (tpm) => {
    await tpm.execute(commands.CreatePrimary, primary);
  });
  await rejects(careless, Error, (e) => e.message === 'left behind in the TPM: 0x80000000');
});

test.run();
