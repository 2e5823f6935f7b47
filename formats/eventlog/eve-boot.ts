// What a boot of EVE measures, event by event, from what boots alone: the same list whether a device extends it or a
// controller predicts it. Order, PCRs and digest rules are those of EVE nodes with UEFI firmware and EVE's GRUB.
import { digestSize, type Hash, type HashName, hashId } from '../tpm2/hash.ts';
import {
  bootOrderData,
  diskFilePath,
  firmwareBlobData,
  gptData,
  handoffTableData,
  imageLoadData,
  loadOption,
  text16,
  variableData,
} from './build.ts';
import type { Partition } from './gpt.ts';
import { hex } from './reader.ts';
import { type EventFields, EventType } from './types.ts';
import { EFI_GLOBAL_VARIABLE, EFI_IMAGE_SECURITY_DATABASE } from './variables.ts';

/** One measurement to come: an event, and what its digest is of. */
export interface Measurement {
  readonly pcr: number;
  readonly type: number;
  readonly data: Uint8Array;
  /** Bytes, or the digests of a file by bank. */
  readonly measured: Uint8Array | BankDigests;
}

/** Digests of one thing by bank. */
export type BankDigests = Readonly<Partial<Record<HashName, Uint8Array>>>;

export type Slot = 'IMGA' | 'IMGB';

/** What decides a boot, files as digests in every bank that is measured into. */
export interface EveBoot {
  readonly firmwareVersion: string;
  readonly firmware: { readonly digests: BankDigests; readonly size: number };
  readonly bootLoader: { readonly digests: BankDigests; readonly size: number };
  readonly grubCfg: { readonly digests: BankDigests; readonly text: string };
  readonly kernel: BankDigests;
  readonly initrd: BankDigests;
  /** SHA-256 of the root file system image, whatever the banks are. */
  readonly rootfsHash: Uint8Array;
  readonly version: string;
  readonly cmdline: string;
  readonly slot: Slot;
  /** The slot boots for the first time after an update and is not proven. */
  readonly trying: boolean;
  /** Text of /config/grub.cfg, where there is one. */
  readonly configGrubCfg?: string;
  readonly settings: FirmwareSettings;
}

/** What a person can change in the firmware setup. */
export interface FirmwareSettings {
  readonly secureBoot: boolean;
  /** Boot entries in their order, by the file that each starts. */
  readonly bootEntries: readonly {
    readonly number: number;
    readonly description: string;
    readonly file: string;
  }[];
  /** The setup was opened during this boot. */
  readonly enteredSetup: boolean;
}

export const defaultSettings: FirmwareSettings = {
  secureBoot: false,
  bootEntries: [{ number: 0, description: 'UEFI OS', file: '\\EFI\\BOOT\\BOOTX64.EFI' }],
  enteredSetup: false,
};

/** The digests that are extended for a measurement, one for each bank. Throws TypeError if a file has none for a bank. */
export function digestsOf({ measured }: Measurement, banks: readonly HashName[], hash: Hash): BankDigests {
  const entries = banks.map((bank) => {
    const digest = measured instanceof Uint8Array ? hash(bank, measured) : measured[bank];
    if (digest?.length !== digestSize(bank)) throw new TypeError(`no ${bank} digest of a file`);
    return [bank, digest] as const;
  });
  return Object.fromEntries(entries);
}

/** The event that is logged for a measurement. */
export function measuredEvent({ pcr, type, data }: Measurement, digests: BankDigests): EventFields {
  const tagged = (Object.entries(digests) as [HashName, Uint8Array][]).map(([bank, digest]) => ({
    hashAlg: hashId(bank),
    digest,
  }));
  return { pcr, type, data, digests: tagged };
}

/** Measurements of firmware and GRUB, PCRs 0 to 9 and 13, in their order. */
export function eveBootMeasurements(boot: EveBoot): Measurement[] {
  return [...firmware(boot), ...grub(boot), ...exitBootServices()];
}

const separated = [0, 1, 2, 3, 4, 5, 6, 7];
const firmwareBase = 0xff000000n;
const smbiosGuid = 'f2fd1544-9794-4a2c-992e-e5bbcf20e394';

function firmware(boot: EveBoot): Measurement[] {
  const { settings } = boot;
  const variable = (pcr: number, type: number, guid: string, name: string, data: Uint8Array) =>
    whole(pcr, type, variableData(guid, name, data));
  const config = (guid: string, name: string, data = new Uint8Array()) =>
    variable(7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, guid, name, data);
  const bootVariable = (name: string, data: Uint8Array) =>
    variable(1, EventType.EV_EFI_VARIABLE_BOOT, EFI_GLOBAL_VARIABLE, name, data);
  const [esp] = partitions(boot) as [Partition];

  return [
    whole(0, EventType.EV_S_CRTM_VERSION, text16(`${boot.firmwareVersion}\0`)),
    {
      pcr: 0,
      type: EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB,
      data: firmwareBlobData(firmwareBase, BigInt(boot.firmware.size)),
      measured: boot.firmware.digests,
    },
    config(EFI_GLOBAL_VARIABLE, 'SecureBoot', Uint8Array.of(settings.secureBoot ? 1 : 0)),
    config(EFI_GLOBAL_VARIABLE, 'PK'),
    config(EFI_GLOBAL_VARIABLE, 'KEK'),
    config(EFI_IMAGE_SECURITY_DATABASE, 'db'),
    config(EFI_IMAGE_SECURITY_DATABASE, 'dbx'),
    ...(settings.enteredSetup ? [action(1, 'Entering ROM Based Setup')] : []),
    {
      pcr: 1,
      type: EventType.EV_EFI_HANDOFF_TABLES2,
      data: handoffTableData('SmbiosTable', smbiosGuid, 0x7fe00000n),
      measured: new TextEncoder().encode(`SMBIOS of an emulated board, firmware ${boot.firmwareVersion}`),
    },
    bootVariable('BootOrder', bootOrderData(settings.bootEntries.map(({ number }) => number))),
    ...settings.bootEntries.map(({ number, description, file }) =>
      bootVariable(
        `Boot${number.toString(16).toUpperCase().padStart(4, '0')}`,
        loadOption(description, diskFilePath(diskDevice, 1, esp, file)),
      ),
    ),
    action(4, 'Calling EFI Application from Boot Option'),
    ...separated.map((pcr) => whole(pcr, EventType.EV_SEPARATOR, new Uint8Array(4))),
    whole(
      5,
      EventType.EV_EFI_GPT_EVENT,
      gptData({ disk: disk(0), partitions: partitions(boot) }, diskBlocks),
    ),
    {
      pcr: 4,
      type: EventType.EV_EFI_BOOT_SERVICES_APPLICATION,
      data: imageLoadData(
        0x45aa5018n,
        BigInt(boot.bootLoader.size),
        diskFilePath(diskDevice, 1, esp, settings.bootEntries[0]?.file ?? '\\EFI\\BOOT\\BOOTX64.EFI'),
      ),
      measured: boot.bootLoader.digests,
    },
  ];
}

const diskDevice = 6;
const diskBlocks = 0x4000000n;
/** EVE's installer gives every disk the same GUIDs. */
const disk = (partition: number) => `ad6871ee-31f9-4cf3-9e09-6f7a25c3005${partition}`;
const slots = { IMGA: 2, IMGB: 3 } as const;

function partitions(boot: EveBoot): Partition[] {
  const system = 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b';
  const image = '5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6';
  const config = '13307e62-cd9c-4920-8f9b-91b45828b798';
  return [
    {
      type: system,
      guid: disk(1),
      firstBlock: 0x800n,
      lastBlock: 0x127ffn,
      attributes: 4n,
      name: 'EFI System',
    },
    imagePartition(boot, 'IMGA', image, 0x12800n),
    imagePartition(boot, 'IMGB', image, 0x112800n),
    {
      type: config,
      guid: disk(4),
      firstBlock: 0x212800n,
      lastBlock: 0x212fffn,
      attributes: 0n,
      name: 'CONFIG',
    },
  ];
}

/** Priority 3 and one try for a slot on trial, priority 2 and booted well for one that is proven. */
function imagePartition({ slot, trying }: EveBoot, name: Slot, type: string, firstBlock: bigint): Partition {
  const proven = trying ? name !== slot : name === slot;
  const attributes = proven ? 0x0102n << 48n : trying ? 0x0013n << 48n : 0n;
  return { type, guid: disk(slots[name]), firstBlock, lastBlock: firstBlock + 0xfffffn, attributes, name };
}

function grub(boot: EveBoot): Measurement[] {
  const number = slots[boot.slot];
  const root = `hd0,gpt${number}`;
  const partition = `PARTUUID=${disk(number)}`;
  const extra: string[] = [];
  const configCommands = grubCommands(boot.configGrubCfg ?? '').flatMap((line) => configCommand(line, extra));
  const cmdline = ['/boot/kernel', `root=${partition}`, boot.cmdline, ...extra]
    .filter((part) => part !== '')
    .join(' ');

  return [
    command('gptprio.next -d dev -u uuid'),
    command(`set root=${root}`),
    file('grub_cfg Config', boot.grubCfg.digests),
    ...grubCommands(boot.grubCfg.text).map(command),
    command(`measurefs ${root} --pcr 13`),
    rootfs(boot.rootfsHash),
    command(`probe --set partuuid --part-uuid ${root}`),
    command(`set rootfs_root=${partition}`),
    ...(boot.configGrubCfg === undefined ? [] : [command('source (hd0,gpt4)/grub.cfg'), ...configCommands]),
    command(`setparams Boot ${boot.version}`),
    command(`linux ${cmdline}`),
    file('grub_linuxefi Kernel', boot.kernel),
    ipl(8, 'grub_kernel_cmdline ', cmdline, cmdline),
    command('initrd /boot/initrd.img'),
    file('grub_initrd Initrd', boot.initrd),
    command('boot'),
  ];
}

/** The lines that GRUB executes. */
function grubCommands(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
}

/** Of EVE's functions for /config/grub.cfg, those that change the command line; GRUB logs what they run as well. */
function configCommand(line: string, extra: string[]): Measurement[] {
  const value = line === 'set_getty' ? ' getty' : /^set_global dom0_extra_args (.*)$/.exec(line)?.[1];
  if (value === undefined) return [command(line)];
  extra.push(value.trim());
  return [
    command(line),
    ...(line === 'set_getty' ? [command(`set_global dom0_extra_args ${value}`)] : []),
    command(`set dom0_extra_args=${value}`),
    command('export dom0_extra_args'),
  ];
}

/** EVE's GRUB measures a command with its NUL, a command line without; see covers.ts. */
function command(text: string): Measurement {
  return ipl(8, 'grub_cmd ', text, `${text}\0`);
}

function ipl(pcr: number, prefix: string, text: string, measured: string): Measurement {
  const encoder = new TextEncoder();
  return {
    pcr,
    type: EventType.EV_IPL,
    data: encoder.encode(`${prefix}${text}\0`),
    measured: encoder.encode(measured),
  };
}

function file(label: string, measured: BankDigests): Measurement {
  return { pcr: 9, type: EventType.EV_IPL, data: new TextEncoder().encode(`${label}\0`), measured };
}

/** EVE's `measurefs`: the hash in words, its raw bytes measured. */
function rootfs(hash: Uint8Array): Measurement {
  const data = new TextEncoder().encode(`squash4 ${hex(hash)}\0`);
  return { pcr: 13, type: EventType.EV_IPL, data, measured: hash };
}

function exitBootServices(): Measurement[] {
  return [action(5, 'Exit Boot Services Invocation'), action(5, 'Exit Boot Services Returned with Success')];
}

/** A file of /config as EVE's measure-config sees it: PCR 14, EV_EFI_ACTION. */
export function configFileMeasurement(path: string, exists: boolean, contentHash?: Uint8Array): Measurement {
  const content = contentHash ? ` content-hash:${hex(contentHash)}` : '';
  return action(14, `file:${path} exist:${exists}${content}`);
}

function action(pcr: number, text: string): Measurement {
  return whole(pcr, EventType.EV_EFI_ACTION, new TextEncoder().encode(text));
}

/** An event whose digest is of its data. */
function whole(pcr: number, type: number, data: Uint8Array): Measurement {
  return { pcr, type, data, measured: data };
}
