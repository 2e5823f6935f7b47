// The logs that the kernel and EVE keep of this boot, and the ways in which there can be none.
import { open } from 'node:fs/promises';
import { logLimits } from '../../formats/eventlog/parse.ts';

/** Linux: firmware and boot loader. */
const kernelLogPath = '/sys/kernel/security/tpm0/binary_bios_measurements';

/** The kernel shows it to root alone; a service of somebody else is given a copy, and told where. */
export function biosLogPath(): string {
  return process.env.EVE_BIOS_LOG ?? kernelLogPath;
}

/** EVE's measure-config: PCR 14. */
export const configLogPath = '/persist/status/measurefs_tpm_event_log';

export type LogFile =
  | { kind: 'present'; bytes: Uint8Array }
  /** No such file, or an empty one: firmware that kept no log leaves either. */
  | { kind: 'absent' }
  | { kind: 'unreadable'; reason: string }
  | { kind: 'oversized'; limit: number };

/**
 * Reads a log file. Never rejects: a boot without a log is a fact to report.
 *
 * @param limit in bytes; beyond it EVC would not take the log anyway
 */
export async function readLogFile(path: string, limit = logLimits.size): Promise<LogFile> {
  try {
    const file = await open(path, 'r');
    try {
      const bytes = await readUpTo(file, limit + 1);
      if (bytes.length > limit) return { kind: 'oversized', limit };
      return bytes.length === 0 ? { kind: 'absent' } : { kind: 'present', bytes };
    } finally {
      await file.close();
    }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' ? { kind: 'absent' } : { kind: 'unreadable', reason: code ?? message };
  }
}

/** Files of securityfs state a size of 0, so only reading tells. */
async function readUpTo(file: Awaited<ReturnType<typeof open>>, limit: number): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let total = 0;
  while (total < limit) {
    const chunk = Buffer.alloc(Math.min(64 * 1024, limit - total));
    const { bytesRead } = await file.read(chunk, 0, chunk.length, null);
    if (bytesRead === 0) break;
    chunks.push(chunk.subarray(0, bytesRead));
    total += bytesRead;
  }
  return Buffer.concat(chunks);
}
