// Turns at one TPM among the processes of a device: it has three transient slots in all, so one sequence of commands runs at
// a time, whoever's it is. A turn is a connection to a Unix socket: a process that dies gives its turn back by dying.
import { chmodSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { TransportError } from './transport.ts';

const granted = 1;
const finished = 2;
/** Longest turn, ms; making keys on a slow TPM takes minutes. */
const longest = 300_000;

export interface TurnServer {
  close(): Promise<void>;
}

/** Hands out turns. `abandoned` runs before the next turn when a holder died in the middle of its own. */
export async function serveTurns(path: string, abandoned: () => Promise<void>): Promise<TurnServer> {
  const sockets = new Set<Socket>();
  let last: Promise<unknown> = Promise.resolve();
  rmSync(path, { force: true });
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
    const gone = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    last = last.then(async () => {
      if (socket.destroyed) return;
      let orderly = false;
      socket.on('data', (bytes: Buffer) => {
        orderly = bytes.includes(finished);
        if (orderly) socket.end();
      });
      const timer = setTimeout(() => socket.destroy(), longest);
      socket.write(Uint8Array.of(granted));
      await gone;
      clearTimeout(timer);
      if (!orderly) await abandoned().catch(() => undefined);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  chmodSync(path, 0o600);
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

/** Runs the work in a turn of its own. Rejects with TransportError when nobody hands out turns. */
export async function inTurnAt<T>(path: string, work: () => Promise<T>): Promise<T> {
  const socket = connect(path);
  socket.on('error', () => undefined);
  await new Promise<void>((resolve, reject) => {
    socket.once('data', () => resolve());
    socket.once('close', () => reject(new TransportError('closed', `nobody hands out turns at ${path}`)));
  });
  try {
    return await work();
  } finally {
    socket.end(Uint8Array.of(finished));
    socket.resume();
  }
}
