// The steps of the sequences as they are told: the number in each sequence, who tells whom, what, and what it changes.

/** Which sequence a boot turned out to be; `fallback` is the end of S4. */
export type Sequence = 'S1' | 'S2' | 'S2b' | 'S3' | 'S4' | 'fallback';

export interface StepText {
  /** A number that holds for every sequence, or one for each that has this step. */
  step: string | Partial<Record<Sequence, string>>;
  /** From, to, what, changed; `{name}` is filled in. */
  told: readonly [from: string, to: string, what: string, changed: string];
}

export const stepTexts = {
  boot: {
    step: { S2: 'S2', S2b: 'S2b', S3: 'S3', S4: 'S4.3', fallback: 'S4.12' },
    told: ['board', 'TPM', 'boots {image} from {slot}', 'PCRs measured anew'],
  },
  certificates: {
    step: { S1: 'S1.1' },
    told: ['client', 'EVC', 'fetches EVC’s certificates', 'checked against the root'],
  },
  registration: {
    step: { S1: 'S1.2' },
    told: ['client', 'EVC', 'registers its certificate', 'EVC knows the device'],
  },
  uuid: {
    step: { S1: 'S1.3', S2: 'S2.1', S3: 'S3.1' },
    told: ['client', 'EVC', 'asks for its UUID', 'the device has its UUID'],
  },
  offline: {
    step: { S2b: 'S2b.1' },
    told: ['client', 'EVC', 'finds EVC out of reach', 'goes on with what it has'],
  },
  vaultMade: {
    step: { S1: 'S1.4' },
    told: ['vault manager', 'TPM', 'asks for random numbers', 'master key and vault made'],
  },
  vaultSealed: {
    step: { S1: 'S1.5' },
    told: ['vault manager', 'TPM', 'seals the key to the PCRs', 'only this boot opens it'],
  },
  vaultPublished: {
    step: { S1: 'S1.6' },
    told: ['vault manager', 'bus', 'publishes unlocked, and key', 'waits for the token'],
  },
  vaultOpen: {
    step: { S2: 'S2.2', S2b: 'S2b.2', fallback: 'S4.12' },
    told: ['TPM', 'vault manager', 'unseals the master key', 'vault unlocked'],
  },
  vaultLocked: {
    step: { S3: 'S3.2', S4: 'S4.3' },
    told: ['TPM', 'vault manager', 'refuses the key: PCR {pcrs}', 'vault locked, data safe'],
  },
  vaultReopened: {
    step: { S3: 'S3.9', S4: 'S4.10' },
    told: ['vault manager', 'TPM', 'opens the escrowed key', 'vault open, sealed anew'],
  },
  tpmReady: {
    step: { S1: 'S1.7', S2: 'S2.3', S2b: 'S2b.3', S3: 'S3.3' },
    told: ['TPM manager', 'bus', 'publishes its certificate', 'ready to quote'],
  },
  certified: {
    step: { S1: 'S1.8' },
    told: ['attest task', 'EVC', 'sends certificate and proof', 'key proven in this TPM'],
  },
  nonce: {
    step: { S1: 'S1.9', S2b: 'S1.9' },
    told: ['attest task', 'EVC', 'asks for a nonce', 'a nonce, good once'],
  },
  quoted: {
    step: { S1: 'S1.10', S2b: 'S1.10' },
    told: ['attest task', 'TPM manager', 'hands over the nonce', 'a quote by the TPM'],
  },
  token: {
    step: { S1: 'S1.11', S2b: 'S1.11' },
    told: ['attest task', 'TPM manager', 'makes the integrity token', 'the quote covers its hash'],
  },
  quoteSent: {
    step: { S1: 'S1.12', S2: 'S2.4', S2b: 'S1.12', S3: 'S3.3', S4: 'S4.4', fallback: 'S4.12' },
    told: ['attest task', 'EVC', 'sends quote and boot log', 'EVC judges the boot'],
  },
  firstBoot: {
    step: 'S1.13',
    told: ['EVC', 'attest task', 'checks the quote, approves', 'PCRs, log: the baseline'],
  },
  forbidden: {
    step: { S1: 'S1.14' },
    told: ['config task', 'EVC', 'asks with no valid token', 'forbidden'],
  },
  tokenStored: {
    step: { S1: 'S1.15', S2: 'S2.7', S2b: 'S2.7', S3: 'S3.9', S4: 'S4.10', fallback: 'S4.12' },
    told: ['attest task', 'vault manager', 'gives the confirmed token', 'stored as vault/itoken'],
  },
  fullConfig: {
    step: { S1: 'S1.16', S2: 'S2.8', S2b: 'S2.8', S3: 'S3.9', S4: 'S4.11', fallback: 'S4.12' },
    told: ['config task', 'EVC', 'asks with the right token', 'full configuration'],
  },
  escrowed: {
    step: { S1: 'S1.17', S2: 'S2.9', S2b: 'S2.9' },
    told: ['info task', 'EVC', 'reports the encrypted key', 'EVC holds version {version}'],
  },
  baseline: {
    step: { S1: 'S2.5', S2: 'S2.5', S2b: 'S2.5', S3: 'S2.5', S4: 'S2.5', fallback: 'S4.12' },
    told: ['EVC', 'attest task', 'compares with the baseline', 'it matches: approved'],
  },
  keySent: {
    step: { S2: 'S2.6', S2b: 'S2.6', S3: 'S3.9', S4: 'S4.9', fallback: 'S4.12' },
    told: ['EVC', 'attest task', 'sends the encrypted key', 'version {version}'],
  },
  checkpoint: {
    step: { S2b: 'S2b' },
    told: ['config task', 'EVE', 'applies the last config', 'applications run'],
  },
  lookedUp: { step: 'S3.4', told: ['EVC', 'EVC', 'looks its entries up', '{result}'] },
  notLocated: { step: 'S3.5', told: ['EVC', 'EVC', 'ignores the location', 'untrusted, not believed'] },
  refused: { step: 'S3.6', told: ['EVC', 'attest task', 'says what differs, to retry', 'UUD: {where}'] },
  partialConfig: {
    step: { S3: 'S3.7', S4: 'S4.8' },
    told: ['EVC', 'config task', 'sends the base OS part only', 'no key, nothing else'],
  },
  again: {
    step: { S3: 'S3.8', S4: 'S4.8' },
    told: ['config task', 'attest task', 'asks to attest again', 'a new nonce and quote'],
  },
  stateAccepted: { step: 'S3.9', told: ['a person', 'EVC', 'accepts the new state', '{reason}'] },
  acceptance: {
    step: 'S3.9',
    told: ['EVC', 'attest task', 'approves what was accepted', 'the new baseline'],
  },
  assigned: { step: 'S4.1', told: ['EVC', 'config task', 'assigns the image {to}', 'window {from} → {to}'] },
  staged: {
    step: 'S4.2',
    told: ['base OS', 'EVC', 'fetches and checks {version}', 'other slot, to try once'],
  },
  replayed: { step: 'S4.5', told: ['EVC', 'EVC', 'replays the log', 'it gives the quoted PCRs'] },
  compared: { step: 'S4.6', told: ['EVC', 'EVC', 'compares the two logs', 'the entries that differ'] },
  allKnown: { step: 'S4.7', told: ['EVC', 'attest task', 'finds them all in {to}', 'pushed, in its window'] },
  notKnown: { step: 'S4.8', told: ['EVC', 'attest task', 'says what differs, to retry', 'UUD: {where}'] },
  committed: {
    step: 'S4.11',
    told: ['base OS', 'EVC', 'commits {version}', 'the slot is the active one'],
  },
  commitTaken: { step: 'S4.11', told: ['EVC', 'EVC', 'takes the commit', 'the new baseline'] },
  fallingBack: { step: 'S4.12', told: ['base OS', 'board', 'gives the trial up', '{why}'] },
  windowClosed: {
    step: 'S4.12',
    told: ['EVC', 'EVC', 'closes the window as failed', 'the old baseline stands'],
  },
  placeLocked: {
    step: { S1: 'S1.13', S2: 'S2.5', S2b: 'S2.5', S3: 'S2.5', S4: 'S2.5', fallback: 'S2.5' },
    told: ['EVC', 'EVC', 'takes the location', 'frozen as the baseline'],
  },
  moved: { step: 'S5', told: ['EVC', 'EVC', 'finds the device elsewhere', 'UMD: it was moved'] },
  inPlace: { step: 'S5', told: ['EVC', 'EVC', 'finds it in its place', 'UMD is cleared'] },
  placeAccepted: { step: 'S5', told: ['a person', 'EVC', 'accepts the new place', '{reason}'] },
} as const satisfies Record<string, StepText>;

export type StepKey = keyof typeof stepTexts;

/** What a port did, where that alone is a step. */
export const portSteps: Readonly<Record<string, StepKey>> = {
  'client fetchCertificates ends': 'certificates',
  'client register ends': 'registration',
  'client fetchUuid ends': 'uuid',
  'vault-manager createVault ends': 'vaultMade',
  'vault-manager storeToken ends': 'tokenStored',
  'attest-task sendProof ends': 'certified',
  'attest-task requestNonce ends': 'nonce',
  'attest-task makeClaims ends': 'token',
  'tpm-manager makeQuote ends': 'quoted',
  'attest-task sendQuote begins': 'quoteSent',
  'config-task applyCheckpoint ends': 'checkpoint',
};
