// The command line's way to a running EVC: its API over HTTPS, believed by EVC's own root.
import { createReadStream, readFileSync, statSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import { reasons } from '../../machines/reasons.ts';
import type { Problem } from '../api/problem.ts';
import type { StepView } from '../api/stream.ts';
import { DataFolder, defaultPorts } from '../options.ts';
import { exitCodes, Failure } from './failure.ts';

export interface ClientOptions {
  data?: string;
  /** `https://host:port`. */
  url?: string;
  /** File of EVC's root certificate. */
  root?: string;
}

/** ms without an answer: EVC takes minutes to change 20,000 devices, or to measure an image. */
export const patience = { question: 30_000, change: 600_000 };

export class ApiClient {
  readonly url: string;
  /** Those whose failures are heard. */
  readonly #sockets = new WeakSet<object>();
  readonly #agent: https.Agent;
  readonly #token: string;
  readonly #patience: typeof patience;

  constructor(url: string, token: string, root: string, wait = patience) {
    this.url = url;
    this.#token = token;
    this.#patience = wait;
    this.#agent = new https.Agent({ ca: root, keepAlive: true, maxSockets: 8 });
  }

  /** Finds EVC through its data folder, unless told where it is. */
  static open(options: ClientOptions): ApiClient {
    const data = new DataFolder(options.data);
    const token = process.env.EVC_TOKEN ?? (data.complete ? data.token() : null);
    if (options.url === undefined || options.root === undefined) data.check();
    if (token === null) {
      throw new Failure('no token is here', {
        hint: 'give one in EVC_TOKEN: the one that evc init printed, or one of evc token add',
        exitCode: exitCodes.usage,
        code: 'auth.missing',
      });
    }
    const root = readFileSync(options.root ?? data.file('pki/root.cert.pem'), 'utf8');
    const port = data.complete ? (data.service()?.httpsPort ?? defaultPorts.https) : defaultPorts.https;
    const url = options.url ?? `https://${data.hosts()[0] ?? 'localhost'}:${port}`;
    return new ApiClient(url, token, root);
  }

  get<Value>(path: string): Promise<Value> {
    return this.#request('GET', path);
  }

  send<Value>(
    method: 'POST' | 'PATCH' | 'PUT' | 'DELETE',
    path: string,
    body?: object,
    headers: Record<string, string> = {},
  ): Promise<Value> {
    return this.#request(method, path, body === undefined ? undefined : JSON.stringify(body), headers);
  }

  /** Sends a file; resolves with the id under which it waits. */
  async upload(path: string): Promise<{ upload: string; size: number; sha256: string }> {
    const { size } = statSync(path);
    return this.#request('POST', '/api/v1/uploads', createReadStream(path), {
      'content-type': 'application/octet-stream',
      'content-length': size,
    });
  }

  /** A body that may never end, as text in pieces. Resolves when its first byte is there. */
  stream(path: string): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const request = https.get(
        `${this.url}${path}`,
        { agent: false, ca: this.#agent.options.ca, headers: { authorization: `Bearer ${this.#token}` } },
        (response) => {
          response.setEncoding('utf8');
          if (response.statusCode === 200) {
            response.once('close', () => request.destroy());
            resolve(response);
            return;
          }
          let text = '';
          response.on('data', (chunk: string) => {
            text += chunk;
          });
          response.once('end', () => {
            try {
              reject(refusal(JSON.parse(text) as Problem));
            } catch (error) {
              reject(this.#unreachable(error as Error));
            }
          });
        },
      );
      request.once('error', (error) => reject(this.#unreachable(error)));
    });
  }

  /** Every step of every record from now on. Resolves when the stream is open. @param query with its question mark */
  async events(onStep: (step: StepView) => void, onEnd: () => void, query = ''): Promise<{ close(): void }> {
    const response = await this.stream(`/api/v1/events${query}`);
    response.once('close', onEnd);
    response.once('error', () => undefined);
    return new Promise((resolve) => {
      let rest = '';
      response.on('data', (chunk: string) => {
        const parts = (rest + chunk).split('\n\n');
        rest = parts.pop() ?? '';
        for (const part of parts) {
          const data = /^event: step\ndata: (.*)$/.exec(part)?.[1];
          if (data !== undefined) onStep(JSON.parse(data) as StepView);
          else if (part.startsWith('event: ready')) resolve({ close: () => response.destroy() });
        }
      });
    });
  }

  close(): void {
    this.#agent.destroy();
  }

  #request<Value>(
    method: string,
    path: string,
    body?: string | NodeJS.ReadableStream,
    headers: Record<string, string | number> = {},
  ): Promise<Value> {
    return new Promise((resolve, reject) => {
      const { question, change } = this.#patience;
      let changing = false;
      const request = https.request(
        `${this.url}${path}`,
        {
          method,
          agent: this.#agent,
          timeout: question,
          headers: {
            authorization: `Bearer ${this.#token}`,
            ...(typeof body === 'string' ? { 'content-type': 'application/json' } : {}),
            ...headers,
          },
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.once('error', (error) => reject(this.#unreachable(error)));
          response.once('end', () => {
            try {
              const value = JSON.parse(Buffer.concat(chunks).toString('utf8')) as Value;
              if ((response.statusCode ?? 500) < 300) resolve(value);
              else reject(refusal(value as Problem));
            } catch (error) {
              reject(this.#unreachable(error as Error));
            }
          });
        },
      );
      // Where an answer comes before all was sent, Node lets go of the socket, and what is still being written fails there.
      request.on('socket', (socket) => {
        const connected = () => {
          if (method === 'GET') return;
          changing = true;
          request.setTimeout(change);
        };
        if (this.#sockets.has(socket)) connected();
        else {
          socket.on('error', () => undefined);
          // Until then nothing was sent, and there is nothing to be patient for.
          socket.once('secureConnect', connected);
        }
        this.#sockets.add(socket);
      });
      request.once('timeout', () => {
        if (changing) reject(this.#underWay(change));
        request.destroy(new Error(`no answer within ${question / 1000} s`));
      });
      request.once('error', (error) => reject(this.#unreachable(error)));
      if (body === undefined || typeof body === 'string') request.end(body);
      else body.once('error', reject).pipe(request);
    });
  }

  #underWay(waited: number): Failure {
    return new Failure(
      `EVC at ${this.url} has not answered within ${waited / 1000} s, and may still be doing it`,
      {
        hint: 'before you ask again, look whether it was done: evc audit, evc status, evc image list, evc rollout list',
        exitCode: exitCodes.unreachable,
        code: 'evc.unreachable',
      },
    );
  }

  #unreachable(error: NodeJS.ErrnoException): Failure {
    const known: Record<string, string> = {
      ECONNREFUSED: 'nobody listens there',
      ENOTFOUND: 'the name is unknown',
    };
    return new Failure(`EVC at ${this.url} is out of reach: ${known[error.code ?? ''] ?? error.message}`, {
      hint: 'start it with: evc serve; or say where it is with --url https://HOST:PORT',
      exitCode: exitCodes.unreachable,
      code: 'evc.unreachable',
      cause: error,
    });
  }
}

function refusal({ code, detail }: Problem): Failure {
  return new Failure(detail ?? 'EVC refuses without saying why', {
    code: code ?? 'refused',
    hint: hints[code ?? ''] ?? reasons[code ?? '']?.remedy ?? '',
    exitCode: exitCodes.refused,
  });
}

const hints: Record<string, string> = {
  'auth.wrong': 'give another in EVC_TOKEN: the one that evc init printed, or one of evc token add',
  'attempt.unknown': 'evc attempt list DEVICE shows those that are kept',
  'device.unknown': 'evc status lists the devices',
  'device.ambiguous': 'give more letters of its id, or its serial number',
  'account.unknown': 'evc account list shows the accounts',
  'roots.unknown': 'evc ek-root list shows the certificates of vendors',
  'reason.missing': 'say why with --reason "…"',
  'filter.invalid': 'evc status --help shows what there is',
  'precondition.failed': 'look again, and decide again',
  'key.unknown': 'evc key list shows the keys',
};
