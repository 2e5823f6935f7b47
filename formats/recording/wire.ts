// A message between EVE and EVC as a recording shows it: decoded, and without the fields that eve.proto marks `debug_redact`.
// Nobody has checked its signature; what cannot be read is left out, since nobody can say what is in it.
import type { DescMessage } from '@bufbuild/protobuf';
import { decodeMessage, openContainer } from '../wire/envelope.ts';
import * as eve from '../wire/eve_pb.ts';
import { decodeFrame, type Frame } from '../wire/frame.ts';
import { parseTopic, type Topic } from '../wire/topics.ts';
import type { Body } from './format.ts';

const requests: Record<string, DescMessage> = {
  certs: eve.CertsRequestSchema,
  register: eve.ZRegisterMsgSchema,
  uuid: eve.UuidRequestSchema,
  attest: eve.ZAttestReqSchema,
  config: eve.ConfigRequestSchema,
  info: eve.ZInfoMsgSchema,
};
const replies: Record<string, DescMessage> = {
  certs: eve.ZControllerCertSchema,
  register: eve.RegisterResponseSchema,
  uuid: eve.UuidResponseSchema,
  attest: eve.ZAttestResponseSchema,
  config: eve.ConfigResponseSchema,
  info: eve.InfoResponseSchema,
  push: eve.PushSchema,
};

/** Longer ones are named by their size; the bytes of the message have them. */
const longestBytes = 64;
const longestText = 4096;
const hexOf = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));
/** A reply without a problem [RFC 9110, 15.3.1, 15.4.5]; a push has no status. */
const good = new Set([0, 200, 304]);

/** The line for a message on `topic`. `base64` encodes bytes. Never throws. */
export function wireMessage(
  topic: string,
  bytes: Uint8Array,
  base64: (bytes: Uint8Array) => string,
): Extract<Body, { kind: 'message' }> {
  const line = { kind: 'message' as const, link: 'mqtt' as const, topic, size: bytes.length };
  let direction: Topic['direction'] = 'up';
  try {
    const parsed = parseTopic(topic);
    direction = parsed.direction;
    const frame = decodeFrame(bytes);
    const { kind, status, retryAfter } = frame;
    const shown = { ...line, direction, frame: { kind, status, retryAfter } };
    const schema = schemaOf(parsed, frame);
    const { payload } = openContainer(frame.container);
    const withheld: string[] = [];
    const body = plainOf(schema, decodeMessage(schema, payload), withheld);
    if (withheld.length > 0) return { ...shown, body, withheld };
    return { ...shown, body, bytes: base64(bytes) };
  } catch {
    return { ...line, direction, withheld: ['unreadable'] };
  }
}

function schemaOf({ direction, endpoint }: Topic, { status }: Frame): DescMessage {
  if (direction === 'up') return requests[endpoint] as DescMessage;
  return good.has(status) ? (replies[endpoint] as DescMessage) : eve.ProblemSchema;
}

/** A message as a plain object, its secret fields replaced by the word `withheld`; their names go into `withheld`. */
function plainOf(schema: DescMessage, message: object, withheld: string[]): object {
  const plain: Record<string, unknown> = {};
  for (const field of schema.fields) {
    const value = (message as Record<string, unknown>)[field.localName];
    if (isEmpty(value)) continue;
    if (field.proto.options?.debugRedact) {
      withheld.push(`${schema.name}.${field.name}`);
      plain[field.localName] = 'withheld';
      continue;
    }
    const one = (item: unknown): unknown => {
      if (field.message && (field.fieldKind !== 'map' || field.mapKind === 'message'))
        return plainOf(field.message, item as object, withheld);
      if (field.enum) return field.enum.value[Number(item)]?.name ?? item;
      return scalar(item);
    };
    plain[field.localName] =
      field.fieldKind === 'map'
        ? Object.fromEntries(Object.entries(value as object).map(([key, item]) => [key, one(item)]))
        : Array.isArray(value)
          ? value.map(one)
          : one(value);
  }
  return plain;
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === '' || value === 0 || value === 0n || value === false) return true;
  if (value instanceof Uint8Array || Array.isArray(value)) return value.length === 0;
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}

function scalar(value: unknown): unknown {
  if (value instanceof Uint8Array) return value.length <= longestBytes ? hex(value) : `${value.length} bytes`;
  if (typeof value === 'bigint')
    return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : String(value);
  if (typeof value === 'string' && value.length > longestText) return `${value.slice(0, longestText)}…`;
  return value;
}

function hex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += hexOf[byte];
  return text;
}
