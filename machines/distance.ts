// How far apart two places are: EVC judges by it, and people read it.
import type { Location } from './flow.ts';

type Place = Pick<Location, 'latitude' | 'longitude'>;

/** On a sphere, metres; good to half a percent. */
export function distance(one: Place, other: Place): number {
  const earth = 6_371_000;
  const rad = Math.PI / 180;
  const half = (a: number, b: number) => Math.sin(((a - b) * rad) / 2) ** 2;
  const h =
    half(one.latitude, other.latitude) +
    Math.cos(one.latitude * rad) * Math.cos(other.latitude * rad) * half(one.longitude, other.longitude);
  return 2 * earth * Math.asin(Math.min(1, Math.sqrt(h)));
}
