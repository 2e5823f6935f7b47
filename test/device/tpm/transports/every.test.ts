// deadline: 240 s
// One suite for every transport: the same commands, and the same refusals, whichever way the bytes go.
import { createHash, randomBytes, verify } from 'node:crypto';
import { suite, type Test } from 'uvu';
import * as assert from 'uvu/assert';
import { TpmError } from '../../../../device/tpm/execute.ts';
import { provisionKeys } from '../../../../device/tpm/keys.ts';
import { publicKeyOf } from '../../../../device/tpm/public-key.ts';
import { quote } from '../../../../device/tpm/quote.ts';
import { PolicyMismatch, seal, unseal } from '../../../../device/tpm/seal.ts';
import { serveTpm } from '../../../../device/tpm/serve.ts';
import { Tpm } from '../../../../device/tpm/tpm.ts';
import { type Transport, TransportError } from '../../../../device/tpm/transport.ts';
import { openFileTpm } from '../../../../device/tpm/transports/file.ts';
import { openNativeTpm } from '../../../../device/tpm/transports/native.ts';
import { openSocketTpm } from '../../../../device/tpm/transports/socket.ts';
import { openWasmTpm } from '../../../../device/tpm/transports/wasm.ts';
import { decode } from '../../../../formats/tpm2/codec.ts';
import * as commands from '../../../../formats/tpm2/commands.ts';
import { TPM_ALG, TPM_RH } from '../../../../formats/tpm2/constants.ts';
import { concat } from '../../../../formats/tpm2/hash.ts';
import { fixedWidth } from '../../../../formats/tpm2/spki.ts';
import { TPMT_SIGNATURE } from '../../../../formats/tpm2/structures.ts';
import { storageRootKey } from '../../../../formats/tpm2/templates.ts';
import { needAddon } from '../../../kit/addon.ts';
import { needDebian } from '../../../kit/debian.ts';
import { inFolder } from '../../../kit/folders.ts';
import { rejects } from '../../../kit/rejects.ts';
import { deviceFile, startSwtpm } from '../../../kit/swtpm.ts';
import { leftovers, someDigest } from '../../../kit/tpm.ts';
import * as t from '../../../kit/tpm-bytes.ts';

/** A TPM that is on, and how to reach it; `work` may open it as often as it likes, one after the other. */
interface Subject {
  name: string;
  /** Whether what it needs is here; says so when not. */
  possible(): Promise<boolean>;
  /** A time-out is kept. */
  timesOut: boolean;
  with(work: (open: () => Promise<Transport>) => Promise<void>): Promise<void>;
}

const always = () => Promise.resolve(true);
const swtpmHere = () => needDebian(['swtpm'], ['swtpm']);
const libraries = ['libtss2-tctildr0', 'libtss2-tcti-swtpm0', 'libtss2-tcti-mssim0', 'libtss2-tcti-device0'];
const addonHere = async () => (await needAddon()) && needDebian(libraries, []);

async function withSwtpm(work: (path: string) => Promise<void>): Promise<void> {
  const swtpm = await startSwtpm();
  try {
    await work(swtpm.path);
  } finally {
    await swtpm.stop();
  }
}

/** A swtpm as a device file. */
function withDevice(work: (path: string) => Promise<void>): Promise<void> {
  return withSwtpm(async (socket) => {
    const device = await deviceFile(socket);
    try {
      await work(device.path);
    } finally {
      await device.stop();
    }
  });
}

const subjects: Subject[] = [
  {
    name: 'wasm',
    possible: always,
    timesOut: false,
    with: (work) => inFolder((folder) => work(() => openWasmTpm({ stateFile: `${folder}/tpm` }))),
  },
  {
    name: 'socket, to the emulator as a swtpm',
    possible: always,
    timesOut: true,
    with: (work) => served('swtpm', (port) => work(() => openSocketTpm({ port }))),
  },
  {
    name: 'socket, to the emulator as a simulator',
    possible: always,
    timesOut: true,
    with: (work) => served('mssim', (port) => work(() => openSocketTpm({ port }, 'mssim'))),
  },
  {
    name: 'socket, to swtpm',
    possible: swtpmHere,
    timesOut: true,
    with: (work) => withSwtpm((path) => work(() => openSocketTpm({ path }))),
  },
  {
    name: 'native, to swtpm',
    possible: async () => (await addonHere()) && swtpmHere(),
    timesOut: false,
    with: (work) => withSwtpm((path) => work(() => openNativeTpm(`swtpm:path=${path}`))),
  },
  {
    name: 'native, to the emulator as a simulator',
    possible: addonHere,
    timesOut: true,
    with: (work) => served('mssim', (port) => work(() => openNativeTpm(`mssim:host=127.0.0.1,port=${port}`))),
  },
  {
    name: 'native, to swtpm as a device',
    possible: async () => (await addonHere()) && needDebian(['swtpm', 'socat'], ['swtpm', 'socat']),
    timesOut: true,
    with: (work) => withDevice((path) => work(() => openNativeTpm(`device:${path}`))),
  },
  {
    name: 'file, to swtpm as a device',
    possible: () => needDebian(['swtpm', 'socat'], ['swtpm', 'socat']),
    timesOut: false,
    with: (work) => withDevice((path) => work(() => openFileTpm(path))),
  },
];

async function served(protocol: 'swtpm' | 'mssim', work: (port: number) => Promise<void>): Promise<void> {
  const tpm = await openWasmTpm();
  const server = await serveTpm(tpm, { protocol, port: 0 });
  try {
    await work(server.port);
  } finally {
    await server.close();
    await tpm.close();
  }
}

const pcrs = [0, 4, 7];

function testsOf(test: Test, { with: withTransport }: Subject): void {
  /** The TPM has to be given back empty. */
  const withTpm = (work: (tpm: Tpm, open: () => Promise<Transport>) => Promise<void>) =>
    withTransport(async (open) => {
      const tpm = new Tpm(await open(), { reopen: open });
      await work(tpm, open);
      assert.equal(await leftovers(tpm), []);
      await tpm.close();
    });

  test('commands keep their order, of any size', () =>
    withTransport(async (open) => {
      const transport = await open();
      const sizes = [1, 8, 16, 24, 32, 7];
      const responses = await Promise.all(sizes.map((size) => transport.send(t.getRandom(size))));
      assert.equal(
        responses.map((response) => t.sizeds(t.body(response), 1)[0]?.length),
        sizes,
      );
      await transport.close();
    }));

  test('a command that changes after it was sent is sent as it was', () =>
    withTransport(async (open) => {
      const transport = await open();
      const first = transport.send(t.getRandom(8));
      const command = t.getRandom(8);
      const second = transport.send(command);
      command.fill(0);
      await first;
      assert.is(t.rc(await second), 0);
      await transport.close();
    }));

  test('what the TPM refuses is its response, and the link goes on', () =>
    withTpm(async (tpm) => {
      await rejects(
        tpm.execute(commands.ReadPublic, { objectHandle: 0x81fffff0 }),
        TpmError,
        ({ rcName }) => rcName === 'TPM_RC_HANDLE',
      );
      assert.is((await tpm.random(16)).length, 16);
    }));

  test('what is too long is not sent', () =>
    withTransport(async (open) => {
      const transport = await open();
      await rejects(transport.send(Buffer.alloc(4097)), TransportError, ({ code }) => code === 'oversize');
      assert.is(t.rc(await transport.send(t.getRandom(8))), 0);
      await transport.close();
    }));

  test('capabilities, PCRs, the clock', () =>
    withTpm(async (tpm) => {
      const { banks, revision } = await tpm.capabilities();
      assert.ok(banks.get('sha256')?.length === 24 && revision >= 138);
      await tpm.pcrExtend(16, { sha256: someDigest(16) });
      const expected = createHash('sha256').update(Buffer.alloc(32)).update(someDigest(16)).digest();
      assert.equal(Buffer.from((await tpm.pcrRead('sha256', [16])).get(16) ?? []), expected);
      const before = await tpm.readClock();
      assert.ok((await tpm.readClock()).clockInfo.clock >= before.clockInfo.clock);
    }));

  test('keys, a quote that verifies, a secret sealed to the boot and opened', () =>
    withTpm(async (tpm) => {
      for (const pcr of pcrs) await tpm.pcrExtend(pcr, { sha256: someDigest(pcr) });
      const keys = await provisionKeys(tpm);
      const { attest, signature } = await quote(tpm, keys.ak, {
        qualifyingData: randomBytes(32),
        bank: 'sha256',
        pcrs,
      });
      const key = publicKeyOf(keys.ak.public);
      assert.ok(verify('sha256', attest, { key, dsaEncoding: 'ieee-p1363' }, rawSignature(signature)));
      const secret = randomBytes(32);
      const blob = await seal(tpm, keys.srk, secret, { pcrs });
      assert.equal(Buffer.from(await unseal(tpm, keys.srk, blob)), secret);
      await tpm.pcrExtend(7, { sha256: someDigest(7) });
      await rejects(unseal(tpm, keys.srk, blob), PolicyMismatch, (error) => error.pcrs.includes(7));
    }));

  test('an RSA key, which takes long', () =>
    withTransport(async (open) => {
      const transport = await open();
      let turns = 0;
      const timer = setInterval(() => turns++, 1);
      const made = await transport.send(t.createPrimary(t.RH.owner, t.template.rsaStorage()));
      clearInterval(timer);
      assert.is(t.rc(made), 0);
      assert.ok(turns > 0, 'the event loop went on');
      assert.is(t.rc(await transport.send(t.flush(t.handleOf(made)))), 0);
      await transport.close();
    }));

  test('closed twice is closed, a command after that is refused, and it opens again', () =>
    withTransport(async (open) => {
      const transport = await open();
      const running = transport.send(t.getRandom(8));
      await running;
      await transport.close();
      await transport.close();
      await rejects(transport.send(t.getRandom(8)), TransportError, ({ code }) => code === 'closed');
      for (let round = 0; round < 5; round++) {
        const again = await open();
        assert.is(t.rc(await again.send(t.getRandom(8))), 0);
        await again.close();
      }
    }));

  test('two hundred commands leave nothing', () =>
    withTpm(async (tpm) => {
      for (let round = 0; round < 40; round++) {
        const { objectHandle } = await tpm.execute(commands.CreatePrimary, {
          primaryHandle: TPM_RH.NULL,
          inSensitive: { userAuth: new Uint8Array(), data: new Uint8Array() },
          inPublic: storageRootKey,
          outsideInfo: new Uint8Array(),
          creationPCR: [],
        });
        await tpm.flushing(objectHandle, () => tpm.random(8));
      }
    }));
}

/** r ‖ s of an ECDSA P-256 signature. */
function rawSignature(bytes: Uint8Array): Uint8Array {
  const signature = decode(TPMT_SIGNATURE, bytes);
  if (signature.sigAlg !== TPM_ALG.ECDSA) throw new TypeError('no ECDSA signature');
  const { signatureR, signatureS } = signature.signature;
  return concat(fixedWidth(signatureR, 32), fixedWidth(signatureS, 32));
}

/** `device:/dev/tpmrm0`: that one alone, on a machine that is thrown away, since PCRs are extended. */
const { EVE_TEST_TPM: ofMachine } = process.env;
const ofThisMachine = (tcti: string): Subject => ({
  name: `native, to ${tcti}`,
  possible: always,
  timesOut: true,
  with: (work) => work(() => openNativeTpm(tcti)),
});

for (const subject of ofMachine === undefined ? subjects : [ofThisMachine(ofMachine)]) {
  const test = suite(subject.name);
  if (await subject.possible()) testsOf(test, subject);
  else test('NOT RUN', () => undefined);
  test.run();
}
