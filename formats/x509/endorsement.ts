// What the certificate of an endorsement key says about its TPM [TCG EK Credential Profile 2.5, 3.2].
import type { Certificate } from './parse.ts';

/** tcg-kp-EKCertificate: the key is that of an endorsement [3.2.11]. */
export const endorsementKeyUsage = '2.23.133.8.1';

/** A TPM, in its vendor's words. */
export interface TpmModel {
  /** Name of the vendor, or what stands in the certificate if the TCG's registry does not have it. */
  vendor: string;
  model: string;
  version: string;
}

const attributes = { manufacturer: '2.23.133.2.1', model: '2.23.133.2.2', version: '2.23.133.2.3' } as const;

/** TCG TPM Vendor ID Registry 1.06: four characters, as they stand in TPM_PT_MANUFACTURER. */
export const tpmVendors: Readonly<Record<string, string>> = {
  AMD: 'AMD',
  ANT: 'Ant Group',
  ATML: 'Atmel',
  BRCM: 'Broadcom',
  CSCO: 'Cisco',
  FLYS: 'Flyslice',
  ROCC: 'Fuzhou Rockchip',
  GOOG: 'Google',
  HPI: 'HPI',
  HPE: 'HPE',
  HISI: 'Huawei',
  IBM: 'IBM',
  IFX: 'Infineon',
  INTC: 'Intel',
  LEN: 'Lenovo',
  MSFT: 'Microsoft',
  NSM: 'National Semiconductor',
  NTZ: 'Nationz',
  NSG: 'NSING',
  NTC: 'Nuvoton',
  QCOM: 'Qualcomm',
  SMSN: 'Samsung',
  SECE: 'SecEdge',
  SNS: 'Sinosun',
  SMSC: 'SMSC',
  STM: 'STMicroelectronics',
  TXN: 'Texas Instruments',
  WEC: 'Winbond',
};

/** Null where the certificate names no TPM. */
export function tpmModelOf({ alternativeName, subject }: Certificate): TpmModel | null {
  // In the alternative name by the profile; some vendors put it into the subject.
  const of = (id: string) => alternativeName?.attributes.get(id) ?? subject.attributes.get(id) ?? '';
  const manufacturer = of(attributes.manufacturer);
  const model = of(attributes.model);
  const version = of(attributes.version);
  if (manufacturer === '' && model === '' && version === '') return null;
  return { vendor: vendorOf(manufacturer), model, version: version.replace(/^id:/, '') };
}

/** `id:` and eight hex digits, four characters of ASCII [3.1.2]. */
function vendorOf(manufacturer: string): string {
  const [, digits = ''] = /^id:([0-9A-Fa-f]{8})$/.exec(manufacturer) ?? [];
  const characters = (digits.match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16));
  const id = String.fromCharCode(...characters.filter((code) => code !== 0 && code !== 0x20));
  return tpmVendors[id] ?? (manufacturer === 'id:00001014' ? 'IBM (software TPM)' : manufacturer);
}
