// A TPM behind sockets, for the tools of others: swtpm's two channels, or the two of the TCG simulator ("mssim").
// Nobody is authenticated, so it listens on this machine alone unless told otherwise.
import { once } from 'node:events';
import { lstat, unlink } from 'node:fs/promises';
import { connect, createServer, type ListenOptions, type Server, type Socket } from 'node:net';
import type { PoweredTpm } from './powered.ts';
import { type Channel, Connection } from './serve-connection.ts';
import { simulatorChannels } from './serve-simulator.ts';
import { swtpmChannels } from './serve-swtpm.ts';

export type SocketProtocol = 'swtpm' | 'mssim';

export type ServeOptions = {
  protocol: SocketProtocol;
  /** How long a message may take once it has begun, in ms. Default: 10 s. */
  messageTimeout?: number;
} & (
  | {
      /** Default: 127.0.0.1. */
      host?: string;
      /** The port for commands; the one above it is for control. 0 takes any two. */
      port: number;
    }
  | {
      /** A Unix socket for commands; control is at this path with `.ctrl` (swtpm) or `.platform` (mssim) added. */
      path: string;
    }
);

export interface ServedTpm {
  /** The port for commands, or 0 with Unix sockets. */
  readonly port: number;
  /** Resolves when the server is closed, by `close` or by a client's request to end it. */
  readonly closed: Promise<void>;
  /** Ends the connections and stops listening; the TPM stays open. */
  close(): Promise<void>;
}

const maxConnections = 64;

/** Serves `tpm` until closed. Rejects when a port is taken, naming it. */
export async function serveTpm(tpm: PoweredTpm, options: ServeOptions): Promise<ServedTpm> {
  const servers: Server[] = [];
  const sockets = new Set<Socket>();
  const timeout = options.messageTimeout ?? 10_000;

  let resolveClosed = () => {};
  const closed = new Promise<void>((resolve) => {
    resolveClosed = resolve;
  });
  const close = async () => {
    for (const socket of sockets) socket.destroy();
    await Promise.all(servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve()))));
    resolveClosed();
  };
  const make = options.protocol === 'swtpm' ? swtpmChannels : simulatorChannels;
  const channels = make(tpm, () => void close());

  const serverFor = (channel: Channel): Server => {
    const server = createServer({ allowHalfOpen: false, noDelay: true, keepAlive: true }, (socket) => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
      // A reset by the client ends the connection like any other end.
      socket.on('error', () => {});
      channel(new Connection(socket, timeout))
        .catch(() => {})
        .finally(() => socket.end(() => socket.destroy()));
    });
    server.maxConnections = maxConnections;
    return server;
  };

  const open = async (commandAt: ListenOptions, controlAt: (port: number) => ListenOptions) => {
    const command = serverFor(channels.command);
    const control = serverFor(channels.control);
    const port = await listen(command, commandAt);
    try {
      await listen(control, controlAt(port));
    } catch (error) {
      command.close();
      throw error;
    }
    servers.push(command, control);
    return port;
  };

  if ('path' in options) {
    await open({ path: options.path }, () => ({ path: `${options.path}${channels.suffix}` }));
    return { port: 0, closed, close };
  }
  const host = options.host ?? '127.0.0.1';
  // Of two free ports in a row, the second may be taken: then other two are tried, when any will do.
  for (let attempt = options.port === 0 ? 1 : 20; ; attempt++) {
    try {
      const port = await open({ host, port: options.port }, (first) => ({ host, port: first + 1 }));
      return { port, closed, close };
    } catch (error) {
      if (attempt >= 20) throw error;
    }
  }
}

async function listen(server: Server, at: ListenOptions): Promise<number> {
  const name = at.path ?? `port ${at.port} of ${at.host}`;
  if (at.path !== undefined) await removeStale(at.path);
  if (at.port !== undefined && at.port > 65535) throw new RangeError(`there is no port ${at.port}`);
  // The socket of a path is made within this call, for nobody but this user.
  const mask = at.path === undefined ? undefined : process.umask(0o177);
  server.listen(at);
  if (mask !== undefined) process.umask(mask);
  try {
    await once(server, 'listening');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const why = code === 'EADDRINUSE' ? 'is in use; choose another, or end what uses it' : `fails: ${code}`;
    throw new Error(`the TPM cannot be served: ${name} ${why}`, { cause: error });
  }
  const address = server.address();
  return address !== null && typeof address === 'object' ? address.port : 0;
}

/** Removes the socket a dead server left. One that answers stays, and so does any other file: `listen` reports it. */
async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (!found?.isSocket()) return;
  const probe = connect(path);
  const code = await new Promise<string | undefined>((resolve) => {
    probe.on('connect', () => resolve(undefined));
    probe.on('error', (error: NodeJS.ErrnoException) => resolve(error.code));
  });
  probe.destroy();
  if (code === 'ECONNREFUSED') await unlink(path);
}
