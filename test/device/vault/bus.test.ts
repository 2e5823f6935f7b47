// deadline: 180 s
// What somebody sees and can do who sits on the bus of the TPM, while the real vault manager works.
import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Bus } from '../../../broker/bus.ts';
import { type ComponentEvent, type RunningComponent, startComponent } from '../../../device/component.ts';
import type { Node } from '../../../device/node.ts';
import { vaultManagerPorts } from '../../../device/ports/vault-manager.ts';
import { StateFolder } from '../../../device/state.ts';
import { DeviceTpm } from '../../../device/tpm/device-tpm.ts';
import { Tpm } from '../../../device/tpm/tpm.ts';
import { DeviceVault } from '../../../device/vault/device-vault.ts';
import { FileVault } from '../../../device/vault/file.ts';
import { masterKey } from '../../../device/vault/master-key.ts';
import type { MasterKey } from '../../../device/vault/vault.ts';
import { type KeyExport, vaultManager, vaultManagerPublications } from '../../../machines/vault-manager.ts';
import { SimulatedClock } from '../../kit/clock.ts';
import { LabBoard } from '../../kit/evidence.ts';
import { inFolder } from '../../kit/folders.ts';
import { leftovers } from '../../kit/tpm.ts';
import { FaultyTransport } from '../../kit/tpm-faults.ts';

const token = Buffer.from('the integrity token of this test');
const tokenHash = createHash('sha256').update(token).digest('hex');

/** A store of files that shows which master keys it was given. */
class OpenVault extends FileVault {
  readonly keysSeen: Uint8Array[] = [];
  override create(key: MasterKey): void {
    this.keysSeen.push(key.bytes.slice());
    super.create(key);
  }
  override unlock(key: MasterKey): void {
    this.keysSeen.push(key.bytes.slice());
    super.unlock(key);
  }
  override admit(key: MasterKey): void {
    this.keysSeen.push(key.bytes.slice());
    super.admit(key);
  }
}

interface Bench {
  board: LabBoard;
  wire: FaultyTransport;
  /** Every master key that there was. */
  keys: Uint8Array[];
  start(): VaultManager;
}

interface VaultManager {
  vault: DeviceVault;
  component: RunningComponent;
  exported: KeyExport[];
  failures: string[];
  until(state: string): Promise<void>;
  stop(): void;
}

async function onBoard(work: (bench: Bench) => Promise<void>): Promise<void> {
  const board = await LabBoard.open();
  const wire = new FaultyTransport(board.chip);
  const keys: Uint8Array[] = [];
  try {
    await board.boot();
    await inFolder((folder) => work({ board, wire, keys, start: () => start(folder, wire, keys) }));
    assert.equal(await leftovers(board.tpm), []);
  } finally {
    await board.close();
  }
}

function start(folder: string, wire: FaultyTransport, keys: Uint8Array[]): VaultManager {
  const state = new StateFolder(folder);
  const tpm = new DeviceTpm(new Tpm(wire, { sole: true, sleep: async () => undefined }), state);
  const backend = new OpenVault(state);
  const vault = new DeviceVault({ backend: () => backend, tpm, state, device: async () => 'me' });
  const exported: KeyExport[] = [];
  const failures: string[] = [];
  const component = startComponent({
    name: 'vault-manager',
    chart: vaultManager,
    ports: vaultManagerPorts({ vault, tokens: { read: () => token } } as unknown as Node),
    publications: vaultManagerPublications,
    bus: {
      publish: (topic: string, body: KeyExport | null) => {
        if (topic.endsWith('EncryptedVaultKeyFromDevice') && body) exported.push(body);
      },
    } as unknown as Bus,
    clock: new SimulatedClock(),
    watch: (event: ComponentEvent) => {
      if (event.kind === 'port' && event.phase === 'fails') failures.push(`${event.port} ${event.code}`);
    },
  });
  const until = async (wanted: string) => {
    for (let spins = 0; JSON.stringify(component.value()) !== wanted; spins++) {
      if (spins > 20_000)
        throw new Error(`${JSON.stringify(component.value())}, not ${wanted}: ${failures.join(', ')}`);
      await setImmediate();
    }
  };
  const stop = () => {
    component.stop();
    keys.push(...backend.keysSeen);
    vault.lock();
  };
  return { vault, component, exported, failures, until, stop };
}

const idle = '{"unlocked":"idle"}';
const waiting = '{"locked":"waitingForKey"}';

test('no master key is ever on the bus: made, sealed, escrowed, opened, sealed anew, rotated', () =>
  onBoard(async ({ board, wire, keys, start }) => {
    const first = start();
    await first.until(idle);
    const escrowed = first.exported.at(-1) as KeyExport;
    first.stop();

    await board.boot();
    const second = start();
    await second.until(idle);
    second.stop();

    // Other software: EVC's copy opens it, and it is sealed anew.
    await board.boot({ version: '2.0.0' });
    const third = start();
    await third.until(waiting);
    third.component.send({ type: 'key.received', version: 1, ...escrowed } as { type: string });
    await third.until(idle);
    third.component.send({ type: 'upgrade.committed' });
    third.component.send({ type: 'token.confirmed', tokenHash, rotate: true } as { type: string });
    await third.until('{"unlocked":{"rotating":"escrowing"}}');
    const rotated = third.exported.at(-1) as KeyExport;
    third.component.send({ type: 'escrow.recorded', keyId: rotated.keyId, version: 2 } as { type: string });
    await third.until(idle);
    third.stop();

    await board.boot({ version: '2.0.0' });
    const fourth = start();
    await fourth.until(idle);
    assert.equal(fourth.failures, []);
    fourth.stop();

    const distinct = new Map(keys.map((bytes) => [masterKey(bytes).id, bytes]));
    assert.equal([...distinct.keys()].sort(), [escrowed.keyId, rotated.keyId].sort());
    assert.ok(wire.count('Create') >= 3 && wire.count('Unseal') >= 2 && wire.count('ECDH_ZGen') >= 1);
    for (const [id, bytes] of distinct) {
      // A half of it would help as well, and bytes may go over the bus backwards.
      for (const part of [bytes.subarray(0, 16), bytes.subarray(16), bytes.slice(0, 16).reverse()])
        assert.not(wire.saw(part), `master key ${id} was on the bus`);
    }
    // The recording does see what is not hidden.
    assert.ok(wire.saw((await board.keys()).srk.publicBytes.subarray(2)));
  }));

test('a flipped bit in any response while the vault opens: it is noticed, or it changes nothing', () =>
  onBoard(async ({ board, wire, start }) => {
    const first = start();
    await first.until(idle);
    const { keyId } = first.exported.at(-1) as KeyExport;
    first.vault.backend.put('data', Buffer.from('content'));
    first.stop();
    await board.boot();
    wire.forget();
    const plain = start();
    await plain.until(idle);
    plain.stop();
    const sizes = wire.responses.map(({ length }) => length);
    const outcomes = new Map<string, number>();
    let flips = 0;
    for (const [n, size] of sizes.entries()) {
      // From the response code on: tag and size are the frame, which tests of the transports damage.
      for (let at = 6; at < size; at += at < 10 ? 1 : 5) {
        let sent = 0;
        wire.forget();
        wire.fault = async (command, send) => {
          const response = (await send(command)).slice();
          if (sent++ === n) response[at] = (response[at] as number) ^ (1 << ((at + n) % 8));
          return response;
        };
        flips++;
        const manager = start();
        for (let spins = 0; spins < 20_000; spins++) {
          const state = JSON.stringify(manager.component.value());
          if ([idle, waiting, '"failed"'].includes(state)) break;
          await setImmediate();
        }
        wire.fault = undefined;
        const state = JSON.stringify(manager.component.value());
        const said = manager.failures[0] ?? 'changes nothing';
        outcomes.set(said, (outcomes.get(said) ?? 0) + 1);
        if (state === idle) {
          assert.equal(manager.vault.backend.get('data'), Buffer.from('content'));
          assert.equal(
            manager.exported.map((entry) => entry.keyId).filter((id) => id !== keyId),
            [],
          );
        } else assert.is.not(manager.failures.length, 0, `response ${n}, byte ${at}: ${state}`);
        manager.stop();
        await new Tpm(board.chip, { sole: true }).flushAll();
      }
    }
    const again = start();
    await again.until(idle);
    assert.is((again.exported.at(-1) as KeyExport).keyId, keyId);
    again.stop();
    assert.not(
      [...outcomes.keys()].some((said) => said.endsWith('internal.error')),
      [...outcomes.keys()].join(),
    );
    console.log(
      `${flips} flipped bits in ${sizes.length} responses: ${[...outcomes].map(([said, count]) => `${count} ${said}`).join(', ')}`,
    );
  }));

test.run();
