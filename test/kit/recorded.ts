// Every world of a test is recorded, device and EVC, and at its end each recording replays without a divergence and shows none
// of the secrets of the run. With EVE_ATTEST_RECORD=DIR the sequences and attacks are kept there (npm run recordings).
import { createHmac, createPrivateKey, type KeyObject } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { nonceOf } from '../../controller/downlink.ts';
import type { Evc } from '../../controller/evc.ts';
import { secretOf } from '../../controller/pki.ts';
import { StoreError } from '../../controller/store/store.ts';
import type { Line } from '../../formats/recording/format.ts';
import { type LateLine, renumbered } from '../../formats/recording/line.ts';
import { readRecording } from '../../formats/recording/read.ts';
import { replay } from '../../formats/recording/replay.ts';
import { charts } from '../../machines/charts.ts';
import { type Secret as PlainSecret, wordsOf } from './canary.ts';
import { caught } from './caught.ts';
import type { World, WorldDevice } from './world.ts';

const folder = process.env.EVE_ATTEST_RECORD;
let testName = '';
if (folder !== undefined) {
  test.before.each((context) => {
    testName = String((context as { __test__?: unknown }).__test__);
  });
}

/** What a run must not show, with the place where it would be found. */
interface Secret extends PlainSecret {
  /** Shown where it is used, and not before: in the quote that bears it. */
  usedInQuote?: boolean;
}

interface Recorded {
  device: WorldDevice;
  lines: (string | LateLine)[];
}

export class WorldRecordings {
  readonly #world: World;
  readonly #recorded: Recorded[] = [];
  /** Nothing is recorded: for whoever measures what recording costs. */
  off = false;
  /** EVC's private keys, kept beyond its end. */
  readonly #keys = new Map<string, Buffer>();

  constructor(world: World) {
    this.#world = world;
    caught.masterKeys.clear();
    caught.tokens.clear();
  }

  /** Follows a device from its first power on, and its record from the first message that EVC gets of it. */
  plug(device: WorldDevice): void {
    if (this.off) return;
    const lines: Recorded['lines'] = [];
    this.#recorded.push({ device, lines });
    const add = (line: string | LateLine) => void lines.push(line);
    device.recorder.attach({ line: add, late: add });
    let evc: Evc | null = null;
    device.recorder.onEvent((event) => {
      if (event.kind !== 'message' || evc === this.#world.evc) return;
      const now = this.#world.evc;
      evc = now;
      this.#keysOf(now);
      const [, , id = ''] = event.topic.split('/');
      const line = (text: string) => {
        // Its messages are those of the device, seen from the other side.
        if (!text.includes('"kind":"message"') && !text.startsWith('{"recording"')) add(text);
      };
      void now.runner.read(id).then(
        (record) => now.recorder.listen(id, record, { line, room: () => true }),
        (error) => {
          if (!(error instanceof StoreError)) throw error;
          // Nothing is written meanwhile, and the next message asks again.
          if (evc === now) evc = null;
        },
      );
    });
  }

  /** Throws AssertionError for a recording that does not replay, or that shows a secret. */
  check(): void {
    for (const recorded of this.#recorded) {
      const { device } = recorded;
      const text = textOf(recorded);
      const recording = readRecording(text);
      assert.equal(recording.notes, []);
      const { divergence, unchecked, unknown } = replay(recording.lines, { charts });
      assert.is(divergence, null, `diverges: ${JSON.stringify(divergence)?.slice(0, 3000)}`);
      assert.equal([unchecked, unknown], [0, []]);
      const shown = this.secretsOf(device).flatMap((secret) => placesOf(secret, text, recording.lines));
      assert.equal(shown, []);
      this.#keep(device, text);
    }
  }

  /** As they stand, one for each device that was plugged in. */
  get texts(): string[] {
    return this.#recorded.map(textOf);
  }

  /** Writes down what is done to the world, in the recording of each device. */
  note(text: string): void {
    const { clock } = this.#world;
    const line = {
      n: 0,
      at: clock.now(),
      mono: performance.now(),
      component: 'world',
      kind: 'fault',
      code: 'test',
      text,
    };
    for (const { lines } of this.#recorded) lines.push(JSON.stringify(line));
  }

  #keep(device: WorldDevice, text: string): void {
    const name = folder === undefined ? null : nameOf(testName);
    if (name === null || folder === undefined) return;
    const index = this.#world.devices.indexOf(device);
    if (index > 0) return;
    mkdirSync(folder, { recursive: true });
    // A few have the bytes of their messages; the rest would say the same once more, and bytes do not pack.
    const slim = withBytes.has(name)
      ? text
      : text.replaceAll(/^(\{[^\n]*"kind":"message"[^\n]*),"bytes":"[^"]*"\}$/gm, '$1}');
    writeFileSync(join(folder, `${name}.jsonl.gz`), gzipSync(slim, { level: 9 }));
  }

  #keysOf({ pki }: Evc): void {
    this.#keys.set('EVC’s secret', Buffer.from(pki.secret));
    for (const [name, { key }] of Object.entries({
      signing: pki.signing,
      exchange: pki.exchange,
      server: pki.server,
    }))
      this.#keys.set(`EVC’s ${name} key`, scalarOf(key));
  }

  /** Of EVC and a device, up to now. */
  secretsOf({ folder: place, id }: WorldDevice): Secret[] {
    const secrets: Secret[] = [...this.#keys].map(([what, bytes]) => ({ what, bytes }));
    for (const bytes of caught.masterKeys.values()) secrets.push({ what: 'a master key', bytes });
    for (const bytes of caught.tokens.values()) secrets.push({ what: 'an integrity token', bytes });
    const onboarding = readFileSync(join(place, 'config', 'onboard.key.pem'));
    secrets.push({ what: 'the onboarding key', bytes: scalarOf(createPrivateKey(onboarding)) });
    const evcSecret = this.#keys.get('EVC’s secret');
    if (!evcSecret) return secrets;
    for (const { device, event } of this.#world.steps) {
      if (device !== id) continue;
      if (event.type === 'nonce.requested') {
        const bytes = Buffer.from(nonceOf(evcSecret, id, event.salt));
        secrets.push({ what: 'a nonce', bytes, usedInQuote: true });
      }
      if (event.type !== 'certificate.received') continue;
      const { id: challenge } = event.challenge;
      const bytes = Buffer.from(secretOf(evcSecret, 'challenge', id, challenge));
      const proof = createHmac('sha256', bytes).update(challenge).digest();
      secrets.push({ what: 'an activation secret', bytes }, { what: 'a proof', bytes: proof });
    }
    return secrets;
  }
}

/**
 * One recording of a device and its record: the header is the device's, and the numbers are those of the whole. Their text is made
 * at the end of the run: had anything changed what a line says, its replay would diverge.
 */
function textOf({ lines }: Recorded): string {
  return `${lines.map((line, n) => renumbered(typeof line === 'string' ? line : line.text, n)).join('\n')}\n`;
}

/** Where a recording shows a secret and should not: in the text as bytes, hex and base64, and inside what it holds in base64. */
export function placesOf(secret: Secret, text: string, lines: readonly Line[]): string[] {
  const { what, bytes, usedInQuote } = secret;
  assert.ok(bytes.length >= 16, `${what} is too short to be looked for`);
  const words = wordsOf(bytes);
  const inText = words.some((word) => text.includes(word));
  const found: string[] = [];
  for (const line of lines) {
    const packed =
      line.kind === 'message' || line.kind === 'evidence' || line.kind === 'blob' ? line.bytes : undefined;
    const inside = packed !== undefined && Buffer.from(packed, 'base64').includes(bytes);
    if (!inside && !(inText && words.some((word) => JSON.stringify(line).includes(word)))) continue;
    const used = line.kind === 'evidence' || (line.kind === 'message' && quotes(line.body));
    // With the quote the nonce is used up.
    if (usedInQuote && used) break;
    found.push(`${what} in line ${line.n}, ${line.kind} of ${line.component}`);
  }
  return found;
}

function quotes(body: unknown): boolean {
  return typeof body === 'object' && body !== null && 'quote' in body;
}

/** The secret number of an EC key, or a prime of an RSA key. */
export function scalarOf(key: KeyObject): Buffer {
  const { d, p } = key.export({ format: 'jwk' });
  return Buffer.from(p ?? d ?? '', 'base64url');
}

const sequences: [RegExp, string][] = [
  [/^S1: /, 's1-onboarding'],
  [/^S2: /, 's2-restart'],
  [/^S2\.7: /, 's2-rotation'],
  [/^S2b: EVC out of reach/, 's2b-offline'],
  [/^S3: /, 's3-unknown-software'],
  [/^S3\.9: healed by acceptance/, 's3-accepted'],
  [/^S4: /, 's4-commit'],
  [/^S4\.12: an image that fails/, 's4-fall-back'],
  [/^S4\.8: /, 's4-not-its-own'],
  [/^S5: with Location-Lock/, 's5-moved'],
  [/^S5: an account that blocks/, 's5-blocked'],
];

const withBytes = new Set(['s1-onboarding', 's2-restart', 's3-unknown-software', 's4-commit', 's5-moved']);

/** The file of a test’s recording; null where none is kept. */
function nameOf(title: string): string | null {
  const sequence = sequences.find(([begins]) => begins.test(title));
  if (sequence) return sequence[1];
  if (!basename(process.argv[1] ?? '').startsWith('s6')) return null;
  const [words = ''] = title
    .replace(/^\[\w+\] /, '')
    .replaceAll('’', '')
    .toLowerCase()
    .split(/:|, (?:until|and) /);
  return `s6-${words
    .replaceAll(/[^a-z0-9]+/g, '-')
    .slice(0, 64)
    .replaceAll(/^-|-$/g, '')}`;
}
