// Pieces that several views show: values as trees, bytes, differences, reasons.
import { differences } from '../formats/recording/diff.ts';
import type { Line } from '../formats/recording/format.ts';
import type { Finding } from '../machines/flow.ts';
import { explain } from '../machines/reasons.ts';
import { type Child, el } from './element.ts';
import { refusalOf } from './refusal.ts';
import { byteSize, dateTime, duration, eventText, shorten, stateText, valueText } from './text.ts';

const longestText = 2000;
const mostChildren = 200;
const deepest = 40;
const mostBytes = 4096;

/** A value of JSON; objects open and close. */
export function tree(value: unknown, depth = 0): HTMLElement {
  if (typeof value !== 'object' || value === null) return leaf(value);
  const entries = Object.entries(value);
  if (entries.length === 0) return el('span.quiet', {}, Array.isArray(value) ? '[ ]' : '{ }');
  if (depth > deepest) return el('span.quiet', {}, '…');
  const rows = entries.slice(0, mostChildren).map(([key, inner]) => {
    const nested = typeof inner === 'object' && inner !== null && Object.keys(inner).length > 0;
    const name = el('span.key', {}, shorten(key, 80));
    if (!nested) return el('div.pair', {}, name, tree(inner, depth + 1));
    const count = el('span.quiet', {}, Array.isArray(inner) ? ` ${inner.length} items` : '');
    const fold = el('details.pair', { open: depth < 2 }, el('summary', {}, name, count));
    // What is closed is made when it is opened: a tree may be large.
    const open = () => {
      if (fold.open && fold.childElementCount === 1) fold.append(el('div.inner', {}, tree(inner, depth + 1)));
    };
    fold.addEventListener('toggle', open);
    if (depth < 2) open();
    return fold;
  });
  const more = entries.length - mostChildren;
  return el('div.tree', {}, rows, more > 0 && el('div.quiet', {}, `and ${more} more`));
}

function leaf(value: unknown): HTMLElement {
  if (typeof value === 'string') {
    if (value.startsWith('withheld'))
      return el('span.withheld', { title: 'a secret: it is not in the recording' }, value);
    return el('span.text', {}, value === '' ? '""' : shorten(value, longestText));
  }
  if (typeof value === 'number') {
    // Times of our days, ms since the epoch, are what most large numbers are.
    const title = value > 1e12 && value < 1e13 ? dateTime(value) : undefined;
    return el('span.number', { title }, String(value), title && el('span.quiet', {}, `  ${title}`));
  }
  return el('span.word', {}, value === undefined ? '—' : String(value));
}

/** Bytes in hexadecimal, sixteen a row, and as text beside it. */
export function hexDump(base64: string): HTMLElement {
  const bytes = bytesOf(base64);
  const rows: string[] = [];
  for (let at = 0; at < Math.min(bytes.length, mostBytes); at += 16) {
    const row = bytes.subarray(at, at + 16);
    const hex = Array.from(row, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const text = Array.from(row, (byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '·')).join(
      '',
    );
    rows.push(`${at.toString(16).padStart(4, '0')}  ${hex.padEnd(47)}  ${text}`);
  }
  if (bytes.length > mostBytes) rows.push(`… and ${byteSize(bytes.length - mostBytes)} more`);
  return el('pre.hex', { tabindex: 0, 'aria-label': 'bytes' }, rows.join('\n'));
}

/** Empty for what is no base64. */
export function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  try {
    return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  } catch {
    return new Uint8Array(0);
  }
}

/** What changed between two contexts. */
export function diff(before: unknown, after: unknown): HTMLElement {
  let found: ReturnType<typeof differences>;
  try {
    found = differences(before, after);
  } catch {
    return el('p.quiet', {}, 'nested too deeply to compare');
  }
  if (found.length === 0) return el('p.quiet', {}, 'the context is the same as before');
  return el(
    'div.diff',
    {},
    found
      .slice(0, mostChildren)
      .map((one) =>
        el(
          'div.change',
          {},
          el('div.key', {}, one.path === '' ? 'all of it' : shorten(one.path, 200)),
          one.before !== undefined && el('div.minus', {}, valueText(one.before, 400)),
          one.after !== undefined && el('div.plus', {}, valueText(one.after, 400)),
        ),
      ),
  );
}

/** A reason with what it means and what to do. */
export function reason(code: string, text: string, weight: 'refused' | 'trouble' = 'refused'): HTMLElement {
  const known = explain(code);
  const unknown = known.kind === 'unknown';
  return el(
    `div.reason.${weight}`,
    {},
    el('div.reason-title', {}, unknown ? shorten(text, 120) : known.title, el('code', {}, shorten(code, 80))),
    !unknown && text !== '' && el('div', {}, shorten(text, 400)),
    !unknown && el('div.quiet', {}, known.text),
    !unknown && el('div.remedy', {}, known.remedy),
  );
}

/** Findings of a verdict: what each means, where it was seen, and what would have been right. */
export function findingList(found: readonly Finding[], refused: boolean): HTMLElement[] {
  return found.slice(0, mostChildren).map((one) =>
    el(
      'div.finding',
      {},
      reason(one.code, one.text, /^(evidence|policy)\./.test(one.code) && refused ? 'refused' : 'trouble'),
      facts([
        ['PCR', one.pcr === undefined ? null : String(one.pcr)],
        ['event', one.event === undefined ? null : `#${one.event}`],
        ['seen', one.seen ? el('code.wrap.minus', {}, shorten(one.seen, 300)) : null],
        ['allowed', one.allowed ? el('code.wrap.plus', {}, shorten(one.allowed, 300)) : null],
        ['remedy', one.remedy ? shorten(one.remedy, 300) : null],
      ]),
    ),
  );
}

/** What a context says that is waited for. */
export function waiting(context: Readonly<Record<string, unknown>>, now: number): HTMLElement | null {
  const { for: what, since, until, attempt, why } = (context.waiting ?? {}) as Record<string, unknown>;
  if (typeof what !== 'string') return null;
  const { code, text } = (why ?? {}) as Record<string, unknown>;
  return el(
    'div.waiting',
    {},
    el('div', {}, 'waits for ', el('b', {}, what)),
    facts([
      ['since', typeof since === 'number' ? `${duration(now - since)} ago` : null],
      ['attempt', typeof attempt === 'number' ? String(attempt) : null],
      ['goes on', typeof until === 'number' ? (until > now ? `in ${duration(until - now)}` : 'now') : null],
    ]),
    typeof code === 'string' && reason(code, typeof text === 'string' ? text : '', 'trouble'),
  );
}

export function facts(pairs: readonly (readonly [string, Child])[]): HTMLElement {
  return el(
    'dl.facts',
    {},
    pairs
      .filter(([, value]) => value !== null && value !== '')
      .map(([name, value]) => [el('dt', {}, name), el('dd', {}, value)]),
  );
}

/** Everything that is in a line. */
export function lineDetails(line: Line): HTMLElement {
  const refusal = refusalOf(line);
  return el(
    'div.details',
    {},
    refusal && reason(refusal.code, refusal.text, refusal.weight),
    facts([
      ['line', String(line.n)],
      ['time', dateTime(line.at)],
      ['component', line.component],
    ]),
    bodyOf(line),
  );
}

function bodyOf(line: Line): Child[] {
  if (line.kind === 'message') {
    const { topic, size, frame, body, bytes, withheld, direction } = line;
    return [
      facts([
        ['topic', el('code.wrap', {}, topic)],
        [
          'direction',
          direction === 'up' ? 'device → EVC' : direction === 'down' ? 'EVC → device' : 'shown on the bus',
        ],
        ['size', byteSize(size)],
        ['status', frame ? `${frame.kind} ${frame.status}` : null],
      ]),
      el('h3', {}, 'Body'),
      body === undefined ? el('p.quiet', {}, 'not in the recording') : tree(body),
      el('h3', {}, 'Bytes'),
      bytes !== undefined
        ? hexDump(bytes)
        : el(
            'p.quiet',
            {},
            withheld ? `left out, since they hold a secret: ${withheld.join(', ')}` : 'not kept',
          ),
    ];
  }
  if (line.kind === 'microstep')
    return [
      el('h3', {}, 'Transitions'),
      line.transitions.map(({ from, event, to, actions }) =>
        el(
          'div.taken',
          {},
          el('div', {}, el('b', {}, eventText(event)), ` ${from} → ${to.join(', ') || 'stays'}`),
          actions.length > 0 && el('div.quiet', {}, `does ${actions.join(', ')}`),
        ),
      ),
    ];
  if (line.kind === 'snapshot' || line.kind === 'actor')
    return [facts([['state', stateText(line.value)]]), el('h3', {}, 'Context'), tree(line.context)];
  if (line.kind === 'chart')
    return [tree({ chart: line.chart, hash: line.hash, definition: line.definition })];
  const {
    n: _n,
    at: _at,
    mono: _mono,
    component: _component,
    kind: _kind,
    ...rest
  } = line as unknown as Record<string, unknown>;
  if (typeof rest.bytes === 'string') rest.bytes = `${bytesOf(rest.bytes).length} bytes`;
  return [el('h3', {}, 'Content'), tree(rest)];
}
