// Zedagent's attest task against EVE's own machine: its public transition table, its unit tests and its known faults.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { attestTask, attestTaskPublications, eveState, type QuoteReply } from '../../machines/attest-task.ts';
import { minute, second } from '../../machines/waiting.ts';
import { ChartRun } from '../kit/chart.ts';
import { testRules } from '../kit/chart-rules.ts';
import { Coverage } from '../kit/coverage.ts';

type Run = ChartRun<typeof attestTask>;

const test = suite('attest-task');
const coverage = new Coverage(attestTask);
const start = Date.UTC(2026, 0, 1);
const day = 24 * 60 * minute;
const why = { code: 'tpm.error', text: 'the TPM answers TPM_RC_FAILURE' };
const challenge = { id: 'c1', credentialBlob: 'AA', encryptedSecret: 'AA' };
const key = { keyId: 'k1', version: 1, encryptedKey: 'AAAA' };

const reply = (code: QuoteReply['code'], more: Partial<QuoteReply> = {}): QuoteReply => ({
  code,
  why: code === 'success' ? null : { code: 'evidence.quote.signature', text: 'refused' },
  retryAfter: 0,
  until: code === 'success' ? start + day : 0,
  key: null,
  rotate: false,
  ...more,
});

/** A device whose attestation key EVC knows already. */
const begin = () => ChartRun.start(attestTask, { coverage, input: { certified: 'aa' } });

// The way to each of EVE's states, and to the two halves of those in which something is in flight or will be tried again.
const to = {
  async none(run: Run) {
    assert.is(eveState(run.snapshot), 'none');
  },
  async nonceWait(run: Run) {
    await run.send({ type: 'cert.published', name: 'aa' });
  },
  async nonceWaitAgain(run: Run) {
    await to.nonceWait(run);
    await run.fail('requestNonce', 'link.down');
  },
  async internalQuoteWait(run: Run, nonce = 'n1') {
    if (run.state === 'none.waitingForCert') await to.nonceWait(run);
    await run.answer('requestNonce', { nonce });
    await run.answer('makeClaims', { tokenHash: `t-${nonce}`, qualifyingData: 'q1' });
  },
  async attestWait(run: Run, nonce = 'n1') {
    await to.internalQuoteWait(run, nonce);
    await run.send({ type: 'quote.made', nonce });
  },
  async attestWaitAgain(run: Run) {
    await to.attestWait(run);
    await run.fail('sendQuote', 'link.timeout');
  },
  async attestEscrowWait(run: Run) {
    await run.send({ type: 'key.published', keyId: 'k1' });
    await to.attestWait(run);
    await run.answer('sendQuote', reply('success'));
  },
  async internalEscrowWait(run: Run) {
    await to.attestWait(run);
    await run.answer('sendQuote', reply('success'));
  },
  async restartWait(run: Run) {
    await to.attestWait(run);
    await run.answer('sendQuote', reply('quoteFailed'));
  },
  async complete(run: Run) {
    await to.attestEscrowWait(run);
    await run.send({ type: 'escrow.recorded', keyId: 'k1', version: 1 });
  },
};

/** A run that is in a state. */
async function at(state: keyof typeof to): Promise<Run> {
  const run = await begin();
  await to[state](run);
  return run;
}

const restart = (run: Run) => run.send({ type: 'restart' });
const elapse = (run: Run) => run.elapse();

interface Row {
  state: keyof typeof to;
  event: string;
  act(run: Run): Promise<void>;
  /** Our state afterwards. */
  next: string;
  /** What EVE has there, and why we do not; absent where both are the same. */
  differs?: string;
  also?(run: Run): void | Promise<void>;
}

const pending = (run: Run) => assert.is(run.context.restartPending, true);

/** EVE's complete transition table, and the outcomes that its actions have. */
const table: Row[] = [
  { state: 'none', event: 'Initialize', act: to.nonceWait, next: 'nonceWait.requesting' },
  {
    state: 'none',
    event: 'Initialize, request failed',
    act: to.nonceWaitAgain,
    next: 'nonceWait.backingOff',
    also: (run) => assert.ok(run.context.waiting),
  },
  {
    state: 'none',
    event: 'Initialize, no verifier',
    act: to.nonceWaitAgain,
    next: 'nonceWait.backingOff',
    differs:
      'EVE stays without a timer, in wait for a restart that its state then only notes down (F1): here it tries again',
  },
  {
    state: 'none',
    event: 'Restart',
    act: restart,
    next: 'none.waitingForCert',
    differs: 'EVE asks for a nonce at once; here EVC has to know the attestation key first',
  },
  {
    state: 'nonceWait',
    event: 'NonceRecvd',
    act: async (run) => {
      await run.answer('requestNonce', { nonce: 'n1' });
      assert.is(run.state, 'internalQuoteWait.claiming');
      await run.answer('makeClaims', { tokenHash: 't1', qualifyingData: 'q1' });
    },
    next: 'internalQuoteWait.quoting',
    also: (run) =>
      assert.equal(attestTaskPublications(run.snapshot).AttestNonce, { nonce: 'n1', qualifyingData: 'q1' }),
  },
  {
    state: 'nonceWaitAgain',
    event: 'RetryTimer',
    act: elapse,
    next: 'nonceWait.requesting',
    differs: 'EVE passes through None; the attempt is the same',
  },
  { state: 'nonceWait', event: 'Restart', act: restart, next: 'nonceWait.requesting', also: pending },
  {
    state: 'nonceWaitAgain',
    event: 'Restart',
    act: restart,
    next: 'nonceWait.requesting',
    differs: 'EVE only notes it down; here nothing is in flight, so the next try is now',
  },
  {
    state: 'internalQuoteWait',
    event: 'InternalQuoteRecvd',
    act: (run) => run.send({ type: 'quote.made', nonce: 'n1' }),
    next: 'attestWait.sending',
    also: (run) => assert.equal(run.inputOf('sendQuote'), { nonce: 'n1', tokenHash: 't-n1' }),
  },
  {
    state: 'internalQuoteWait',
    event: 'RetryTimer',
    act: elapse,
    next: 'restartWait',
    differs:
      'EVE asks for the same quote again, and without a failed request has no timer (F2); here the nonce may have gone stale, so a new one is asked for',
  },
  {
    state: 'internalQuoteWait',
    event: 'Restart',
    act: restart,
    next: 'internalQuoteWait.quoting',
    also: pending,
  },
  {
    state: 'attestWait',
    event: 'AttestSuccessful',
    act: async (run) => {
      await run.send({ type: 'key.published', keyId: 'k1' });
      await run.answer('sendQuote', reply('success'));
    },
    next: 'attestEscrowWait.escrowing',
    also: (run) =>
      assert.equal(attestTaskPublications(run.snapshot).EscrowRequest, {
        keyId: 'k1',
        tokenHash: 't-n1',
        attempt: 1,
      }),
  },
  {
    state: 'attestWait',
    event: 'NonceMismatch',
    act: (run) => run.answer('sendQuote', reply('nonceMismatch')),
    next: 'restartWait',
  },
  {
    state: 'attestWait',
    event: 'QuoteMismatch',
    act: (run) => run.answer('sendQuote', reply('quoteFailed')),
    next: 'restartWait',
  },
  {
    state: 'attestWait',
    event: 'NoQuoteCertRecvd',
    act: (run) => run.answer('sendQuote', reply('noCertFound')),
    next: 'restartWait',
    also: async (run) => {
      await run.elapse();
      assert.is(run.state, 'none.certifying', 'the certificate is sent again, which EVE leaves to chance');
    },
  },
  {
    state: 'attestWaitAgain',
    event: 'RetryTimer',
    act: elapse,
    next: 'attestWait.sending',
    also: (run) => assert.equal(run.inputOf('sendQuote'), { nonce: 'n1', tokenHash: 't-n1' }),
  },
  { state: 'attestWait', event: 'Restart', act: restart, next: 'attestWait.sending', also: pending },
  {
    state: 'attestWaitAgain',
    event: 'Restart',
    act: restart,
    next: 'restartWait',
    differs: 'EVE only notes it down; here nothing is in flight, so the attempt ends now',
  },
  {
    state: 'attestEscrowWait',
    event: 'EscrowRecorded',
    act: (run) => run.send({ type: 'escrow.recorded', keyId: 'k1', version: 1 }),
    next: 'complete',
  },
  {
    state: 'attestEscrowWait',
    event: 'EscrowRecorded, restart pending',
    act: async (run) => {
      await restart(run);
      await run.send({ type: 'escrow.recorded', keyId: 'k1', version: 1 });
    },
    next: 'restartWait',
  },
  {
    state: 'attestWait',
    event: 'AttestSuccessful, then NoEscrow',
    act: (run) => run.answer('sendQuote', reply('success')),
    next: 'internalEscrowWait',
    also: (run) => assert.ok(run.context.waiting, 'with an end, which EVE has not (F2)'),
  },
  {
    state: 'attestEscrowWait',
    event: 'EscrowFailed',
    act: (run) => run.send({ type: 'escrow.refused', keyId: 'k1', why }),
    next: 'restartWait',
  },
  {
    state: 'attestEscrowWait',
    event: 'RetryTimer',
    act: elapse,
    next: 'attestEscrowWait.escrowing',
    also: (run) =>
      assert.equal(attestTaskPublications(run.snapshot).EscrowRequest, {
        keyId: 'k1',
        tokenHash: 't-n1',
        attempt: 2,
      }),
  },
  {
    state: 'attestEscrowWait',
    event: 'Restart',
    act: restart,
    next: 'attestEscrowWait.escrowing',
    also: pending,
  },
  {
    state: 'internalEscrowWait',
    event: 'InternalEscrowRecvd',
    act: (run) => run.send({ type: 'key.published', keyId: 'k1' }),
    next: 'attestEscrowWait.escrowing',
  },
  {
    state: 'internalEscrowWait',
    event: 'Restart',
    act: restart,
    next: 'restartWait',
    differs: 'EVE notes it down and never looks (F1); here nothing is in flight, so the attempt ends now',
  },
  { state: 'restartWait', event: 'RetryTimer', act: elapse, next: 'nonceWait.requesting' },
  {
    state: 'restartWait',
    event: 'Restart',
    act: restart,
    next: 'nonceWait.requesting',
    differs: 'EVE notes it down and waits; EVC pushes because something changed, so it is worth a try now',
  },
  { state: 'complete', event: 'Restart', act: restart, next: 'restartWait' },
];

for (const { state, event, act, next, differs, also } of table) {
  test(`${state} × ${event} → ${next}${differs ? ` (${differs})` : ''}`, async () => {
    const run = await at(state);
    await act(run);
    assert.is(run.state, next);
    await also?.(run);
    run.stop();
  });
}

test('any × InternalEscrowRecvd: the state stays, and the key is remembered', async () => {
  for (const state of Object.keys(to) as (keyof typeof to)[]) {
    if (['internalEscrowWait', 'attestEscrowWait', 'complete'].includes(state)) continue;
    const run = await at(state);
    const before = run.state;
    await run.send({ type: 'key.published', keyId: 'k9' });
    assert.is(run.state, before);
    assert.is(run.context.keyId, 'k9');
    run.stop();
  }
});

// The twelve unit tests of EVE's attest_test.go.

test('GoodPath', async () => {
  const run = await ChartRun.start(attestTask, { coverage, input: { certified: null } });
  await run.send({ type: 'cert.published', name: 'aa' });
  await run.answer('sendCertificate', { challenge });
  assert.equal(attestTaskPublications(run.snapshot).AttestChallenge, challenge);
  await run.send({ type: 'credential.activated', challenge: 'c1', proof: 'p1' });
  assert.equal(run.inputOf('sendProof'), { challenge: 'c1', proof: 'p1' });
  await run.answer('sendProof', null);
  await run.answer('requestNonce', { nonce: 'n1' });
  await run.answer('makeClaims', { tokenHash: 't1', qualifyingData: 'q1' });
  await run.send({ type: 'quote.made', nonce: 'n1' });
  await run.send({ type: 'key.published', keyId: 'k1' });
  await run.answer('sendQuote', reply('success', { key, rotate: true }));
  const published = attestTaskPublications(run.snapshot);
  assert.equal(published.AttestToken, { tokenHash: 't1', until: start + day, rotate: true });
  assert.equal(published.EncryptedVaultKeyFromController, key);
  await run.send({ type: 'escrow.recorded', keyId: 'k1', version: 1 });
  assert.is(run.state, 'complete');
  assert.is(run.context.quotes, 1);
  run.stop();
});

test('NonceMismatch, QuoteMismatch, NoCertInController: RestartWait, and no trust', async () => {
  for (const code of ['nonceMismatch', 'quoteFailed', 'noCertFound', 'invalid'] as const) {
    const run = await at('attestWait');
    await run.answer('sendQuote', reply(code, { key }));
    assert.is(run.state, 'restartWait');
    const { AttestToken, EncryptedVaultKeyFromController } = attestTaskPublications(run.snapshot);
    assert.is(AttestToken, null);
    assert.is(EncryptedVaultKeyFromController, null);
    assert.is(run.context.error?.code, 'evidence.quote.signature');
    run.stop();
  }
});

test('ControllerNotAvbleInNonceWait', async () => {
  const run = await at('nonceWaitAgain');
  assert.is(eveState(run.snapshot), 'nonceWait');
  await run.elapse();
  assert.is(run.state, 'nonceWait.requesting');
  run.stop();
});

test('ControllerNotAvbleInAttestWait', async () => {
  const run = await at('attestWaitAgain');
  assert.is(eveState(run.snapshot), 'attestWait');
  await run.elapse();
  assert.is(run.state, 'attestWait.sending');
  run.stop();
});

test('ControllerNotAvbleInAttestEscrowWait', async () => {
  const run = await at('attestEscrowWait');
  await run.elapse();
  assert.is(eveState(run.snapshot), 'attestEscrowWait');
  assert.is(run.context.attempt, 2);
  run.stop();
});

test('NoEscrowDataAttestEscrowWait', async () => {
  const run = await at('internalEscrowWait');
  assert.is(run.state, 'internalEscrowWait');
  run.stop();
});

test('ItokenMismatchAttestEscrowWait', async () => {
  const run = await at('attestEscrowWait');
  await run.send({ type: 'escrow.refused', keyId: 'k1', why: { code: 'token.expired', text: 'old' } });
  assert.is(run.state, 'restartWait');
  assert.is(run.context.error?.code, 'token.expired');
  run.stop();
});

test('NoVerifierInNonceWait: EVE stays without a timer, here every failure is tried again', async () => {
  const run = await at('nonceWaitAgain');
  assert.is(run.state, 'nonceWait.backingOff');
  assert.ok((run.context.waiting?.until ?? 0) >= run.clock.now());
  run.stop();
});

test('InternalEscrowRcvdAtAnyOther, RestartAtEachState: nothing breaks', async () => {
  for (const state of Object.keys(to) as (keyof typeof to)[]) {
    for (const event of [{ type: 'key.published', keyId: 'k1' } as const, { type: 'restart' } as const]) {
      const run = await at(state);
      await run.send(event);
      assert.is(run.error, null);
      run.stop();
    }
  }
});

// What EVE's tests leave out, and the faults of its machine.

test('recovery after RestartWait, all the way to Complete', async () => {
  const run = await at('restartWait');
  await run.elapse();
  await to.attestWait(run, 'n2');
  await run.send({ type: 'key.published', keyId: 'k1' });
  await run.answer('sendQuote', reply('success'));
  await run.send({ type: 'escrow.recorded', keyId: 'k1', version: 1 });
  assert.is(run.state, 'complete');
  assert.is(run.context.error, null);
  assert.is(run.context.trusted?.tokenHash, 't-n2');
  run.stop();
});

test('F1, F5: a restart in any state leads to a new nonce', async () => {
  for (const state of Object.keys(to) as (keyof typeof to)[]) {
    if (state === 'none') continue;
    const run = await at(state);
    const asked = run.state === 'nonceWait.requesting';
    await restart(run);
    assert.ok(await newNonceAfter(run, asked), `in ${state}`);
    run.stop();
  }
});

/** Lets everything go well, except that no receipt for the escrow comes, until a nonce is asked for. */
async function newNonceAfter(run: Run, asked: boolean): Promise<boolean> {
  let earlier = asked;
  for (let step = 0; step < 20; step++) {
    if (run.state === 'nonceWait.requesting' && !earlier) return true;
    if (run.state === 'nonceWait.requesting') {
      await run.answer('requestNonce', { nonce: 'n7' });
      earlier = false;
    } else if (run.ports.includes('makeClaims'))
      await run.answer('makeClaims', { tokenHash: 't7', qualifyingData: 'q' });
    else if (run.ports.includes('sendQuote')) await run.answer('sendQuote', reply('success'));
    else if (run.state === 'internalQuoteWait.quoting') {
      await run.send({ type: 'quote.made', nonce: run.context.nonce ?? '' });
    } else await run.elapse();
    // A day would pass by itself in complete: that is no answer to a restart.
    if (run.clock.now() > start + 30 * minute) return false;
  }
  return false;
}

test('F2: a silent TPM manager and a vault that stays locked hold nothing up', async () => {
  const quoting = await at('internalQuoteWait');
  await quoting.elapse();
  assert.is(quoting.state, 'restartWait');
  assert.is(quoting.context.error?.code, 'tpm.silent');
  quoting.stop();

  const locked = await at('internalEscrowWait');
  await locked.elapse();
  assert.is(locked.state, 'complete');
  assert.is(locked.context.error?.code, 'vault.no-key');
  locked.stop();
});

test('F3: INVALID asks for a new nonce', async () => {
  const run = await at('attestWait');
  await run.answer('sendQuote', reply('invalid'));
  assert.is(run.state, 'restartWait');
  await run.elapse();
  assert.is(run.state, 'nonceWait.requesting');
  assert.is(run.context.nonce, null);
  run.stop();
});

test('F4: a quote that is published again, wherever it comes, is ignored', async () => {
  for (const state of ['attestWait', 'complete', 'restartWait', 'none'] as const) {
    const run = await at(state);
    const before = run.state;
    await run.send({ type: 'quote.made', nonce: 'n1' });
    assert.is(run.state, before);
    assert.equal(run.ignored, ['quote.made']);
    run.stop();
  }
});

test('F6: a key that changes after complete is escrowed', async () => {
  const run = await at('complete');
  await run.send({ type: 'key.published', keyId: 'k1' });
  assert.is(run.state, 'complete', 'the same key again is none');
  await run.send({ type: 'key.published', keyId: 'k2' });
  assert.is(run.state, 'attestEscrowWait.escrowing');
  await run.send({ type: 'escrow.recorded', keyId: 'k1', version: 1 });
  assert.is(run.state, 'attestEscrowWait.escrowing', 'the receipt of another key says nothing');
  await run.send({ type: 'escrow.recorded', keyId: 'k2', version: 2 });
  assert.is(run.state, 'complete');
  run.stop();
});

test('F7: attests again by itself before trust ends, each device at a time of its own', async () => {
  const times = new Set<number>();
  for (const dice of [0, 0.5, 0.999]) {
    const run = await begin();
    run.dice = dice;
    await to.complete(run);
    await run.elapse();
    assert.is(run.state, 'nonceWait.requesting');
    assert.ok(run.clock.now() < start + day, 'before trust ends');
    assert.ok(run.clock.now() >= start + day / 2);
    times.add(run.clock.now());
    run.stop();
  }
  assert.is(times.size, 3);
});

test('a clock far behind EVC’s does not make it attest when trust is over', async () => {
  const run = await at('attestWait');
  await run.send({ type: 'key.published', keyId: 'k1' });
  await run.answer('sendQuote', reply('success', { until: start + 30 * day }));
  await run.send({ type: 'escrow.recorded', keyId: 'k1', version: 1 });
  await run.elapse();
  assert.is(run.state, 'nonceWait.requesting');
  assert.ok(run.clock.now() < start + day);
  run.stop();
});

test('a clock far ahead of EVC’s does not make it attest without a pause', async () => {
  const run = await at('attestWait');
  await run.send({ type: 'key.published', keyId: 'k1' });
  await run.answer('sendQuote', reply('success', { until: start - day }));
  await run.send({ type: 'escrow.recorded', keyId: 'k1', version: 1 });
  await run.elapse();
  assert.ok(run.clock.now() >= start + 5 * minute);
  run.stop();
});

test('F8: a quote for another nonce is ignored, and so is another challenge’s answer', async () => {
  const run = await at('internalQuoteWait');
  await run.send({ type: 'quote.made', nonce: 'n0' });
  await run.send({ type: 'quote.failed', nonce: 'n0', why });
  assert.is(run.state, 'internalQuoteWait.quoting');
  assert.equal(run.ignored, ['quote.made', 'quote.failed']);
  await run.send({ type: 'quote.failed', nonce: 'n1', why });
  assert.is(run.state, 'restartWait');
  assert.is(run.context.error?.code, 'tpm.error');
  run.stop();

  const proving = await ChartRun.start(attestTask, { coverage, input: { certified: 'bb' } });
  await proving.send({ type: 'cert.published', name: 'aa' });
  await proving.answer('sendCertificate', { challenge });
  await proving.send({ type: 'credential.activated', challenge: 'c0', proof: 'p0' });
  await proving.send({ type: 'credential.failed', challenge: 'c0', why });
  assert.is(proving.state, 'none.activating');
  await proving.send({ type: 'credential.failed', challenge: 'c1', why });
  assert.is(proving.state, 'restartWait');
  proving.stop();
});

test('a refused token restarts what rests on it, and never the attestation that makes a new one', async () => {
  for (const state of ['complete', 'attestEscrowWait', 'internalEscrowWait'] as const) {
    const run = await at(state);
    await run.send({ type: 'token.refused', tokenHash: 'another' });
    await run.send({ type: 'token.refused', tokenHash: null });
    assert.is(eveState(run.snapshot), state);
    await run.send({ type: 'token.refused', tokenHash: 't-n1' });
    assert.is(run.state, 'restartWait');
    await run.send({ type: 'token.refused', tokenHash: 't-n1' });
    await run.elapse();
    await run.send({ type: 'token.refused', tokenHash: 't-n1' });
    await to.attestWait(run, 'n2');
    await run.send({ type: 'token.refused', tokenHash: 't-n1' });
    assert.is(run.context.restartPending, false);
    run.stop();
  }
});

test('EVC that does not take the certificate is asked again, and a restart asks at once', async () => {
  const run = await ChartRun.start(attestTask, { coverage, input: { certified: null } });
  await run.elapse();
  assert.is(run.context.error?.code, 'attest.no-certificate');
  await run.send({ type: 'cert.published', name: 'aa' });
  await run.fail('sendCertificate', 'link.down');
  await run.elapse();
  await run.fail('sendCertificate', 'link.down');
  await restart(run);
  await run.answer('sendCertificate', { challenge });
  await run.elapse();
  assert.is(run.context.error?.code, 'tpm.silent');
  await run.answer('sendCertificate', { challenge });
  await run.send({ type: 'credential.activated', challenge: 'c1', proof: 'p1' });
  await run.fail('sendProof', 'enrol.proof-wrong');
  assert.is(run.state, 'none.backingOff');
  await run.elapse();
  await run.answer('sendCertificate', { challenge: null });
  assert.is(run.state, 'nonceWait.requesting', 'EVC had it proven already');
  run.stop();
});

test('a restart that came while the quote was out counts when the quote is lost', async () => {
  const run = await at('attestWait');
  await restart(run);
  await run.fail('sendQuote', 'link.lost');
  assert.is(run.state, 'nonceWait.requesting');
  assert.is(run.context.restartPending, false);
  run.stop();
});

test('a key that EVC holds already is not sent again after the next attestation', async () => {
  const run = await at('complete');
  await run.send({ type: 'cert.published', name: 'aa' });
  await restart(run);
  await run.elapse();
  await run.send({ type: 'escrow.recorded', keyId: 'k1', version: 2 });
  await to.attestWait(run, 'n2');
  await run.answer('sendQuote', reply('success'));
  assert.is(run.state, 'complete');
  assert.is(run.context.escrowed?.version, 2);
  run.stop();
});

test('claims that cannot be made end the attempt, and their reason is shown', async () => {
  const run = await at('nonceWait');
  await run.answer('requestNonce', { nonce: 'n1' });
  await run.fail('makeClaims', 'internal.error');
  assert.is(run.state, 'restartWait');
  assert.is(run.context.error?.code, 'internal.error');
  run.stop();
});

test('backing off: full jitter, doubled with each failure, never before EVC’s own time, and anew after success', async () => {
  const run = await at('nonceWait');
  run.dice = 1;
  const pauses: number[] = [];
  for (let i = 0; i < 12; i++) {
    const before = run.clock.now();
    await run.fail('requestNonce', 'link.down');
    await run.elapse();
    pauses.push(run.clock.now() - before);
  }
  assert.equal(
    pauses.slice(0, 4),
    [1, 2, 4, 8].map((n) => n * second),
  );
  assert.is(pauses.at(-1), 10 * minute, 'bounded');

  const before = run.clock.now();
  await run.fail('requestNonce', 'link.down', { retryAfter: 5 * minute });
  await run.elapse();
  assert.is(run.clock.now() - before, 15 * minute, 'the jitter comes on top');

  await to.internalQuoteWait(run);
  await run.send({ type: 'quote.made', nonce: 'n1' });
  await run.fail('sendQuote', 'link.down');
  assert.is((run.context.waiting?.until ?? 0) - run.clock.now(), second, 'progress forgives');
  run.dice = 0;
  await run.elapse();
  await run.fail('sendQuote', 'link.down');
  assert.equal(run.ports, ['sendQuote'], 'full jitter: from no pause at all');
  run.stop();
});

test('refusals in a row are tried ever less often, EVC’s own time is the least, and approval forgives them', async () => {
  const run = await begin();
  run.dice = 1;
  await to.nonceWait(run);
  const pauses: number[] = [];
  for (const retryAfter of [0, 0, 5 * minute]) {
    await to.attestWait(run);
    await run.answer('sendQuote', reply('quoteFailed', { retryAfter }));
    const before = run.clock.now();
    await run.elapse();
    pauses.push(run.clock.now() - before);
  }
  assert.equal(pauses, [15 * second, 30 * second, 5 * minute + 60 * second]);
  await to.attestWait(run);
  await run.answer('sendQuote', reply('success'));
  assert.is(run.context.refusals, 0);
  run.stop();
});

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
      sendQuote: [reply('success', { key }), reply('noCertFound'), reply('quoteFailed')],
    },
  },
  resting: {},
});

test.run();
