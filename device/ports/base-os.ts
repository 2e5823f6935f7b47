import { verify } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { extract } from 'tar';
import { imageManifest } from '../../formats/wire/image-manifest.ts';
import type { baseOs } from '../../machines/base-os.ts';
import { checkImageHash, fetchImage } from '../baseos/fetch.ts';
import { readImage } from '../boot/image.ts';
import type { PortsOf } from '../component.ts';
import { controllerCertificates, type Node, rootCertificate } from '../node.ts';
import { Refusal } from '../refusal.ts';

export function baseOsPorts(node: Node): PortsOf<typeof baseOs> {
  const { slots, persist, config, boot } = node;
  const file = (sha256: string) => persist.file(`slots/images/${sha256}`);
  return {
    loadSlots: () => slots.read(),
    async fetchImage({ baseOs }, signal) {
      await fetchImage(baseOs, file(baseOs.sha256), rootCertificate(config).pem, signal);
      return null;
    },
    async verifyImage({ baseOs }) {
      await checkImageHash(file(baseOs.sha256), baseOs.sha256);
      const certificates = controllerCertificates(node);
      if (!certificates)
        throw new Refusal('certs.missing', 'EVC’s certificates are not here to check the image with');
      const signed = verify(
        'sha256',
        imageManifest(baseOs),
        { key: certificates.signing.publicKey, dsaEncoding: 'ieee-p1363' },
        Buffer.from(baseOs.signature, 'base64'),
      );
      if (!signed) throw new Refusal('baseos.image-signature', 'the image is not signed by EVC');
      return null;
    },
    async writeSlot({ baseOs }) {
      const folder = slots.beginWrite();
      await extract({ file: file(baseOs.sha256), cwd: folder, strict: true, preservePaths: false });
      const image = await readImage(folder);
      if (image.version !== baseOs.version) {
        throw new Refusal(
          'baseos.image-version',
          `the image says that it is ${image.version}, and EVC announced ${baseOs.version}`,
        );
      }
      slots.finishWrite(baseOs.version);
      return null;
    },
    stageSlot: ({ baseOs }) => slots.stage(baseOs.version, baseOs.testWindow, baseOs.retryCounter),
    selfTest() {
      const test = selfTestOf(boot.image);
      if (test === 'fails') throw new Refusal('baseos.self-test', 'the new image fails its own test');
      return null;
    },
    commitSlot: () => slots.commit(),
    abandonSlot: ({ why }) => slots.abandon(why),
  };
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
