import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { compareChanges, decisionOf, keyring, mayNot, nothingDone } from '../../inspector/acceptance.ts';
import type { Changes } from '../../inspector/answers.ts';

const here = { latitude: 52, longitude: 13, accuracy: 10, at: 5 };
const software = {
  attempt: 'a1',
  at: 5,
  from: { image: '1.0.0', firmware: 'ACME' },
  to: { image: '6.6.6', firmware: 'ACME' },
  pcrs: [{ pcr: 9, baseline: 'aa', shown: 'bb' }],
  findings: [{ code: 'policy.pcr.unexpected', text: 'PCR 9', pcr: 9 }],
};
const looked: Changes = {
  device: 'd1',
  revision: 7,
  serial: 'edge-01',
  account: 'plant-7',
  trust: 'uud',
  software,
  place: null,
};
const moved: Changes = {
  ...looked,
  trust: 'umd',
  software: null,
  place: { locked: here, seen: { ...here, latitude: 53 } },
};

test('who may decide: an operator and an administrator, on a page of its own', () => {
  assert.is(mayNot({ name: 'ann', role: 'operator' }, false), '');
  assert.is(mayNot({ name: 'root', role: 'admin' }, false), '');
  assert.match(
    mayNot({ name: 'wall', role: 'viewer' }, false),
    /role operator.*token wall is of viewer.*administrator/,
  );
  assert.match(mayNot({ name: 'root', role: 'admin' }, true), /inside another one/);
  assert.match(mayNot(null, false), /not said yet/);
});

test('what was looked at is what stands there, whatever else the record did', () => {
  assert.is(compareChanges(looked, { ...looked, revision: 9 }, 'software'), 'same');
  const again = { ...looked, revision: 9, software: { ...software, attempt: 'a2', at: 9 } };
  assert.is(compareChanges(looked, again, 'software'), 'again');
  const later = { ...moved, place: { locked: here, seen: { ...here, latitude: 53, at: 99 } } };
  assert.is(compareChanges(moved, later, 'place'), 'same', 'it was seen there again');
});

const others: Record<string, Changes> = {
  'another PCR': {
    ...looked,
    software: { ...software, attempt: 'a2', pcrs: [{ pcr: 9, baseline: 'aa', shown: 'cc' }] },
  },
  'another version': {
    ...looked,
    software: { ...software, attempt: 'a2', to: { image: '6.6.7', firmware: 'ACME' } },
  },
  'another finding': { ...looked, software: { ...software, attempt: 'a2', findings: [] } },
  'another trust': { ...looked, trust: 'retired' },
  'another device': { ...looked, device: 'd2' },
  'nothing any more': { ...looked, software: null },
};
for (const [what, now] of Object.entries(others))
  test(`${what} is not what was looked at`, () => {
    assert.is(compareChanges(looked, now, 'software'), 'other');
  });

test('another place, or none, is not what was looked at', () => {
  const there = { ...moved, place: { locked: here, seen: { ...here, latitude: 54 } } };
  assert.is(compareChanges(moved, there, 'place'), 'other');
  assert.is(compareChanges(moved, { ...moved, place: null }, 'place'), 'other');
});

test('a decision names the evidence and the revision that were looked at', () => {
  assert.equal(decisionOf(looked, 'software', 'ours'), {
    path: 'api/v1/devices/d1/accept',
    body: { reason: 'ours', attempt: 'a1' },
    tag: '"7"',
  });
  assert.equal(decisionOf(moved, 'place', 'we moved it'), {
    path: 'api/v1/devices/d1/accept-place',
    body: { reason: 'we moved it' },
    tag: '"7"',
  });
});

test('only an answer that refuses says that nothing was done', () => {
  assert.ok(nothingDone({ status: 412, code: 'precondition.failed' }));
  assert.ok(nothingDone({ status: 403, code: 'auth.role' }));
  assert.not(nothingDone({ status: 409, code: 'idempotency.running' }), 'the one before it may be');
  assert.not(nothingDone({ status: 500, code: 'internal.error' }));
  assert.not(nothingDone({ status: 0, code: '' }), 'the answer got lost');
});

test('the same request has the same key, and any other one another', () => {
  let made = 0;
  const keyOf = keyring(() => `k${++made}`);
  assert.equal(['a', 'a', 'b', 'b', 'a'].map(keyOf), ['k1', 'k1', 'k2', 'k2', 'k3']);
  assert.is(keyring(() => 'k')(''), 'k');
});

test.run();
