// Quotes by a key of this process, over the PCRs of a real log: to EVC a genuine TPM with that log, at the cost of one signature.
import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { hash } from '../../controller/verify/hash.ts';
import { parseLog } from '../../formats/eventlog/parse.ts';
import { replay } from '../../formats/eventlog/replay.ts';
import { encode } from '../../formats/tpm2/codec.ts';
import { TPM_ALG, TPM_ECC_CURVE, TPM_GENERATED_VALUE, TPM_ST } from '../../formats/tpm2/constants.ts';
import { hashId } from '../../formats/tpm2/hash.ts';
import { objectName } from '../../formats/tpm2/names.ts';
import { pcrDigest, pcrSelection } from '../../formats/tpm2/pcrs.ts';
import { TPMA_OBJECT, TPMS_ATTEST, TPMT_PUBLIC, TPMT_SIGNATURE } from '../../formats/tpm2/structures.ts';
import { eveQuotePcrs } from '../../machines/pcrs.ts';

export interface SoftQuote {
  attest: Uint8Array;
  signature: Uint8Array;
}

export class SoftQuoter {
  readonly key: KeyObject;
  readonly area: TPMT_PUBLIC;
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  readonly #private: KeyObject;
  readonly #selections = [pcrSelection('sha256', eveQuotePcrs)];
  readonly #digest: Uint8Array;
  #clock = 1000n;

  constructor(log: Uint8Array, pair = generateKeyPairSync('ec', { namedCurve: 'P-256' })) {
    this.key = pair.publicKey;
    this.#private = pair.privateKey;
    this.area = restrictedSigningKey(pair.publicKey);
    const values = new Map(replay([parseLog(log)], 'sha256', hash).pcrs);
    for (const pcr of eveQuotePcrs) if (!values.has(pcr)) values.set(pcr, new Uint8Array(32));
    this.pcrs = values;
    this.#digest = pcrDigest(hash, 'sha256', this.#selections, { sha256: values });
  }

  /** The public area as bytes, hex, and its name, hex. */
  get identity(): { akName: string; akPublic: string } {
    return {
      akName: Buffer.from(objectName(hash, this.area)).toString('hex'),
      akPublic: Buffer.from(encode(TPMT_PUBLIC, this.area)).toString('hex'),
    };
  }

  quote(extraData: Uint8Array): SoftQuote {
    this.#clock += 1000n;
    const attest = encode(TPMS_ATTEST, {
      magic: TPM_GENERATED_VALUE,
      type: TPM_ST.ATTEST_QUOTE,
      qualifiedSigner: new Uint8Array(34),
      extraData,
      clockInfo: { clock: this.#clock, resetCount: 1, restartCount: 0, safe: true },
      firmwareVersion: 1n,
      attested: { pcrSelect: this.#selections, pcrDigest: this.#digest },
    } as never);
    const raw = sign('sha256', attest, { key: this.#private, dsaEncoding: 'ieee-p1363' });
    const signature = encode(TPMT_SIGNATURE, {
      sigAlg: TPM_ALG.ECDSA,
      signature: { hash: hashId('sha256'), signatureR: raw.subarray(0, 32), signatureS: raw.subarray(32) },
    });
    return { attest, signature };
  }
}

export const sha256 = (...parts: Uint8Array[]): Buffer => {
  const digest = createHash('sha256');
  for (const part of parts) digest.update(part);
  return digest.digest();
};

function restrictedSigningKey(publicKey: KeyObject): TPMT_PUBLIC {
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' });
  return {
    type: TPM_ALG.ECC,
    nameAlg: hashId('sha256'),
    objectAttributes: TPMA_OBJECT.of('fixedTPM', 'fixedParent', 'sensitiveDataOrigin', 'restricted', 'sign'),
    authPolicy: new Uint8Array(),
    parameters: {
      symmetric: { algorithm: TPM_ALG.NULL },
      scheme: { scheme: TPM_ALG.ECDSA, details: { hashAlg: hashId('sha256') } },
      curveID: TPM_ECC_CURVE.NIST_P256,
      kdf: { scheme: TPM_ALG.NULL },
    },
    unique: { x: Buffer.from(x, 'base64url'), y: Buffer.from(y, 'base64url') },
  } as unknown as TPMT_PUBLIC;
}
