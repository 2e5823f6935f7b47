// Tags of what is shown, and conditions on them [RFC 9110, 8.8.3 and 13.1]: a decision holds to what somebody looked at.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { RequestError } from './problem.ts';

const form = /^"([\x21\x23-\x7e]{1,64})"$/;

export const Preconditions = {
  /** The tag of If-Match; undefined without one, or with any. Throws RequestError request.invalid. */
  ifMatch(request: FastifyRequest, versioned: boolean): string | undefined {
    const header = request.headers['if-match'];
    if (header === undefined || header === '*') return undefined;
    if (!versioned) throw new RequestError('request.invalid', 422, 'If-Match: there are no versions of this');
    const tag = form.exec(header)?.[1];
    if (tag === undefined)
      throw new RequestError('request.invalid', 422, 'If-Match is one tag in quotes, as ETag gave it');
    return tag;
  },

  /** Tags the answer; true where the reader has it already, and 304 says so. */
  unchanged(request: FastifyRequest, reply: FastifyReply, tag: string | number): boolean {
    const quoted = `"${tag}"`;
    reply.header('etag', quoted).header('cache-control', 'no-cache');
    const known = (request.headers['if-none-match'] ?? '')
      .split(',')
      .map((one) => one.trim().replace(/^W\//, ''));
    if (!known.includes(quoted)) return false;
    reply.code(304);
    return true;
  },
};
