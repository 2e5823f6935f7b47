// The public protocol over WebSockets: unmodified @statelyai/inspect clients connect here and show their charts, and whatever
// listens, as Stately's own tools do, is told what happens here in the same messages. A reader that does not keep up misses
// messages; a client that sends rubbish is cut off. Nobody here waits for either.
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import type { Line } from '../../formats/recording/format.ts';
import { StatelyReader, StatelyWriter } from '../../formats/recording/stately.ts';
import { targetOf } from './page.ts';
import type { LineSink, Readers } from './readers.ts';

export interface StatelyOptions {
  now(): number;
  /** Where what clients show is to be seen. */
  guests: Readers;
  /** Tells a sink how everything stands and what happens, until the result is called. `query` is that of the client's address. */
  listen?(sink: LineSink, query: URLSearchParams): () => void;
}

/** Bytes of one message. */
const largestMessage = 1024 * 1024;
const mostClients = 32;
/** For whoever does not read why it is refused, ms. */
const lingering = 1000;
/** Bytes that may wait for a reader before messages are left out. */
const backlog = 1024 * 1024;
/** Messages of a client in a second; more are left out. */
const mostMessages = 2000;

export class StatelyEndpoint {
  readonly #options: StatelyOptions;
  readonly #server = new WebSocketServer({
    noServer: true,
    maxPayload: largestMessage,
    perMessageDeflate: false,
  });
  readonly #clients = new Set<WebSocket>();
  #count = 0;

  constructor(options: StatelyOptions) {
    this.#options = options;
  }

  /**
   * Takes over a request to change to WebSockets; whoever asks has been let in already. `untilRefused` calls back when it may not be
   * here any more, unless the result is called before.
   */
  upgrade(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    untilRefused: (end: () => void) => () => void = () => () => undefined,
  ): void {
    if (this.#clients.size >= mostClients) {
      refuse(socket, '503 Service Unavailable');
      return;
    }
    const query = targetOf(request)?.searchParams ?? new URLSearchParams();
    this.#server.handleUpgrade(request, socket, head, (client) => {
      this.#connected(client, query);
      client.once(
        'close',
        untilRefused(() => client.terminate()),
      );
    });
  }

  close(): void {
    for (const client of this.#clients) client.terminate();
    this.#server.close();
  }

  #connected(client: WebSocket, query: URLSearchParams): void {
    const { now, guests, listen } = this.#options;
    const reader = new StatelyReader(`guest-${++this.#count}/`, now);
    const writer = new StatelyWriter();
    let second = 0;
    let messages = 0;
    this.#clients.add(client);
    const stop = listen?.(
      {
        line: (text) => {
          for (const message of writer.write(JSON.parse(text) as Line)) client.send(JSON.stringify(message));
        },
        room: () => client.bufferedAmount < backlog,
      },
      query,
    );
    client.on('error', () => client.terminate());
    client.on('close', () => {
      this.#clients.delete(client);
      stop?.();
      for (const line of reader.end()) guests.add(line);
    });
    client.on('message', (data) => {
      const thisSecond = Math.floor(now() / 1000);
      if (thisSecond !== second) messages = 0;
      second = thisSecond;
      if (++messages > mostMessages) return;
      const text = String(data);
      let message: unknown;
      try {
        message = JSON.parse(text);
      } catch {
        client.close(1007, 'no JSON');
        return;
      }
      const lines = reader.read(message);
      if (lines.length === 0) return;
      for (const line of lines) guests.add(line);
      // As Stately's own relay does: what one client shows, the others see.
      for (const other of this.#clients)
        if (other !== client && other.bufferedAmount < backlog) other.send(text);
    });
  }
}

/** Answers a request to change to WebSockets that is not granted. */
export function refuse(socket: Duplex, status: string): void {
  // Node has let go of this socket: nobody but us ends it, whether or not the peer reads.
  setTimeout(() => socket.destroy(), lingering).unref();
  socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\n\r\n`, () => socket.destroy());
}
