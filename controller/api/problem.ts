// Refusals of the API: problem details [RFC 9457], with the same codes as everywhere.
import type { FastifyError, FastifyReply } from 'fastify';
import { OperatorError } from '../decision.ts';
import { EnrolmentRefused } from '../enrol/onboarding.ts';
import { CatalogueError } from '../images/error.ts';
import { RevisionChanged } from '../record/runner.ts';
import { StoreError } from '../store/store.ts';

export const problemType = 'application/problem+json';

export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: string;
}

/** What a request is refused for before anybody was asked to do it. */
export class RequestError extends Error {
  readonly code: string;
  readonly status: number;
  constructor(code: string, status: number, message: string) {
    super(message);
    this.name = 'RequestError';
    this.code = code;
    this.status = status;
  }
}

const titles: Record<number, string> = {
  400: 'Not a request that can be read',
  401: 'Who is asking is not known',
  403: 'Not allowed',
  404: 'Not there',
  409: 'Not as things stand',
  412: 'Not what you looked at any more',
  413: 'Too large',
  415: 'Not a known type of content',
  416: 'No such range',
  422: 'Not a request that makes sense',
  500: 'EVC failed',
  503: 'EVC cannot do this now',
  507: 'The disk of EVC is full',
};

const catalogueStatus: Record<string, number> = {
  'image.unknown': 404,
  'firmware.unknown': 404,
  'signer.unknown': 404,
  'signer.exists': 409,
  'allow.unknown': 404,
  'allow.too-many': 409,
  'manifest.exists': 409,
  'manifest.too-large': 413,
};

/** Anything that was thrown, as a problem. What nobody expected is named and never quoted. */
export function problemOf(error: unknown): Problem {
  if (error instanceof OperatorError || error instanceof EnrolmentRefused || error instanceof RequestError) {
    return problem(error.code, error.status, error.message);
  }
  if (error instanceof RevisionChanged) return problem('precondition.failed', 412, error.message);
  if (error instanceof CatalogueError)
    return problem(error.code, catalogueStatus[error.code] ?? 422, error.message);
  if (error instanceof StoreError) {
    return problem(`store.${error.code}`, error.code === 'full' ? 507 : 503, error.message);
  }
  const { validation, validationContext, statusCode, code, message } = error as Partial<FastifyError>;
  if (validation) {
    const [first] = validation;
    const where = `${validationContext ?? 'body'}${first?.instancePath ?? ''}`;
    return problem('request.invalid', 422, `${where} ${first?.message ?? 'is not as it should be'}`);
  }
  if (statusCode === 413)
    return problem('request.too-large', 413, 'the request is larger than any should be');
  if (statusCode === 415) return problem('request.content-type', 415, 'send application/json');
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return problem('request.malformed', 400, message ?? 'the request cannot be read');
  }
  if (code === 'ENOSPC') return problem('disk.full', 507, 'the disk is full; what was stored is safe');
  return problem('internal.error', 500, 'something failed that nobody expected; EVC goes on');
}

export function sendProblem(reply: FastifyReply, error: unknown): FastifyReply {
  const body = problemOf(error);
  return reply.code(body.status).type(problemType).send(JSON.stringify(body));
}

function problem(code: string, status: number, detail: string): Problem {
  return { type: `urn:eve-attest:problem:${code}`, title: titles[status] ?? 'Refused', status, detail, code };
}
