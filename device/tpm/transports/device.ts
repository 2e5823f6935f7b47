// What is at a path that is said to be a TPM, before anything is written to it.
import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { TransportError } from '../transport.ts';

/**
 * A command that is written to a disk overwrites it, so anything but a character device is refused.
 * Rejects with TransportError that says what to do.
 */
export async function checkDevice(path: string): Promise<void> {
  try {
    if (!(await stat(path)).isCharacterDevice())
      throw new TransportError('io', `${path} is no character device, so it is no TPM`);
    await access(path, constants.R_OK | constants.W_OK);
  } catch (error) {
    if (error instanceof TransportError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    throw new TransportError('io', `${path}: ${code ?? message}`, {
      cause: error,
      hint: hints[code ?? ''] ?? '',
    });
  }
}

const hints: Record<string, string> = {
  ENOENT:
    'turn the TPM on in the firmware setup (fTPM, PTT, Security Device), and look whether dmesg names a tpm driver',
  EACCES: 'run as root, or as a user of the group tss; udev gives that group the TPM (Debian: tpm-udev)',
};
