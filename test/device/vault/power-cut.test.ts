// deadline: 300 s
// The power is cut at every call to the file system while the vault manager works: the real chart and ports, a real TPM, real
// files. After each cut the device boots again, and the vault opens: by the TPM, or with the key that EVC holds.
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Bus } from '../../../broker/bus.ts';
import { type RunningComponent, startComponent } from '../../../device/component.ts';
import { nativeAddon } from '../../../device/native/addon.ts';
import type { Node } from '../../../device/node.ts';
import { vaultManagerPorts } from '../../../device/ports/vault-manager.ts';
import { StateFolder } from '../../../device/state.ts';
import { DeviceTpm } from '../../../device/tpm/device-tpm.ts';
import { type VaultChoice, vaultBackend } from '../../../device/vault/backend.ts';
import { DeviceVault } from '../../../device/vault/device-vault.ts';
import {
  type VaultManagerContext,
  vaultManager,
  vaultManagerPublications,
} from '../../../machines/vault-manager.ts';
import { needAddon } from '../../kit/addon.ts';
import { SimulatedClock } from '../../kit/clock.ts';
import { LabBoard } from '../../kit/evidence.ts';
import { inFolder } from '../../kit/folders.ts';
import { needLoop, withFileSystem } from '../../kit/loop.ts';
import { type CutKind, type CutPoint, cutKinds, Power } from '../../kit/power-cut.ts';

// What a disk keeps is computed here, and to wait for one only takes time.
if (existsSync('/dev/shm')) process.env.TMPDIR = '/dev/shm';

const token = Buffer.from('the integrity token of this test');
const tokenHash = createHash('sha256').update(token).digest('hex');
const device = 'device';

interface Escrowed {
  keyId: string;
  encryptedKey: string;
}

/** EVC's side: the keys whose receipt it has confirmed, the newest last. */
type Escrow = Escrowed[];

/** One life of the vault manager, from its start to a cut or its end. */
class Life {
  readonly vault: DeviceVault;
  readonly #component: RunningComponent;

  constructor(folder: string, board: LabBoard, choice: VaultChoice, escrow: Escrow, power?: Power) {
    const state = new StateFolder(folder);
    const tpm = new DeviceTpm(board.tpm, state);
    const backend = () => vaultBackend(state, choice);
    this.vault = new DeviceVault({ backend, tpm, state, device: async () => device });
    const bus = {
      publish: (topic: string, body: Escrowed | null) => {
        if (topic !== 'vault-manager/EncryptedVaultKeyFromDevice' || body === null || power?.cut) return;
        escrow.push({ keyId: body.keyId, encryptedKey: body.encryptedKey });
        queueMicrotask(() => this.tell({ type: 'escrow.recorded', keyId: body.keyId, version: 1 }));
      },
    } as unknown as Bus;
    this.#component = startComponent({
      name: 'vault-manager',
      chart: vaultManager,
      ports: vaultManagerPorts({ vault: this.vault, tokens: { read: () => token } } as unknown as Node),
      publications: vaultManagerPublications,
      bus,
      clock: new SimulatedClock(),
    });
  }

  tell(event: { type: string; [field: string]: unknown }): void {
    this.#component.send(event);
  }

  get state(): string {
    return JSON.stringify(this.#component.value());
  }

  get context(): VaultManagerContext {
    return this.#component.context() as VaultManagerContext;
  }

  /** Until it is so, or the power is cut. */
  async until(what: string, so: (life: Life) => boolean, power?: Power): Promise<void> {
    for (let spins = 0; !power?.cut && !so(this); spins++) {
      if (spins > 20_000)
        throw new Error(`never ${what}: ${this.state} ${JSON.stringify(this.context.error)}`);
      await setImmediate();
    }
  }

  /** What is under way ends: a TPM's response may still be on its way to somebody who is gone. */
  async end(): Promise<void> {
    this.#component.stop();
    for (let turn = 0; turn < 20; turn++) await setImmediate();
  }
}

const idle = (life: Life) => life.state === '{"unlocked":"idle"}' && life.context.exported !== null;
const waits = (life: Life) => life.state === '{"locked":"waitingForKey"}';

interface Stage {
  name: string;
  /** The stage whose end it begins at. */
  after?: string;
  version: string;
  /** From the start of the vault manager to the end of the stage. */
  play(life: Life, escrow: Escrow, power?: Power): Promise<void>;
}

async function opened(life: Life, escrow: Escrow, power?: Power): Promise<void> {
  await life.until('open, or waiting for a key', (now) => idle(now) || waits(now), power);
  const newest = escrow.at(-1);
  if (power?.cut || !waits(life)) return;
  assert.ok(newest, 'the TPM refuses, so EVC has a key');
  life.tell({ type: 'key.received', version: 1, ...newest });
  await life.until('open with the key of EVC', idle, power);
}

async function stored(life: Life, power?: Power, rotate = false): Promise<void> {
  life.tell({ type: 'token.confirmed', tokenHash, rotate });
  await life.until(
    'stored, and rotated where it was asked for',
    (now) =>
      idle(now) &&
      now.context.storedToken === tokenHash &&
      (!rotate || now.context.rotatedFor === tokenHash) &&
      now.vault.backend.keys().length === 1,
    power,
  );
}

async function openedAndStored(life: Life, escrow: Escrow, power?: Power): Promise<void> {
  await opened(life, escrow, power);
  if (!power?.cut) await stored(life, power);
}

const stages: Stage[] = [
  {
    name: 'creating, sealing, storing',
    version: '1.0.0',
    play: openedAndStored,
  },
  {
    name: 're-sealing for an upgrade',
    after: 'creating, sealing, storing',
    version: '2.0.0',
    play: openedAndStored,
  },
  {
    name: 'falling back',
    after: 're-sealing for an upgrade',
    version: '1.0.0',
    play: opened,
  },
  {
    name: 're-sealing for other software, before any commit',
    after: 're-sealing for an upgrade',
    version: '3.0.0',
    play: opened,
  },
  {
    name: 'committing',
    after: 're-sealing for an upgrade',
    version: '2.0.0',
    async play(life, escrow, power) {
      await opened(life, escrow, power);
      if (power?.cut) return;
      life.tell({ type: 'upgrade.committed' });
      await life.until('committed', (now) => idle(now) && !now.context.committed, power);
    },
  },
  {
    name: 'rotating',
    after: 'committing',
    version: '2.0.0',
    async play(life, escrow, power) {
      await opened(life, escrow, power);
      if (!power?.cut) await stored(life, power, true);
    },
  },
];

interface Bench {
  board: LabBoard;
  choice: VaultChoice;
  /** A folder for the files of one run. */
  fresh(): string;
  /** Ends of stages: files and escrow. */
  ends: Map<string, { folder: string; escrow: Escrow }>;
}

/** Files of the device at the beginning of a stage; what the kernel encrypts goes through it. */
async function begin(
  { board, ends, fresh, choice }: Bench,
  stage: Stage,
): Promise<{ folder: string; escrow: Escrow }> {
  const folder = fresh();
  if (stage.after === undefined) return { folder, escrow: [] };
  if (choice === 'fscrypt') {
    // A locked folder cannot be copied: what was before is played again.
    const before = stages.find(({ name }) => name === stage.after) as Stage;
    const start = await begin({ board, ends, fresh: () => folder, choice }, before);
    await whole({ board, ends, fresh, choice }, before, start);
    return start;
  }
  const end = ends.get(stage.after);
  if (!end) throw new TypeError(`no stage ${stage.after} was played`);
  cpSync(end.folder, folder, { recursive: true });
  return { folder, escrow: [...end.escrow] };
}

/** Plays a stage without a cut. */
async function whole(
  { board, choice }: Bench,
  stage: Stage,
  start: { folder: string; escrow: Escrow },
): Promise<void> {
  await board.boot({ version: stage.version });
  const life = new Life(start.folder, board, choice, start.escrow);
  await stage.play(life, start.escrow);
  life.vault.lock();
  await life.end();
}

/** The calls of a stage that change the disk; plays it once. */
async function pointsOf(bench: Bench, stage: Stage): Promise<CutPoint[]> {
  const { folder, escrow } = await begin(bench, stage);
  await bench.board.boot({ version: stage.version });
  const power = new Power({ root: folder, more: kernel(bench) });
  await power.during(async () => {
    const life = new Life(folder, bench.board, bench.choice, escrow, power);
    await stage.play(life, escrow, power);
    await life.end();
  });
  forgetKernelKey(folder, bench.choice);
  bench.ends.set(stage.name, { folder, escrow });
  return power.points;
}

/** The kernel's encryption changes the disk, too. */
const kernel = ({ choice }: Bench) => (choice === 'fscrypt' ? [nativeAddon()] : []);

async function cutAt(bench: Bench, stage: Stage, kind: CutKind, { call, name }: CutPoint): Promise<void> {
  const { board, choice } = bench;
  const { folder, escrow } = await begin(bench, stage);
  await board.boot({ version: stage.version });
  const power = new Power({ root: folder, cut: { kind, call }, more: kernel(bench) });
  let wasStored = stage.after !== undefined;
  await power.during(async () => {
    const life = new Life(folder, board, choice, escrow, power);
    await stage.play(life, escrow, power);
    wasStored ||= life.context.storedToken === tokenHash && life.context.error === null;
    await life.end();
  });
  const where = `${stage.name}, ${kind} before ${name}, call ${call}`;
  assert.ok(power.cut, where);
  try {
    // The board boots the same software again, and the kernel has forgotten every key.
    forgetKernelKey(folder, choice);
    await board.boot({ version: stage.version });
    // What EVC holds opens the vault, whatever became of the seals.
    const newest = escrow.at(-1);
    const state = new StateFolder(folder);
    if (newest) {
      const tpm = new DeviceTpm(board.tpm, state);
      const vault = new DeviceVault({
        backend: () => vaultBackend(state, choice),
        tpm,
        state,
        device: async () => device,
      });
      assert.is(vault.backend.probe(), 'present', 'EVC was told of a vault that is there');
      await vault.open(newest.keyId, newest.encryptedKey);
      vault.unlock();
      if (wasStored) assert.equal(Buffer.from(vault.backend.get('itoken') ?? []), token);
      vault.lock();
    }
    // And the device goes on by itself, to the end of what it was at.
    const next = new Life(folder, board, choice, escrow);
    await stage.play(next, escrow);
    assert.equal(Buffer.from(next.vault.backend.get('itoken') ?? []), token);
    next.vault.lock();
    await next.end();
    forgetKernelKey(folder, choice);
    await board.boot({ version: stage.version });
    const last = new Life(folder, board, choice, escrow);
    await last.until('open by the TPM alone', idle);
    assert.is(last.context.unlockedBy, 'tpm');
    assert.is(last.vault.backend.keys().length, 1);
    last.vault.lock();
    await last.end();
  } catch (error) {
    throw new Error(`${where}: ${(error as Error).message}`, { cause: error });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function forgetKernelKey(folder: string, choice: VaultChoice): void {
  if (choice !== 'fscrypt') return;
  const state = new StateFolder(folder);
  vaultBackend(state, choice).lock();
}

/** Every stage, every kind of cut, every call that changes the disk. Prints how many there were. */
async function everywhere(bench: Bench, kinds: readonly CutKind[]): Promise<void> {
  const lines: string[] = [];
  let total = 0;
  for (const stage of stages) {
    const points = await pointsOf(bench, stage);
    const counts: string[] = [];
    for (const kind of kinds) {
      // Half of it can be done of nothing but a write.
      const these = points.filter(({ name }) => kind !== 'torn' || name === 'writeSync');
      for (const point of these) await cutAt(bench, stage, kind, point);
      counts.push(`${these.length} ${kind}`);
      total += these.length;
    }
    assert.ok(points.length > 0, `${stage.name} reaches the disk`);
    lines.push(`  ${stage.name}: ${counts.join(', ')}`);
  }
  console.log(`FIGURES: ${total} power cuts survived with the vault of ${bench.choice}\n${lines.join('\n')}`);
}

const test = suite('power cuts');

async function onBoard(folder: string, choice: VaultChoice, kinds: readonly CutKind[]): Promise<void> {
  const board = await LabBoard.open();
  let runs = 0;
  const fresh = () => {
    const place = join(folder, `${runs++}`);
    mkdirSync(place);
    return place;
  };
  try {
    await everywhere({ board, choice, fresh, ends: new Map() }, kinds);
  } finally {
    await board.close();
  }
}

test('the store of files: killed, torn and dark', () =>
  inFolder((folder) => onBoard(folder, 'file', cutKinds)));

if ((await needAddon()) && (await needLoop()))
  test('the kernel’s encryption: killed', () =>
    withFileSystem(['encrypt'], ({ folder }) => onBoard(folder, 'fscrypt', ['killed', 'torn'])));

test.run();
