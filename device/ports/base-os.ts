import { verify } from 'node:crypto';
import { join } from 'node:path';
import { imageManifest } from '../../formats/wire/image-manifest.ts';
import type { baseOs } from '../../machines/base-os.ts';
import { checkImageHash, dropImages, fetchImage } from '../baseos/fetch.ts';
import type { PortsOf } from '../component.ts';
import { controllerCertificates, type Node, rootCertificate } from '../node.ts';
import { Refusal } from '../refusal.ts';

export function baseOsPorts(node: Node): PortsOf<typeof baseOs> {
  const { slots, persist, config } = node;
  const images = persist.file('slots/images');
  const file = (sha256: string) => join(images, sha256);
  return {
    loadSlots: () => slots.read(),
    async fetchImage({ baseOs }, signal) {
      dropImages(images, baseOs.sha256);
      await fetchImage(baseOs, file(baseOs.sha256), rootCertificate(config).pem, signal);
      return null;
    },
    async verifyImage({ baseOs }) {
      await checkImageHash(file(baseOs.sha256), baseOs.sha256);
      const certificates = controllerCertificates(node);
      if (!certificates)
        throw new Refusal('certs.missing', 'EVC’s certificates are not here to check the image with');
      const { signing, formerSigning } = certificates;
      const signed = [signing, ...(formerSigning ? [formerSigning] : [])].some(({ publicKey }) =>
        verify(
          'sha256',
          imageManifest(baseOs),
          { key: publicKey, dsaEncoding: 'ieee-p1363' },
          Buffer.from(baseOs.signature, 'base64'),
        ),
      );
      if (!signed) throw new Refusal('baseos.image-signature', 'the image is not signed by EVC');
      return null;
    },
    async writeSlot({ baseOs }) {
      await slots.write(file(baseOs.sha256), baseOs);
      return null;
    },
    stageSlot: ({ baseOs }) => slots.stage(baseOs),
    async selfTest() {
      await slots.selfTest();
      return null;
    },
    async commitSlot() {
      const committed = await slots.commit();
      try {
        // It is in its slot.
        dropImages(images);
      } catch {
        // What stays goes before another is fetched.
      }
      return committed;
    },
    abandonSlot: ({ why }) => slots.abandon(why),
  };
}
