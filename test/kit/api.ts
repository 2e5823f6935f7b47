// EVC's API as others see it: over TLS, with tokens of all kinds, and a device that is trusted and one that is not.
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { type ApiOptions, type ApiServer, startApi } from '../../controller/api/server.ts';
import { StepStream } from '../../controller/api/stream.ts';
import { makeToken } from '../../controller/api/token.ts';
import type { Role } from '../../controller/tokens.ts';
import { ZAttestReqType } from '../../formats/wire/eve_pb.ts';
import { EvcBench, quoteOf } from './controller.ts';
import { LabBoard, sha256 } from './evidence.ts';
import { type SoftDevice, softDevice } from './logins.ts';

export interface ApiAnswer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Buffer;
  json: Record<string, unknown>;
}

export interface ApiCall {
  body?: object | Buffer | string | undefined;
  headers?: Record<string, string>;
  /** Null: none. */
  token?: string | null;
  /** Reads no more than the beginning, of what has no end. */
  beginning?: boolean;
}

/** The API of an EVC, on loopback. */
export function apiOf(
  { evc, folder }: Pick<EvcBench, 'evc' | 'folder'>,
  more: Partial<ApiOptions> & Pick<ApiOptions, 'tokenHash'>,
): Promise<ApiServer> {
  const { server } = evc.pki;
  return startApi({
    evc,
    stream: new StepStream(),
    uploads: join(folder, 'uploads'),
    host: '127.0.0.1',
    port: 0,
    key: server.key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    certificate: server.certificate.toString(),
    service: () => ({ mqttPort: 1, httpsPort: 2, hosts: ['localhost'], since: 0 }),
    ...more,
  });
}

export class ApiBench {
  readonly evc: EvcBench;
  readonly server: ApiServer;
  /** Of the administrator that set-up made. */
  readonly admin: string;
  readonly root: string;
  readonly #agent: https.Agent;

  private constructor(evc: EvcBench, server: ApiServer, admin: string) {
    this.evc = evc;
    this.server = server;
    this.admin = admin;
    this.root = evc.evc.pki.root.toString();
    this.#agent = new https.Agent({ ca: this.root, keepAlive: true, maxSockets: 4 });
  }

  /** @param start of EVC's clock, ms since the epoch */
  static async open(start?: number): Promise<ApiBench> {
    const bench = await EvcBench.open(start);
    const { token, hash } = makeToken();
    const stream = new StepStream();
    bench.watch = (step) => stream.publish(step);
    return new ApiBench(bench, await apiOf(bench, { stream, tokenHash: hash }), token);
  }

  get url(): string {
    return `https://localhost:${this.server.port}`;
  }

  async close(): Promise<void> {
    this.#agent.destroy();
    await this.server.close();
    await this.evc.close();
  }

  async token(name: string, role: Role, accounts: string[] | null = null, expires: number | null = null) {
    return (await this.evc.evc.tokens.add({ name, role, accounts, expires })).token;
  }

  /** A device that attested once, and one that shows another kernel since. */
  async devices(): Promise<{ trusted: SoftDevice; uud: SoftDevice; board: LabBoard }> {
    const board = await LabBoard.open();
    const { evc } = this;
    const [trusted, uud] = [await softDevice(), await softDevice()];
    for (const [i, device] of [uud, trusted].entries()) {
      await board.boot();
      await evc.register(device, await evc.onboardingKey(), `edge-0${i + 1}`);
      await evc.certify(device, board);
      await evc.trusted(device, board);
      if (device === uud) await this.tampered(device, board);
    }
    return { trusted, uud, board };
  }

  /** Boots another kernel, and attests with it. */
  async tampered(device: SoftDevice, board: LabBoard, version = '6.6.6'): Promise<void> {
    const { evc } = this;
    await board.boot({ version });
    const claims = board.claims({ tokenHash: sha256(Buffer.from('another')) });
    const quote = quoteOf(await board.present({ nonce: await evc.nonce(device), claims }));
    await evc.attest(device, { reqType: ZAttestReqType.ATTEST_REQ_QUOTE, quote });
  }

  /** Reads what has no end. */
  async follow(path: string, token: string) {
    let text = '';
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const request = https.get(
        {
          ...{ host: '127.0.0.1', servername: 'localhost', port: this.server.port, path, ca: this.root },
          ...{ agent: false, headers: { authorization: `Bearer ${token}` } },
        },
        resolve,
      );
      request.on('error', reject);
    });
    response.setEncoding('utf8');
    response.on('error', () => undefined);
    const ready = new Promise<void>((resolve) => {
      response.on('data', (chunk: string) => {
        text += chunk;
        if (text.includes('event: ready')) resolve();
      });
    });
    await ready;
    return {
      /** How often it was told, once it was `most` times or nothing more came for a while; ends the reading. */
      until: async (what: RegExp, most: number, quiet: number): Promise<number> => {
        const told = () => [...text.matchAll(what)].length;
        const end = performance.now() + quiet;
        while (told() < most && performance.now() < end) await setImmediate();
        response.destroy();
        return told();
      },
    };
  }

  /** Resolves when something of what has no end was read; `end` resolves when it ends all the same. */
  reading(path: string, token: string): Promise<{ end: Promise<void> }> {
    return new Promise((resolve, reject) => {
      const { port } = this.server;
      const to = {
        host: '127.0.0.1',
        servername: 'localhost',
        port,
        path,
        ca: this.root,
        agent: false,
      } as const;
      https
        .get({ ...to, headers: { authorization: `Bearer ${token}` } }, (response) => {
          const end = new Promise<void>((done) => response.once('close', done));
          response.once('data', () => resolve({ end }));
          response.on('data', () => undefined);
          response.on('error', () => undefined);
        })
        .on('error', reject);
    });
  }

  call(method: string, path: string, { body, headers = {}, token = this.admin, beginning }: ApiCall = {}) {
    const bytes =
      body === undefined || Buffer.isBuffer(body) || typeof body === 'string' ? body : JSON.stringify(body);
    return new Promise<ApiAnswer>((resolve, reject) => {
      const request = https.request(
        {
          host: '127.0.0.1',
          servername: 'localhost',
          port: this.server.port,
          method,
          path,
          ca: this.root,
          agent: beginning || (bytes?.length ?? 0) > 1_000_000 ? false : this.#agent,
          headers: {
            ...(token === null ? {} : { authorization: `Bearer ${token}` }),
            ...(bytes !== undefined && !('content-type' in headers)
              ? { 'content-type': 'application/json' }
              : {}),
            ...(bytes === undefined ? {} : { 'content-length': String(Buffer.byteLength(bytes)) }),
            ...headers,
          },
        },
        (response) => {
          const chunks: Buffer[] = [];
          const answer = (): ApiAnswer => {
            const all = Buffer.concat(chunks);
            const isJson = /[/+]json(;|$)/.test(`${response.headers['content-type']}`) && all.length > 0;
            const json = (isJson && !beginning ? JSON.parse(all.toString('utf8')) : {}) as ApiAnswer['json'];
            return { status: response.statusCode ?? 0, headers: response.headers, body: all, json };
          };
          response.on('data', (chunk: Buffer) => {
            chunks.push(chunk);
            if (!beginning) return;
            resolve(answer());
            request.destroy();
          });
          response.once('end', () => resolve(answer()));
          response.on('error', () => undefined);
        },
      );
      request.on('error', reject);
      request.end(bytes);
    });
  }
}
