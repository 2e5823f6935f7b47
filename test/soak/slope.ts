// Whether a figure stays flat: the line of least squares through the second half of its samples, and what it may rise by.
export interface Sample {
  /** Minutes since the start. */
  minute: number;
  value: number;
}

export interface Tolerance {
  /** What it may rise by over the second half, as a part of its median there. */
  part: number;
  /** And in its own unit, whichever is more: below it is noise. */
  least: number;
  why: string;
}

export interface Trend {
  /** Units a minute, of the line through the second half. */
  slope: number;
  /** What that makes over the second half. */
  rise: number;
  allowed: number;
  flat: boolean;
}

/** Needs eight samples at least: a line through fewer says nothing. Throws RangeError. */
export function trendOf(samples: readonly Sample[], { part, least }: Tolerance): Trend {
  const half = samples.slice(samples.length >> 1);
  if (samples.length < 8) throw new RangeError(`${samples.length} samples, and eight are the least`);
  const mean = (of: (sample: Sample) => number) => half.reduce((sum, one) => sum + of(one), 0) / half.length;
  const [x, y] = [mean(({ minute }) => minute), mean(({ value }) => value)];
  const spread = half.reduce((sum, { minute }) => sum + (minute - x) ** 2, 0);
  const slope = half.reduce((sum, { minute, value }) => sum + (minute - x) * (value - y), 0) / spread;
  const rise = slope * ((half.at(-1)?.minute ?? 0) - (half[0]?.minute ?? 0));
  const sorted = half.map(({ value }) => value).sort((a, b) => a - b);
  const allowed = Math.max(least, part * (sorted[sorted.length >> 1] ?? 0));
  return { slope, rise, allowed, flat: rise <= allowed };
}
