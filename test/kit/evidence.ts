// True evidence: a board in the laboratory boots an image on a TPM of this process, and its keys vouch for it.
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import { entriesOfLogs } from '../../controller/images/reference.ts';
import type { KnownEntry } from '../../controller/verify/entries.ts';
import type { Basis, Presented } from '../../controller/verify/verify.ts';
import { parts } from '../../device/board-emulated.ts';
import { createImage, type ImageOptions } from '../../device/boot/image.ts';
import { measureBoot } from '../../device/boot/measure.ts';
import { referenceBoot } from '../../device/boot/reference.ts';
import { type Keys, provisionKeys } from '../../device/tpm/keys.ts';
import { quote } from '../../device/tpm/quote.ts';
import { Tpm } from '../../device/tpm/tpm.ts';
import { openWasmTpm, type WasmTransport } from '../../device/tpm/transports/wasm.ts';
import { parseLog } from '../../formats/eventlog/parse.ts';
import type { EventFields } from '../../formats/eventlog/types.ts';
import { writeLog } from '../../formats/eventlog/write.ts';
import { hashName } from '../../formats/tpm2/hash.ts';
import { AttestGPSInput, AttestVersionType, ClaimsSchema } from '../../formats/wire/eve_pb.ts';
import type { Location, LogPart, Versions } from '../../machines/flow.ts';
import { evePolicyPcrs, eveQuotePcrs } from '../../machines/pcrs.ts';

export const sha256 = (...parts: Uint8Array[]) => {
  const digest = createHash('sha256');
  for (const part of parts) digest.update(part);
  return digest.digest();
};

/** What a device says besides the quote; the nonce is EVC's. */
export interface Said {
  nonce: Uint8Array;
  /** null for the quote of a stock device, which carries the nonce alone. */
  claims: Uint8Array | null;
  /** PCRs that the quote covers. */
  pcrs: readonly number[];
}

export interface ClaimOptions {
  location?: Location | null;
  versions?: Partial<Versions>;
  tokenHash?: Uint8Array;
}

export const labNonce = Buffer.from(
  '5f3c1e0b9a7d24486c8e1f2037465b5a92a1b3c4d5e6f708192a3b4c5d6e7f80',
  'hex',
);

/** A board with a TPM that can be booted as often as a test likes. */
export class LabBoard {
  readonly chip: WasmTransport;
  readonly tpm: Tpm;
  readonly config: string;
  readonly #folder: string;
  readonly #time: { ms: number };
  #keys: Keys | null = null;
  #versions: Versions = { image: '', firmware: '' };
  #logs: LogPart[] = [];

  private constructor(chip: WasmTransport, folder: string, time: { ms: number }) {
    this.chip = chip;
    this.#time = time;
    this.tpm = new Tpm(chip, { sole: true });
    this.#folder = folder;
    this.config = mkdtempSync(join(folder, 'config-'));
    writeFileSync(join(this.config, 'server'), 'mqtts://evc.example\n');
  }

  static async open(): Promise<LabBoard> {
    const time = { ms: Date.UTC(2026, 0, 1) };
    const chip = await openWasmTpm({ now: () => time.ms });
    return new LabBoard(chip, mkdtempSync(join(tmpdir(), 'eve-lab-')), time);
  }

  async close(): Promise<void> {
    await this.chip.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Time goes on for the TPM. */
  pass(ms: number): void {
    this.#time.ms += ms;
  }

  /**
   * TPM2_Shutdown, once the TPM is sure of its clock again: after a power cut it is when it has stored a later time than
   * any before [TPM2 Part 2, TPMS_CLOCK_INFO].
   */
  async shutdown(): Promise<void> {
    this.pass(24 * 3600 * 1000);
    await this.tpm.random(1);
    await this.tpm.shutdown();
  }

  /** Power off, power on, and everything measured. */
  async boot(options: ImageOptions = { version: '1.0.0' }, slot: 'IMGA' | 'IMGB' = 'IMGA'): Promise<void> {
    await this.chip.powerCycle();
    const image = await createImage(this.imageFolder(options), options);
    const logs = await measureBoot({
      image,
      configDirectory: this.config,
      slot,
      banks: [...(await this.tpm.capabilities()).banks.keys()],
      extend: (pcr, digests) => this.tpm.pcrExtend(pcr, digests),
    });
    this.#versions = { image: image.version, firmware: image.firmwareVersion };
    this.#logs = parts(logs);
  }

  /** The last boot once more, with other events in the firmware's log: measured as they say. */
  async bootAs(change: (events: EventFields[]) => EventFields[]): Promise<void> {
    await this.chip.powerCycle();
    this.#logs = this.#logs.map((part) => {
      if (part.kind !== 'bios') return part;
      const { format, events } = parseLog(part.bytes);
      const bytes = writeLog({ format, events: change([...events]) });
      return { ...part, bytes, sha256: sha256(bytes).toString('hex') };
    });
    for (const { bytes } of this.#logs)
      for (const event of parseLog(bytes).events) {
        if (!event.extends) continue;
        const digests = event.digests.map(({ hashAlg, digest }) => [hashName(hashAlg), digest]);
        await this.tpm.pcrExtend(event.pcr, Object.fromEntries(digests));
      }
  }

  imageFolder({ version, cmdline = '' }: ImageOptions): string {
    return join(this.#folder, `image-${version}-${sha256(Buffer.from(cmdline)).toString('hex').slice(0, 8)}`);
  }

  async keys(): Promise<Keys> {
    this.#keys ??= await provisionKeys(this.tpm);
    return this.#keys;
  }

  claims({
    location = null,
    versions = {},
    tokenHash = sha256(Buffer.from('token')),
  }: ClaimOptions = {}): Uint8Array {
    const { image, firmware } = { ...this.#versions, ...versions };
    const message = create(ClaimsSchema, {
      versions: [
        { versionType: AttestVersionType.EVE, version: image },
        { versionType: AttestVersionType.FIRMWARE, version: firmware },
      ],
      location: location
        ? { gpsInput: AttestGPSInput.ATTEST_GPS_INPUT_PRESENT, ...location, at: BigInt(location.at) }
        : { gpsInput: AttestGPSInput.ATTEST_GPS_INPUT_ABSENT },
      tokenHash,
    });
    return toBinary(ClaimsSchema, message);
  }

  /** What the device sends to be judged, after its last boot. */
  async present(said: Partial<Said> = {}): Promise<Presented> {
    const { nonce = labNonce, claims = this.claims(), pcrs = eveQuotePcrs } = said;
    const qualifyingData = claims ? sha256(nonce, claims) : nonce;
    const { ak } = await this.keys();
    const quoted = await quote(this.tpm, ak, { qualifyingData, bank: 'sha256', pcrs });
    return {
      attest: quoted.attest,
      signature: quoted.signature,
      pcrs: new Map(quoted.pcrs),
      nonce,
      claims,
      versions: this.#versions,
      boot: { logs: this.#logs },
    };
  }

  /** What EVC knows of this board before its first quote. */
  async basis(nonce: Uint8Array = labNonce): Promise<Basis> {
    const { ak } = await this.keys();
    return {
      nonceHash: sha256(nonce).toString('hex'),
      key: {
        akName: Buffer.from(ak.name).toString('hex'),
        akPublic: Buffer.from(ak.publicBytes).toString('hex'),
      },
      software: {
        baseline: null,
        acceptance: null,
        upgrade: null,
        firmware: null,
        former: [],
        catalogue: [],
        rules: [],
      },
      place: { locked: null, radius: 100 },
      lastClock: null,
    };
  }

  /** The measurements of an image, as the catalogue knows them from a reference boot. */
  async entries(options: ImageOptions): Promise<KnownEntry[]> {
    await createImage(this.imageFolder(options), options);
    const { logs } = await referenceBoot({
      image: this.imageFolder(options),
      slots: ['IMGA', 'IMGB'],
      config: this.config,
    });
    return entriesOfLogs(logs);
  }
}

/** The state that evidence shows, as a baseline. */
export function baselineOf({ pcrs, boot, versions }: Presented): NonNullable<Basis['software']['baseline']> {
  return {
    pcrs: Object.fromEntries(
      evePolicyPcrs.map((pcr) => [String(pcr), Buffer.from(pcrs.get(pcr) ?? []).toString('hex')]),
    ),
    logs: boot.logs,
    versions,
  };
}

export function withBaseline(basis: Basis, presented: Presented): Basis {
  return { ...basis, software: { ...basis.software, baseline: baselineOf(presented) } };
}

/** Runs a test on a board that has booted version 1.0.0 and whose evidence is the baseline. */
export async function onBoard(
  work: (board: LabBoard, presented: Presented, basis: Basis) => Promise<void> | void,
  claims: ClaimOptions = {},
): Promise<void> {
  const board = await LabBoard.open();
  try {
    await board.boot();
    const presented = await board.present({ claims: board.claims(claims) });
    await work(board, presented, withBaseline(await board.basis(), presented));
  } finally {
    await board.close();
  }
}
