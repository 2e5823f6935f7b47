import { suite } from 'uvu';
import { tpmManager } from '../../machines/tpm-manager.ts';
import { testRules } from '../kit/chart-rules.ts';
import { Coverage } from '../kit/coverage.ts';

const test = suite('tpm-manager');
const coverage = new Coverage(tpmManager);
const cert = {
  name: 'aa',
  akPublic: '01',
  akCertificate: 'ak',
  ekPublic: '02',
  ekCertificate: '',
  ecdhPublic: '03',
  ecdhCertificate: 'ecdh',
};
const quote = (nonce: string) => ({ nonce, attest: '00', signature: '00', pcrs: {} });

testRules(test, tpmManager, {
  coverage,
  stimuli: {
    events: [
      { type: 'quote.requested', nonce: 'n1', qualifyingData: 'q1' },
      { type: 'quote.requested', nonce: 'n2', qualifyingData: 'q2' },
      { type: 'challenge.received', id: 'c1', credentialBlob: 'AA', encryptedSecret: 'AA' },
    ],
    answers: {
      startTpm: [null],
      makeKeys: [null],
      certifyKeys: [cert],
      makeQuote: [quote('n1'), quote('n2')],
      activateCredential: [{ challenge: 'c1', proof: 'p1' }],
    },
    failures: {
      makeKeys: ['tpm.lockout'],
      makeQuote: ['tpm.lost', 'tpm.lockout'],
      activateCredential: ['tpm.lost', 'tpm.lockout'],
    },
  },
  resting: { 'ready.idle': 'the TPM is asked when something is wanted of it' },
});

test.run();
