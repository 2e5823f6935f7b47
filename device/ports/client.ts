import { createPrivateKey, sign, X509Certificate } from 'node:crypto';
import type { Signer } from '../../formats/wire/envelope.ts';
import type { client, Identity } from '../../machines/client.ts';
import type { PortsOf } from '../component.ts';
import { storeCertificates } from '../link/certificates.ts';
import { controllerCertificates, type Node } from '../node.ts';
import { Refusal } from '../refusal.ts';
import type { StateFolder } from '../state.ts';

const uuidFile = 'status/uuid';
const registeredFile = 'status/registered';

export function clientPorts(node: Node): PortsOf<typeof client> {
  return {
    async loadIdentity(): Promise<Identity> {
      const { device, serial } = await node.identity();
      const stored = node.persist.restore<{ device: string; uuid: string }>(uuidFile);
      const registered = node.persist.restore<{ device: string }>(registeredFile);
      return {
        device,
        serial,
        uuid: stored?.device === device ? stored.uuid : null,
        certificates: controllerCertificates(node) !== null,
        registered: registered?.device === device,
      };
    },
    async fetchCertificates(_, signal) {
      const evc = await node.evc();
      storeCertificates(node.persist, await evc.fetchCertificates(signal));
      return null;
    },
    async register(_, signal) {
      const { device, serial, certificatePem } = await node.identity();
      const evc = await node.evc();
      await evc.register(onboardingSigner(node.config), { certificate: certificatePem, serial }, signal);
      node.persist.checkpoint(registeredFile, { device });
      return null;
    },
    async fetchUuid(_, signal) {
      const { device } = await node.identity();
      const evc = await node.evc();
      try {
        const { uuid } = await evc.fetchUuid(signal);
        node.persist.checkpoint(uuidFile, { device, uuid });
        return { uuid };
      } catch (error) {
        if (error instanceof Refusal && error.code === 'enrol.unknown-device')
          node.persist.forget(registeredFile);
        throw error;
      }
    },
  };
}

/** The onboarding key that the device was installed with. Throws Refusal config.no-onboarding-key. */
function onboardingSigner(config: StateFolder): Signer {
  const certificate = config.read('onboard.cert.pem');
  const key = config.read('onboard.key.pem');
  if (!certificate || !key) {
    throw new Refusal(
      'config.no-onboarding-key',
      `a device registers with an onboarding key; copy onboard.cert.pem and onboard.key.pem of EVC to ${config.path}`,
    );
  }
  const privateKey = createPrivateKey(Buffer.from(key));
  return {
    certificate: new X509Certificate(certificate).raw,
    sign: (payload) => sign('sha256', payload, { key: privateKey, dsaEncoding: 'ieee-p1363' }),
  };
}
