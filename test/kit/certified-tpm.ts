// TPMs as they leave the factory: with an endorsement key that their vendor certified.
import { defineNv, writeNv } from '../../device/tpm/nv.ts';
import type { PoweredTpm } from '../../device/tpm/powered.ts';
import { publicKeyOf } from '../../device/tpm/public-key.ts';
import { Tpm } from '../../device/tpm/tpm.ts';
import { openSwtpm } from '../../device/tpm/transports/swtpm.ts';
import { openWasmTpm } from '../../device/tpm/transports/wasm.ts';
import { CreatePrimary } from '../../formats/tpm2/commands.ts';
import { TPM_RH } from '../../formats/tpm2/constants.ts';
import type { TPMT_PUBLIC } from '../../formats/tpm2/structures.ts';
import {
  type EndorsementTemplate,
  endorsementIndices,
  endorsementKey,
} from '../../formats/tpm2/templates.ts';
import { ekCertificate, type Signer } from './ek-certificates.ts';
import { startSwtpm } from './swtpm.ts';

const none = new Uint8Array();

/** The key that a template makes in this TPM; nothing of it stays. */
export async function primaryOf(tpm: Tpm, inPublic: TPMT_PUBLIC): Promise<TPMT_PUBLIC> {
  const { objectHandle, outPublic } = await tpm.execute(CreatePrimary, {
    primaryHandle: TPM_RH.ENDORSEMENT,
    inSensitive: { userAuth: none, data: none },
    inPublic,
    outsideInfo: none,
    creationPCR: [],
  });
  await tpm.flushing(objectHandle, async () => undefined);
  return outPublic;
}

export async function storeNv(tpm: Tpm, index: number, bytes: Uint8Array): Promise<void> {
  await defineNv(tpm, index, bytes.length);
  await writeNv(tpm, index, bytes);
}

/** What a manufacturer does: certifies the key that the template makes, and leaves the certificate in NV. */
export async function certifyEk(
  tpm: Tpm,
  by: Signer,
  now: number,
  name: EndorsementTemplate = 'L-2',
  template: TPMT_PUBLIC = endorsementKey[name],
): Promise<Uint8Array> {
  const spki = publicKeyOf(await primaryOf(tpm, template)).export({ type: 'spki', format: 'der' });
  const certificate = ekCertificate(by, spki, now);
  await storeNv(tpm, endorsementIndices[name].certificate, certificate);
  return certificate;
}

/** A TPM of this vendor, powered off. */
export async function certifiedTpm(by: Signer, now: () => number): Promise<PoweredTpm> {
  const chip = await openWasmTpm({ startup: false, now });
  const tpm = new Tpm(chip, { sole: true });
  await tpm.startup();
  await certifyEk(tpm, by, now());
  await tpm.shutdown();
  await chip.powerOff();
  return chip;
}

export interface Swtpm {
  tpm: PoweredTpm;
  /** Certificates of the authority that `swtpm_localca` made: its issuer and its root, PEM. */
  authority: Uint8Array[];
  close(): Promise<void>;
}

/** A swtpm that `swtpm_setup` manufactured, with certificates of its own local authority; powered off. */
export async function manufacturedSwtpm(): Promise<Swtpm> {
  const swtpm = await startSwtpm({ off: true, certified: true });
  const tpm = await openSwtpm({ path: swtpm.path });
  return {
    tpm,
    authority: swtpm.authority(),
    async close() {
      await tpm.close();
      await swtpm.stop();
    },
  };
}
