// The protocol of the TCG simulator: framed commands on one channel, signals of the platform on the other.
// Numbers: TpmTcpProtocol.h of the reference implementation.
import type { PoweredTpm } from './powered.ts';
import { answerOf, type Channels, type Connection } from './serve-connection.ts';

const signals = {
  POWER_ON: 1,
  POWER_OFF: 2,
  PHYS_PRES_ON: 3,
  PHYS_PRES_OFF: 4,
  HASH_START: 5,
  HASH_DATA: 6,
  HASH_END: 7,
  SEND_COMMAND: 8,
  CANCEL_ON: 9,
  CANCEL_OFF: 10,
  NV_ON: 11,
  NV_OFF: 12,
  KEY_CACHE_ON: 13,
  KEY_CACHE_OFF: 14,
  REMOTE_HANDSHAKE: 15,
  RESET: 17,
  RESTART: 18,
  SESSION_END: 20,
  STOP: 21,
} as const;

const done = 0;
const serverVersion = 1;
// tpmPlatformAvailable, tpmSupportsPP.
const endpoint = 0x1 | 0x8;
const maxSize = 4096;

export function simulatorChannels(tpm: PoweredTpm, stop: () => void): Channels {
  const command = async (connection: Connection): Promise<void> => {
    for (;;) {
      const signal = await connection.number(false);
      switch (signal) {
        case signals.SEND_COMMAND: {
          const header = await connection.take(5);
          if (!header) return;
          const locality = header[0] ?? 0;
          const size = header.readUInt32BE(1);
          if (locality > 4 || size > maxSize) return;
          const bytes = await connection.take(size);
          if (!bytes) return;
          // As the simulator: without power, an answer of no bytes.
          let response: Uint8Array = new Uint8Array(0);
          if (tpm.powered) {
            tpm.setLocality(locality);
            response = await answerOf(tpm, bytes);
          }
          await connection.write(response.length, response, done);
          break;
        }
        case signals.REMOTE_HANDSHAKE:
          if ((await connection.number()) === undefined) return;
          await connection.write(serverVersion, endpoint, done);
          break;
        case signals.HASH_START:
          await tpm.hashStart();
          await connection.write(done);
          break;
        case signals.HASH_DATA: {
          const size = await connection.number();
          if (size === undefined || size > maxSize) return;
          const data = await connection.take(size);
          if (!data) return;
          await tpm.hashData(data);
          await connection.write(done);
          break;
        }
        case signals.HASH_END:
          await tpm.hashEnd();
          await connection.write(done);
          break;
        case signals.STOP:
          return stop();
        default:
          // SESSION_END, the end of the connection, and what nobody knows.
          return;
      }
    }
  };

  const control = async (connection: Connection): Promise<void> => {
    for (;;) {
      const signal = await connection.number(false);
      switch (signal) {
        case signals.POWER_ON:
          await tpm.powerOn();
          break;
        case signals.POWER_OFF:
          await tpm.powerOff();
          break;
        case signals.RESET:
        case signals.RESTART:
          await tpm.powerOff();
          await tpm.powerOn();
          break;
        case signals.PHYS_PRES_ON:
          tpm.setPhysicalPresence(true);
          break;
        case signals.PHYS_PRES_OFF:
          tpm.setPhysicalPresence(false);
          break;
        case signals.CANCEL_ON:
        case signals.CANCEL_OFF:
        case signals.NV_ON:
        case signals.NV_OFF:
        case signals.KEY_CACHE_ON:
        case signals.KEY_CACHE_OFF:
          // Commands run to their end, NV memory is there whenever there is power, and there is no key cache.
          break;
        case signals.STOP:
          return stop();
        default:
          return;
      }
      await connection.write(done);
    }
  };

  return { command, control, suffix: '.platform' };
}
