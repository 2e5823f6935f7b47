import { suite } from 'uvu';
import { attestTask, type QuoteReply } from '../../machines/attest-task.ts';
import { testRules } from '../kit/chart-rules.ts';
import { Coverage } from '../kit/coverage.ts';

const test = suite('attest-task');
const coverage = new Coverage(attestTask);
const why = { code: 'tpm.error', text: 'the TPM answers TPM_RC_FAILURE' };
const reply = (code: QuoteReply['code'], until = 0): QuoteReply => ({
  code,
  why: code === 'success' ? null : { code: 'evidence.quote.signature', text: 'refused' },
  retryAfter: 0,
  until,
  key: null,
  rotate: false,
});
const challenge = { id: 'c1', credentialBlob: 'AA', encryptedSecret: 'AA' };

testRules(test, attestTask, {
  coverage,
  stimuli: {
    input: { certified: null },
    events: [
      { type: 'cert.published', name: 'aa' },
      { type: 'credential.activated', challenge: 'c1', proof: 'p1' },
      { type: 'credential.failed', challenge: 'c1', why },
      { type: 'credential.failed', challenge: 'c0', why },
      { type: 'quote.made', nonce: 'n1' },
      { type: 'quote.made', nonce: 'n0' },
      { type: 'quote.failed', nonce: 'n1', why },
      { type: 'key.published', keyId: 'k1' },
      { type: 'escrow.recorded', keyId: 'k1', version: 1 },
      { type: 'escrow.recorded', keyId: 'k0', version: 1 },
      { type: 'escrow.refused', keyId: 'k1', why },
      { type: 'restart' },
      { type: 'token.refused', tokenHash: 't1' },
      { type: 'token.refused', tokenHash: 't0' },
      { type: 'token.refused', tokenHash: null },
    ],
    answers: {
      sendCertificate: [{ challenge }, { challenge: null }],
      sendProof: [null],
      requestNonce: [{ nonce: 'n1' }],
      makeClaims: [{ tokenHash: 't1', qualifyingData: 'q1' }],
      sendQuote: [reply('success', Date.UTC(2026, 0, 2)), reply('noCertFound'), reply('quoteFailed')],
    },
  },
  resting: {},
});

test.run();
