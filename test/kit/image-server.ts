// The images of EVC over HTTPS, as devices fetch them: on a port of its own, since a world has no API.
import { createReadStream } from 'node:fs';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { KeyPair } from '../../controller/pki.ts';

export class ImageServer {
  readonly #server: https.Server;

  private constructor(server: https.Server) {
    this.#server = server;
  }

  /** @param pathOf the file with this hash */
  static async start(
    { key, certificate }: KeyPair,
    pathOf: (sha256: string) => string,
  ): Promise<ImageServer> {
    const pem = key.export({ type: 'pkcs8', format: 'pem' });
    const server = https.createServer({ key: pem, cert: certificate.toString() }, (request, response) => {
      createReadStream(pathOf((request.url ?? '').slice('/images/'.length)))
        .on('error', () => response.writeHead(404).end())
        .pipe(response);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new ImageServer(server);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
