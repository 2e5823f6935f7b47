// Key agreement with the ECDH key: what is encrypted to this device is opened with it.
import { ECDH_ZGen } from '../../formats/tpm2/commands.ts';
import { TPM_ALG } from '../../formats/tpm2/constants.ts';
import { coordinateSize, fixedWidth } from '../../formats/tpm2/spki.ts';
import type { Key } from './keys.ts';
import { type SaltKey, withSession } from './session.ts';
import type { Tpm } from './tpm.ts';

/** A point, its coordinates at the full width of the curve: 32 bytes each for P-256. */
export interface Point {
  x: Uint8Array;
  y: Uint8Array;
}

/**
 * The point that both sides of an ECDH reach; x is the shared secret. It is encrypted on the bus.
 * @param peer the other side's public point.
 * @param salt usually the SRK.
 * @throws TpmError TPM_RC_ECC_POINT or TPM_RC_VALUE if the point is not on the curve.
 */
export async function ecdhZ(tpm: Tpm, key: Key, peer: Point, salt: SaltKey): Promise<Point> {
  const size = key.public.type === TPM_ALG.ECC ? coordinateSize(key.public.parameters.curveID) : undefined;
  if (size === undefined) throw new TypeError('agrees on keys on a NIST curve only');
  const inPoint = { x: fixedWidth(peer.x, size), y: fixedWidth(peer.y, size) };
  const { outPoint } = await withSession(tpm, { type: 'hmac', salt }, (session) =>
    tpm.execute(ECDH_ZGen, { keyHandle: key, inPoint }, [{ session, encrypt: true }]),
  );
  // About one result in 128 starts with a zero byte; without it, the two sides derive different keys.
  return { x: fixedWidth(outPoint.x, size), y: fixedWidth(outPoint.y, size) };
}
