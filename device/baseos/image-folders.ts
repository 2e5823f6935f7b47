// Slots of the emulated board: an image is a folder, and the boot loader reads our own table.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { extract } from 'tar';
import type { Slots } from '../../machines/base-os.ts';
import type { BaseOsConfig } from '../../machines/flow.ts';
import type { Why } from '../../machines/waiting.ts';
import { readImage } from '../boot/image.ts';
import { Refusal } from '../refusal.ts';
import type { OsSlots } from './os-slots.ts';
import type { SlotStore } from './slots.ts';

export class ImageFolders implements OsSlots {
  readonly #slots: SlotStore;

  constructor(slots: SlotStore) {
    this.#slots = slots;
  }

  read(): Slots {
    return this.#slots.read();
  }

  /** Throws Refusal baseos.image-version, baseos.not-committed; ImageError. */
  async write(file: string, { version }: BaseOsConfig): Promise<void> {
    const folder = this.#slots.beginWrite();
    await extract({ file, cwd: folder, strict: true, preservePaths: false });
    const image = await readImage(folder);
    if (image.version !== version) {
      throw new Refusal(
        'baseos.image-version',
        `the image says that it is ${image.version}, and EVC announced ${version}`,
      );
    }
    this.#slots.finishWrite(version);
  }

  stage({ version, testWindow, retryCounter }: BaseOsConfig): Slots {
    return this.#slots.stage(version, testWindow, retryCounter);
  }

  selfTest(): void {
    const { label } = this.#slots.read().current;
    if (selfTestOf(this.#slots.directory(label)) === 'fails')
      throw new Refusal('baseos.self-test', 'the new image fails its own test');
  }

  commit(): Slots {
    return this.#slots.commit();
  }

  abandon(why: Why): Slots {
    return this.#slots.abandon(why);
  }
}

/**
 * What the emulated image does when it tests itself: `selftest.json` beside its files, for images that are made to fail.
 * `hangs`: it never gets as far as starting a component.
 */
export function selfTestOf(image: string): 'passes' | 'fails' | 'hangs' {
  const path = join(image, 'selftest.json');
  if (!existsSync(path)) return 'passes';
  const { result } = JSON.parse(readFileSync(path, 'utf8')) as { result?: unknown };
  return result === 'fails' || result === 'hangs' ? result : 'passes';
}
