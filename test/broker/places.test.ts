import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Places, sourceOf } from '../../broker/places.ts';

test('one source has half of the places, and another the other half', () => {
  const places = new Places(5);
  const held = Array.from({ length: 3 }, () => places.take('a'));
  assert.ok(held.every(Boolean));
  assert.is(places.take('a'), null);
  assert.type(places.take('b'), 'function');
});

test('a place is given back once, and a source that has none is forgotten', () => {
  const places = new Places(4);
  const [first, second] = [places.take('a'), places.take('a')];
  assert.is(places.take('a'), null);
  first?.();
  first?.();
  assert.type(places.take('a'), 'function');
  assert.is(places.take('a'), null);
  second?.();
  assert.type(places.take('a'), 'function');
});

test('a source is an address, or a network of IPv6', () => {
  const same = (one: string, other: string) => sourceOf(one) === sourceOf(other);
  assert.is(sourceOf('192.0.2.1'), '192.0.2.1');
  assert.ok(same('192.0.2.1', '::ffff:192.0.2.1'));
  assert.not(same('192.0.2.1', '192.0.2.2'));
  assert.ok(same('2001:db8:1:2:3:4:5:6', '2001:db8:1:2::'));
  assert.ok(same('2001:db8::1', '2001:db8::2'));
  assert.ok(same('2001:db8::1:2:3:4:5', '2001:db8:0:1::1'));
  assert.not(same('2001:db8:1:2::1', '2001:db8:1:3::1'));
  assert.ok(same('::1', '::2'));
  assert.is(sourceOf(undefined), '');
});

test.run();
