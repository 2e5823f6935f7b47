// DSSE envelopes [Dead Simple Signing Envelope 1.0] around manifests: the signature covers the very bytes and their type, so
// nobody has to agree about how JSON is written, one file holds all, and in-toto's and sigstore's tools read it too.
import { createHash, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import * as v from 'valibot';
import { CatalogueError } from './error.ts';

export interface Envelope {
  payloadType: string;
  /** Base64. */
  payload: string;
  signatures: { keyid: string; sig: string }[];
}

/** Bytes of a file that is read at all; the API takes no larger body. */
export const largestManifest = 6 * 1024 * 1024;
const deepest = 16;
const mostSignatures = 8;

const base64 = v.pipe(v.string(), v.regex(/^[A-Za-z0-9+/]*={0,2}$/));
const schema = v.object({
  payloadType: v.pipe(v.string(), v.maxLength(200)),
  payload: base64,
  signatures: v.pipe(
    v.array(
      v.object({
        keyid: v.optional(v.pipe(v.string(), v.maxLength(200)), ''),
        sig: v.pipe(base64, v.maxLength(1000)),
      }),
    ),
    v.maxLength(mostSignatures),
  ),
});

/** SHA-256 of a public key's SubjectPublicKeyInfo, hex: how keys are named. */
export function keyIdOf(key: KeyObject): string {
  return createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('hex');
}

/** Signs with ECDSA P-256 over SHA-256, as DER: what `openssl dgst -verify` takes. */
export function seal(payloadType: string, payload: Uint8Array, key: KeyObject): Envelope {
  const sig = sign('sha256', preAuthentication(payloadType, payload), key);
  const envelope = { payloadType, payload: Buffer.from(payload).toString('base64') };
  return { ...envelope, signatures: [{ keyid: keyIdOf(createPublicKey(key)), sig: sig.toString('base64') }] };
}

/**
 * What one of these keys signed, and which of them. Throws CatalogueError manifest.malformed, manifest.unsigned,
 * manifest.signer where no signature names a key that is known, manifest.signature where the one that does is wrong.
 */
export function unseal<Signer extends { id: string; key: KeyObject }>(
  envelope: unknown,
  payloadType: string,
  signers: readonly Signer[],
): { payload: Uint8Array; signer: Signer } {
  const read = v.safeParse(schema, envelope);
  if (!read.success)
    throw new CatalogueError(
      isPlain(envelope) ? 'manifest.unsigned' : 'manifest.malformed',
      isPlain(envelope)
        ? 'this manifest is not signed: it is no envelope, but what belongs inside one'
        : `this is no envelope of a manifest: ${v.getDotPath(read.issues[0]) ?? 'JSON'} ${read.issues[0].message}`,
    );
  const { payload: text, signatures, payloadType: type } = read.output;
  if (type !== payloadType)
    throw new CatalogueError(
      'manifest.malformed',
      `this envelope holds ${type.slice(0, 200)}, not ${payloadType}`,
    );
  if (signatures.length === 0) throw new CatalogueError('manifest.unsigned', 'nobody signed this manifest');
  const payload = Buffer.from(text, 'base64');
  const signed = preAuthentication(type, payload);
  // The name of a key is a hint, and some tools leave it out.
  const named = signatures.flatMap(({ keyid, sig }) =>
    signers
      .filter(({ id }) => keyid === '' || id === keyid)
      .map((signer) => ({ signer, sig: Buffer.from(sig, 'base64') })),
  );
  if (named.length === 0)
    throw new CatalogueError(
      'manifest.signer',
      `nobody who may sign this signed it; it names key ${signatures.map(({ keyid }) => keyid.slice(0, 16) || '(none)').join(', ')}`,
    );
  const good = named.find(({ signer, sig }) => verify('sha256', signed, signer.key, sig));
  if (!good)
    throw new CatalogueError(
      'manifest.signature',
      'the signature is not of this manifest: it was changed after it was signed',
    );
  return { payload, signer: good.signer };
}

/** Parses JSON of a stranger. Throws CatalogueError manifest.too-large, manifest.malformed. */
export function parseJson(bytes: Uint8Array): unknown {
  if (bytes.length > largestManifest)
    throw new CatalogueError(
      'manifest.too-large',
      `${bytes.length} bytes, and a manifest has ${largestManifest} at most`,
    );
  if (depthOf(bytes) > deepest)
    throw new CatalogueError('manifest.malformed', `this manifest is nested deeper than ${deepest}`);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new CatalogueError('manifest.malformed', 'this is no JSON', { cause });
  }
}

/** Brackets that are open at once, those inside texts left out. */
function depthOf(bytes: Uint8Array): number {
  let [depth, most, text, escaped] = [0, 0, false, false];
  for (const byte of bytes) {
    if (escaped) escaped = false;
    else if (text && byte === 0x5c) escaped = true;
    else if (byte === 0x22) text = !text;
    else if (!text && (byte === 0x7b || byte === 0x5b)) most = Math.max(most, ++depth);
    else if (!text && (byte === 0x7d || byte === 0x5d)) depth--;
  }
  return most;
}

/** PAE of DSSE: type and bytes, each behind its length. */
function preAuthentication(type: string, payload: Uint8Array): Buffer {
  const head = `DSSEv1 ${Buffer.byteLength(type)} ${type} ${payload.length} `;
  return Buffer.concat([Buffer.from(head), payload]);
}

/** A manifest as it is before anybody signs it. */
function isPlain(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'format' in value;
}
