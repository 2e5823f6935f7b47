// How many tokens EVC keeps: those that let somebody in, and of the others the last ones.
import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { firstTokenId, makeToken } from '../../controller/api/token.ts';
import { OperatorError } from '../../controller/decision.ts';
import { OpenStreams, Tokens } from '../../controller/tokens.ts';
import { EvcBench } from '../kit/controller.ts';
import { rejects } from '../kit/rejects.ts';

const bench = await EvcBench.open();
const { store } = bench.evc;
const { clock } = bench;
const tokens = new Tokens({ store, clock, streams: new OpenStreams() });
const now = clock.now();
const revoked = { at: now, by: 'ann' };
test.after(() => bench.close());

/** As it is stored, and the token itself. */
async function stored(more: object, id = randomBytes(6).toString('hex')) {
  const { token, hash } = makeToken(id);
  const body = {
    name: id,
    role: 'viewer',
    accounts: null,
    expires: null,
    by: 'ann',
    created: now,
    revoked: null,
  };
  await store.put('token', id, { ...body, hash, ...more });
  return { id, token };
}
const many = async (count: number, more: object) => {
  for (let i = 0; i < count; i++) await stored(more);
};
const forgetAll = async () => {
  for (const id of await store.ids('token')) await store.remove('token', id);
};
const tooMany = ({ code }: OperatorError) => code === 'token.too-many';

test('1,000 tokens let somebody in at most; one that lets nobody in takes no place', async () => {
  await forgetAll();
  await many(998, {});
  await many(10, { revoked });
  await many(10, { expires: now });
  const last = await stored({ expires: now + 1 });
  await tokens.add({ name: 'thousandth', role: 'viewer' });
  await rejects(tokens.add({ name: 'more', role: 'viewer' }), OperatorError, tooMany);
  await tokens.revoke(last.id, { by: 'ann' });
  const { token } = await tokens.add({ name: 'more', role: 'viewer' });
  assert.is(typeof (await tokens.check(token)), 'object');
  await rejects(tokens.add({ name: 'another', role: 'viewer' }), OperatorError, tooMany);
});

test('of 2,000 that are kept the oldest that let nobody in are forgotten, and stay refused', async () => {
  await forgetAll();
  // Set-up would make the first one anew, as if nobody had taken it back.
  const { hash } = makeToken();
  await store.put('token', firstTokenId, {
    name: firstTokenId,
    role: 'admin',
    accounts: null,
    expires: null,
    by: 'evc init',
    hash,
    created: 0,
    revoked,
  });
  const live = await stored({ created: 1 });
  const oldest = await stored({ created: 2, revoked });
  const expired = await stored({ created: 3, expires: now });
  const kept = await stored({ created: 4, revoked });
  await many(1994, { revoked });
  await tokens.add({ name: 'one', role: 'viewer' });
  assert.is((await store.ids('token')).length, 2000);
  assert.is(await tokens.check(oldest.token), 'auth.revoked', 'there was room');
  await tokens.add({ name: 'two', role: 'viewer' });
  await tokens.add({ name: 'three', role: 'viewer' });
  assert.is((await store.ids('token')).length, 2000);
  for (const { token } of [oldest, expired]) assert.is(await tokens.check(token), 'auth.wrong');
  assert.is(await tokens.check(kept.token), 'auth.revoked');
  assert.is(typeof (await tokens.check(live.token)), 'object');
  await tokens.first(hash);
  const first = (await tokens.list()).find(({ id }) => id === firstTokenId);
  assert.equal(first?.revoked, revoked, 'taken back for good');
});

test.run();
