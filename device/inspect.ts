// `eve run --inspect PORT`: the inspector's page for the charts of this device, on this machine alone. It shows, and changes
// nothing. There is no token, so nobody but a page of this machine is answered: a name that some site gives to this address
// does not count as one.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { hostname } from 'node:os';
import type { Duplex } from 'node:stream';
import { isLocal, pageAnswer, pageFiles, pageHeaders, targetOf } from '../inspector/server/page.ts';
import { Readers, streamTo } from '../inspector/server/readers.ts';
import { refuse, StatelyEndpoint } from '../inspector/server/stately.ts';
import { Failure } from './cli/failure.ts';
import type { DeviceRecorder } from './recorder.ts';

export interface InspectServer {
  /** Of the page. */
  url: string;
  close(): Promise<void>;
}

const loopback = '127.0.0.1';
const mostReaders = 20;

/** Reads `--inspect`. Throws Failure. */
export function inspectPortOf(text: string): number {
  const port = Number(text);
  if (Number.isInteger(port) && port >= 0 && port <= 65535) return port;
  throw new Failure(
    `--inspect ${text}`,
    'the port for the page on this machine: 0 to 65535; 0 takes a free one',
    2,
  );
}

/** Serves until it is closed. Rejects with Failure when the port is taken. */
export async function serveInspector(
  recorder: DeviceRecorder,
  port: number,
  now: () => number,
): Promise<InspectServer> {
  const files = pageFiles();
  const guests = new Readers('guests');
  const open = new Set<Socket>();
  let readers = 0;
  const stately = new StatelyEndpoint({ now, guests, listen: (sink) => recorder.attach(sink) });
  const server = createServer((request, response) => {
    if (!isOurs(request)) return end(response, 403, 'ask for this page by the name localhost\n');
    if (request.method !== 'GET' && request.method !== 'HEAD')
      return end(response, 405, 'this page is only read\n');
    const pathname = targetOf(request)?.pathname;
    if (pathname === undefined) return end(response, 400, 'this is no address\n');
    const file = files.get(pathname);
    if (file) {
      const { status, headers, body } = pageAnswer(file, request.headers);
      response.writeHead(status, headers).end(body);
    } else if (pathname === '/inspector.json') {
      response.writeHead(200, { ...pageHeaders, 'content-type': 'application/json' });
      response.end(JSON.stringify({ by: 'eve', name: hostname() }));
    } else if (pathname === '/recording' || pathname === '/guests') {
      if (readers >= mostReaders) return end(response, 503, `${mostReaders} others read already\n`);
      readers++;
      let detach = () => {};
      const sink = streamTo(response, pageHeaders, () => {
        readers--;
        detach();
      });
      detach = pathname === '/guests' ? guests.attach(sink, now()) : recorder.attach(sink);
    } else end(response, 404, `nothing is at ${pathname.slice(0, 100)}\n`);
  });
  server.on('connection', (socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
  });
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => socket.destroy());
    const pathname = targetOf(request)?.pathname;
    if (!isOurs(request)) return refuse(socket, '403 Forbidden');
    if (pathname !== '/inspect' && pathname !== '/') return refuse(socket, '404 Not Found');
    stately.upgrade(request, socket, head);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const taken =
        error.code === 'EADDRINUSE' ? 'is taken by another program' : `cannot be used (${error.code})`;
      reject(new Failure(`port ${port} ${taken}`, 'choose another with --inspect PORT; 0 takes a free one'));
    });
    server.listen(port, loopback, resolve);
  });
  server.unref();
  return {
    url: `http://${loopback}:${(server.address() as AddressInfo).port}/`,
    async close() {
      stately.close();
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function isOurs({ headers }: IncomingMessage): boolean {
  const named = isLocal(`http://${headers.host ?? ''}`, undefined);
  return headers.host !== undefined && named && isLocal(headers.origin, headers.host);
}

function end(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { ...pageHeaders, 'content-type': 'text/plain' }).end(text);
}
