// A collector of OpenTelemetry on this machine: takes what the official exporter sends over HTTP, in JSON, and keeps the spans.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** As OTLP has it. */
export interface CollectedSpan {
  service: string;
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  kind: number;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: { key: string; value: Record<string, unknown> }[];
  status: { code?: number; message?: string };
}

interface Export {
  resourceSpans: {
    resource: { attributes: { key: string; value: { stringValue?: string } }[] };
    scopeSpans: { spans: Omit<CollectedSpan, 'service'>[] }[];
  }[];
}

export class Collector {
  readonly spans: CollectedSpan[] = [];
  /** Everything that came, as it came. */
  text = '';
  readonly #server: Server;
  #checks: (() => void)[] = [];

  private constructor() {
    this.#server = createServer(async (request, response) => {
      const pieces: Buffer[] = [];
      for await (const piece of request) pieces.push(piece as Buffer);
      const body = Buffer.concat(pieces).toString('utf8');
      const known = request.method === 'POST' && request.url === '/v1/traces';
      if (known) this.#take(body);
      response.writeHead(known ? 200 : 404, { 'content-type': 'application/json' }).end('{}');
    });
  }

  static async start(): Promise<Collector> {
    const collector = new Collector();
    await new Promise<void>((resolve) => collector.#server.listen(0, '127.0.0.1', resolve));
    return collector;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Resolves once what came fits. */
  until(fits: (spans: readonly CollectedSpan[]) => boolean): Promise<void> {
    return new Promise((resolve) => {
      const check = () => {
        if (fits(this.spans)) resolve();
        else this.#checks.push(check);
      };
      check();
    });
  }

  close(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  #take(body: string): void {
    this.text += body;
    for (const { resource, scopeSpans } of (JSON.parse(body) as Export).resourceSpans) {
      const name = resource.attributes.find(({ key }) => key === 'service.name')?.value.stringValue ?? '';
      for (const { spans } of scopeSpans)
        this.spans.push(...spans.map((span) => ({ service: name, ...span })));
    }
    const checks = this.#checks;
    this.#checks = [];
    for (const check of checks) check();
  }
}
