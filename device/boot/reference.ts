// A reference boot: an image on a scratch TPM, in a place that is trusted, to learn what it measures.
import { readImage } from './image.ts';
import { measureBoot } from './measure.ts';

export interface ReferenceOptions {
  /** Folder of the image. */
  image: string;
  /** Slots that it may boot from: the partition is part of what is measured. */
  slots: readonly ('IMGA' | 'IMGB')[];
  /** /config of the device that it is for, since PCR 14 is made of it. */
  config: string;
}

/** Logs of the image's boots, one per slot, without the log of /config: that is the device's and not the image's. */
export async function referenceBoot({
  image,
  slots,
  config,
}: ReferenceOptions): Promise<{ logs: Uint8Array[] }> {
  const read = await readImage(image);
  const logs: Uint8Array[] = [];
  for (const slot of slots) {
    const { biosLog } = await measureBoot({
      image: read,
      configDirectory: config,
      slot,
      banks: ['sha256'],
      extend: async () => undefined,
    });
    logs.push(biosLog);
  }
  return { logs };
}
