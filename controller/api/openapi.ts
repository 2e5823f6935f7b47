// The document of the API, OpenAPI 3.1: made of the operations themselves, so it says what they check.
import { roles } from '../tokens.ts';
import type { Operation } from './operation.ts';
import { problemType } from './problem.ts';
import { components } from './schemas.ts';

const tags: Readonly<Record<string, string>> = {
  service: 'EVC itself, and who asks',
  devices: 'What a device is, whether it is trusted, why not, and the decisions about it',
  accounts: 'What the devices of an account may do',
  enrolment: 'Who may register a device, and whom EVC believes what a TPM is',
  catalogue: 'What versions of images and firmware measure, and who may say so',
  access: 'Tokens, logins at a provider, and what people did',
};

/** Of the API, and not of EVC: raised with what it takes and gives. */
const version = '1.0.0';

export function openApi(operations: readonly Operation[]): Record<string, unknown> {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const operation of operations) {
    const path = operation.path.replace(/:([a-z0-9]+)/g, '{$1}');
    paths[path] = { ...paths[path], [operation.method.toLowerCase()]: described(operation) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'EVC',
      version,
      description: 'Which devices of a fleet are trusted, why not, and what to do about it.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    tags: Object.entries(tags).map(([name, description]) => ({ name, description })),
    security: [{ token: [] }],
    paths,
    components: {
      schemas: components,
      securitySchemes: {
        token: { type: 'http', scheme: 'bearer', description: 'evc token add makes one' },
      },
    },
  };
}

function described(operation: Operation): object {
  const { id, summary, tag, role, reach, body, consumes, produces = 'application/json', method } = operation;
  const { params, query, answer, status = 200, versioned = false, secret = false } = operation;
  const may = roles.slice(roles.indexOf(role)).join(', ');
  const headers = [
    ...(method === 'POST' && !consumes ? [header('Idempotency-Key', idempotency(secret), 128)] : []),
    ...(versioned && method === 'GET'
      ? [header('If-None-Match', 'a tag of before: 304 where it is the same still', 1000)]
      : []),
    ...(versioned && method !== 'GET'
      ? [header('If-Match', 'the tag of what the decision rests on: 412 where it has changed', 66)]
      : []),
  ];
  const content = consumes ? { [consumes]: { schema: {} } } : { 'application/json': { schema: body } };
  return {
    operationId: id,
    summary,
    tags: [tag],
    description: `For ${may}${reach === 'fleet' ? '; not with a token of some accounts' : ''}.`,
    parameters: [...parameters('path', params), ...parameters('query', query), ...headers],
    ...(body || consumes ? { requestBody: { required: true, content } } : {}),
    responses: {
      [status]: {
        description: 'done',
        ...(versioned ? { headers: { ETag: { schema: { type: 'string' } } } } : {}),
        content: { [produces]: { schema: answer } },
      },
      ...(versioned && method === 'GET' ? { 304: { description: 'the reader has it already' } } : {}),
      default: {
        description: 'refused, and why',
        content: { [problemType]: { schema: { $ref: '#/components/schemas/Problem' } } },
      },
    },
  };
}

function idempotency(secret: boolean): string {
  const again = 'sent again with the same key within a day, it is answered again and not done again';
  return secret ? 'sent again with the same key within a day, it is refused and not done again' : again;
}

function header(name: string, description: string, maxLength: number): object {
  return { in: 'header', name, description, schema: { type: 'string', maxLength } };
}

function parameters(where: 'path' | 'query', schema: object | undefined): object[] {
  const { properties = {}, required = [] } = (schema ?? {}) as {
    properties?: Record<string, { description?: string }>;
    required?: readonly string[];
  };
  return Object.entries(properties).map(([name, { description, ...rest }]) => ({
    in: where,
    name,
    required: where === 'path' || required.includes(name),
    ...(description === undefined ? {} : { description }),
    schema: rest,
  }));
}
