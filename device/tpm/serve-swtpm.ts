// swtpm's protocol: raw commands on one channel, CMD_* on the other, as swtpm_ioctl and QEMU speak it.
// Numbers and layouts: tpm_ioctl.h of swtpm 0.7, its socket form (every answer begins with a 32-bit result).
import type { PoweredTpm } from './powered.ts';
import { answerOf, type Channels, type Connection } from './serve-connection.ts';

const commands = {
  GET_CAPABILITY: 1,
  INIT: 2,
  SHUTDOWN: 3,
  GET_TPMESTABLISHED: 4,
  SET_LOCALITY: 5,
  HASH_START: 6,
  HASH_DATA: 7,
  HASH_END: 8,
  CANCEL_TPM_CMD: 9,
  STORE_VOLATILE: 10,
  RESET_TPMESTABLISHED: 11,
  GET_STATEBLOB: 12,
  STOP: 14,
  GET_CONFIG: 15,
  SET_BUFFERSIZE: 17,
  GET_INFO: 18,
} as const;

// PTM_CAP_*: INIT, SHUTDOWN, GET_TPMESTABLISHED, SET_LOCALITY, HASHING, CANCEL_TPM_CMD, RESET_TPMESTABLISHED, STOP,
// SET_BUFFERSIZE, GET_INFO. State goes in and out through the state file only.
const capabilities = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x80 | 0x400 | 0x2000 | 0x4000;

const success = 0;
const badOrdinal = 0x0a;
const badLocality = 0x3d;
const failed = 0x09;
const maxSize = 4096;
// TPM_ST_NO_SESSIONS, size, TPM_RC_COMMAND_SIZE.
const commandSizeResponse = Uint8Array.of(0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x42);

export function swtpmChannels(tpm: PoweredTpm, stop: () => void): Channels {
  let locality = 0;
  // Whether a D-RTM sequence was measured; swtpm's clients read it as the tpmEstablished bit.
  let established = false;

  const command = async (connection: Connection): Promise<void> => {
    for (;;) {
      const header = await connection.take(10, false);
      if (!header) return;
      const size = header.readUInt32BE(2);
      // Where the next command begins is not known any more, so the connection ends.
      if (size < 10 || size > maxSize) return connection.write(commandSizeResponse);
      const rest = await connection.take(size - 10);
      if (!rest) return;
      tpm.setLocality(locality);
      await connection.write(await answerOf(tpm, Buffer.concat([header, rest])));
    }
  };

  const control = async (connection: Connection): Promise<void> => {
    for (;;) {
      const code = await connection.number(false);
      switch (code) {
        case undefined:
          return;
        case commands.GET_CAPABILITY:
          await connection.write(success, capabilities);
          break;
        case commands.INIT: {
          const flags = await connection.number();
          if (flags === undefined) return;
          locality = 0;
          await connection.write(
            await resultOf(async () => {
              await tpm.powerOff();
              await tpm.powerOn();
            }),
          );
          break;
        }
        case commands.STOP:
          await connection.write(await resultOf(() => tpm.powerOff()));
          break;
        case commands.SHUTDOWN:
          await connection.write(await resultOf(() => tpm.powerOff()));
          return stop();
        case commands.GET_TPMESTABLISHED:
          await connection.write(success, Uint8Array.of(established ? 1 : 0, 0, 0, 0));
          break;
        case commands.RESET_TPMESTABLISHED: {
          const from = (await connection.take(1))?.[0];
          if (from === undefined) return;
          if (from === 3 || from === 4) established = false;
          await connection.write(from === 3 || from === 4 ? success : badLocality);
          break;
        }
        case commands.SET_LOCALITY: {
          const wanted = (await connection.take(1))?.[0];
          if (wanted === undefined) return;
          if (wanted <= 4) locality = wanted;
          await connection.write(wanted <= 4 ? success : badLocality);
          break;
        }
        case commands.HASH_START:
          await connection.write(await resultOf(() => tpm.hashStart()));
          break;
        case commands.HASH_DATA: {
          const size = await connection.number();
          if (size === undefined || size > maxSize) return;
          const data = await connection.take(size);
          if (!data) return;
          await connection.write(await resultOf(() => tpm.hashData(data)));
          break;
        }
        case commands.HASH_END: {
          const result = await resultOf(() => tpm.hashEnd());
          if (result === success) established = true;
          await connection.write(result);
          break;
        }
        case commands.CANCEL_TPM_CMD:
          // Commands run one at a time and to their end, so there is never one to cancel.
          await connection.write(success);
          break;
        case commands.SET_BUFFERSIZE:
          if ((await connection.number()) === undefined) return;
          await connection.write(success, maxSize, maxSize, maxSize);
          break;
        case commands.GET_INFO: {
          const request = await connection.take(16);
          if (!request) return;
          const info = Buffer.from(
            '{"TPMSpecification":{"family":"2.0","level":0,"revision":154}}\0',
          ).subarray(request.readUInt32BE(8));
          await connection.write(success, info.length, info.length, info);
          break;
        }
        case commands.GET_STATEBLOB:
          if (!(await connection.take(12))) return;
          await connection.write(badOrdinal, 0, 0, 0);
          break;
        case commands.GET_CONFIG:
          await connection.write(badOrdinal, 0);
          break;
        case commands.STORE_VOLATILE:
          await connection.write(badOrdinal);
          break;
        default:
          // What follows an unknown code is of unknown size.
          return connection.write(badOrdinal);
      }
    }
  };

  return { command, control, suffix: '.ctrl' };
}

async function resultOf(work: () => Promise<void>): Promise<number> {
  try {
    await work();
    return success;
  } catch {
    return failed;
  }
}
