// EVE's AuthContainer: a signed message. The signature covers SHA-256(payload); what EVE's envelope does not say, where
// the message goes and which request it answers, is the Binding inside the payload.
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from '@bufbuild/protobuf';
import { AuthBodySchema, AuthContainerSchema, type Binding, BindingSchema, HashAlgorithm } from './eve_pb.ts';
import { WireError } from './wire-error.ts';

export type Hash = (bytes: Uint8Array) => Uint8Array;

/** Who signs: the device key or the onboarding key up, EVC's signing key down. */
export interface Signer {
  /** DER. */
  certificate: Uint8Array;
  /** ECDSA P-256 over SHA-256(payload); raw r ‖ s, 64 bytes. */
  sign(payload: Uint8Array): Uint8Array | Promise<Uint8Array>;
}

/** A container whose signature nobody has checked. */
export interface Unverified {
  payload: Uint8Array;
  /** Raw r ‖ s. */
  signature: Uint8Array;
  /** SHA-256 of the sender's certificate in DER, 32 bytes; a hint for the look-up and nothing more. */
  senderHash: Uint8Array;
  /** DER; empty where the sender did not send it. */
  senderCertificate: Uint8Array;
}

const maxCertificate = 8 * 1024;

type Bound = { binding?: Binding | undefined };

/** Signs a message for one topic. `withCertificate` adds the sender's certificate, as a registration needs it. */
export async function encloseMessage<Desc extends DescMessage>(
  schema: Desc,
  message: MessageShape<Desc>,
  where: { topic: string; status: number; at: number },
  signer: Signer,
  sha256: Hash,
  withCertificate = false,
): Promise<Uint8Array> {
  const binding = create(BindingSchema, { topic: where.topic, status: where.status, at: BigInt(where.at) });
  const payload = toBinary(schema, { ...message, binding });
  const container = create(AuthContainerSchema, {
    protectedPayload: create(AuthBodySchema, { payload }),
    algo: HashAlgorithm.SHA256_32BYTES,
    senderCertHash: sha256(signer.certificate),
    signatureHash: await signer.sign(payload),
    ...(withCertificate ? { senderCert: signer.certificate } : {}),
  });
  return toBinary(AuthContainerSchema, container);
}

/** Throws WireError wire.malformed. */
export function openContainer(bytes: Uint8Array): Unverified {
  const container = decodeMessage(AuthContainerSchema, bytes);
  const payload = container.protectedPayload?.payload;
  if (!payload) throw new WireError('wire.malformed', 'an AuthContainer without a payload');
  if (container.signatureHash.length !== 64) {
    throw new WireError(
      'wire.malformed',
      `a signature of ${container.signatureHash.length} bytes, where P-256 makes 64`,
    );
  }
  if (container.senderCert.length > maxCertificate) {
    throw new WireError('wire.malformed', `a certificate of ${container.senderCert.length} bytes`);
  }
  return {
    payload,
    signature: container.signatureHash,
    senderHash: container.senderCertHash,
    senderCertificate: container.senderCert,
  };
}

/**
 * Reads the message of a container whose signature was checked, and that it was made for here.
 * Throws WireError wire.malformed, wire.binding.
 */
export function readMessage<Desc extends DescMessage>(
  schema: Desc,
  payload: Uint8Array,
  where: { topic: string; status: number },
): MessageShape<Desc> {
  const message = decodeMessage(schema, payload);
  const { binding } = message as Bound;
  if (!binding) throw new WireError('wire.binding', 'the message does not say what it was signed for');
  if (binding.topic !== where.topic || binding.status !== where.status) {
    throw new WireError('wire.binding', 'the message was signed for another topic, request or status');
  }
  return message;
}

/** Throws WireError wire.malformed for bytes that are no such message. */
export function decodeMessage<Desc extends DescMessage>(schema: Desc, bytes: Uint8Array): MessageShape<Desc> {
  try {
    return fromBinary(schema, bytes);
  } catch (cause) {
    throw new WireError('wire.malformed', `these bytes are no ${schema.name}`, { cause });
  }
}
