import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { tpmManager, tpmManagerPublications } from '../../machines/tpm-manager.ts';
import { ChartRun } from '../kit/chart.ts';
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

const first = { type: 'quote.requested', nonce: 'n1', qualifyingData: 'q1' } as const;
const second = { type: 'quote.requested', nonce: 'n2', qualifyingData: 'q2' } as const;
const challenged = {
  type: 'challenge.received',
  id: 'c1',
  credentialBlob: 'AA',
  encryptedSecret: 'AA',
} as const;

async function ready() {
  const run = await ChartRun.start(tpmManager, { coverage });
  await run.answer('startTpm', null);
  await run.answer('makeKeys', null);
  await run.answer('certifyKeys', cert);
  return run;
}

test('keys, certificate, quote', async () => {
  const run = await ready();
  assert.equal(tpmManagerPublications(run.snapshot).EdgeNodeCert, cert);
  await run.send(first);
  assert.equal(run.inputOf('makeQuote'), { nonce: 'n1', qualifyingData: 'q1' });
  await run.answer('makeQuote', quote('n1'));
  assert.equal(tpmManagerPublications(run.snapshot).AttestQuote, quote('n1'));
  run.stop();
});

test('one sequence of commands at a time: what comes meanwhile waits, the newest of each kind', async () => {
  const run = await ready();
  await run.send(first);
  await run.send(challenged);
  await run.send(second);
  assert.equal(run.ports, ['makeQuote']);
  await run.answer('makeQuote', quote('n1'));
  assert.equal(run.ports, ['activateCredential']);
  await run.answer('activateCredential', { challenge: 'c1', proof: 'p1' });
  assert.equal(tpmManagerPublications(run.snapshot).AttestActivation, { challenge: 'c1', proof: 'p1' });
  assert.equal(run.inputOf('makeQuote'), { nonce: 'n2', qualifyingData: 'q2' });
  run.stop();
});

test('an error is told of the request that failed, never as an empty quote, and the newer request stays', async () => {
  const run = await ready();
  await run.send(first);
  await run.send(second);
  await run.fail('makeQuote', 'tpm.error');
  assert.equal(tpmManagerPublications(run.snapshot).AttestQuote, {
    nonce: 'n1',
    error: { code: 'tpm.error', text: 'makeQuote fails' },
  });
  assert.equal(run.inputOf('makeQuote'), { nonce: 'n2', qualifyingData: 'q2' });
  await run.answer('makeQuote', quote('n2'));
  await run.send(challenged);
  await run.fail('activateCredential', 'tpm.error');
  assert.is((tpmManagerPublications(run.snapshot).AttestActivation as { challenge: string }).challenge, 'c1');
  run.stop();
});

test('a TPM that is lost or locked out is looked for again, less and less often, and recovers', async () => {
  const run = await ready();
  run.dice = 1;
  await run.send(first);
  await run.fail('makeQuote', 'tpm.lost');
  assert.is((tpmManagerPublications(run.snapshot).TpmStatus as { state: string }).state, 'lost');
  await run.elapse();
  await run.fail('startTpm', 'tpm.lost');
  assert.is((run.context.waiting?.until ?? 0) - run.clock.now(), 4000);
  await run.elapse();
  await run.answer('startTpm', null);
  await run.fail('makeKeys', 'tpm.lockout');
  assert.is(run.state, 'lockedOut');
  await run.elapse();
  await run.answer('startTpm', null);
  await run.answer('makeKeys', null);
  await run.answer('certifyKeys', cert);
  assert.is(run.state, 'ready.idle');
  assert.is(run.context.attempt, 1);
  assert.is(run.context.error, null);
  await run.send(challenged);
  await run.fail('activateCredential', 'tpm.lockout');
  assert.is(run.state, 'lockedOut');
  run.stop();
});

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
