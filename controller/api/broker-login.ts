// What a broker asks that is not ours: may this client log in? 204 says yes, 403 no, with the reason for its log.
import type { FastifyInstance } from 'fastify';
import { RequestError } from './problem.ts';
import { bearerOf, tokenMatches } from './token.ts';

export interface BrokerLogin {
  /** SHA-256 of the secret that brokers and controllers share, hex. */
  secretHash: string;
  /** Null where the device may log in, else a reason. */
  check(device: string, password: string): Promise<string | null>;
}

/** Under this name controllers log in, with the secret. */
export const controllerUser = 'evc';

/** Bytes of a question. */
const largest = 16 * 1024;

const schema = {
  body: {
    type: 'object',
    properties: {
      username: { type: 'string', minLength: 1, maxLength: 256 },
      password: { type: 'string', minLength: 1, maxLength: 8192 },
    },
    required: ['username', 'password'],
  },
};

export function serveBrokerLogin(app: FastifyInstance, { secretHash, check }: BrokerLogin): void {
  app.post<{ Body: { username: string; password: string } }>(
    '/broker/login',
    {
      schema,
      bodyLimit: largest,
      // Before anything of a body is read.
      onRequest: async (request) => {
        const token = bearerOf(request.headers.authorization);
        if (token === null || !tokenMatches(token, secretHash))
          throw new RequestError('auth.wrong', 401, 'only a broker with its secret may ask this');
      },
    },
    async (request, reply) => {
      const { username, password } = request.body;
      if (username === controllerUser) {
        if (tokenMatches(password, secretHash)) return reply.code(204).send();
        throw new RequestError('login.signature', 403, 'this is not the secret of a controller');
      }
      const reason = await check(username, password);
      if (reason === null) return reply.code(204).send();
      throw new RequestError(reason, 403, 'this device may not log in');
    },
  );
}
