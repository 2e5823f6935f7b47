// Events → bytes of an event log: the pair of parse.ts.
import { concat, digestSize, type HashName, hashId } from '../tpm2/hash.ts';
import type { EventLog } from './parse.ts';
import { type EventFields, EventType } from './types.ts';

/** A whole log; `writeLog(parseLog(bytes))` are the same bytes without padding and without a cut last event. */
export function writeLog(
  log: Pick<EventLog, 'format'> & { readonly events: readonly EventFields[] },
): Uint8Array {
  return concat(
    ...log.events.map((event, index) =>
      log.format === 'sha1' || (log.format === 'crypto-agile' && index === 0)
        ? writeEvent1(event)
        : writeEvent(event),
    ),
  );
}

/**
 * The first event of a crypto-agile log: TCG_EfiSpecIdEvent of a 64-bit platform, without vendor data [PFP 10.4.5.1].
 *
 * @param used the banks that every following event has a digest for, in this order
 */
export function headerEvent(used: readonly HashName[]): EventFields {
  const data = new Uint8Array(28 + 4 * used.length + 1);
  const view = new DataView(data.buffer);
  data.set(new TextEncoder().encode('Spec ID Event03\0'));
  view.setUint32(16, 0, true); // platformClass: client
  data.set([0, 2, 0, 2], 20); // specification 2.0, errata 0, uintnSize 64 bits
  view.setUint32(24, used.length, true);
  for (const [i, bank] of used.entries()) {
    view.setUint16(28 + 4 * i, hashId(bank), true);
    view.setUint16(30 + 4 * i, digestSize(bank), true);
  }
  const digest = new Uint8Array(digestSize('sha1'));
  return {
    pcr: 0,
    type: EventType.EV_NO_ACTION,
    digests: [{ hashAlg: hashId('sha1'), digest }],
    data,
  };
}

/** The event that says PCR 0 did not start as zeros: TPM2_Startup came from locality 3, or an H-CRTM from 4 [PFP 10.4.5.3]. */
export function startupLocalityEvent(locality: number, used: readonly HashName[]): EventFields {
  return {
    pcr: 0,
    type: EventType.EV_NO_ACTION,
    digests: used.map((bank) => ({
      hashAlg: hashId(bank),
      digest: new Uint8Array(digestSize(bank)),
    })),
    data: Uint8Array.of(...new TextEncoder().encode('StartupLocality\0'), locality),
  };
}

/** One TCG_PCR_EVENT2 [PFP 10.2]. */
export function writeEvent({ pcr, type, digests, data }: EventFields): Uint8Array {
  const digestBytes = digests.reduce((sum, { digest }) => sum + 2 + digest.length, 0);
  const bytes = new Uint8Array(16 + digestBytes + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, pcr, true);
  view.setUint32(4, type, true);
  view.setUint32(8, digests.length, true);
  let at = 12;
  for (const { hashAlg, digest } of digests) {
    view.setUint16(at, hashAlg, true);
    bytes.set(digest, at + 2);
    at += 2 + digest.length;
  }
  view.setUint32(at, data.length, true);
  bytes.set(data, at + 4);
  return bytes;
}

/** One TCG_PCR_EVENT [PFP 10.2]. Throws TypeError unless it has exactly a SHA-1 digest. */
export function writeEvent1({ pcr, type, digests, data }: EventFields): Uint8Array {
  const sha1 = digests[0]?.digest;
  if (digests.length !== 1 || sha1?.length !== digestSize('sha1'))
    throw new TypeError('TCG_PCR_EVENT holds one SHA-1 digest');
  const bytes = new Uint8Array(32 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, pcr, true);
  view.setUint32(4, type, true);
  bytes.set(sha1, 8);
  view.setUint32(28, data.length, true);
  bytes.set(data, 32);
  return bytes;
}
