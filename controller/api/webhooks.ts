// Webhooks through the API.
import { toldEvents } from '../webhook/event.ts';
import type { Webhooks } from '../webhook/webhooks.ts';
import type { Operations } from './operation.ts';
import { body, fields, idParams, list, names, reasoned, ref, text } from './schemas.ts';

const path = '/api/v1/webhooks';
const base = { tag: 'access', role: 'admin', reach: 'fleet' } as const;
const one = { ...base, params: idParams('webhook', 64) } as const;

export function serveWebhooks(api: Operations, webhooks: Webhooks): void {
  api.add({
    ...base,
    id: 'listWebhooks',
    method: 'GET',
    path,
    summary: 'Addresses that are told what happens, and what they did not take',
    answer: list('webhooks', ref('Webhook')),
    run: async () => ({ webhooks: await webhooks.list() }),
  });
  api.add<unknown, unknown, { url: string; events: string[]; accounts: string[] | null }>({
    ...base,
    id: 'addWebhook',
    method: 'POST',
    path,
    summary: 'Tells an address what happens from now on, as CloudEvents, signed; the secret is told once',
    secret: true,
    body: body(
      {
        url: text(2000),
        events: {
          type: 'array',
          minItems: 1,
          maxItems: 50,
          items: { enum: toldEvents },
          default: toldEvents.filter((event) => event !== 'link.changed'),
        },
        accounts: { ...names(64), type: ['array', 'null'], default: null },
      },
      ['url'],
    ),
    answer: fields({ webhook: ref('Webhook'), secret: { type: 'string' } }),
    status: 201,
    run: ({ body: wish, decision }) => webhooks.add(wish, decision),
  });
  api.add<{ webhook: string }, unknown, unknown>({
    ...one,
    id: 'retryWebhook',
    method: 'POST',
    path: `${path}/:webhook/retry`,
    summary: 'Tells what was set aside once more',
    answer: ref('Webhook'),
    run: ({ params }) => webhooks.retry(params.webhook),
  });
  api.add<{ webhook: string }, unknown, { reason: string }>({
    ...one,
    id: 'removeWebhook',
    method: 'POST',
    path: `${path}/:webhook/remove`,
    summary: 'Tells an address nothing more',
    body: reasoned,
    answer: ref('Webhook'),
    run: ({ params, decision }) => webhooks.remove(params.webhook, decision),
  });
}
