// A client of gpsd, the daemon that talks to receivers: JSON lines over TCP [gpsd_json(5)].
import { connect } from 'node:net';
import type { Location } from '../../machines/flow.ts';

export interface Gpsd {
  host: string;
  port: number;
}

export const defaultGpsd: Gpsd = { host: '127.0.0.1', port: 2947 };

/** ms that a fix may take; a receiver tells its position every second. */
const patience = 5000;
/** Bytes; the satellites in view make the longest lines. */
const longestLine = 64 * 1024;
/** Metres, where the receiver says nothing of its error: what a fix without height, or with one, is good for. */
const usualError = { 2: 100, 3: 50 } as const;
/** ms; an older fix was true somewhere else. */
const oldest = 60_000;

/** The position of now, null where there is no daemon, no receiver or no fix. Never rejects. */
export function askGpsd({ host, port }: Gpsd, now: () => number = Date.now): Promise<Location | null> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (location: Location | null) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(location);
    };
    const timer = setTimeout(end, patience, null);
    let rest = '';
    socket.setEncoding('utf8');
    socket.once('connect', () => socket.write('?WATCH={"enable":true,"json":true};\n'));
    socket.on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      const fix = lines.map((line) => readFix(line, now())).find((found) => found !== null);
      if (fix) end(fix);
      else if (rest.length > longestLine) end(null);
    });
    socket.once('error', () => end(null));
    socket.once('close', () => end(null));
  });
}

/** The fix in a line, null for any other line and for a TPV without one. */
export function readFix(line: string, now: number): Location | null {
  if (line.length > longestLine) return null;
  let report: Record<string, unknown>;
  try {
    report = JSON.parse(line) as Record<string, unknown>;
  } catch {
    // Not for us: gpsd speaks JSON alone once it is asked to.
    return null;
  }
  if (typeof report !== 'object' || report === null || report.class !== 'TPV') return null;
  const { mode, lat, lon, time } = report;
  if (mode !== 2 && mode !== 3) return null;
  if (!isNumber(lat) || !isNumber(lon) || Math.abs(lat) > 90 || Math.abs(lon) > 180) return null;
  const at = typeof time === 'string' ? Date.parse(time) : now;
  // A device whose clock was never set has the receiver to go by.
  if (Number.isNaN(at) || now - at > oldest) return null;
  return { latitude: lat, longitude: lon, accuracy: errorOf(report, mode), at };
}

/** Radius of the circle that holds the true place, metres: gpsd's are good for 95 of 100 fixes. */
function errorOf({ eph, epx, epy }: Record<string, unknown>, mode: 2 | 3): number {
  if (isNumber(eph) && eph > 0) return eph;
  if (isNumber(epx) && isNumber(epy) && epx >= 0 && epy >= 0) return Math.max(1, Math.hypot(epx, epy));
  return usualError[mode];
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}
