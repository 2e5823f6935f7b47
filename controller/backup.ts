// A data folder as one file, and back. What is copied of the store is what stood there at one moment, whatever EVC writes meanwhile;
// everything else in the folder is written once and then only replaced. Each file is listed with its hash, and a folder that does
// not come out as it went in is not put in place.
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  createReadStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { pipeline } from 'node:stream/promises';
import Database from 'libsql';
import { create, extract } from 'tar';
import * as v from 'valibot';

/** What cannot be backed up or restored; the message says what to do. */
export class BackupError extends Error {
  readonly code: 'backup.unreadable' | 'backup.damaged' | 'backup.occupied' | 'backup.store';
  constructor(code: BackupError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'BackupError';
    this.code = code;
  }
}

export interface BackedUp {
  /** ms since the epoch. */
  made: number;
  files: number;
  /** Bytes of the files, unpacked. */
  size: number;
  devices: number;
}

const manifestName = 'backup.json';
const format = 1;
const database = 'evc.db';
/** Folders and files that make an EVC; what is not among them is of a moment, such as where it listens. */
const parts = ['pki', 'hosts.json', 'token.hash', 'broker.secret', 'ek-roots', 'images'] as const;
const name = /^(pki|ek-roots|images)\/[^/\\]+$|^(hosts\.json|token\.hash|broker\.secret|evc\.db)$/;

const Manifest = v.object({
  backup: v.literal(format),
  made: v.number(),
  devices: v.number(),
  files: v.record(
    v.pipe(v.string(), v.regex(name)),
    v.object({ sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)), size: v.number() }),
  ),
});

/**
 * Writes the file, for its owner alone, beside which it is made first. Rejects with BackupError.
 * @param withImages images are fetched by devices, large, and can be added again
 */
export async function backUp(folder: string, out: string, now: number, withImages = true): Promise<BackedUp> {
  mkdirSync(dirname(out), { recursive: true });
  const work = mkdtempSync(join(dirname(out), '.evc-backup-'));
  try {
    const devices = copyDatabase(join(folder, database), join(work, database));
    const wanted = parts.filter(
      (part) => (withImages || part !== 'images') && existsSync(join(folder, part)),
    );
    for (const file of wanted.flatMap((part) => filesOf(folder, part))) {
      mkdirSync(dirname(join(work, file)), { recursive: true });
      copyFileSync(join(folder, file), join(work, file));
    }
    const files: v.InferOutput<typeof Manifest>['files'] = {};
    const all = [database, ...wanted.flatMap((part) => filesOf(work, part))];
    for (const file of all)
      files[file] = { sha256: await hashOf(join(work, file)), size: statSync(join(work, file)).size };
    const manifest = { backup: format, made: now, devices, files };
    writeFileSync(join(work, manifestName), `${JSON.stringify(manifest, null, 1)}\n`);
    const packed = join(work, 'packed');
    await create({ file: packed, cwd: work, gzip: true, portable: true }, [manifestName, ...all]);
    chmodSync(packed, 0o600);
    renameSync(packed, out);
    const size = Object.values(files).reduce((sum, file) => sum + file.size, 0);
    return { made: now, files: all.length, size, devices };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Makes the folder of a backup; it must not be there, or be empty. Rejects with BackupError. */
export async function restore(file: string, folder: string): Promise<BackedUp> {
  if (existsSync(folder) && readdirSync(folder).length > 0)
    throw new BackupError(
      'backup.occupied',
      `${folder} is not empty; give a new folder, or move that one away`,
    );
  mkdirSync(dirname(folder), { recursive: true });
  const work = mkdtempSync(`${folder}.restore-`);
  try {
    await unpack(file, work);
    const manifest = readManifest(join(work, manifestName), file);
    const there = filesOf(work, '.').filter((path) => path !== manifestName);
    const listed = Object.keys(manifest.files);
    if (there.sort().join('\n') !== listed.sort().join('\n'))
      throw new BackupError('backup.damaged', `${file} does not hold the files that it lists`);
    for (const [path, { sha256, size }] of Object.entries(manifest.files)) {
      const path1 = join(work, path);
      if (statSync(path1).size !== size || (await hashOf(path1)) !== sha256)
        throw new BackupError('backup.damaged', `${path} in ${file} is not what was put there`);
      chmodSync(path1, 0o600);
    }
    checkDatabase(join(work, database), file);
    rmSync(join(work, manifestName));
    if (existsSync(folder)) rmSync(folder, { recursive: true });
    renameSync(work, folder);
    const size = Object.values(manifest.files).reduce((sum, one) => sum + one.size, 0);
    const { made, devices } = manifest;
    return { made, files: listed.length, size, devices };
  } catch (error) {
    rmSync(work, { recursive: true, force: true });
    throw error;
  }
}

/** Resolves to how many devices it knows. */
function copyDatabase(from: string, to: string): number {
  try {
    const source = new Database(from, { readonly: true, fileMustExist: true } as Database.Options);
    try {
      source.prepare('vacuum into ?').run([to]);
    } finally {
      source.close();
    }
    return checkDatabase(to, from);
  } catch (cause) {
    if (cause instanceof BackupError) throw cause;
    const why = (cause as Error).message;
    throw new BackupError('backup.store', `the store ${from} cannot be copied: ${why}`, { cause });
  }
}

function checkDatabase(path: string, of: string): number {
  try {
    const db = new Database(path, { readonly: true, fileMustExist: true } as Database.Options);
    try {
      const [check] = db.prepare('pragma quick_check').all([]) as { quick_check: string }[];
      if (check?.quick_check !== 'ok') throw new Error(check?.quick_check);
      const row = db.prepare('select count(*) as devices from records').get([]) as { devices: number };
      return Number(row.devices);
    } finally {
      db.close();
    }
  } catch (cause) {
    throw new BackupError('backup.damaged', `the store in ${of} is damaged: ${(cause as Error).message}`, {
      cause,
    });
  }
}

async function unpack(file: string, into: string): Promise<void> {
  let foreign: string | null = null;
  try {
    await extract({
      file,
      cwd: into,
      strict: true,
      // Nothing but plain files of known names, wherever it would go.
      filter: (path, entry) => {
        const plain = 'type' in entry && (entry.type === 'File' || entry.type === 'OldFile');
        if (plain && (path === manifestName || name.test(path))) return true;
        foreign ??= path;
        return false;
      },
    });
  } catch (cause) {
    const why = (cause as Error).message;
    throw new BackupError('backup.unreadable', `${file} is no backup of EVC: ${why}`, { cause });
  }
  if (foreign !== null)
    throw new BackupError('backup.damaged', `${file} holds ${foreign}, which is no part of an EVC`);
}

function readManifest(path: string, file: string): v.InferOutput<typeof Manifest> {
  try {
    return v.parse(Manifest, JSON.parse(readFileSync(path, 'utf8')));
  } catch (cause) {
    throw new BackupError('backup.unreadable', `${file} is no backup that this EVC knows`, { cause });
  }
}

/** Plain files, by their paths from the folder on. */
function filesOf(folder: string, part: string): string[] {
  const path = join(folder, part);
  if (!existsSync(path)) return [];
  if (statSync(path).isFile()) return [part];
  return (readdirSync(path, { recursive: true }) as string[])
    .map((file) => relative(folder, join(path, file)))
    .filter((file) => statSync(join(folder, file)).isFile() && !/\.(new|part)$/.test(file));
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}
