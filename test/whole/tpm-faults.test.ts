// deadline: 180 s
// A TPM that does not do what it should, under a whole device: it goes on, says what is wrong, and recovers by itself.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Tpm } from '../../device/tpm/tpm.ts';
import { TransportError } from '../../device/tpm/transport.ts';
import { openWasmTpm } from '../../device/tpm/transports/wasm.ts';
import { minute } from '../../machines/waiting.ts';
import { leftovers } from '../kit/tpm.ts';
import * as t from '../kit/tpm-bytes.ts';
import { errorResponse, type Fault, FaultyTpm, isCommand } from '../kit/tpm-faults.ts';
import { inWorld, stateOf, type World, type WorldDevice } from '../kit/world.ts';

/** Every command is refused. */
const always =
  (code: number): Fault =>
  async () =>
    errorResponse(code);

/** Every command is refused once before it runs. */
const once = (code: number): Fault => {
  let refused = false;
  return async (command, send) => {
    refused = !refused;
    return refused ? errorResponse(code) : send(command);
  };
};

const outOfReach =
  (code: TransportError['code']): Fault =>
  async () => {
    throw new TransportError(code, 'on purpose');
  };

/** What the TPM does, and the reason that the device gives; null where it gets over it without a word. */
const faults: [name: string, fault: () => Fault, reason: RegExp | null][] = [
  ['RETRY before each command', () => once(0x922), null],
  ['YIELDED before each command', () => once(0x908), null],
  ['TESTING before each command', () => once(0x90a), null],
  ['LOCKOUT', () => always(0x921), /^tpm\.lockout$/],
  ['out of memory', () => always(0x904), /^tpm\.memory$/],
  ['no room for objects', () => always(0x902), /^tpm\.memory$/],
  ['no room for sessions', () => always(0x903), /^tpm\.memory$/],
  ['in failure mode', () => always(0x101), /^tpm\.error$/],
  ['no response in time', () => outOfReach('timeout'), /^tpm\.lost$/],
  ['gone', () => outOfReach('io'), /^tpm\.lost$/],
  [
    'it runs the command, and the response is lost',
    () => async (command, send) => {
      await send(command);
      throw new TransportError('timeout', 'on purpose');
    },
    /^tpm\.lost$/,
  ],
  ['rubbish', () => async () => Uint8Array.from({ length: 40 }, (_, n) => 37 * n), /^tpm\.rubbish$/],
  ['nothing', () => async () => new Uint8Array(), /^tpm\.rubbish$/],
  [
    'changed responses',
    () => async (command, send) => {
      const response = (await send(command)).slice();
      if (response.length > 40) response[response.length - 1] = (response.at(-1) as number) ^ 1;
      return response;
    },
    // A changed public area is another key's.
    /^tpm\.(bus|rubbish|other|key-taken)$/,
  ],
];

interface Bench {
  world: World;
  device: WorldDevice;
  tpm: FaultyTpm;
}

async function onDevice(work: (bench: Bench) => Promise<void>): Promise<void> {
  await inWorld(async (world) => {
    const tpm = new FaultyTpm(await openWasmTpm({ startup: false, now: () => world.clock.now() }));
    await work({ world, device: await world.addDevice({ tpm }), tpm });
  });
}

/** Codes of the failures of ports from some event on. */
function saidSince(device: WorldDevice, from: number): string[] {
  const said = device.events
    .slice(from)
    .flatMap((event) => (event.kind === 'port' && event.phase === 'fails' ? [event.code ?? ''] : []));
  return [...new Set(said)];
}

/** The link is not the matter: what the TPM takes in real time is long where time is simulated. */
function expect(said: string[], reason: RegExp | null): void {
  const ofTpm = said.filter((code) => !code.startsWith('link.'));
  if (reason === null) assert.equal(ofTpm, []);
  else
    assert.ok(
      ofTpm.some((code) => reason.test(code)),
      ofTpm.join(),
    );
}

function died(device: WorldDevice): string[] {
  return device.events.flatMap((event) => (event.kind === 'failed' ? [event.text] : []));
}

for (const [name, fault, reason] of faults) {
  test(`${name}: while it attests again, and from the start of a boot`, () =>
    onDevice(async ({ world, device, tpm }) => {
      await world.attested(device);
      let from = device.events.length;
      tpm.fault = fault();
      device.node.component('attest-task')?.send({ type: 'restart' });
      await world.run(3 * minute);
      expect(saidSince(device, from), reason);
      tpm.fault = undefined;
      await world.attested(device);

      from = device.events.length;
      device.onBooted = () => {
        tpm.fault = fault();
      };
      await device.node.reboot('test');
      await world.run(3 * minute);
      expect(saidSince(device, from), reason);
      delete device.onBooted;
      tpm.fault = undefined;
      await world.attested(device);
      assert.is.not(stateOf(device, 'tpm-manager'), 'lost');
      assert.ok(device.node.node?.vault.unlocked);
      assert.equal(died(device), []);
      assert.equal(await leftovers(new Tpm(tpm.chip)), []);
    }));
}

test('somebody left the TPM full: it is emptied, and nobody has to do anything', () =>
  onDevice(async ({ world, device, tpm }) => {
    await world.attested(device);
    const from = device.events.length;
    for (let left = 0; left < 3; left++) {
      const made = await tpm.chip.send(t.createPrimary(t.RH.owner, t.template.srk()));
      assert.is(t.rc(made), 0);
    }
    device.node.component('attest-task')?.send({ type: 'restart' });
    await world.run(5 * minute);
    await world.attested(device);
    assert.equal(await leftovers(new Tpm(tpm.chip)), []);
    assert.equal(died(device), []);
    expect(saidSince(device, from), /^tpm\.memory$/);
  }));

test('a fault of one command alone, whichever it is', () =>
  onDevice(async ({ world, device, tpm }) => {
    await world.attested(device);
    for (const command of [
      'Quote',
      'PCR_Read',
      'Sign',
      'StartAuthSession',
      'FlushContext',
      'Unseal',
      'Load',
    ] as const) {
      let left = 1;
      tpm.fault = async (bytes, send) => {
        if (isCommand(bytes, command) && left-- > 0) throw new TransportError('timeout', 'on purpose');
        return send(bytes);
      };
      await device.node.reboot('test');
      await world.attested(device);
      assert.equal(died(device), []);
    }
    tpm.fault = undefined;
    assert.equal(await leftovers(new Tpm(tpm.chip)), []);
  }));

test.run();
