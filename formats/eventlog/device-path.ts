// EFI_DEVICE_PATH_PROTOCOL → text [UEFI 2.10 section 10.3, text form 10.6]. Nodes that no one here names stay as hex.
import { hex, Reader, utf8, utf16 } from './reader.ts';

/** PNP0A03 and PNP0A08 in EISA form: the root of a PCI bus. */
const pciRoots = new Set([0x0a0341d0, 0x0a0841d0]);

/**
 * A device path as firmware shells print it: `PciRoot(0x0)/Pci(0x6,0x0)/HD(1,GPT,…)/\EFI\BOOT\BOOTX64.EFI`.
 *
 * A path may end without its end node (firmware that logs Boot#### without its first six bytes loses them at the end).
 * Throws FormatError where a node is shorter than its header or longer than the path.
 */
export function devicePathText(bytes: Uint8Array, field: string): string {
  const reader = new Reader(bytes, field);
  let text = '';
  let join = '';
  for (let i = 0; reader.left >= 4; i++) {
    const type = reader.u8(`nodes[${i}].type`);
    const subType = reader.u8(`nodes[${i}].subType`);
    const length = reader.u16(`nodes[${i}].length`);
    if (length < 4) reader.fail(`a node of ${length} bytes`, `nodes[${i}].length`, reader.at - 2);
    if (type === 0x7f && subType === 0xff) break;
    const body = reader.take(length - 4, `nodes[${i}]`);
    if (type === 0x7f) {
      join = ',';
      continue;
    }
    text += join + nodeText(type, subType, body);
    join = '/';
  }
  return text;
}

/** The bytes that a device path takes up to the end of its end node; undefined when it has none or is malformed. */
export function devicePathLength(bytes: Uint8Array): number | undefined {
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = (bytes[at + 2] as number) | ((bytes[at + 3] as number) << 8);
    if (length < 4) return undefined;
    at += length;
    if (bytes[at - length] === 0x7f && bytes[at - length + 1] === 0xff)
      return at <= bytes.length ? at : undefined;
  }
  return undefined;
}

function nodeText(type: number, subType: number, body: Uint8Array): string {
  try {
    return knownNode((type << 8) | subType, new Reader(body, 'node')) ?? unknownNode(type, subType, body);
  } catch {
    return unknownNode(type, subType, body);
  }
}

function unknownNode(type: number, subType: number, body: Uint8Array): string {
  return `Path(${type},${subType},${hex(body.subarray(0, 64))}${body.length > 64 ? '…' : ''})`;
}

function knownNode(kind: number, node: Reader): string | undefined {
  const x = (value: number | bigint) => `0x${value.toString(16)}`;
  switch (kind) {
    case 0x0101: {
      const fn = node.u8('function');
      return `Pci(${x(node.u8('device'))},${x(fn)})`;
    }
    case 0x0104:
      return `VenHw(${node.guid('vendor')})`;
    case 0x0201: {
      const hid = node.u32('hid');
      const uid = node.u32('uid');
      return pciRoots.has(hid) ? `PciRoot(${x(uid)})` : `Acpi(${x(hid)},${x(uid)})`;
    }
    case 0x0302: {
      const target = node.u16('target');
      return `Scsi(${x(target)},${x(node.u16('lun'))})`;
    }
    case 0x0305: {
      const port = node.u8('port');
      return `USB(${x(port)},${x(node.u8('interface'))})`;
    }
    case 0x030b:
      return `MAC(${hex(node.take(6, 'address'))})`;
    case 0x030c:
      return 'IPv4()';
    case 0x030d:
      return 'IPv6()';
    case 0x0312: {
      const port = node.u16('port');
      const multiplier = node.u16('multiplier');
      return `Sata(${x(port)},${x(multiplier)},${x(node.u16('lun'))})`;
    }
    case 0x0317: {
      const namespace = node.u32('namespace');
      const eui = Array.from(node.take(8, 'eui64')).reverse();
      return `NVMe(${x(namespace)},${hex(Uint8Array.from(eui)).match(/../g)?.join('-')})`;
    }
    case 0x0318:
      return `Uri(${utf8(node.take(node.left, 'uri'))})`;
    case 0x031a:
      return `SD(${x(node.u8('slot'))})`;
    case 0x031d:
      return `eMMC(${x(node.u8('slot'))})`;
    case 0x0401:
      return partition(node);
    case 0x0403:
      return `VenMedia(${node.guid('vendor')})`;
    case 0x0404:
      return utf16(node.take(node.left, 'path'));
    case 0x0406:
      return `FvFile(${node.guid('file')})`;
    case 0x0407:
      return `Fv(${node.guid('volume')})`;
    case 0x0408: {
      node.take(4, 'reserved');
      const start = node.u64('start');
      return `Offset(${x(start)},${x(node.u64('end'))})`;
    }
    default:
      return undefined;
  }
}

function partition(node: Reader): string {
  const number = node.u32('number');
  const start = node.u64('start');
  const size = node.u64('size');
  if (node.bytes[37] === 2)
    return `HD(${number},GPT,${node.guid('signature')},0x${start.toString(16)},0x${size.toString(16)})`;
  return `HD(${number},MBR,${hex(node.take(4, 'signature'))},0x${start.toString(16)},0x${size.toString(16)})`;
}
