import { createHmac } from 'node:crypto';
import { pem } from '../../formats/x509/certificate.ts';
import type { tpmManager } from '../../machines/tpm-manager.ts';
import type { PortsOf } from '../component.ts';
import { keyCertificate } from '../identity.ts';
import type { Node } from '../node.ts';
import { Refusal } from '../refusal.ts';
import { endorsementCertificates } from '../tpm/endorsement.ts';
import type { Key } from '../tpm/keys.ts';
import { publicKeyOf } from '../tpm/public-key.ts';

const certificatesFile = 'certs/keys';

export function tpmManagerPorts(node: Node): PortsOf<typeof tpmManager> {
  const { tpm, clock, persist } = node;
  return {
    async startTpm() {
      const { banks } = await tpm.tpm.capabilities();
      if (!banks.has('sha256')) {
        throw new Refusal(
          'tpm.no-sha256-bank',
          `this TPM has no SHA-256 PCR bank allocated, only ${[...banks.keys()].join(', ')}; turn it on in the firmware setup`,
        );
      }
      return null;
    },
    async makeKeys() {
      await tpm.keys();
      return null;
    },
    async certifyKeys() {
      const { ak, ek, ecdh } = await tpm.keys();
      const name = hex(ak.name);
      const stored = persist.restore<{ name: string; ak: string; ecdh: string }>(certificatesFile);
      const certify = async (key: Key, commonName: string) => {
        const spki = publicKeyOf(key.public).export({ type: 'spki', format: 'der' });
        return pem(
          'CERTIFICATE',
          await keyCertificate(tpm, { commonName, organization: 'eve-attest' }, spki, clock.now()),
        );
      };
      const certificates =
        stored?.name === name
          ? stored
          : { name, ak: await certify(ak, 'EVE attestation key'), ecdh: await certify(ecdh, 'EVE ECDH key') };
      if (certificates !== stored) persist.checkpoint(certificatesFile, certificates);
      const vendor = await endorsementCertificates(tpm.tpm, ek.public);
      return {
        name,
        akPublic: hex(ak.publicBytes),
        akCertificate: certificates.ak,
        ekPublic: hex(ek.publicBytes),
        ekCertificate: vendor.map((certificate) => pem('CERTIFICATE', certificate)).join(''),
        ecdhPublic: hex(ecdh.publicBytes),
        ecdhCertificate: certificates.ecdh,
      };
    },
    async makeQuote({ nonce, qualifyingData }) {
      const { attest, signature, pcrs } = await tpm.quote(Buffer.from(qualifyingData, 'hex'));
      return {
        nonce,
        attest: hex(attest),
        signature: hex(signature),
        pcrs: Object.fromEntries([...pcrs].map(([pcr, value]) => [String(pcr), hex(value)])),
      };
    },
    // The secret stays here: a MAC under it shows that it was opened, and says nothing else.
    async activateCredential({ id, credentialBlob, encryptedSecret }) {
      const secret = await tpm.activate(
        Buffer.from(credentialBlob, 'base64'),
        Buffer.from(encryptedSecret, 'base64'),
      );
      return { challenge: id, proof: createHmac('sha256', secret).update(id).digest('hex') };
    },
  };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
