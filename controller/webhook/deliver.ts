// One event to one address, signed as Standard Webhooks 1.0 has it: HMAC-SHA-256 over id, time and body.
import { createHmac } from 'node:crypto';
import type { CloudEvent } from './event.ts';

/** ms that an address may take. */
export const patience = 10_000;

/** Null when the other side took it, else why it did not, in a few words. Never rejects. */
export async function deliver(
  url: string,
  secret: Uint8Array,
  event: CloudEvent,
  now: number,
  signal: AbortSignal,
): Promise<string | null> {
  const body = JSON.stringify(event);
  const time = String(Math.floor(now / 1000));
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: {
        'content-type': 'application/cloudevents+json; charset=utf-8',
        'webhook-id': event.id,
        'webhook-timestamp': time,
        'webhook-signature': signatureOf(secret, event.id, time, body),
        'user-agent': 'evc',
      },
      body,
      // Where it leads is not what somebody allowed.
      redirect: 'manual',
      signal: AbortSignal.any([signal, AbortSignal.timeout(patience)]),
    });
    // What it says is nothing to us.
    await response.body?.cancel();
    return response.ok ? null : `it answers ${response.status}`;
  } catch (error) {
    const { name, cause } = error as Error & { cause?: { code?: string } };
    if (name === 'TimeoutError') return `no answer within ${patience / 1000} s`;
    return `out of reach${cause?.code ? ` (${cause.code})` : ''}`;
  }
}

export function signatureOf(secret: Uint8Array, id: string, time: string, body: string): string {
  return `v1,${createHmac('sha256', secret).update(`${id}.${time}.${body}`).digest('base64')}`;
}

/** As receivers are given it. */
export function secretText(secret: Uint8Array): string {
  return `whsec_${Buffer.from(secret).toString('base64')}`;
}
