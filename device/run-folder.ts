// /run/eve: what belongs to one boot. It is emptied where another boot begins, whatever it is kept on.
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { StateFolder } from './state.ts';

const idFile = 'boot.id';

/** The folder of this boot: empty in a new one, and else as the life before left it, without its sockets. */
export function beginBoot(path: string, id: string): StateFolder {
  // A cut of power empties it anyway.
  const run = new StateFolder(path, { durable: false });
  const same = Buffer.from(run.read(idFile) ?? '').toString('utf8') === id;
  // The folder itself is the service manager's, which has made it for us.
  for (const name of readdirSync(path))
    if (!same || /\.sock(\.ctrl)?$/.test(name)) rmSync(join(path, name), { recursive: true, force: true });
  if (!same) run.write(idFile, Buffer.from(id));
  return run;
}
