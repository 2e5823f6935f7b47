// An initramfs: a cpio archive of the "newc" kind, packed with gzip. Several behind each other are one [initramfs, buffer-format].
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

export interface ArchiveFile {
  /** Below the root, without a slash in front. */
  path: string;
  content: string | { file: string };
  executable?: boolean;
}

/** The same bytes for the same files. */
export function initramfs(files: readonly ArchiveFile[]): Buffer {
  const parts: Buffer[] = [];
  let inode = 1;
  const entry = (path: string, mode: number, content: Buffer) => {
    const name = Buffer.from(`${path}\0`);
    const numbers = [inode++, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0];
    const head = Buffer.from(`070701${numbers.map((n) => n.toString(16).padStart(8, '0')).join('')}`);
    parts.push(padded(Buffer.concat([head, name])), padded(content));
  };
  const made = new Set<string>();
  for (const { path, content, executable } of files) {
    const folders = path.split('/').slice(0, -1);
    for (const [depth] of folders.entries()) {
      const folder = folders.slice(0, depth + 1).join('/');
      if (!made.has(folder)) entry(folder, 0o040755, Buffer.alloc(0));
      made.add(folder);
    }
    const bytes = typeof content === 'string' ? Buffer.from(content) : readFileSync(content.file);
    entry(path, executable ? 0o100755 : 0o100644, bytes);
  }
  entry('TRAILER!!!', 0, Buffer.alloc(0));
  // The level that the emulated processor is quickest with, all in all.
  return gzipSync(Buffer.concat(parts), { level: 6 });
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
