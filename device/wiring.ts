// Which publication on the bus becomes which event of which chart. A body is checked before it becomes one: whoever
// reaches the bus can publish anything.
import * as v from 'valibot';
import type { Component } from '../machines/device-steps.ts';

const hex = v.pipe(v.string(), v.maxLength(65536), v.regex(/^(?:[0-9a-f]{2})*$/));
const base64 = v.pipe(v.string(), v.maxLength(65536), v.regex(/^[A-Za-z0-9+/]*={0,2}$/));
const word = v.pipe(v.string(), v.maxLength(200));
const pem = v.pipe(v.string(), v.maxLength(16384));
/** Eight certificates of the largest kind. */
const pemChain = v.pipe(v.string(), v.maxLength(100_000));
const time = v.pipe(v.number(), v.integer(), v.minValue(0));
const why = v.object({ code: word, text: v.pipe(v.string(), v.maxLength(2000)) });

const baseOs = v.object({
  version: word,
  url: v.pipe(v.string(), v.maxLength(2000)),
  sha256: hex,
  size: time,
  signature: base64,
  testWindow: time,
  retryCounter: time,
});

/** The published types, by their names on the bus. */
const bodies = {
  'client/OnboardingStatus': v.object({ state: word, uuid: word }),
  'vault-manager/VaultStatus': v.object({ status: word, unlockedBy: word }),
  'vault-manager/EncryptedVaultKeyFromDevice': v.object({ keyId: word, encryptedKey: base64 }),
  'tpm-manager/EdgeNodeCert': v.object({
    name: hex,
    akPublic: hex,
    akCertificate: pem,
    ekPublic: hex,
    ekCertificate: pemChain,
    ecdhPublic: hex,
    ecdhCertificate: pem,
  }),
  'tpm-manager/AttestQuote': v.union([
    v.object({ nonce: hex, error: why }),
    v.object({ nonce: hex, attest: hex, signature: hex, pcrs: v.record(word, hex) }),
  ]),
  'tpm-manager/AttestActivation': v.union([
    v.object({ challenge: word, error: why }),
    v.object({ challenge: word, proof: hex }),
  ]),
  'tpm-manager/TpmStatus': v.object({ state: word }),
  'attest-task/AttestNonce': v.object({ nonce: hex, qualifyingData: hex }),
  'attest-task/AttestChallenge': v.object({ id: word, credentialBlob: base64, encryptedSecret: base64 }),
  'attest-task/AttestToken': v.object({ tokenHash: hex, until: time, rotate: v.boolean() }),
  'attest-task/EncryptedVaultKeyFromController': v.object({
    keyId: word,
    version: time,
    encryptedKey: base64,
  }),
  'attest-task/EscrowRequest': v.object({ keyId: word, tokenHash: hex, attempt: time }),
  'attest-task/AttestStatus': v.object({ state: word }),
  'info-task/EscrowStatus': v.object({
    escrowed: v.nullable(v.object({ keyId: word, version: time })),
    refused: v.nullable(v.object({ keyId: word, error: why })),
  }),
  'config-task/ConfigStatus': v.object({
    state: word,
    source: word,
    full: time,
    forbidden: v.object({ count: time, tokenHash: v.nullable(hex) }),
  }),
  'config-task/BaseOsConfig': baseOs,
  'base-os/BaseOsStatus': v.looseObject({ state: word, committed: word }),
  'base-os/RebootRequest': v.object({ reason: word }),
  'board/BootStatus': v.looseObject({ id: word, board: word }),
} as const;

type Bodies = { [Topic in keyof typeof bodies]: v.InferOutput<(typeof bodies)[Topic]> };
type Event = { type: string } & Record<string, unknown>;
type Wiring = { [Topic in keyof Bodies]?: (body: Bodies[Topic]) => Event | null };

const settledClient = ['provisioned', 'provisionedOffline', 'refused'];
const settledVault = ['unlocked', 'locked', 'error'];
const settledTpm = ['ready', 'lost', 'lockedOut'];

/** What each component listens to. */
const wiring: Record<Component | 'device-steps', Wiring> = {
  client: {},
  'vault-manager': {
    'attest-task/AttestToken': ({ tokenHash, rotate }) => ({ type: 'token.confirmed', tokenHash, rotate }),
    'attest-task/EncryptedVaultKeyFromController': (key) => ({ type: 'key.received', ...key }),
    'info-task/EscrowStatus': ({ escrowed }) => escrowed && { type: 'escrow.recorded', ...escrowed },
    'base-os/BaseOsStatus': ({ committed }) => (committed === '' ? null : { type: 'upgrade.committed' }),
  },
  'tpm-manager': {
    'attest-task/AttestNonce': (request) => ({ type: 'quote.requested', ...request }),
    'attest-task/AttestChallenge': (challenge) => ({ type: 'challenge.received', ...challenge }),
  },
  'attest-task': {
    'tpm-manager/EdgeNodeCert': ({ name }) => ({ type: 'cert.published', name }),
    'tpm-manager/AttestQuote': (quote) =>
      'error' in quote
        ? { type: 'quote.failed', nonce: quote.nonce, why: quote.error }
        : { type: 'quote.made', nonce: quote.nonce },
    'tpm-manager/AttestActivation': (activation) =>
      'error' in activation
        ? { type: 'credential.failed', challenge: activation.challenge, why: activation.error }
        : { type: 'credential.activated', ...activation },
    'vault-manager/EncryptedVaultKeyFromDevice': ({ keyId }) => ({ type: 'key.published', keyId }),
    'info-task/EscrowStatus': ({ escrowed, refused }) => {
      if (refused) return { type: 'escrow.refused', keyId: refused.keyId, why: refused.error };
      return escrowed && { type: 'escrow.recorded', ...escrowed };
    },
    'config-task/ConfigStatus': ({ state, forbidden }) =>
      state === 'forbidden' ? { type: 'token.refused', tokenHash: forbidden.tokenHash } : null,
  },
  'info-task': {
    'vault-manager/EncryptedVaultKeyFromDevice': (key) => ({ type: 'key.published', ...key }),
    'attest-task/EscrowRequest': (request) => ({ type: 'escrow.requested', ...request }),
    'board/BootStatus': (body) => ({ type: 'info.changed', key: 'boot', body }),
    'vault-manager/VaultStatus': (body) => ({ type: 'info.changed', key: 'vault', body }),
    'base-os/BaseOsStatus': (body) => ({ type: 'info.changed', key: 'base-os', body: reportOf(body) }),
    'attest-task/AttestStatus': (body) => ({ type: 'info.changed', key: 'attest', body }),
    'tpm-manager/TpmStatus': (body) => ({ type: 'info.changed', key: 'tpm', body }),
  },
  'config-task': {
    'attest-task/AttestToken': ({ tokenHash }) => ({ type: 'token.confirmed', tokenHash }),
  },
  'base-os': {
    'config-task/BaseOsConfig': (wanted) => ({ type: 'baseos.wanted', baseOs: wanted }),
    'config-task/ConfigStatus': ({ source, full }) =>
      source === 'evc' && full > 0 ? { type: 'config.full' } : null,
  },
  'device-steps': {
    'client/OnboardingStatus': ({ state }) =>
      settledClient.includes(state) ? { type: 'client.settled', state } : null,
    'vault-manager/VaultStatus': ({ status }) =>
      settledVault.includes(status) ? { type: 'vault.settled', status } : null,
    'tpm-manager/TpmStatus': ({ state }) =>
      settledTpm.includes(state) ? { type: 'tpm.settled', state } : null,
    'base-os/RebootRequest': ({ reason }) => ({ type: 'reboot.requested', reason }),
  },
};

/** What it means to a component that a publication is taken back. */
const withdrawals: Partial<Record<Component | 'device-steps', Partial<Record<keyof Bodies, Event>>>> = {
  'base-os': { 'config-task/BaseOsConfig': { type: 'baseos.unwanted' } },
};

/** The event that a publication is for a component; null when it is none, or not what it should be. */
export function eventOf(component: Component | 'device-steps', topic: string, body: unknown): Event | null {
  const translate = wiring[component][topic as keyof Bodies] as ((body: unknown) => Event | null) | undefined;
  if (body === null) return withdrawals[component]?.[topic as keyof Bodies] ?? null;
  if (!translate) return null;
  const checked = v.safeParse(bodies[topic as keyof Bodies], body);
  return checked.success ? translate(checked.output) : null;
}

/** A published body, checked; null when there is none that is well-formed. */
export function bodyOf<Topic extends keyof Bodies>(topic: Topic, body: unknown): Bodies[Topic] | null {
  const checked = v.safeParse(bodies[topic], body);
  return checked.success ? (checked.output as Bodies[Topic]) : null;
}

/** What EVC decides upgrades by, out of the status of the base OS. */
function reportOf(status: { state: string; committed: string } & Record<string, unknown>): object {
  const { slots } = status as {
    slots?: { failed?: { version: string; retryCounter: number; why: object } | null };
  };
  const failed = slots?.failed ?? null;
  return {
    state: status.state,
    committed: status.committed,
    ...(failed ? { failed: failed.version, retryCounter: failed.retryCounter, why: failed.why } : {}),
  };
}
