// The numbers of EVE's API. A decoder made from EVE's own files reads our bytes by these alone.
import type { DescEnum, DescMessage } from '@bufbuild/protobuf';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as eve from '../../../formats/wire/eve_pb.ts';
import { file_eve } from '../../../formats/wire/eve_pb.ts';

/** Field numbers of the messages that EVE's API has, as far as ours have those fields. */
const messages: [DescMessage, Record<string, number>][] = [
  [eve.AuthBodySchema, { payload: 1 }],
  [
    eve.AuthContainerSchema,
    { protected_payload: 1, algo: 2, sender_cert_hash: 3, signature_hash: 4, sender_cert: 5 },
  ],
  [eve.ZCertMetaDataSchema, { type: 1, meta_data: 2 }],
  [eve.ZCertAttrSchema, { is_mutable: 1, is_tpm: 2 }],
  [eve.ZCertSchema, { hash_algo: 1, cert_hash: 2, type: 3, cert: 4, attributes: 5, meta_data_items: 6 }],
  [eve.ZControllerCertSchema, { certs: 1 }],
  [eve.ZRegisterMsgSchema, { on_board_key: 1, pem_cert: 2, serial: 3, soft_serial: 4 }],
  [eve.UuidRequestSchema, {}],
  [eve.UuidResponseSchema, { uuid: 1, manufacturer: 2, product_name: 3 }],
  [eve.TpmPCRValueSchema, { index: 1, hash_algo: 2, value: 3 }],
  [eve.AttestVersionInfoSchema, { version_type: 1, version: 2 }],
  [eve.AttestGPSCoordinatesSchema, { gps_input: 1, latitude: 2, longitude: 3 }],
  [
    eve.ZAttestQuoteSchema,
    { attest_data: 1, signature: 2, pcr_values: 3, versions: 5, gps_info: 6, tpm_binary_event_log: 7 },
  ],
  [eve.AttestVolumeKeyDataSchema, { encrypted_key: 1, digest_sha256: 2, version: 5 }],
  [eve.AttestVolumeKeySchema, { key_type: 1, key: 2 }],
  [eve.AttestStorageKeysSchema, { integrity_token: 1, keys: 2 }],
  [eve.ZAttestReqSchema, { req_type: 1, quote: 2, certs: 3, storage_keys: 4 }],
  [eve.ZAttestNonceRespSchema, { nonce: 1 }],
  [eve.ZAttestQuoteRespSchema, { response: 1, integrity_token: 2, keys: 3 }],
  [eve.AttestStorageKeysRespSchema, { response: 1 }],
  [eve.ZAttestResponseSchema, { resp_type: 1, nonce: 2, quote_resp: 3, storage_keys_resp: 4 }],
  [eve.ConfigRequestSchema, { config_hash: 1, integrity_token: 2 }],
  [eve.DeviceOpsCmdSchema, { counter: 1 }],
  [eve.BaseOSSchema, { content_tree_uuid: 1, retry_update: 2, activate: 3, base_os_version: 4 }],
  [eve.UUIDandVersionSchema, { uuid: 1, version: 2 }],
  [eve.EdgeDevConfigSchema, { id: 1, baseos: 26 }],
  [eve.ConfigResponseSchema, { config: 1, config_hash: 2 }],
  [eve.ZInfoMsgSchema, { ztype: 1, dev_id: 2 }],
];

/** Messages that EVE does not have. */
const own = [
  'Binding',
  'CertsRequest',
  'Claims',
  'Credential',
  'CredentialProof',
  'Finding',
  'InfoResponse',
  'LogChunk',
  'LogReceived',
  'Problem',
  'Push',
  'RegisterResponse',
  'SealedBox',
];

const enums: [DescEnum, Record<string, number>][] = [
  [eve.HashAlgorithmSchema, { INVALID: 0, SHA256_16BYTES: 1, SHA256_32BYTES: 2 }],
  [
    eve.ZCertTypeSchema,
    {
      NONE: 0,
      CONTROLLER_SIGNING: 1,
      CONTROLLER_INTERMEDIATE: 2,
      CONTROLLER_ECDH_EXCHANGE: 3,
      DEVICE_ONBOARDING: 10,
      DEVICE_RESTRICTED_SIGNING: 11,
      DEVICE_ENDORSEMENT_RSA: 12,
      DEVICE_ECDH_EXCHANGE: 13,
    },
  ],
  [eve.ZCertMetaDataTypeSchema, { INVALID: 0, TPM2_PUBLIC: 1 }],
  [eve.ZAttestReqTypeSchema, { NONE: 0, CERT: 1, NONCE: 2, QUOTE: 3, STORE_KEYS: 4 }],
  [eve.ZAttestRespTypeSchema, { NONE: 0, CERT: 1, NONCE: 2, QUOTE_RESP: 3, STORE_KEYS: 4 }],
  [eve.TpmHashAlgoSchema, { INVALID: 0, SHA1: 1, SHA256: 2, SHA512: 3 }],
  [eve.AttestVersionTypeSchema, { INVALID: 0, EVE: 1, FIRMWARE: 2 }],
  [eve.AttestGPSInputSchema, { INVALID: 0, PRESENT: 1, ABSENT: 2 }],
  [
    eve.ZAttestResponseCodeSchema,
    { INVALID: 0, SUCCESS: 1, NONCE_MISMATCH: 2, NO_CERT_FOUND: 3, QUOTE_FAILED: 4 },
  ],
  [eve.AttestVolumeKeyTypeSchema, { INVALID: 0, VSK: 1 }],
  [eve.AttestVolumeKeyVersionSchema, { LEGACY: 0, V1: 1 }],
  [eve.AttestStorageKeysResponseCodeSchema, { INVALID: 0, SUCCESS: 1, ITOKEN_MISMATCH: 2 }],
  [eve.ZInfoTypesSchema, { NOP: 0, DEVICE: 1 }],
];

const firstOfOurs = 1000;

for (const [schema, expected] of messages)
  test(`${schema.name} has EVE's numbers, and ours from ${firstOfOurs} up`, () => {
    const eves = schema.fields.filter(({ number }) => number < firstOfOurs);
    assert.equal(Object.fromEntries(eves.map(({ name, number }) => [name, number])), expected);
  });

for (const [schema, expected] of enums)
  test(`${schema.name} has EVE's values`, () => {
    const eves = schema.values.filter(({ number }) => number < firstOfOurs);
    const found = Object.fromEntries(eves.map(({ name, number }) => [name, number]));
    const named = Object.entries(expected).map(([name, number]) => {
      const full = Object.keys(found).find(
        (candidate) => candidate.endsWith(`_${name}`) && found[candidate] === number,
      );
      return full ?? `no ${name} = ${number}`;
    });
    assert.equal(Object.keys(found).sort(), named.sort());
  });

test('every message and every enum is in a table', () => {
  const known = [...messages.map(([{ name }]) => name), ...own];
  assert.equal(file_eve.messages.map(({ name }) => name).sort(), known.sort());
  assert.equal(file_eve.enums.map(({ name }) => name).sort(), enums.map(([{ name }]) => name).sort());
});

test('each message that goes over the wire alone bears its binding at 1000', () => {
  for (const { name, fields } of file_eve.messages) {
    const binding = fields.find((field) => field.name === 'binding');
    if (binding) assert.equal([binding.number, binding.message?.name], [1000, 'Binding'], name);
  }
});

test.run();
