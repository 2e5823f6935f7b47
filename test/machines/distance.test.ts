import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { distance } from '../../machines/distance.ts';

const at = (latitude: number, longitude: number) => ({ latitude, longitude });
const near = (metres: number, wanted: number) =>
  assert.ok(Math.abs(metres - wanted) <= Math.max(1, wanted * 1e-3), `${metres}, not ${wanted}`);

test('distances on a sphere, over the antimeridian and at the poles', () => {
  const degree = (Math.PI / 180) * 6_371_000;
  near(distance(at(0, 0), at(0, 1)), degree);
  near(distance(at(0, 179.5), at(0, -179.5)), degree);
  near(distance(at(60, 10), at(60, 11)), degree / 2);
  near(distance(at(90, 0), at(90, 123)), 0);
  near(distance(at(89.5, 0), at(89.5, 180)), degree);
  near(distance(at(90, 0), at(-90, 0)), 180 * degree);
  near(distance(at(0, -180), at(0, 180)), 0);
  near(distance(at(52.52, 13.405), at(48.137, 11.575)), 504_000);
  // Opposite points, where rounding could leave the domain of the arc sine.
  assert.ok(Number.isFinite(distance(at(0.1, 0.1), at(-0.1, -179.9))));
});

test('a distance is the same in both directions, and never not a number', () => {
  const place = fc.record({
    latitude: fc.double({ min: -90, max: 90, noNaN: true }),
    longitude: fc.double({ min: -180, max: 180, noNaN: true }),
  });
  fc.assert(
    fc.property(place, place, (one, other) => {
      const metres = distance(one, other);
      assert.ok(metres >= 0 && metres <= Math.PI * 6_371_001);
      assert.ok(Math.abs(metres - distance(other, one)) < 1e-3);
    }),
  );
});

test.run();
