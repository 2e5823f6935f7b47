import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { infoTask, infoTaskPublications } from '../../machines/info-task.ts';
import { ChartRun } from '../kit/chart.ts';
import { testRules } from '../kit/chart-rules.ts';
import { Coverage } from '../kit/coverage.ts';

const test = suite('info-task');
const coverage = new Coverage(infoTask);

type Run = ChartRun<typeof infoTask>;
const report = (key: string, body: object) => ({ type: 'info.changed', key, body }) as const;
const published = (keyId: string) =>
  ({ type: 'key.published', keyId, encryptedKey: `enc-${keyId}` }) as const;
const requested = (keyId: string, tokenHash: string) =>
  ({ type: 'escrow.requested', keyId, tokenHash, attempt: 1 }) as const;
const escrow = (run: Run) => infoTaskPublications(run.snapshot).EscrowStatus;

async function idle(pending: Record<string, object> = {}): Promise<Run> {
  const run = await ChartRun.start(infoTask, { coverage });
  await run.answer('loadPending', { pending });
  return run;
}

test('reports what changed, the newest of each kind, and what could not be sent before', async () => {
  const run = await idle({ tpm: { state: 'lost' } });
  await run.send(report('vault', { status: 'locked' }));
  await run.send(report('tpm', { state: 'ready' }));
  assert.equal(run.inputOf('sendInfo'), { key: 'tpm', body: { state: 'lost' } });
  await run.answer('sendInfo', null);
  assert.equal(run.inputOf('sendInfo'), { key: 'tpm', body: { state: 'ready' } }, 'it changed on the way');
  await run.answer('sendInfo', null);
  await run.answer('sendInfo', null);
  assert.is(run.state, 'idle');
  assert.equal(run.context.pending, {});
  run.stop();
});

test('nothing is lost while EVC is out of reach', async () => {
  const run = await idle();
  await run.send(report('vault', { status: 'locked' }));
  await run.fail('sendInfo', 'link.down');
  await run.send(report('vault', { status: 'unlocked' }));
  await run.send({ type: 'link.up' });
  assert.equal(run.inputOf('sendInfo'), { key: 'vault', body: { status: 'unlocked' } });
  run.stop();
});

test('escrow: the key that is asked for, with its token', async () => {
  const run = await idle();
  await run.send(requested('k1', 't1'));
  assert.is(run.state, 'idle', 'the vault manager has not published the key yet');
  await run.send(published('k1'));
  assert.equal(run.inputOf('storeKey'), { keyId: 'k1', encryptedKey: 'enc-k1', tokenHash: 't1' });
  await run.answer('storeKey', { keyId: 'k1', version: 3 });
  assert.equal(escrow(run), { escrowed: { keyId: 'k1', version: 3 }, refused: null });
  run.stop();
});

test('escrow: a newer request is neither lost with the answer to the one before nor blamed for it', async () => {
  const run = await idle();
  await run.send(published('k1'));
  await run.send(requested('k1', 't1'));
  await run.send(requested('k1', 't2'));
  await run.fail('storeKey', 'token.expired');
  assert.equal(run.inputOf('storeKey'), { keyId: 'k1', encryptedKey: 'enc-k1', tokenHash: 't2' });
  await run.send(published('k2'));
  await run.send(requested('k2', 't2'));
  await run.answer('storeKey', { keyId: 'k1', version: 1 });
  assert.equal(run.inputOf('storeKey'), { keyId: 'k2', encryptedKey: 'enc-k2', tokenHash: 't2' });
  await run.fail('storeKey', 'token.wrong');
  assert.equal(escrow(run), {
    escrowed: { keyId: 'k1', version: 1 },
    refused: { keyId: 'k2', error: { code: 'token.wrong', text: 'storeKey fails' } },
  });
  assert.is(run.state, 'idle', 'a refusal is not tried again with the same token');
  run.stop();
});

test('escrow: a request that EVC did not answer is sent again', async () => {
  const run = await idle();
  await run.send(published('k1'));
  await run.send(requested('k1', 't1'));
  await run.fail('storeKey', 'link.timeout');
  assert.is(run.state, 'backingOff');
  await run.elapse();
  assert.equal(run.ports, ['storeKey']);
  run.stop();
});

testRules(test, infoTask, {
  coverage,
  stimuli: {
    events: [
      { type: 'info.changed', key: 'vault', body: { status: 'unlocked' } },
      { type: 'key.published', keyId: 'k1', encryptedKey: 'AAAA' },
      { type: 'key.published', keyId: 'k2', encryptedKey: 'BBBB' },
      { type: 'escrow.requested', keyId: 'k1', tokenHash: 't1', attempt: 1 },
      { type: 'escrow.requested', keyId: 'k2', tokenHash: 't2', attempt: 1 },
      { type: 'link.up' },
    ],
    answers: {
      loadPending: [{ pending: {} }, { pending: { tpm: { state: 'ready' } } }],
      sendInfo: [null],
      storeKey: [
        { keyId: 'k1', version: 1 },
        { keyId: 'k2', version: 2 },
      ],
    },
    failures: { storeKey: ['token.expired'] },
  },
  resting: { idle: 'there is nothing to report until something changes' },
});

test.run();
