// Logs that are too large to go with their quote: they come in pieces, one log at a time of each device. What is here so
// far waits in the store, so that any controller can take the next piece.
import { createHash } from 'node:crypto';
import { WireError } from '../formats/wire/wire-error.ts';
import { unpackLog } from './evidence.ts';
import type { Store } from './store/store.ts';

export interface Chunk {
  /** Of the log unpacked, 32 bytes. */
  sha256: Uint8Array;
  /** Bytes of the packed log, all chunks together. */
  size: number;
  offset: number;
  data: Uint8Array;
}

interface Upload {
  sha256: string;
  size: number;
  /** Packed, base64. */
  data: string;
}

/** Bytes, packed. A log unpacks to four times as much at the least. */
const largest = 1024 * 1024;

export class LogUploads {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  /**
   * Takes a piece; the same one again changes nothing. Resolves with the bytes that are here now.
   * Throws WireError wire.malformed for a piece that does not follow, or that makes no such log.
   */
  async take(device: string, { sha256, size, offset, data }: Chunk): Promise<number> {
    if (
      sha256.length !== 32 ||
      size === 0 ||
      size > largest ||
      data.length === 0 ||
      offset + data.length > size
    )
      throw new WireError('wire.malformed', `a log has 1 to ${largest} bytes when it is packed, and a hash`);
    const log = hex(sha256);
    const { data: received } = await this.#store.update<Upload>('log-upload', device, (before) => {
      const known = before?.sha256 === log && before.size === size ? before : null;
      const here = offset === 0 && !known ? Buffer.alloc(0) : Buffer.from(known?.data ?? '', 'base64');
      if (offset > here.length)
        throw new WireError('wire.malformed', `the log is here up to byte ${here.length}`);
      if (here.subarray(offset, offset + data.length).equals(data)) return known as Upload;
      const all = Buffer.concat([here.subarray(0, offset), data]);
      if (all.length === size && hex(hashOf(unpackLog('uploaded', all))) !== log)
        throw new WireError('wire.malformed', 'the pieces make another log than was announced');
      return { sha256: log, size, data: all.toString('base64') };
    });
    return Buffer.from(received, 'base64').length;
  }

  /** The log of this hash, packed, if this device sent all of it last. */
  async complete(device: string, sha256: Uint8Array): Promise<Uint8Array | null> {
    const upload = await this.#store.get<Upload>('log-upload', device);
    if (upload?.sha256 !== hex(sha256)) return null;
    const data = Buffer.from(upload.data, 'base64');
    return data.length === upload.size ? data : null;
  }
}

function hashOf(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
