// What went wrong in a line, if anything did: a code of machines/reasons.ts and its text.
import type { Line } from '../formats/recording/format.ts';
import { explain } from '../machines/reasons.ts';

export interface Refusal {
  code: string;
  text: string;
  /** `refused`: somebody said no, or it does not go on. `trouble`: it heals by itself. */
  weight: 'refused' | 'trouble';
}

type Loose = Record<string, unknown>;
/** ZAttestResponseCode of a quote that is taken. */
const accepted = 'ATTEST_RESPONSE_CODE_SUCCESS';

/** Why this line is one to look at; null when nothing is wrong in it. */
export function refusalOf(line: Line): Refusal | null {
  switch (line.kind) {
    case 'evidence':
      return ofVerdict(line.verdict);
    case 'event':
      return ofEvent(line.event);
    case 'message':
      return ofMessage(line);
    case 'fault':
      return weighed(line.code, line.text);
    case 'link':
      return line.up ? null : { code: 'link.down', text: line.why ?? 'the link ended', weight: 'trouble' };
    case 'dropped':
      return { code: 'recording.dropped', text: `${line.lines} lines: ${line.why}`, weight: 'trouble' };
    default:
      return null;
  }
}

function ofVerdict(verdict: unknown): Refusal | null {
  const { accepted: taken, findings } = loose(verdict);
  if (taken !== false) return null;
  const [first] = Array.isArray(findings) ? findings : [];
  const { code, text } = loose(first);
  return { code: words(code, 'refused'), text: words(text, 'the evidence was refused'), weight: 'refused' };
}

function ofEvent(event: Loose & { type: string }): Refusal | null {
  if (event.type === 'verdict.given') return ofVerdict(event.verdict);
  for (const value of [event.why, event.error, event.refused]) {
    const { code, text } = loose(value);
    if (typeof code === 'string') return weighed(code, words(text, ''));
  }
  const { why, code } = loose(loose(loose(event.output).value));
  if (typeof loose(why).code === 'string' && code !== 'success')
    return weighed(String(loose(why).code), words(loose(why).text, ''));
  if (event.type.startsWith('xstate.error.')) return weighed('internal.error', 'an effect failed');
  return null;
}

function ofMessage(line: Extract<Line, { kind: 'message' }>): Refusal | null {
  const status = loose(line.frame).status;
  const { quoteResp, config } = loose(line.body);
  const { response, findings } = loose(quoteResp);
  const [finding] = Array.isArray(findings) ? findings : [];
  for (const { code, text } of [response === accepted ? {} : loose(finding), loose(loose(config).problem)])
    if (typeof code === 'string') return weighed(code, words(text, ''));
  if (typeof status !== 'number' || status < 400) return null;
  const { code, text, detail } = loose(line.body);
  return weighed(words(code, `status.${status}`), words(text ?? detail, `answered with status ${status}`));
}

function weighed(code: string, text: string): Refusal {
  const { severity, kind } = explain(code);
  const refused =
    severity === 'critical' || severity === 'error'
      ? kind !== 'unknown'
      : kind === 'policy' || kind === 'genuine';
  return { code, text, weight: refused ? 'refused' : 'trouble' };
}

function loose(value: unknown): Loose {
  return typeof value === 'object' && value !== null ? (value as Loose) : {};
}

function words(value: unknown, otherwise: string): string {
  return typeof value === 'string' && value !== '' ? value : otherwise;
}
