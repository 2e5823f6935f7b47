// `npm run soak [-- --minutes 60 --devices 200 --json]`: 0 when every figure stays flat and every upgrade is
// committed, 1 when not, 2 for wrong usage.
import { parseArgs } from 'node:util';
import { type SoakReport, soak } from './soak.ts';

let values: { minutes?: string; devices?: string; json?: boolean; help?: boolean };
try {
  ({ values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '60' },
      devices: { type: 'string', default: '200' },
      json: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  }));
} catch (error) {
  console.error(`${(error as Error).message}\nusage: npm run soak -- [--minutes N] [--devices N] [--json]`);
  process.exit(2);
}
const [minutes, devices] = [Number(values.minutes), Number(values.devices)];
if (values.help || !(minutes >= 1 && minutes <= 10_000) || !(devices >= 1 && devices <= 10_000)) {
  console.log('usage: npm run soak -- [--minutes 60] [--devices 200] [--json]; each from 1 to 10000');
  process.exit(values.help ? 0 : 2);
}

const duration = minutes * 60_000;
const report = await soak({
  devices,
  duration,
  // Each minute, and of a short run as many samples as a line needs.
  every: Math.min(60_000, duration / 16),
  upgradeEvery: Math.min(5 * 60_000, duration / 8),
  onSample: ({ minute, evc, fleet }) => {
    const cells = Object.entries({ evc, fleet }).flatMap(([name, figures]) =>
      Object.entries(figures).map(([figure, value]) => `${name}.${figure}=${value.toFixed(1)}`),
    );
    if (!values.json) console.log(`${minute.toFixed(1)},${cells.join(',')}`);
  },
});
console.log(values.json ? JSON.stringify(report) : textOf(report));
process.exit(report.flat && report.upgrades.bad.length === 0 ? 0 : 1);

function textOf({ trends, flat, faults, trusted, upgrades }: SoakReport): string {
  const lines = trends.map(
    ({ process: name, figure, rise, allowed, flat: good, why }) =>
      `${good ? 'flat  ' : 'RISES '} ${`${name}.${figure}`.padEnd(18)} ${rise.toFixed(1).padStart(8)}, of ${allowed.toFixed(1)}: ${why}`,
  );
  const ends = `${trusted} devices trusted, ${faults.cuts} cuts of links, EVC killed ${faults.kills} times`;
  const images = [
    `${upgrades.rollouts} images rolled out, and committed ${upgrades.committed} times`,
    ...upgrades.bad.map((one) => `NOT committed by all: ${one}`),
  ];
  return [
    'over the second half, by least squares:',
    ...lines,
    ...images,
    `${ends}: ${flat ? 'all flat' : 'NOT flat'}`,
  ].join('\n');
}
